"""A model that answers from a script, and the calls that scripts use."""

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.testing import FakeAnswer, FakeChatBackend, Script
from mlx_integrations.types import InvalidToolCall, ToolCall

ADD = ToolCall(id="call_1", name="add", arguments={"a": 1, "b": 2})
ADD_AGAIN = ToolCall(id="call_2", name="add", arguments={"a": 3, "b": 4})
BROKEN = InvalidToolCall(id="call_3", name="add", arguments='{"a": 1, "b": ', error="it ends too early")
EVERYTHING = FakeAnswer(
    reasoning="Let me think.",
    text="Héllo 你好 👩‍👩‍👧 there.",
    tool_calls=(ADD, ADD_AGAIN),
    invalid_tool_calls=(BROKEN,),
    cached_tokens=1,
)


def fake_model(*responses: Script, **options: Any) -> tuple[ChatMLX, FakeChatBackend]:
    """A model and the backend behind it."""
    backend = FakeChatBackend(responses or ("Hello there.",))
    return ChatMLX(model="fake", backend=backend, **options), backend


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    """Chunks added up, as LangChain's users add them."""
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


def essence(message: AIMessage) -> dict[str, Any]:
    """What an answer says, whichever way it came."""
    return {
        "content": message.content,
        "tool_calls": message.tool_calls,
        "invalid": [(call["id"], call["name"]) for call in message.invalid_tool_calls],
        "additional_kwargs": message.additional_kwargs,
        "response_metadata": message.response_metadata,
        "usage_metadata": message.usage_metadata,
    }
