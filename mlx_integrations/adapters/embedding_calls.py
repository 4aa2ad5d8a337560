"""What is said about a call of an embedding model: how far it is, and which texts were longer than the model reads."""

import logging
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from mlx_integrations.adapters.progress import ProgressLine
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingSide

__all__ = ["MAX_POSITIONS", "EmbeddingCall", "Truncation"]

MAX_POSITIONS = 100
"""How many positions of cut texts are kept, so that a million of them take no memory."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Texts of one call whose ends are not in their vectors.

    Attributes:
        model: The model's name.
        side: Whether the texts were queries or documents.
        count: How many were cut.
        positions: Which ones among all texts of the call: the first 100 of them.
        texts: How many texts the call had.
        max_tokens: What the model reads of a text, prompt and special tokens included.
    """

    model: str
    side: EmbeddingSide
    count: int
    positions: tuple[int, ...]
    texts: int
    max_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.texts} texts were longer than the {self.max_tokens} tokens that `{self.model}` "
            f"reads, and their ends are not in their vectors. The first of them is text {self.positions[0]}; "
            "split texts before embedding them."
        )


class EmbeddingCall:
    """One call, from its first text to its last vector, or to where it was given up.

    Args:
        backend: Who embeds.
        texts: What is embedded; only its length is read here, if it has one.
        options: As the model's fields say.
        show_progress: Whether to tell on stderr how far it is; queries are too short for that.
        on_truncated: Told of texts that were cut, when the call ends.

    Attributes:
        options: The options to call the backend with.
    """

    def __init__(
        self,
        backend: EmbeddingBackend,
        texts: Iterable[str],
        options: EmbeddingOptions,
        show_progress: bool,
        on_truncated: Callable[[Truncation], object] | None,
    ) -> None:
        self.options = options
        self._progress: ProgressLine | None = None
        if show_progress and options.side == "document":
            self._progress = ProgressLine(len(texts) if isinstance(texts, Sized) else None)
            self.options = replace(options, on_progress=self._progress.advance)
        self._backend = backend
        self._on_truncated = on_truncated
        self._texts = 0
        self._truncated = 0
        self._positions: tuple[int, ...] = ()

    def take(self, chunk: EmbeddingChunk) -> None:
        """Note what a chunk says of its texts."""
        self._texts += len(chunk.vectors)
        self._truncated += len(chunk.truncated)
        self._positions += chunk.truncated[: MAX_POSITIONS - len(self._positions)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.close()
        if self._truncated:
            self._report()

    def _report(self) -> None:
        truncation = Truncation(
            model=self._backend.model_id,
            side=self.options.side,
            count=self._truncated,
            positions=self._positions,
            texts=self._texts,
            max_tokens=self._backend.capabilities.max_tokens,
        )
        _logger.warning("%s", truncation)
        if self._on_truncated is not None:
            self._on_truncated(truncation)
