"""What holds for every backend holds for one behind an endpoint too, as far as the protocol lets it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.types import ChatRequest, ModelCapabilities
from tests.contracts.chat_backend import ChatBackendContract
from tests.openai_server import OpenAIServer, Recorded, Reply

WINDOW_TOKENS = 4096
ARGUMENTS: dict[str, dict[str, Any]] = {"get_weather": {"city": "Paris"}, "add": {"a": 1, "b": 2}}


def sensible(request: Recorded) -> Reply:
    """Answers as a model would that always does what it is told."""
    body = request.body
    if body.get("response_format"):
        return Reply(text=json.dumps({"sky": "clear", "rain": False}))
    choice = body.get("tool_choice")
    if choice == "required" or isinstance(choice, dict):
        name = choice["function"]["name"] if isinstance(choice, dict) else body["tools"][0]["function"]["name"]
        return Reply(tool_calls=[(name, ARGUMENTS[name])])
    return Reply(text=f"You said {body['messages'][-1]['content']!r}, and I say 你好, naïve 👩‍👩‍👧 friend.")


class TestOpenAIChatBackend(ChatBackendContract):
    @pytest.fixture
    def backend(self) -> Iterator[ChatBackend]:
        with OpenAIServer(otherwise=sensible, context_tokens=WINDOW_TOKENS) as server:
            capabilities = ModelCapabilities(context_window=WINDOW_TOKENS, tools=True)
            backend = OpenAIChatBackend(base_url=server.base_url, model="test-model", capabilities=capabilities)
            yield backend
            backend.close()

    def test_usage_counts_what_was_read_and_written(self, backend: ChatBackend, request_: ChatRequest) -> None:
        """As in the contract, but for the prompt: here it is estimated, and the endpoint counts."""
        chunks = list(backend.stream(request_))
        assert chunks[-1].finish is not None
        usage = chunks[-1].finish.usage
        assert usage.prompt_tokens > 0 and usage.completion_tokens == len(chunks) - 1
        assert 0 <= usage.cached_tokens <= usage.prompt_tokens
        assert 0 <= usage.reasoning_tokens <= usage.completion_tokens
