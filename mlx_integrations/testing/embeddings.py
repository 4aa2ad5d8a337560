"""An embedding backend whose vectors are hashes of words.

    backend = FakeEmbeddingBackend(dimensions=8)
    embeddings = MLXEmbeddings(model="fake", backend=backend)

A text is the mean of the vectors of its words, so texts that share words are near each other. A word is a token: counts
are exact, and the same on every machine.
"""

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.types import EmbeddingCapabilities, EmbeddingChunk, EmbeddingOptions

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FakeEmbeddingBackend", "FakeEmbeddingRequest"]

_WORD = re.compile(r"\w+|[^\w\s]")
_START = "<s>"  # every text has it, so that an empty one has a vector
_BATCH_TOKENS = 512
_DEFAULTS = EmbeddingOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeEmbeddingRequest:
    """One call of `stream` or `astream`: its options, and the texts that have been read so far."""

    options: EmbeddingOptions
    texts: list[str] = field(default_factory=list)


class FakeEmbeddingBackend:
    """An `EmbeddingBackend` made of hashes.

    It heeds every option and refuses what any backend refuses: impossible options, and texts that are none.

    Args:
        model_id: The name it is known by.
        revision: What its fingerprint says of its files.
        dimensions: Coordinates of a whole vector.
        max_tokens: Words that it reads of a text at most, prompt and start mark included.
        normalize: Whether its vectors have length 1 unless a call says otherwise.
        query_prompt: Put before queries.
        document_prompt: Put before documents.
        seed: Stands for the weights: other seeds make other vectors, whatever the model's name.
        delay_seconds: Pause before every chunk.
        error: Raised at the first step of every stream.

    Attributes:
        requests: Every stream that was begun, in order. Fingerprints leave no trace here.
        closed: Streams that were closed or cancelled before they ended.
    """

    def __init__(
        self,
        *,
        model_id: str = "fake",
        revision: str | None = None,
        dimensions: int = 32,
        max_tokens: int = 128,
        normalize: bool = True,
        query_prompt: str = "",
        document_prompt: str = "",
        seed: int = 0,
        delay_seconds: float = 0.0,
        error: Exception | None = None,
    ) -> None:
        self.requests: list[FakeEmbeddingRequest] = []
        self.closed = 0
        self._model_id = model_id
        self._revision = revision
        self._capabilities = EmbeddingCapabilities(
            dimensions=dimensions,
            max_tokens=max_tokens,
            pooling="mean",
            normalize=normalize,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
        )
        self._seed = seed
        self._delay_seconds = delay_seconds
        self._error = error
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name it is known by."""
        return self._model_id

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What it claims to do."""
        return self._capabilities

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts."""
        try:
            for chunk in self._chunks(texts, options):
                if self._delay_seconds:
                    time.sleep(self._delay_seconds)
                yield chunk
        except GeneratorExit:
            self._count_closed()
            raise

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops."""
        try:
            for chunk in self._chunks(texts, options):
                await asyncio.sleep(self._delay_seconds)
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            self._count_closed()
            raise

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS) -> list[int]:
        """Words of each text before it is cut, prompt and start mark included."""
        prompt = self._prompt(options)
        return [len(_tokens(prompt + text)) for _, text in _checked(texts)]

    def identity(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """The fingerprint without its witness."""
        known, replaced = self._capabilities, options.prompt
        self._prompt(options)
        return EmbeddingFingerprint(
            model=self._model_id,
            revision=self._revision,
            dimensions=known.dimensions if options.dimensions is None else options.dimensions,
            pooling=known.pooling,
            normalize=known.normalize if options.normalize is None else options.normalize,
            query_prompt=known.query_prompt if replaced is None else replaced,
            document_prompt=known.document_prompt if replaced is None else replaced,
            max_tokens=known.max_tokens,
        )

    def fingerprint(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others."""
        known = self.identity(options)
        rows = [_tokens(known.document_prompt + text)[: known.max_tokens] for text in WITNESS_TEXTS]
        return replace(known, witness=EmbeddingFingerprint.witness_of(self._vectors(rows, options).tolist()))

    def _chunks(self, texts: Iterable[str], options: EmbeddingOptions) -> Iterator[EmbeddingChunk]:
        prompt = self._prompt(options)
        request = FakeEmbeddingRequest(options=options)
        with self._lock:
            self.requests.append(request)
        if self._error is not None:
            raise self._error
        batch_tokens = _BATCH_TOKENS if options.batch_tokens is None else options.batch_tokens
        limit = self._capabilities.max_tokens
        rows: list[list[str]] = []
        first = longest = 0
        for position, text in _checked(texts):
            request.texts.append(text)
            row = _tokens(prompt + text)
            longest = max(longest, min(len(row), limit))
            if rows and longest * (len(rows) + 1) > batch_tokens:
                yield self._chunk(first, rows, options)
                first, longest, rows = position, min(len(row), limit), []
            rows.append(row)
        if rows:
            yield self._chunk(first, rows, options)

    def _chunk(self, first: int, rows: list[list[str]], options: EmbeddingOptions) -> EmbeddingChunk:
        limit = self._capabilities.max_tokens
        read = [row[:limit] for row in rows]
        vectors = self._vectors(read, options)
        if options.on_progress is not None:
            options.on_progress(len(rows))
        return EmbeddingChunk(
            first=first,
            vectors=vectors,
            tokens=sum(map(len, read)),
            truncated=tuple(first + at for at, row in enumerate(rows) if len(row) > limit),
        )

    def _vectors(self, rows: list[list[str]], options: EmbeddingOptions) -> "NDArray[np.float32]":
        """Vectors (rows, dimensions) of texts that are cut already."""
        import numpy as np

        known = self._capabilities
        words = [np.mean([_vector(word, known.dimensions, self._seed) for word in row], axis=0) for row in rows]
        vectors: NDArray[np.float32] = np.array(words, np.float32)[:, : options.dimensions]
        if known.normalize if options.normalize is None else options.normalize:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _prompt(self, options: EmbeddingOptions) -> str:
        """What is put before every text.

        Raises:
            InvalidRequestError: An option is impossible.
        """
        known = self._capabilities
        if options.dimensions is not None and not 1 <= options.dimensions <= known.dimensions:
            raise InvalidRequestError(
                f"`dimensions` cannot be {options.dimensions}: `{self._model_id}` has {known.dimensions}.",
                field="dimensions",
            )
        if options.batch_tokens is not None and options.batch_tokens < 1:
            raise InvalidRequestError(f"`batch_tokens` cannot be {options.batch_tokens}.", field="batch_tokens")
        if options.side not in ("query", "document"):
            raise InvalidRequestError(f"`side` cannot be `{options.side}`.", field="side")
        if options.prompt is not None:
            return options.prompt
        return known.query_prompt if options.side == "query" else known.document_prompt

    def _count_closed(self) -> None:
        with self._lock:
            self.closed += 1


def _tokens(text: str) -> list[str]:
    return [_START, *_WORD.findall(text.lower())]


def _checked(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    if isinstance(texts, str):
        raise InvalidRequestError("`texts` is one text, not a list of them.", field="texts", hint="Use `[text]`.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            field_name = f"texts[{position}]"
            raise InvalidRequestError(f"`{field_name}` is `{text!r}`, not a text."[:300], field=field_name)
        yield position, text


@lru_cache(maxsize=10_000)
def _vector(word: str, dimensions: int, seed: int) -> "NDArray[np.float64]":
    """Coordinates between -1 and 1 that nobody could guess from the word."""
    import numpy as np

    digest = hashlib.shake_128(f"{seed} {word}".encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    return np.frombuffer(digest, "<u2").astype(np.float64) / 32767.5 - 1
