"""`MLXEmbeddings`: a LangChain embedding model that runs in this process.

Input flow:
    texts, the model's fields
        -> EmbeddingOptions                      one for queries, another for documents
        -> EmbeddingBackend.stream / astream

Output flow:
    `EmbeddingChunk`s
        -> embedding_calls.EmbeddingCall         progress while it runs; afterwards, how many texts were cut
        -> lists of floats                       chunk by chunk, so that an event loop is never kept for long
    errors
        -> errors.langchain_errors               the same errors, each of them a LangChain error too

Nothing here batches, retries or computes. Sync and async, lists and iterators, are one path through one backend.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import aclosing, closing
from os import PathLike, fspath
from typing import Any, Self

from langchain_core.embeddings import Embeddings
from langchain_core.load.serializable import Serializable
from langchain_core.stores import ByteStore
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, model_validator

from mlx_integrations.adapters.embedding_calls import EmbeddingCall, Truncation
from mlx_integrations.adapters.lookup import EmbeddingLookup, EmbeddingUse
from mlx_integrations.adapters.names import OF_NO_USE_HERE, canonical
from mlx_integrations.errors import MissingExtraError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.errors import InvalidRequestError, langchain_errors
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingResult, EmbeddingSide

__all__ = ["MLXEmbeddings"]

_ALIASES = {"model_name": "model", "model_id": "model", "show_progress_bar": "show_progress"}


def _default_model() -> str:
    # Here and below, so that importing this module or constructing a model does not import MLX.
    from mlx_integrations.assembly import get_settings

    return get_settings().embedding.default


def _default_dimensions() -> int | None:
    from mlx_integrations.assembly import get_settings

    return get_settings().embedding.dimensions


class MLXEmbeddings(Serializable, Embeddings):
    """An embedding model that runs in this process on MLX.

    Constructing one loads nothing; the model is loaded when it is first asked, once for the process. Queries and
    documents are told apart: each side has the prompt that the model's own files name for it.

    `api_key`, `base_url`, `max_retries` and `timeout` are accepted and ignored, so that a model of another provider can
    be exchanged for this one.

    Attributes:
        model: A registry id, a Hub repository id in the local cache, or a folder; `embedding.default` of the settings
            when left out. Also `model_name`.
        dimensions: Keep the first so many coordinates, for models that were trained for it (Matryoshka);
            `embedding.dimensions` of the settings when the model is left out as well.
        normalize: Whether vectors have length 1. For this and what follows, `None` means: as the model's files say.
        batch_tokens: Tokens of one batch at most, padding included.
        query_prompt: Put before every query; `""` for none.
        document_prompt: Put before every document; `""` for none.
        show_progress: Whether to tell on stderr how far a call with documents is.
        on_truncated: Called once for each call that met texts longer than the model reads, in the thread or task that
            made the call. A line of log says so in any case.
        backend: Embeds in place of the model's own runtime: for tests, or a backend of your own.
        runtime: A private runtime to load the model in, instead of the one that the process shares.
    """

    model: str = Field(default_factory=_default_model, min_length=1)
    dimensions: int | None = Field(default=None, ge=1)
    normalize: bool | None = None
    batch_tokens: int | None = Field(default=None, ge=1)
    query_prompt: str | None = None
    document_prompt: str | None = None
    show_progress: bool = False
    on_truncated: Callable[[Truncation], object] | None = Field(default=None, exclude=True, repr=False)
    # Not validated: an isinstance check of a protocol reads its properties, and so the model's files.
    backend: SkipValidation[EmbeddingBackend | None] = Field(default=None, exclude=True, repr=False)
    runtime: Any = Field(default=None, exclude=True, repr=False)
    _lookup: EmbeddingLookup = PrivateAttr(default_factory=EmbeddingLookup)

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if name not in OF_NO_USE_HERE}
        given = canonical(given, cls.model_fields, _ALIASES)
        if isinstance(given.get("model"), PathLike):
            given["model"] = fspath(given["model"])
        if not {"model", "dimensions", "backend"} & given.keys():
            given["dimensions"] = _default_dimensions()
        return given

    @classmethod
    def from_profile(cls, name: str, **options: Any) -> Self:
        """The model of an embedding profile of the settings, such as `projects` or `user_profile`.

        Args:
            name: The profile.
            **options: Any attribute of the class; the profile's model and dimensions unless given.

        Raises:
            ConfigurationError: There is no such profile.
        """
        from mlx_integrations.assembly import get_settings

        profile = get_settings().embedding.profile(name)
        return cls(**{"model": profile.model, "dimensions": profile.dimensions, **options})

    @property
    def model_name(self) -> str:
        """The name that many LangChain tools ask for; the same as `model`."""
        return self.model

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Its options are plain values; a backend, a runtime and a callback given by hand are left out."""
        return True

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; a backend and a runtime are resources, which both copies use."""
        shared = {id(item): item for item in (self.backend, self.runtime) if item is not None}
        return super().__deepcopy__({**(memo or {}), **shared})

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed texts that are to be found.

        Raises:
            InvalidRequestError: A text is no `str`; `field` names it, such as `texts[3]`.
        """
        return list(self.lazy_embed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """Embed a text that asks. An empty one is embedded like any other."""
        with closing(self._chunks(_one(text), "query")) as chunks:
            (vector,) = (vector for chunk in chunks for vector in chunk.vectors.tolist())
        return list(vector)

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed texts that are to be found, without ever blocking the event loop."""
        return [vector async for vector in self.alazy_embed_documents(texts)]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text that asks, without ever blocking the event loop."""
        async with aclosing(self._achunks(_one(text), "query")) as chunks:
            (vector,) = [vector async for chunk in chunks for vector in chunk.vectors.tolist()]
        return list(vector)

    def lazy_embed_documents(self, texts: Iterable[str]) -> Generator[list[float], None, None]:
        """Embed texts as they are read, and give their vectors as they are made: a million texts take little memory.

        Named after `lazy_load` of LangChain's document loaders.
        """
        with closing(self._chunks(texts, "document")) as chunks:
            for chunk in chunks:
                yield from chunk.vectors.tolist()

    async def alazy_embed_documents(self, texts: Iterable[str]) -> AsyncGenerator[list[float], None]:
        """The same for event loops. Close it (`contextlib.aclosing`) if you stop before its end."""
        async with aclosing(self._achunks(texts, "document")) as chunks:
            async for chunk in chunks:
                for vector in chunk.vectors.tolist():
                    yield vector

    def embed(self, texts: Iterable[str], *, side: EmbeddingSide = "document") -> EmbeddingResult:
        """Embed texts into one NumPy array, and say how many tokens were read and which texts were cut.

        Returns:
            `vectors` (texts, dimensions) float32, `tokens`, and `truncated`: the positions of texts that were longer
            than the model reads.
        """
        return EmbeddingResult.join(self._chunks(texts, side))

    async def aembed(self, texts: Iterable[str], *, side: EmbeddingSide = "document") -> EmbeddingResult:
        """The same for event loops."""
        async with aclosing(self._achunks(texts, side)) as chunks:
            return EmbeddingResult.join([chunk async for chunk in chunks])

    def get_num_tokens(self, text: str) -> int:
        """Tokens that a document takes, prompt and special tokens included: a `length_function` for text splitters."""
        with langchain_errors():
            return self._backend().count_tokens(_one(text), self._options("document"))[0]

    def fingerprint(self) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; loads the model and embeds a few fixed texts."""
        with langchain_errors():
            backend = self._backend()
            return self._lookup.fingerprint(backend, self._use(backend))

    def identity(self) -> EmbeddingFingerprint:
        """The fingerprint without its witness: reads the model's files, but loads no weights."""
        with langchain_errors():
            backend = self._backend()
            return self._lookup.identity(backend, self._use(backend))

    async def afingerprint(self) -> EmbeddingFingerprint:
        """The same for event loops."""
        with langchain_errors():
            backend = await self._abackend()
        found = self._lookup.known_fingerprint(backend, self._use(backend))
        return await asyncio.to_thread(self.fingerprint) if found is None else found

    def cached(self, store: ByteStore, *, cache_queries: bool = True, batch_size: int = 1024) -> Embeddings:
        """Keep vectors, and compute only those of texts that are new: LangChain's `CacheBackedEmbeddings`.

        Keys hold the fingerprint's digest, so that one store may serve many models, and no model is ever answered with
        another one's vectors. Documents and queries have keys of their own.

        Args:
            store: Any store of LangChain for bytes, such as `LocalFileStore` or `InMemoryByteStore`.
            cache_queries: Whether to keep queries too.
            batch_size: New texts to embed before their vectors are stored.

        Raises:
            MissingExtraError: langchain-classic, where LangChain keeps its cache, is not installed.
        """
        try:
            from mlx_integrations.langchain.embedding_cache import CachedEmbeddings
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "langchain_classic":
                raise
            raise MissingExtraError("The embedding cache needs `langchain-classic`.", extra="langchain") from error
        return CachedEmbeddings(self, store, cache_queries=cache_queries, batch_size=batch_size)

    def _chunks(self, texts: Iterable[str], side: EmbeddingSide) -> Generator[EmbeddingChunk, None, None]:
        with langchain_errors():
            backend = self._backend()
            call = self._call(backend, texts, side)
            with call, closing(backend.stream(texts, call.options)) as chunks:
                for chunk in chunks:
                    call.take(chunk)
                    yield chunk

    async def _achunks(self, texts: Iterable[str], side: EmbeddingSide) -> AsyncGenerator[EmbeddingChunk, None]:
        with langchain_errors():
            backend = await self._abackend()
            call = self._call(backend, texts, side)
            with call:
                async with aclosing(backend.astream(texts, call.options)) as chunks:
                    async for chunk in chunks:
                        call.take(chunk)
                        yield chunk

    def _call(self, backend: EmbeddingBackend, texts: Iterable[str], side: EmbeddingSide) -> EmbeddingCall:
        return EmbeddingCall(backend, texts, self._options(side), self.show_progress, self.on_truncated)

    def _options(self, side: EmbeddingSide) -> EmbeddingOptions:
        return EmbeddingOptions(
            side=side,
            prompt=self.query_prompt if side == "query" else self.document_prompt,
            dimensions=self.dimensions,
            normalize=self.normalize,
            batch_tokens=self.batch_tokens,
        )

    def _backend(self) -> EmbeddingBackend:
        return self._lookup.find(self.model, self.runtime) if self.backend is None else self.backend

    async def _abackend(self) -> EmbeddingBackend:
        return await self._lookup.afind(self.model, self.runtime) if self.backend is None else self.backend

    def _use(self, backend: EmbeddingBackend) -> EmbeddingUse:
        name = self.model if self.backend is None else backend.model_id
        return EmbeddingUse(model=name, query_prompt=self.query_prompt, options=self._options("document"))


def _one(text: str) -> list[str]:
    if not isinstance(text, str):
        raise InvalidRequestError(f"`text` is `{text!r}`, not a text."[:300], field="text")
    return [text]
