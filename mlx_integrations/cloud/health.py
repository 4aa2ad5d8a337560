"""Whether an endpoint is there, which models it offers, and how long it takes to say so. Sends no prompt.

It is asked for `/models`, which every server of this protocol has; only if that says neither yes nor no, for `/health`
beside it, which llama.cpp, vLLM and mlx_lm.server have.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from mlx_integrations.cloud.client import Connection
from mlx_integrations.cloud.failures import Asked, client_errors, translated
from mlx_integrations.errors import (
    MLXIntegrationsError,
    RemoteAuthenticationError,
    RemoteConnectionError,
    RemoteTimeoutError,
)

__all__ = ["EndpointHealth", "aprobe", "probe"]

_TIMEOUT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """What was found at an endpoint.

    Attributes:
        endpoint: Its name.
        address: Where it is.
        is_reachable: Whether anything answers.
        is_ready: Whether it would answer a chat, as far as it says.
        is_key_refused: Whether it wants another key, or one at all.
        models: What it offers; empty if it does not list them.
        latency_seconds: How long its answer took.
        problem: What is wrong, in one sentence; empty if nothing is.
    """

    endpoint: str
    address: str
    is_reachable: bool
    is_ready: bool
    is_key_refused: bool = False
    models: tuple[str, ...] = ()
    latency_seconds: float = 0.0
    problem: str = ""

    def offers(self, model: str) -> bool:
        """Whether it has a model, or does not say. Ollama's `:latest` need not be written."""
        return not self.models or model in self.models or f"{model}:latest" in self.models


def probe(
    connection: Connection, *, timeout_seconds: float = _TIMEOUT_SECONDS, clock: Callable[[], float] = time.monotonic
) -> EndpointHealth:
    """Ask an endpoint how it is. What is wrong with it is told, not raised.

    Args:
        connection: The way to it.
        timeout_seconds: How long to wait for each of its answers.
        clock: Seconds that only go up.

    Raises:
        ConfigurationError: The key cannot be one.
        MissingExtraError: The openai client is not installed.
    """
    key, client = connection.key(), connection.client()
    options: dict[str, Any] = {"extra_headers": connection.headers(key), "timeout": timeout_seconds}
    started = clock()
    page, error = None, None
    try:
        page = client.models.list(**options)
    except client_errors() as exc:
        error = _told(exc, connection, key)
    if _says_nothing(error):
        try:
            client.get(_health_address(connection), cast_to=object, options=_as_options(options))
            error = None
        except client_errors() as exc:
            error = _told(exc, connection, key)
    return _health(connection, page, error, clock() - started)


async def aprobe(
    connection: Connection, *, timeout_seconds: float = _TIMEOUT_SECONDS, clock: Callable[[], float] = time.monotonic
) -> EndpointHealth:
    """The same for event loops; never blocks one."""
    key, client = await connection.akey(), connection.async_client()
    options: dict[str, Any] = {"extra_headers": connection.headers(key), "timeout": timeout_seconds}
    started = clock()
    page, error = None, None
    try:
        page = await client.models.list(**options)
    except client_errors() as exc:
        error = _told(exc, connection, key)
    if _says_nothing(error):
        try:
            await client.get(_health_address(connection), cast_to=object, options=_as_options(options))
            error = None
        except client_errors() as exc:
            error = _told(exc, connection, key)
    return _health(connection, page, error, clock() - started)


def _as_options(options: dict[str, Any]) -> Any:
    return {"headers": options["extra_headers"], "timeout": options["timeout"]}


def _health_address(connection: Connection) -> str:
    parts = urlsplit(connection.base_url)
    return f"{parts.scheme}://{parts.netloc}/health"


def _told(error: Exception, connection: Connection, key: str | None) -> MLXIntegrationsError:
    asked = Asked(endpoint=connection.name, address=connection.base_url, model="")
    return translated(error, asked, key=key, now=0.0).error


def _says_nothing(error: MLXIntegrationsError | None) -> bool:
    """Whether something answers, and yet neither lists models nor refuses the key."""
    return error is not None and not isinstance(
        error, RemoteAuthenticationError | RemoteConnectionError | RemoteTimeoutError
    )


def _health(connection: Connection, page: Any, error: MLXIntegrationsError | None, seconds: float) -> EndpointHealth:
    listed = getattr(page, "data", None)
    models = [name for item in listed or () if isinstance(name := getattr(item, "id", None), str)]
    return EndpointHealth(
        endpoint=connection.name,
        address=connection.base_url,
        is_reachable=not isinstance(error, RemoteConnectionError | RemoteTimeoutError),
        is_ready=error is None,
        is_key_refused=isinstance(error, RemoteAuthenticationError),
        models=tuple(models),
        latency_seconds=seconds,
        problem=error.message if error else "",
    )
