"""What a room offers to the rooms above it.

Everything that answers chats is a `ChatBackend`: MLX, cloud, routed, fake.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Protocol, runtime_checkable

from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities, ToolSpec

__all__ = ["ChatBackend"]


@runtime_checkable
class ChatBackend(Protocol):
    """Answers chats. Safe to call from any thread and any event loop.

    Errors are raised at the first step of the stream when the request is at fault, and never after `finish`.
    Closing a stream, or cancelling the task that reads it, frees everything it held at the next step.
    """

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        ...

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do; may load the model's configuration, never its weights."""
        ...

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer in pieces; the last one carries `finish`."""
        ...

    def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops; never blocks one."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text, without special tokens added."""
        ...

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens that the messages and tools take once rendered through the model's own template."""
        ...
