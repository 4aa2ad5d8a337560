"""How an endpoint is: there or not, which models it has, whether it lets us in."""

import asyncio
from collections.abc import Callable

import pytest

from mlx_integrations.cloud.client import Connection
from mlx_integrations.cloud.health import EndpointHealth, aprobe, probe
from tests.openai_server import OpenAIServer, refused_address

KEY = "sk-canary-0123456789"
Probe = Callable[..., EndpointHealth]


def probe_async(connection: Connection, *, timeout_seconds: float = 60.0) -> EndpointHealth:
    async def ask() -> EndpointHealth:
        try:
            return await aprobe(connection, timeout_seconds=timeout_seconds)
        finally:
            await connection.aclose()

    return asyncio.run(ask())


def probe_sync(connection: Connection, *, timeout_seconds: float = 60.0) -> EndpointHealth:
    try:
        return probe(connection, timeout_seconds=timeout_seconds)
    finally:
        connection.close()


BOTH = pytest.mark.parametrize("look", [probe_sync, probe_async])


@BOTH
def test_models_are_listed(look: Probe) -> None:
    with OpenAIServer(models=("a", "llama3.2:latest"), api_key=KEY) as server:
        health = look(Connection(base_url=server.base_url, api_key=KEY, name="house"))
        assert (health.endpoint, health.address) == ("house", server.base_url)
        assert health.is_reachable and health.is_ready and not health.is_key_refused and health.problem == ""
        assert health.models == ("a", "llama3.2:latest") and health.latency_seconds > 0
        assert health.offers("a") and health.offers("llama3.2") and not health.offers("b")
        assert [request.path for request in server.requests] == ["/v1/models"]
        assert not server.saw("messages")


@BOTH
@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_a_refused_key_is_told(look: Probe, key: str | None) -> None:
    with OpenAIServer(api_key=KEY) as server:
        health = look(Connection(base_url=server.base_url, api_key=key))
        assert health.is_reachable and not health.is_ready and health.is_key_refused and "key" in health.problem


@BOTH
def test_a_server_that_lists_no_models_is_asked_for_its_health(look: Probe) -> None:
    with OpenAIServer() as server:
        server.fail(status=404, on="models")
        health = look(Connection(base_url=server.base_url))
        assert health.is_ready and health.models == () and health.offers("anything")
        assert [request.path for request in server.requests] == ["/v1/models", "/health"]


@BOTH
def test_a_server_that_loads_is_there_but_not_ready(look: Probe) -> None:
    with OpenAIServer() as server:
        server.fail(status=503, message="Loading model", on="models")
        server.fail(status=503, message="Loading model", on="health")
        health = look(Connection(base_url=server.base_url))
        assert health.is_reachable and not health.is_ready and "Loading model" in health.problem


@BOTH
def test_nobody_there_is_told_and_not_raised(look: Probe) -> None:
    with refused_address() as address:
        health = look(Connection(base_url=address))
        assert not health.is_reachable and not health.is_ready and address in health.problem


@BOTH
def test_a_silent_server_is_not_waited_for(look: Probe) -> None:
    with OpenAIServer() as server:
        server.reply_with_silence(on="models")
        health = look(Connection(base_url=server.base_url), timeout_seconds=0.2)
        assert not health.is_reachable and not health.is_ready and "said nothing" in health.problem
