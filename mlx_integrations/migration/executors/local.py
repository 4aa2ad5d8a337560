"""Embeds in this process, on the runtime that everything else here uses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlx_integrations.errors import RequestError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LocalExecutor"]

_BREAKS = ("\n\n", "\n", ". ", " ")


class LocalExecutor:
    """Embeds texts as documents with a backend of this process.

    Args:
        backend: The model.
        options: How texts become vectors; the side is `document` in any case.
        long_texts: What happens to texts that are longer than the model reads.
    """

    def __init__(
        self,
        backend: EmbeddingBackend,
        options: EmbeddingOptions | None = None,
        *,
        long_texts: LongTexts = "truncate",
    ) -> None:
        self._backend = backend
        self._options = replace(options or EmbeddingOptions(), side="document", on_progress=None)
        self._long_texts = long_texts

    @property
    def backend(self) -> EmbeddingBackend:
        """The model."""
        return self._backend

    @property
    def long_texts(self) -> LongTexts:
        """What happens to texts that are longer than the model reads."""
        return self._long_texts

    def count_long(self, texts: Sequence[str]) -> int:
        """How many of some texts are longer than the model reads."""
        limit = self._backend.capabilities.max_tokens
        return sum(count > limit for count in self._counts(texts))

    def fingerprint(self) -> EmbeddingFingerprint:
        """Of the vectors it makes, witness included."""
        return self._backend.fingerprint(self._options)

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """One `Vectors` for each batch; nothing is read ahead."""
        for texts in batches:
            yield self._embed(texts)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return Vectors(vectors=self._nothing(0))
        if self._long_texts == "truncate":
            return self._whole(texts)
        limit = self._backend.capabilities.max_tokens
        counts = self._counts(texts)
        long = {index: count for index, count in enumerate(counts) if count > limit}
        if not long:
            return self._whole(texts)
        if self._long_texts == "error":
            made = self._whole(texts)
            reasons = {index: f"it has {count} tokens, and the model reads {limit}" for index, count in long.items()}
            return replace(made, truncated=frozenset(), refused={**reasons, **made.refused})
        return self._averaged(texts, long, limit)

    def _whole(self, texts: Sequence[str]) -> Vectors:
        """Embed all texts at once, or, where one of them is at fault, each by itself."""
        try:
            result = EmbeddingResult.join(self._backend.stream(texts, self._options))
        except RequestError as error:
            if len(texts) > 1:
                return _joined([self._whole([text]) for text in texts])
            return Vectors(vectors=self._nothing(), refused={0: str(error)})
        return Vectors(vectors=result.vectors, truncated=frozenset(result.truncated))

    def _nothing(self, count: int = 1) -> "NDArray[np.float32]":
        import numpy as np

        dimensions = self._options.dimensions or self._backend.capabilities.dimensions
        return np.zeros((count, dimensions), np.float32)

    def _counts(self, texts: Sequence[str]) -> list[int]:
        try:
            return self._backend.count_tokens(texts, self._options)
        except RequestError:
            if len(texts) > 1:
                return [count for text in texts for count in self._counts([text])]
            return [0]  # embedding it will say what is wrong

    def _averaged(self, texts: Sequence[str], long: dict[int, int], limit: int) -> Vectors:
        """Embed long texts as windows, the others whole, all in one go."""
        import numpy as np

        pieces: list[str] = []
        owners: list[int] = []
        for index, text in enumerate(texts):
            windows = [text] if index not in long else split_text(text, limit, lambda piece: self._counts([piece])[0])
            pieces += windows
            owners += [index] * len(windows)
        made = self._whole(pieces)
        counts = self._counts(pieces) if len(pieces) > len(texts) else [1] * len(pieces)
        weights = np.array(counts, np.float32)[:, None]
        sums = np.zeros((len(texts), made.vectors.shape[1]), np.float32)
        lengths = np.zeros((len(texts), 1), np.float32)
        np.add.at(sums, owners, made.vectors * weights)
        np.add.at(lengths, owners, np.linalg.norm(made.vectors, axis=1, keepdims=True) * weights)
        totals = np.zeros((len(texts), 1), np.float32)
        np.add.at(totals, owners, weights)
        # As long as the parts were: 1 for a model that normalises.
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors = sums / np.maximum(norms, 1e-12) * (lengths / totals)
        for index, owner in enumerate(owners):
            if owner not in long:
                vectors[owner] = made.vectors[index]
        return Vectors(vectors=vectors, refused={owners[index]: why for index, why in made.refused.items()})


def split_text(text: str, limit: int, count: Callable[[str], int]) -> list[str]:
    """Cut a text into pieces of at most `limit` tokens, at paragraphs, lines, sentences or words where possible.

    Args:
        text: The text; its pieces put together are the text again.
        limit: Tokens of a piece at most, prompt and special tokens included.
        count: Counts them.
    """
    pieces: list[str] = []
    while count(text) > limit:
        low, high = 1, len(text)
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count(text[:middle]) <= limit else (low, middle - 1)
        cut = next(
            (found for mark in _BREAKS if (found := text.rfind(mark, low // 2, low) + len(mark)) > low // 2), low
        )
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text] if text or not pieces else pieces


def _joined(parts: Sequence[Vectors]) -> Vectors:
    import numpy as np

    return Vectors(
        vectors=np.concatenate([part.vectors for part in parts]),
        truncated=frozenset(index for index, part in enumerate(parts) if part.truncated),
        refused={index: part.refused[0] for index, part in enumerate(parts) if part.refused},
    )
