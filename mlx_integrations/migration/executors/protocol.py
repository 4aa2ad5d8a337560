"""What the engine asks of whoever embeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mlx_integrations.fingerprint import EmbeddingFingerprint

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Executor", "LongTexts", "Vectors"]

LongTexts = Literal["error", "truncate", "mean"]
"""What happens to a text that is longer than the model reads: it is refused; its beginning is embedded and the row is
listed; or it is cut into windows, whose vectors are averaged by their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """What became of a batch of texts.

    Attributes:
        vectors: (texts, dimensions), float32; that of a refused text is of no use.
        truncated: Indices of the texts that the model read only the beginning of.
        refused: For texts that could not be embedded, why.
    """

    vectors: "NDArray[np.float32]"
    truncated: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)


@runtime_checkable
class Executor(Protocol):
    """Embeds texts as documents."""

    @property
    def long_texts(self) -> LongTexts:
        """What it does with texts that are longer than the model reads."""
        ...

    def fingerprint(self) -> EmbeddingFingerprint:
        """Of the vectors it makes, witness included."""
        ...

    def count_long(self, texts: Sequence[str]) -> int:
        """How many of some texts are longer than the model reads."""
        ...

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """One `Vectors` for each batch, in their order. Few batches are read ahead: memory stays bounded."""
        ...
