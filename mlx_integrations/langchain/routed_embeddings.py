"""`RoutedEmbeddings`: several LangChain embedding models that answer as one, as long as their vectors are the same.

texts
    -> RoutedEmbeddingBackend        who is asked, verified, gone on with: see router/embeddings.py
    -> CalledEmbeddingBackend        each model by its own methods, sync and async
    -> lists of floats               chunk by chunk

errors
    -> errors.langchain_errors       the same errors, each of them a LangChain error too where it has a twin
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any, Self

from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SkipValidation

from mlx_integrations.adapters.called_embeddings import CalledEmbeddingBackend, result_of
from mlx_integrations.adapters.names import canonical
from mlx_integrations.adapters.routed_embeddings import Members, Space, name_of, named, profile_allows, routed
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.embeddings import MLXEmbeddings
from mlx_integrations.langchain.errors import InvalidRequestError, langchain_errors
from mlx_integrations.langchain.store_guard import fingerprint_of
from mlx_integrations.router.embedding_space import MIN_COSINE
from mlx_integrations.router.embeddings import RoutedEmbeddingBackend
from mlx_integrations.router.policy import Policy
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingResult, EmbeddingSide

__all__ = ["RoutedEmbeddings"]

_OWN_BATCH = 1024
_OTHER_BATCH = 256


class RoutedEmbeddings(BaseModel, Embeddings):
    """Several embedding models of one vector space, in the order in which they are asked.

        RoutedEmbeddings({"mac": MLXEmbeddings(model="bge-small"), "server": OpenAIEmbeddings(...)})

    When a model fails, the next one goes on with the texts that have no vector yet, if its vectors are the same: that
    is verified on a few fixed texts before its first vector, and remembered. Otherwise the error names both models and
    their dimensions. Each model keeps its own prompts and options.

    Attributes:
        models: By name, or a list of them; the first one goes first.
        same_space: Names of models that you declare equal to the first one although fingerprints differ, for instance
            because a server does not say what it puts before queries; `True` for all. It is verified all the same.
        space: A guarded store that exists, or its fingerprint: only models of its space answer.
        for_new_store: The store is yet to be filled, so that any of the models may fill it: the first one that can
            embed is chosen, and nobody of another space answers later. `chosen` is its name.
        allow_fallback: Whether anybody but the first model may answer.
        allow_cloud: Whether texts may leave this machine; `router.allow_cloud` of the settings if `None`.
        private: Whether all texts must stay on this machine.
        local: Names of models that you vouch for: what they are asked stays with you. Models of this package, and those
            at an address of this machine, need not be named.
        policy: What the section `router` of the settings says, if `None`: what is looked for in texts, and so on.
        min_cosine: How near the vectors of models that are declared equal have to be.
    """

    models: SkipValidation[dict[str, Embeddings]]
    same_space: bool | tuple[str, ...] = False
    space: SkipValidation[Space | None] = None
    for_new_store: bool = False
    allow_fallback: bool = True
    allow_cloud: bool | None = None
    private: bool = False
    local: tuple[str, ...] = ()
    policy: SkipValidation[Policy | None] = Field(default=None, repr=False)
    min_cosine: float = MIN_COSINE
    _backend: RoutedEmbeddingBackend = PrivateAttr()

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=(), frozen=True)

    def __init__(self, models: Members[Embeddings], **options: Any) -> None:
        """Find out where each model computes, and refuse what can never work.

        Raises:
            InvalidRequestError: An option or a name does not exist, options contradict one another, or the first model
                may never be asked.
            SidecarError: The record of the store cannot be read.
        """
        with langchain_errors():
            given = canonical(options, type(self).model_fields, {})
            super().__init__(models=_checked(named(models)), **given)
            self._backend = routed(
                self.models,
                _backend_of,
                inner=lambda model: model.backend if isinstance(model, MLXEmbeddings) else _routed_in(model),
                is_ours=lambda model: isinstance(model, MLXEmbeddings | RoutedEmbeddings),
                same_space=self.same_space,
                local=self.local,
                policy=self.policy,
                allow_cloud=self.allow_cloud,
                private=self.private,
                space=self.space,
                for_new_store=self.for_new_store,
                allow_fallback=self.allow_fallback,
                min_cosine=self.min_cosine,
            )

    @classmethod
    def from_profile(cls, profile: str, fallbacks: Members[Embeddings], **options: Any) -> Self:
        """The model of an embedding profile of the settings, and others that answer for it if the profile allows that.

        Args:
            profile: Its name, which becomes the model's. Texts of a profile among the policy's `private_profiles` stay
                on this machine.
            fallbacks: Who is asked when it fails.
            **options: Any other attribute of the class.

        Raises:
            ConfigurationError: There is no such profile, or `allow_fallback=True` is given and the profile forbids it.
        """
        policy = options.get("policy")
        private = options.pop("private", False) or (policy is not None and profile in policy.private_profiles)
        return cls(
            {profile: MLXEmbeddings.from_profile(profile), **named(fallbacks)},
            allow_fallback=profile_allows(profile, options.pop("allow_fallback", None)),
            private=private,
            **options,
        )

    @property
    def model(self) -> str:
        """The name of the model whose vectors these are."""
        return self._backend.model_id

    @property
    def chosen(self) -> str | None:
        """The name of the model that the others are held to; `None` while none has been asked for a new store."""
        return self._backend.chosen

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed texts that are to be found.

        Raises:
            EmbeddingSpaceError: The first model failed, and whoever is left makes other vectors.
            RouterError: Everybody who may be asked has failed.
            PrivacyError: A text must stay on this machine, and nobody here can embed it.
        """
        return list(self.lazy_embed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """Embed a text that asks."""
        with closing(self._chunks(_one(text), "query")) as chunks:
            (vector,) = (vector for chunk in chunks for vector in chunk.vectors.tolist())
        return list(vector)

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed texts that are to be found, on an event loop."""
        return [vector async for vector in self.alazy_embed_documents(texts)]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text that asks, on an event loop."""
        async with aclosing(self._achunks(_one(text), "query")) as chunks:
            (vector,) = [vector async for chunk in chunks for vector in chunk.vectors.tolist()]
        return list(vector)

    def lazy_embed_documents(self, texts: Iterable[str]) -> Generator[list[float], None, None]:
        """Embed texts as they are read, and give their vectors as they are made."""
        with closing(self._chunks(texts, "document")) as chunks:
            for chunk in chunks:
                yield from chunk.vectors.tolist()

    async def alazy_embed_documents(self, texts: Iterable[str]) -> AsyncGenerator[list[float], None]:
        """The same for event loops. Close it (`contextlib.aclosing`) if you stop before its end."""
        async with aclosing(self._achunks(texts, "document")) as chunks:
            async for chunk in chunks:
                for vector in chunk.vectors.tolist():
                    yield vector

    def fingerprint(self) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others: a store that the first model filled can be opened with this.

        Raises:
            RouterError: Nobody can be asked whose vectors these are; the errors of `embed_documents`.
        """
        with langchain_errors():
            return self._backend.fingerprint()

    async def afingerprint(self) -> EmbeddingFingerprint:
        """The same for event loops."""
        return await asyncio.to_thread(self.fingerprint)

    def identity(self) -> EmbeddingFingerprint:
        """The fingerprint without its witness."""
        with langchain_errors():
            return self._backend.identity()

    def _chunks(self, texts: Iterable[str], side: EmbeddingSide) -> Generator[EmbeddingChunk, None, None]:
        with langchain_errors(), closing(self._backend.stream(texts, EmbeddingOptions(side=side))) as chunks:
            yield from chunks

    async def _achunks(self, texts: Iterable[str], side: EmbeddingSide) -> AsyncGenerator[EmbeddingChunk, None]:
        with langchain_errors():
            async with aclosing(self._backend.astream(texts, EmbeddingOptions(side=side))) as chunks:
                async for chunk in chunks:
                    yield chunk


def _checked(models: dict[str, Embeddings]) -> dict[str, Embeddings]:
    for name, model in models.items():
        if not isinstance(model, Embeddings):
            raise InvalidRequestError(f"`{name}` is `{model!r}`, no embedding model."[:300], field="models")
    return models


def _routed_in(model: Any) -> RoutedEmbeddingBackend | None:
    return model._backend if isinstance(model, RoutedEmbeddings) else None


def _backend_of(name: str, model: Embeddings) -> CalledEmbeddingBackend:
    if isinstance(model, MLXEmbeddings):

        async def aembed(texts: list[str], side: EmbeddingSide) -> EmbeddingResult:
            return await model.aembed(texts, side=side)

        return CalledEmbeddingBackend(
            name_of(model),
            lambda texts, side: model.embed(texts, side=side),
            aembed,
            batch_size=_OWN_BATCH,
            identify=model.identity,
            count=model.get_num_tokens,
        )

    def embed_other(texts: list[str], side: EmbeddingSide) -> EmbeddingResult:
        if side == "query":
            return result_of([model.embed_query(text) for text in texts])
        return result_of(model.embed_documents(texts))

    async def aembed_other(texts: list[str], side: EmbeddingSide) -> EmbeddingResult:
        if side == "query":
            return result_of([await model.aembed_query(text) for text in texts])
        return result_of(await model.aembed_documents(texts))

    knows_itself = callable(getattr(model, "fingerprint", None))
    return CalledEmbeddingBackend(
        name_of(model),
        embed_other,
        aembed_other,
        batch_size=_OTHER_BATCH,
        identify=(lambda: replace(fingerprint_of(model), witness=())) if knows_itself else None,
    )


def _one(text: str) -> list[str]:
    if not isinstance(text, str):
        raise InvalidRequestError(f"`text` is `{text!r}`, not a text."[:300], field="text")
    return [text]
