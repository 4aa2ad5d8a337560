"""`MLXEmbedding`: a LlamaIndex embedding model that runs in this process.

Input flow:
    texts, the model's fields
        -> EmbeddingOptions                      one for queries, another for texts of nodes
        -> EmbeddingBackend.stream / astream

Output flow:
    `EmbeddingChunk`s
        -> embedding_calls.EmbeddingCall         how many texts were cut
        -> lists of floats                       chunk by chunk, so that an event loop is never kept for long

LlamaIndex itself cuts lists into pieces of `embed_batch_size`, keeps `num_workers` of them going at a time in its async
forms, and sends the events. Here a piece is one call of the engine, which makes batches of it by tokens, sorted by
length, together with whatever else is being embedded: the default is the largest piece that LlamaIndex allows.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from os import PathLike, fspath
from typing import Any, Self

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from mlx_integrations.adapters.embedding_calls import EmbeddingCall, Truncation
from mlx_integrations.adapters.lookup import EmbeddingLookup, EmbeddingUse
from mlx_integrations.adapters.names import OF_NO_USE_HERE, canonical
from mlx_integrations.errors import InvalidRequestError, MLXIntegrationsError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingSide

__all__ = ["MLXEmbedding"]

_ALIASES = {
    "model": "model_name",
    "model_id": "model_name",
    # What LlamaIndex's embedding models of Hugging Face call the same.
    "query_instruction": "query_prompt",
    "text_instruction": "text_prompt",
    "document_prompt": "text_prompt",
}
_DIGEST = "fingerprint"
_LARGEST_PIECE = 2048  # what the base class allows for `embed_batch_size`


class MLXEmbedding(BaseEmbedding):
    """An embedding model that runs in this process on MLX.

    Constructing one loads nothing; the model is loaded when it is first asked, once for the process, and shared with
    every `MLXEmbeddings` and `MLXEmbedding` that names it. Queries and texts are told apart: each side has the prompt
    that the model's own files name for it.

    `api_key`, `base_url`, `max_retries` and `timeout` are accepted and ignored, so that a model of another provider can
    be exchanged for this one.

    Attributes:
        model_name: A registry id, a Hub repository id in the local cache, or a folder; `embedding.default` of the
            settings when left out. Also `model`.
        dimensions: Keep the first so many coordinates, for models that were trained for it (Matryoshka);
            `embedding.dimensions` of the settings when the model is left out as well.
        normalize: Whether vectors have length 1. For this and what follows, `None` means: as the model's files say.
        batch_tokens: Tokens of one batch of the engine at most, padding included.
        query_prompt: Put before every query; `""` for none. Also `query_instruction`.
        text_prompt: Put before every text; `""` for none. Also `text_instruction`.
        embed_batch_size: Texts of one call of the engine; 1 to 2048.
        num_workers: Calls of the async forms that are under way at the same time.
        on_truncated: Called once for each call that met texts longer than the model reads, in the thread or task that
            made the call. A line of log says so in any case.
        backend: Embeds in place of the model's own runtime: for tests, or a backend of your own.
        runtime: A private runtime to load the model in, instead of the one that the process shares.
    """

    embed_batch_size: int = Field(default=_LARGEST_PIECE, gt=0, le=_LARGEST_PIECE)
    dimensions: int | None = Field(default=None, ge=1)
    normalize: bool | None = None
    batch_tokens: int | None = Field(default=None, ge=1)
    query_prompt: str | None = None
    text_prompt: str | None = None
    on_truncated: Callable[[Truncation], object] | None = Field(default=None, exclude=True, repr=False)
    # Not validated: an isinstance check of a protocol reads its properties, and so the model's files.
    backend: SkipValidation[EmbeddingBackend | None] = Field(default=None, exclude=True, repr=False)
    runtime: Any = Field(default=None, exclude=True, repr=False)
    _lookup: EmbeddingLookup = PrivateAttr(default_factory=EmbeddingLookup)

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    def __init__(self, model_name: str | PathLike[str] | None = None, **options: Any) -> None:
        """Take the names that other models use for the same options, too.

        Raises:
            InvalidRequestError: An option does not exist; the hint names the one that was probably meant.
        """
        given = {name: value for name, value in options.items() if name not in OF_NO_USE_HERE}
        if model_name is not None:
            given["model_name"] = model_name
        given = canonical(given, type(self).model_fields, _ALIASES)
        named = given.get("model_name")
        if named is None and not {"dimensions", "backend"} & given.keys():
            given["dimensions"] = _default_dimensions()
        given["model_name"] = _default_model() if named is None else fspath(named)
        super().__init__(**given)

    @classmethod
    def class_name(cls) -> str:
        """What the model is called where it is written down."""
        return "MLXEmbedding"

    @classmethod
    def from_profile(cls, name: str, **options: Any) -> Self:
        """The model of an embedding profile of the settings, such as `projects` or `user_profile`.

        Args:
            name: The profile.
            **options: Any attribute of the class; the profile's model and dimensions unless given.

        Raises:
            ConfigurationError: There is no such profile.
        """
        # Here and below, so that importing this module does not import the runtime.
        from mlx_integrations.assembly import get_settings

        profile = get_settings().embedding.profile(name)
        return cls(**{"model_name": profile.model, "dimensions": profile.dimensions, **options})

    def fingerprint(self) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others; loads the model and embeds a few fixed texts."""
        backend = self._backend()
        return self._lookup.fingerprint(backend, self._use(backend))

    def identity(self) -> EmbeddingFingerprint:
        """The fingerprint without its witness: reads the model's files, but loads no weights."""
        backend = self._backend()
        return self._lookup.identity(backend, self._use(backend))

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Its options, and the digest of its identity, if the model is on this machine.

        LlamaIndex's `IngestionPipeline` makes the keys of its cache of this: other weights under the same name, or
        other prompts in the model's files, must not be answered with vectors of before.
        """
        data: dict[str, Any] = super().to_dict(**kwargs)
        try:
            return {**data, _DIGEST: self.identity().digest()}
        except MLXIntegrationsError:
            return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """The model that `to_dict` wrote; its digest is that of the files on this machine again."""
        return super().from_dict({name: value for name, value in data.items() if name != _DIGEST}, **kwargs)

    async def afingerprint(self) -> EmbeddingFingerprint:
        """The same for event loops."""
        return await asyncio.to_thread(self.fingerprint)

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Embed a text that asks, without ever blocking the event loop."""
        await self._aget_ready()
        return await super().aget_query_embedding(query)

    async def aget_text_embedding(self, text: str) -> Embedding:
        """Embed a text that is to be found, without ever blocking the event loop."""
        await self._aget_ready()
        return await super().aget_text_embedding(text)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Embed texts that are to be found, without ever blocking the event loop."""
        await self._aget_ready()
        return await super().aget_text_embedding_batch(texts, show_progress, **kwargs)

    def get_num_tokens(self, text: str) -> int:
        """Tokens that a text of a node takes, prompt and special tokens included."""
        return self._backend().count_tokens([text], self._options("document"))[0]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; a backend and a runtime are resources, which both copies use."""
        shared = {id(item): item for item in (self.backend, self.runtime) if item is not None}
        return super().__deepcopy__({**(memo or {}), **shared})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out a backend and a runtime: they belong to this process."""
        return super(MLXEmbedding, self.model_copy(update={"backend": None, "runtime": None})).__getstate__()

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._embedded([_text(query)], "query")[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aembedded([_text(query)], "query"))[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._embedded([_text(text)], "document")[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aembedded([_text(text)], "document"))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._embedded(texts, "document")

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await self._aembedded(texts, "document")

    def _embedded(self, texts: Sequence[str], side: EmbeddingSide) -> list[Embedding]:
        return list(self._vectors(texts, side))

    async def _aembedded(self, texts: Sequence[str], side: EmbeddingSide) -> list[Embedding]:
        async with aclosing(self._avectors(texts, side)) as vectors:
            return [vector async for vector in vectors]

    def _vectors(self, texts: Sequence[str], side: EmbeddingSide) -> Generator[Embedding, None, None]:
        backend = self._backend()
        call = self._call(backend, texts, side)
        with call, closing(backend.stream(texts, call.options)) as chunks:
            for chunk in chunks:
                call.take(chunk)
                yield from chunk.vectors.tolist()

    async def _avectors(self, texts: Sequence[str], side: EmbeddingSide) -> AsyncGenerator[Embedding, None]:
        backend = await self._abackend()
        call = self._call(backend, texts, side)
        with call:
            async with aclosing(backend.astream(texts, call.options)) as chunks:
                async for chunk in chunks:
                    call.take(chunk)
                    for vector in chunk.vectors.tolist():
                        yield vector

    def _call(self, backend: EmbeddingBackend, texts: Sequence[str], side: EmbeddingSide) -> EmbeddingCall:
        return EmbeddingCall(backend, texts, self._options(side), False, self.on_truncated)

    def _options(self, side: EmbeddingSide) -> EmbeddingOptions:
        return EmbeddingOptions(
            side=side,
            prompt=self.query_prompt if side == "query" else self.text_prompt,
            dimensions=self.dimensions,
            normalize=self.normalize,
            batch_tokens=self.batch_tokens,
        )

    def _backend(self) -> EmbeddingBackend:
        return self._lookup.find(self.model_name, self.runtime) if self.backend is None else self.backend

    async def _abackend(self) -> EmbeddingBackend:
        return await self._lookup.afind(self.model_name, self.runtime) if self.backend is None else self.backend

    async def _aget_ready(self) -> None:
        """Look up what `to_dict` tells: before llama-index-core 0.14.23, events are made of that on the event loop."""
        backend = await self._abackend()
        await self._lookup.aidentify(backend, self._use(backend))

    def _use(self, backend: EmbeddingBackend) -> EmbeddingUse:
        name = self.model_name if self.backend is None else backend.model_id
        return EmbeddingUse(model=name, query_prompt=self.query_prompt, options=self._options("document"))


def _default_model() -> str:
    from mlx_integrations.assembly import get_settings

    return get_settings().embedding.default


def _default_dimensions() -> int | None:
    from mlx_integrations.assembly import get_settings

    return get_settings().embedding.dimensions


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"`text` is `{text!r}`, not a text."[:300], field="text")
    return text
