"""A framework's embedding model as an `EmbeddingBackend`: two functions that embed a list, one of them for event loops.

Of the options only the side counts: prompts, dimensions and normalisation are set where the model is made.
"""

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from mlx_integrations.errors import InvalidOutputError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.types import (
    EmbeddingCapabilities,
    EmbeddingChunk,
    EmbeddingOptions,
    EmbeddingResult,
    EmbeddingSide,
)

__all__ = ["CalledEmbeddingBackend", "result_of"]

_DEFAULTS = EmbeddingOptions()
_UNLIMITED = 2**31 - 1  # models of other packages do not say where they cut


class CalledEmbeddingBackend:
    """An embedding model that is known by what it does with a list of texts.

    Args:
        model_id: The name it is known by.
        embed: Embeds a list of texts of one side.
        aembed: The same for event loops.
        batch_size: Texts of one call at most.
        identify: Its own fingerprint, without a witness; made of its vectors if `None`.
        count: Its own token counts; a text has none if `None`.
    """

    def __init__(
        self,
        model_id: str,
        embed: Callable[[list[str], EmbeddingSide], EmbeddingResult],
        aembed: Callable[[list[str], EmbeddingSide], Awaitable[EmbeddingResult]],
        *,
        batch_size: int,
        identify: Callable[[], EmbeddingFingerprint] | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self._model_id = model_id
        self._embed = embed
        self._aembed = aembed
        self._batch_size = batch_size
        self._identify = identify
        self._count = count
        self._seen: EmbeddingFingerprint | None = None
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name it is known by."""
        return self._model_id

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What its fingerprint says; a model that has none of its own is asked to embed a few fixed texts."""
        known = self.identity()
        return EmbeddingCapabilities(
            dimensions=known.dimensions,
            max_tokens=known.max_tokens or _UNLIMITED,
            pooling=known.pooling,
            normalize=known.normalize,
            query_prompt=known.query_prompt,
            document_prompt=known.document_prompt,
        )

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts."""
        for first, batch in _batches(texts, self._batch_size):
            yield _chunk(first, batch, self._embed(batch, options.side), options)

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops."""
        for first, batch in _batches(texts, self._batch_size):
            yield _chunk(first, batch, await self._aembed(batch, options.side), options)

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS) -> list[int]:
        """Tokens of each text; 0 where the model does not say."""
        return [0 if self._count is None else self._count(text) for text in texts]

    def identity(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """The fingerprint without its witness."""
        if self._identify is not None:
            return replace(self._identify(), witness=())
        return replace(self.fingerprint(), witness=())

    def fingerprint(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; embeds a few fixed texts the first time."""
        if self._seen is None:
            vectors = self._embed(list(WITNESS_TEXTS), "document").vectors.tolist()
            seen = EmbeddingFingerprint.of_vectors(self._model_id, vectors)
            if self._identify is not None:
                seen = replace(self._identify(), witness=seen.witness)
            with self._lock:
                self._seen = seen
        return self._seen


def result_of(vectors: Sequence[Sequence[float]]) -> EmbeddingResult:
    """What a framework's lists of floats come to; nobody says how many tokens were read."""
    import numpy as np

    rows = np.array(vectors, np.float32) if vectors else np.zeros((0, 0), np.float32)
    return EmbeddingResult(vectors=rows, tokens=0)


def _batches(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    first, batch = 0, list[str]()
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield first, batch
            first, batch = first + size, []
    if batch:
        yield first, batch


def _chunk(first: int, batch: Sequence[str], made: EmbeddingResult, options: EmbeddingOptions) -> EmbeddingChunk:
    if made.vectors.ndim != 2 or len(made.vectors) != len(batch):
        raise InvalidOutputError(f"{len(batch)} texts were given vectors of shape {made.vectors.shape}.")
    if options.on_progress is not None:
        options.on_progress(len(batch))
    truncated = tuple(first + position for position in made.truncated)
    return EmbeddingChunk(first=first, vectors=made.vectors, tokens=made.tokens, truncated=truncated)
