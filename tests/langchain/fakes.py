"""A model that answers from a script, and what is said of its answers."""

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.testing import FakeChatBackend, Script


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
