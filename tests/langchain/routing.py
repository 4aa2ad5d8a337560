"""Two endpoints on this machine, one of which plays the cloud, behind one `ChatRouter`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from mlx_integrations import assembly
from mlx_integrations.langchain.chat_router import ChatRouter, ModelFacts
from mlx_integrations.router.policy import Policy
from mlx_integrations.settings import Settings
from tests.hub import go_online
from tests.openai_server import OpenAIServer, Recorded, Reply

__all__ = [
    "CLOUD_ANSWER",
    "LOCAL_ANSWER",
    "SECRET_KEY",
    "TwoEndpoints",
    "allow_network",
    "chat_openai",
    "two_endpoints",
]

LOCAL_ANSWER = "alpha beta gamma delta"
CLOUD_ANSWER = "one two three four"
SECRET_KEY = "sk-canary-of-the-key"  # not a key of anything


def chat_openai(base_url: str, **options: Any) -> ChatOpenAI:
    """OpenAI's LangChain model, asking a server of ours."""
    given: dict[str, Any] = {"model": "test-model", "api_key": SECRET_KEY, "stream_usage": True, **options}
    return ChatOpenAI(base_url=base_url, **given)


@dataclass
class TwoEndpoints:
    """The servers, and routers over both."""

    local: OpenAIServer
    cloud: OpenAIServer
    policy: dict[str, Any] = field(default_factory=lambda: {"allow_cloud": True})

    def router(self, *, local_url: str | None = None, **policy: Any) -> ChatRouter:
        """A router that asks `local` first; what listens at `cloud` counts as being elsewhere."""
        return ChatRouter(
            models={"local": chat_openai(local_url or self.local.base_url), "cloud": chat_openai(self.cloud.base_url)},
            policy=Policy(**{**self.policy, **policy}),
            facts={"cloud": ModelFacts(is_local=False)},
        )


def _answer(text: str, calls_tools: bool) -> Any:
    def otherwise(request: Recorded) -> Reply:
        # The way that models with tools behave: a call first, then a text about its result.
        asked = request.body["messages"][-1]["role"]
        tools = request.body.get("tools")
        if calls_tools and tools and asked == "user":
            return Reply(tool_calls=[(tools[0]["function"]["name"], {"a": 2, "b": 3})])
        return Reply(text=text)

    return otherwise


def allow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the router ask endpoints that count as elsewhere: tests run offline otherwise."""
    go_online(monkeypatch)
    monkeypatch.setattr(assembly, "_settings", Settings(offline=False))


@contextmanager
def two_endpoints(*, calls_tools: bool = True) -> Iterator[TwoEndpoints]:
    """Start both."""
    with (
        OpenAIServer(otherwise=_answer(LOCAL_ANSWER, calls_tools)) as local,
        OpenAIServer(otherwise=_answer(CLOUD_ANSWER, calls_tools)) as cloud,
    ):
        yield TwoEndpoints(local, cloud)
