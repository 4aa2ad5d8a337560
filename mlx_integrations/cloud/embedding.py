"""`OpenAIEmbeddingBackend`: an embedding model behind an endpoint that speaks the protocol of OpenAI.

Texts are read batch by batch, and a batch is one request. Vectors come back in whatever order the endpoint likes and
are put in theirs; an endpoint that sends too few, too many or unlike ones is not believed.
"""

import base64
import struct
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.cloud.client import ApiKey, Connection
from mlx_integrations.cloud.estimates import clean, estimated_tokens
from mlx_integrations.cloud.failures import Asked, Failure, client_errors, translated
from mlx_integrations.cloud.presets import find_preset
from mlx_integrations.errors import InvalidRequestError, RemoteStreamError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.types import EmbeddingCapabilities, EmbeddingChunk, EmbeddingOptions

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenAIEmbeddingBackend"]

_BATCH_TEXTS: Final = 256  # OpenAI takes 2,048, smaller servers fewer
_BATCH_TOKENS: Final = 32_768  # OpenAI takes 300,000
_BLANK: Final = " "
_DEFAULTS = EmbeddingOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Texts of one request, as they are sent."""

    first: int
    texts: list[str]
    tokens: int
    truncated: tuple[int, ...]


_ONE_WORD: Final = _Batch(first=0, texts=["dimensions"], tokens=3, truncated=())


class OpenAIEmbeddingBackend:
    """Embeds with a model behind an endpoint; implements `EmbeddingBackend`.

    Tokens are estimated, except those of a chunk whose endpoint counts them. Texts longer than `max_tokens` by that
    estimate are cut here; one that the endpoint still finds too long is a `ContextOverflowError`. An empty text is sent
    as a blank, because OpenAI takes none. `dimensions` of a call cuts vectors here, as OpenAI does it itself.

    Args:
        base_url: Where the endpoint is; where its kind usually is if `None`.
        model: The model's name there.
        api_key: Its key, or what gets one. Never taken from the environment here.
        kind: The kind of endpoint: a name of `PRESETS`.
        dimensions: Coordinates of the model's whole vectors; if `None`, the endpoint is asked to embed one word.
        max_tokens: How long a text may be.
        pooling: How the model makes one vector of many, if you know; fingerprints compare it where both sides know.
        query_prompt: Put before queries.
        document_prompt: Put before documents.
        endpoint: What messages call it; its host otherwise.
        model_id: The name this backend is known by; the endpoint's and the model's otherwise.
        timeout_seconds: The longest silence that is waited out.
        connect_seconds: How long it may take to reach it.
        wall_clock: Seconds since 1970.

    Raises:
        ConfigurationError: The address is none, there is no such kind, or the key cannot be one.
        InvalidRequestError: `dimensions` or `max_tokens` is below 1.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key: ApiKey | str | None = None,
        kind: str = "compatible",
        dimensions: int | None = None,
        max_tokens: int = 8191,
        pooling: str = "",
        query_prompt: str = "",
        document_prompt: str = "",
        endpoint: str | None = None,
        model_id: str | None = None,
        timeout_seconds: float = 120.0,
        connect_seconds: float = 10.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("dimensions", dimensions), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise InvalidRequestError(f"`{name}` cannot be {value}.", field=name)
        self._connection = Connection(
            base_url=find_preset(kind).base_url if base_url is None else base_url,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            connect_seconds=connect_seconds,
            name=endpoint,
        )
        self._model = model
        self._model_id = model_id or f"{self._connection.name}/{model}"
        self._dimensions = dimensions
        self._max_tokens = max_tokens
        self._pooling = pooling
        self._prompts = {"query": query_prompt, "document": document_prompt}
        # A third of the bytes, but not every server knows it.
        self._encoding = "base64" if kind == "openai" else "float"
        self._wall_clock = wall_clock
        self._fingerprints: dict[EmbeddingOptions, EmbeddingFingerprint] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OpenAIEmbeddingBackend(model={self._model!r}, base_url={self.base_url!r})"

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        return self._model_id

    @property
    def base_url(self) -> str:
        """Where the endpoint is."""
        return self._connection.base_url

    @property
    def connection(self) -> Connection:
        """The way to the endpoint."""
        return self._connection

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What the model does; asks the endpoint once if nobody said how many coordinates it has."""
        return EmbeddingCapabilities(
            dimensions=self._width(),
            max_tokens=self._max_tokens,
            pooling=self._pooling,
            normalize=True,
            query_prompt=self._prompts["query"],
            document_prompt=self._prompts["document"],
        )

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts."""
        for batch in self._batches(texts, options):
            yield self._chunk(batch, options, self._ask(batch))

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops; never blocks one."""
        if options.dimensions is not None and self._dimensions is None:
            await self._aask(_ONE_WORD)
        for batch in self._batches(texts, options):
            yield self._chunk(batch, options, await self._aask(batch))

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS) -> list[int]:
        """Tokens that each text is taken to have before it is cut, prompt included."""
        prompt = self._checked(options)
        return [estimated_tokens(prompt + text or _BLANK) for _, text in _checked_texts(texts)]

    def identity(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """The fingerprint without its witness."""
        self._checked(options)
        known, replaced = self.capabilities, options.prompt
        dimensions = known.dimensions if options.dimensions is None else options.dimensions
        if dimensions > known.dimensions:
            raise self._too_wide(dimensions, known.dimensions)
        return EmbeddingFingerprint(
            model=self._model_id,
            dimensions=dimensions,
            pooling=known.pooling,
            normalize=known.normalize if options.normalize is None else options.normalize,
            query_prompt=known.query_prompt if replaced is None else replaced,
            document_prompt=known.document_prompt if replaced is None else replaced,
            max_tokens=known.max_tokens,
        )

    def fingerprint(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; embeds a few fixed texts the first time."""
        use = replace(options, side="document", batch_tokens=None, on_progress=None)
        with self._lock:
            found = self._fingerprints.get(use)
        if found is None:
            known = self.identity(use)
            vectors = [row for chunk in self.stream(WITNESS_TEXTS, use) for row in chunk.vectors.tolist()]
            found = replace(known, witness=EmbeddingFingerprint.witness_of(vectors))
            with self._lock:
                self._fingerprints[use] = found
        return found

    def close(self) -> None:
        """Close connections that threads used. The backend can be used again."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close connections of the running event loop and of threads. The backend can be used again."""
        await self._connection.aclose()

    def _width(self) -> int:
        if self._dimensions is None:
            self._ask(_ONE_WORD)
        assert self._dimensions is not None
        return self._dimensions

    def _checked(self, options: EmbeddingOptions) -> str:
        """What is put before every text.

        Raises:
            InvalidRequestError: An option is impossible.
        """
        for name in ("dimensions", "batch_tokens"):
            value = getattr(options, name)
            if value is not None and value < 1:
                raise InvalidRequestError(f"`{name}` cannot be {value}.", field=name)
        if options.dimensions is not None and options.dimensions > self._width():
            raise self._too_wide(options.dimensions, self._width())
        if options.side not in self._prompts:
            raise InvalidRequestError(f"`side` cannot be `{options.side}`.", field="side")
        return self._prompts[options.side] if options.prompt is None else options.prompt

    def _too_wide(self, asked: int, whole: int) -> InvalidRequestError:
        return InvalidRequestError(
            f"`dimensions` cannot be {asked}: `{self._model_id}` has {whole}.", field="dimensions"
        )

    def _batches(self, texts: Iterable[str], options: EmbeddingOptions) -> Iterator[_Batch]:
        prompt = self._checked(options)
        limit = _BATCH_TOKENS if options.batch_tokens is None else options.batch_tokens
        sent: list[str] = []
        truncated: list[int] = []
        first = tokens = 0
        for position, text in _checked_texts(texts):
            whole = clean(prompt + text) or _BLANK
            cut = _cut(whole, self._max_tokens)
            size = estimated_tokens(cut)
            if sent and (len(sent) == _BATCH_TEXTS or tokens + size > limit):
                yield _Batch(first=first, texts=sent, tokens=tokens, truncated=tuple(truncated))
                sent, truncated, first, tokens = [], [], position, 0
            sent.append(cut)
            tokens += size
            if len(cut) < len(whole):
                truncated.append(position)
        if sent:
            yield _Batch(first=first, texts=sent, tokens=tokens, truncated=tuple(truncated))

    def _chunk(
        self, batch: _Batch, options: EmbeddingOptions, answer: "tuple[NDArray[np.float32], int]"
    ) -> EmbeddingChunk:
        import numpy as np

        whole, tokens = answer
        vectors = np.ascontiguousarray(whole[:, : options.dimensions])
        if options.normalize is not False:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        if options.on_progress is not None:
            options.on_progress(len(batch.texts))
        return EmbeddingChunk(first=batch.first, vectors=vectors, tokens=tokens, truncated=batch.truncated)

    def _ask(self, batch: _Batch) -> "tuple[NDArray[np.float32], int]":
        """Whole vectors (texts, dimensions) of a batch, and its tokens."""
        key = self._connection.key()
        client = self._connection.client()
        failure = None
        try:
            answer = client.embeddings.create(**self._call(batch, key))
        except client_errors() as exc:
            failure = self._failure(exc, batch, key)
        if failure is not None:
            raise failure.error from failure.cause  # out here, where no context hangs on to what was in its way
        return self._vectors(answer, batch)

    async def _aask(self, batch: _Batch) -> "tuple[NDArray[np.float32], int]":
        key = await self._connection.akey()
        client = self._connection.async_client()
        failure = None
        try:
            answer = await client.embeddings.create(**self._call(batch, key))
        except client_errors() as exc:
            failure = self._failure(exc, batch, key)
        if failure is not None:
            raise failure.error from failure.cause
        return self._vectors(answer, batch)

    def _call(self, batch: _Batch, key: str | None) -> dict[str, Any]:
        return {
            "model": self._model,
            "input": batch.texts,
            "encoding_format": self._encoding,
            "extra_headers": self._connection.headers(key),
        }

    def _failure(self, error: Exception, batch: _Batch, key: str | None) -> Failure:
        asked = Asked(
            endpoint=self._connection.name,
            address=self.base_url,
            model=self._model,
            prompt_tokens=max(map(estimated_tokens, batch.texts)),
            limit_tokens=self._max_tokens,
        )
        return translated(error, asked, key=key, now=self._wall_clock())

    def _vectors(self, answer: Any, batch: _Batch) -> "tuple[NDArray[np.float32], int]":
        """What the endpoint sent, checked and in the order of the texts.

        Raises:
            RemoteStreamError: It is not one vector for each text.
        """
        import numpy as np

        data = getattr(answer, "data", None) or []
        rows = {getattr(item, "index", None): _row(item) for item in data}
        if len(data) != len(batch.texts) or set(rows) != set(range(len(batch.texts))):
            raise self._unbelievable(f"{len(data)} vectors for {len(batch.texts)} texts")
        widths = {len(row) for row in rows.values()}
        with self._lock:
            if self._dimensions is None and len(widths) == 1 and 0 not in widths:
                self._dimensions = next(iter(widths))
        if widths != {self._dimensions}:
            found = ", ".join(str(width) for width in sorted(widths))
            raise self._unbelievable(f"vectors of {found} coordinates instead of {self._dimensions}")
        vectors: NDArray[np.float32] = np.array([rows[position] for position in range(len(batch.texts))], np.float32)
        if not np.isfinite(vectors).all():
            raise self._unbelievable("vectors that are not finite")
        counted = getattr(getattr(answer, "usage", None), "prompt_tokens", None)
        return vectors, counted if isinstance(counted, int) and counted > 0 else batch.tokens

    def _unbelievable(self, what: str) -> RemoteStreamError:
        name = self._connection.name
        return RemoteStreamError(
            f"`{name}` sent {what}.",
            endpoint=name,
            hint=f"Check that `{self._model}` is an embedding model there, and its number of dimensions.",
        )


def _row(item: Any) -> Sequence[float]:
    row = getattr(item, "embedding", None)
    if isinstance(row, str):
        try:
            data = base64.b64decode(row, validate=True)
            return struct.unpack(f"<{len(data) // 4}f", data)  # little-endian float32
        except (ValueError, struct.error):
            return ()
    is_row = isinstance(row, list) and all(isinstance(value, int | float) for value in row)
    return row if is_row else ()  # type: ignore[return-value]


def _cut(text: str, max_tokens: int) -> str:
    """The beginning of a text that is taken to have at most so many tokens."""
    if estimated_tokens(text) <= max_tokens:
        return text
    return text.encode()[: 4 * max_tokens].decode(errors="ignore")


def _checked_texts(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    if isinstance(texts, str):
        raise InvalidRequestError("`texts` is one text, not a list of them.", field="texts", hint="Use `[text]`.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            name = f"texts[{position}]"
            raise InvalidRequestError(f"`{name}` is `{text!r}`, not a text."[:300], field=name)
        yield position, text
