"""`MLXEmbeddingBackend`: an embedding model in this process, as the other rooms see it.

Texts are read window by window, tokenised in the caller's thread and embedded on the worker thread; while one window
is computed the next one is prepared. Sync and async share everything but the channel they wait on.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.runtime.channels import AsyncChannel, SyncChannel
from mlx_integrations.runtime.embedding.identity import revision_of
from mlx_integrations.runtime.embedding.jobs import EmbeddingEvent, EmbeddingJob, RowsEvent
from mlx_integrations.runtime.embedding.model_files import SentenceModel, read_sentence_model
from mlx_integrations.runtime.embedding.text import TextEncoder, Tokens
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.loaders import EmbeddingLoader
from mlx_integrations.runtime.tasks import FailEvent
from mlx_integrations.types import EmbeddingCapabilities, EmbeddingChunk, EmbeddingOptions, EmbeddingResult

__all__ = ["MLXEmbeddingBackend"]

_WINDOW_TEXTS = 1024
_WINDOW_CHARACTERS = 200_000
_SHORT_CHARACTERS = 20_000  # tokenised on the event loop: it takes a few milliseconds at most
_FLIGHTS = 2  # windows on their way: one computed, one prepared
_DEFAULTS = EmbeddingOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Options with nothing left open."""

    prompt: str
    dimensions: int
    normalize: bool
    batch_tokens: int | None
    on_progress: Callable[[int], None] | None

    def finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (texts, all dimensions) as they were asked for."""
        kept = vectors[:, : self.dimensions]
        if not self.normalize:
            return np.ascontiguousarray(kept)
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        normal: NDArray[np.float32] = kept / np.maximum(lengths, 1e-12)
        return normal


class _Flight:
    """A window of texts on its way, and its vectors as they come in."""

    def __init__(
        self,
        first: int,
        rows: list[Tokens],
        plan: _Plan,
        pad_id: int,
        channel: "SyncChannel[EmbeddingEvent] | AsyncChannel[EmbeddingEvent]",
    ) -> None:
        self.job = EmbeddingJob(rows=rows, batch_tokens=plan.batch_tokens, pad_id=pad_id, post=channel.post)
        self._first = first
        self._plan = plan
        self._vectors = np.empty((len(rows), plan.dimensions), np.float32)

    def feed(self, event: EmbeddingEvent) -> EmbeddingChunk | None:
        """Take an event; the whole window once it is complete.

        Raises:
            Exception: What the worker reported.
        """
        if isinstance(event, FailEvent):
            raise event.error
        if isinstance(event, RowsEvent):
            self._vectors[event.positions] = self._plan.finished(event.vectors)
            if self._plan.on_progress is not None:
                self._plan.on_progress(len(event.positions))
            return None
        rows = self.job.rows
        return EmbeddingChunk(
            first=self._first,
            vectors=self._vectors,
            tokens=sum(len(row.ids) for row in rows),
            truncated=tuple(self._first + at for at, row in enumerate(rows) if row.total_tokens > len(row.ids)),
        )


class MLXEmbeddingBackend:
    """Embeds texts with one model folder on a runtime; implements `EmbeddingBackend`.

    Args:
        path: The model's folder.
        runtime: Where it runs.
        model_id: The name it is known by; the folder's name otherwise.

    Raises:
        ModelLoadError: The folder is not an embedding model, or one with a part that is not supported.
    """

    def __init__(self, path: str | Path, *, runtime: Runtime, model_id: str | None = None) -> None:
        self._model = read_sentence_model(Path(path))
        self._loader = EmbeddingLoader(self._model)
        self._runtime = runtime
        self._model_id = model_id or self._model.path.name
        self._text: TextEncoder | None = None
        self._fingerprints: dict[EmbeddingOptions, EmbeddingFingerprint] = {}
        self._identities: dict[EmbeddingOptions, EmbeddingFingerprint] = {}
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        return self._model_id

    @property
    def runtime(self) -> Runtime:
        """Where it runs."""
        return self._runtime

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._model.path

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What the model does, by its own files."""
        return self._model.capabilities

    @property
    def model(self) -> SentenceModel:
        """What the model's own files say."""
        return self._model

    @property
    def text(self) -> TextEncoder:
        """The tokenizer, loaded at first use."""
        with self._lock:
            if self._text is None:
                self._text = TextEncoder(self._model)
            return self._text

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts. Closing the generator drops what is not computed yet."""
        self._runtime.check_open()
        plan = self._plan(options)
        flights: deque[tuple[_Flight, SyncChannel[EmbeddingEvent]]] = deque()
        try:
            for first, window in _windows(texts):
                channel: SyncChannel[EmbeddingEvent] = SyncChannel()
                flight = self._flight(first, window, plan, channel)
                flights.append((flight, channel))
                # A stream that has begun is not broken off because others queue.
                self._runtime.submit(self._loader, flight.job, is_continued=first > 0)
                if len(flights) == _FLIGHTS:
                    yield _land(*flights[0])
                    flights.popleft()
            while flights:
                yield _land(*flights[0])
                flights.popleft()
        finally:
            for flight, _ in flights:
                flight.job.cancel()

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops; long texts are tokenised off the loop."""
        self._runtime.check_open()
        plan = self._plan(options)
        flights: deque[tuple[_Flight, AsyncChannel[EmbeddingEvent]]] = deque()
        try:
            for first, window in _windows(texts):
                channel: AsyncChannel[EmbeddingEvent] = AsyncChannel()
                if self._text is not None and sum(map(len, window)) <= _SHORT_CHARACTERS:
                    flight = self._flight(first, window, plan, channel)
                else:
                    flight = await asyncio.to_thread(self._flight, first, window, plan, channel)
                channel.on_lost = flight.job.cancel
                flights.append((flight, channel))
                # A stream that has begun is not broken off because others queue.
                self._runtime.submit(self._loader, flight.job, is_continued=first > 0)
                if len(flights) == _FLIGHTS:
                    yield await _aland(*flights[0])
                    flights.popleft()
            while flights:
                yield await _aland(*flights[0])
                flights.popleft()
        finally:
            for flight, _ in flights:
                flight.job.cancel()

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS) -> list[int]:
        """Tokens of each text before it is cut, prompt and special tokens included."""
        prompt = self._plan(options).prompt
        return [count for _, window in _windows(texts) for count in self.text.count(window, prompt)]

    def fingerprint(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; embeds a few fixed texts the first time.

        The side of `options` does not count, and neither does how texts are batched: one store is asked and filled with
        one fingerprint.
        """
        options = _use_of(options)
        known = self._fingerprints.get(options)
        if known is None:
            vectors = EmbeddingResult.join(self.stream(WITNESS_TEXTS, options)).vectors
            witness = EmbeddingFingerprint.witness_of(vectors.tolist())
            known = self._fingerprints[options] = replace(self.identity(options), witness=witness)
        return known

    def identity(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """The fingerprint without its witness: loads no weights."""
        options = _use_of(options)
        known = self._identities.get(options)
        if known is None:
            known = self._identities[options] = self._identify(options)
        return known

    def _identify(self, options: EmbeddingOptions) -> EmbeddingFingerprint:
        plan, capabilities = self._plan(options), self.capabilities
        return EmbeddingFingerprint(
            model=self._model_id,
            revision=revision_of(self._model.path),
            dimensions=plan.dimensions,
            pooling=capabilities.pooling,
            normalize=plan.normalize,
            query_prompt=capabilities.query_prompt if options.prompt is None else options.prompt,
            document_prompt=plan.prompt,
            max_tokens=capabilities.max_tokens,
        )

    def _plan(self, options: EmbeddingOptions) -> _Plan:
        known = self.capabilities
        if options.side not in ("query", "document"):
            raise InvalidRequestError(
                f"`side` cannot be `{options.side}`.", field="side", hint="It is `query` or `document`."
            )
        dimensions = known.dimensions if options.dimensions is None else options.dimensions
        if not 1 <= dimensions <= known.dimensions:
            raise InvalidRequestError(
                f"`dimensions` cannot be {dimensions}: the vectors of `{self._model_id}` have {known.dimensions}.",
                field="dimensions",
                hint=f"Give 1 to {known.dimensions}, or leave it out.",
            )
        batch_tokens = options.batch_tokens
        if batch_tokens is None:
            batch_tokens = self._runtime.settings.embedding_batch_tokens
        if batch_tokens is not None and batch_tokens < 1:
            raise InvalidRequestError(
                f"`batch_tokens` cannot be {batch_tokens}.", field="batch_tokens", hint="Give a number above 0."
            )
        own_prompt = known.query_prompt if options.side == "query" else known.document_prompt
        return _Plan(
            prompt=own_prompt if options.prompt is None else options.prompt,
            dimensions=dimensions,
            normalize=known.normalize if options.normalize is None else options.normalize,
            batch_tokens=batch_tokens,
            on_progress=options.on_progress,
        )

    def _flight(
        self,
        first: int,
        window: Sequence[str],
        plan: _Plan,
        channel: "SyncChannel[EmbeddingEvent] | AsyncChannel[EmbeddingEvent]",
    ) -> _Flight:
        return _Flight(first, self.text.encode(window, plan.prompt), plan, self.text.pad_id, channel)


def _use_of(options: EmbeddingOptions) -> EmbeddingOptions:
    """What of the options a fingerprint depends on."""
    return replace(options, side="document", batch_tokens=None, on_progress=None)


def _land(flight: _Flight, channel: "SyncChannel[EmbeddingEvent]") -> EmbeddingChunk:
    while True:
        if (chunk := flight.feed(channel.get())) is not None:
            return chunk


async def _aland(flight: _Flight, channel: "AsyncChannel[EmbeddingEvent]") -> EmbeddingChunk:
    while True:
        if (chunk := flight.feed(await channel.get())) is not None:
            return chunk


def _windows(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Texts in portions, each with the position of its first one; a list is checked whole before anything is done."""
    if isinstance(texts, str):
        raise InvalidRequestError(
            "`texts` is one text, not a list of them.", field="texts", hint="Put it into a list: `[text]`."
        )
    if isinstance(texts, Sequence):
        for position, text in enumerate(texts):
            _check_text(position, text)
    first, window, characters = 0, [], 0
    for position, text in enumerate(texts):
        _check_text(position, text)
        window.append(text)
        characters += len(text)
        if len(window) == _WINDOW_TEXTS or characters >= _WINDOW_CHARACTERS:
            yield first, window
            first, window, characters = position + 1, [], 0
    if window:
        yield first, window


def _check_text(position: int, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"`texts[{position}]` is `{text!r}`, not a text."[:300],
            field=f"texts[{position}]",
            hint="Leave it out, or embed an empty text instead.",
        )
