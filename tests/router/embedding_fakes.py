"""Embedding backends that fail on demand."""

import itertools
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.fingerprint import WITNESS_TEXTS
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.router.candidates import Location
from mlx_integrations.router.embedding_space import EmbeddingCandidate
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingResult

PLAIN = EmbeddingOptions()


class Flaky(FakeEmbeddingBackend):
    """Vectors of hashes, until `error` is set; then that is raised after `chunks` pieces of every stream.

    `spares_witnesses` leaves out the texts by which models are compared.
    """

    def __init__(
        self, *, error: Exception | None = None, chunks: int = 0, spares_witnesses: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.error = error
        self.chunks = chunks
        self.spares_witnesses = spares_witnesses
        self.calls = 0

    @property
    def seen(self) -> list[str]:
        """Every text that it was given, but those of witnesses."""
        return [text for request in self.requests for text in request.texts if text not in WITNESS_TEXTS]

    def stream(self, texts: Iterable[str], options: EmbeddingOptions = PLAIN) -> Generator[EmbeddingChunk, None, None]:
        self.calls += 1
        chunks = super().stream(texts, options)
        try:
            for number in itertools.count():
                self._check(number, texts)
                chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk
        finally:
            chunks.close()

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = PLAIN
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        self.calls += 1
        chunks = super().astream(texts, options)
        try:
            for number in itertools.count():
                self._check(number, texts)
                chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
        finally:
            await chunks.aclose()

    def _check(self, number: int, texts: Iterable[str]) -> None:
        is_spared = self.spares_witnesses and texts is WITNESS_TEXTS
        if self.error is not None and number == self.chunks and not is_spared:
            raise self.error


def candidate(
    name: str, backend: EmbeddingBackend, location: Location = "in-process", *, is_declared_equal: bool = False
) -> EmbeddingCandidate:
    return EmbeddingCandidate(name=name, backend=backend, location=location, is_declared_equal=is_declared_equal)


def vectors_of(
    backend: EmbeddingBackend, texts: Iterable[str] | Sequence[str], options: EmbeddingOptions = PLAIN
) -> NDArray[np.float32]:
    return EmbeddingResult.join(backend.stream(texts, options)).vectors
