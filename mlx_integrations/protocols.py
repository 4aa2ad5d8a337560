"""What a room offers to the rooms above it.

Everything that answers chats is a `ChatBackend`, everything that makes vectors an `EmbeddingBackend`: MLX, cloud,
routed, fake.
"""

from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from typing import Protocol, runtime_checkable

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.types import (
    ChatChunk,
    ChatMessage,
    ChatRequest,
    EmbeddingCapabilities,
    EmbeddingChunk,
    EmbeddingOptions,
    ModelCapabilities,
    ToolSpec,
)

__all__ = ["ChatBackend", "EmbeddingBackend"]

_AS_THE_MODEL_SAYS = EmbeddingOptions()


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


@runtime_checkable
class EmbeddingBackend(Protocol):
    """Makes vectors. Safe to call from any thread and any event loop.

    Texts are read as they are needed and vectors come in their order: a million of them take no more memory than a few
    thousand. Closing a stream, or cancelling the task that reads it, ends the work soon.
    """

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        ...

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What the model does; loads its configuration, never its weights."""
        ...

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _AS_THE_MODEL_SAYS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts.

        Raises:
            InvalidRequestError: An impossible option, or a text that is not a `str`; `field` names it, such as
                `texts[3]`. Nothing after it is read.
        """
        ...

    def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _AS_THE_MODEL_SAYS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops; never blocks one."""
        ...

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _AS_THE_MODEL_SAYS) -> list[int]:
        """Tokens of each text before it is cut, prompt and special tokens included."""
        ...

    def identity(self, options: EmbeddingOptions = _AS_THE_MODEL_SAYS) -> EmbeddingFingerprint:
        """The fingerprint without its witness: enough for a cache key, and loads no weights."""
        ...

    def fingerprint(self, options: EmbeddingOptions = _AS_THE_MODEL_SAYS) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; embeds a few fixed texts the first time."""
        ...
