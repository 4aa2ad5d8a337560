"""`RoutedEmbedding`: several LlamaIndex embedding models that answer as one, as long as their vectors are the same.

texts
    -> RoutedEmbeddingBackend        who is asked, verified, gone on with: see router/embeddings.py
    -> CalledEmbeddingBackend        each model by what it overrides of `BaseEmbedding`, so that events and callbacks
                                     come once, from this model
    -> lists of floats
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from mlx_integrations.adapters.called_embeddings import CalledEmbeddingBackend, result_of
from mlx_integrations.adapters.names import canonical
from mlx_integrations.adapters.routed_embeddings import Members, Space, name_of, named, profile_allows, routed
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.llama_index.embeddings import MLXEmbedding
from mlx_integrations.llama_index.index_guard import fingerprint_of
from mlx_integrations.router.embedding_space import MIN_COSINE
from mlx_integrations.router.embeddings import RoutedEmbeddingBackend
from mlx_integrations.router.policy import Policy
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult, EmbeddingSide

__all__ = ["RoutedEmbedding"]

_OWN_BATCH = 1024
_LARGEST_PIECE = 2048  # what the base class allows for `embed_batch_size`


class RoutedEmbedding(BaseEmbedding):
    """Several embedding models of one vector space, in the order in which they are asked.

        RoutedEmbedding({"mac": MLXEmbedding(model_name="bge-small"), "server": OpenAIEmbedding(...)})

    When a model fails, the next one goes on with the texts that have no vector yet, if its vectors are the same: that
    is verified on a few fixed texts before its first vector, and remembered. Otherwise the error names both models and
    their dimensions. Each model keeps its own prompts and options.

    Attributes:
        models: By name, or a list of them; the first one goes first.
        same_space: Names of models that you declare equal to the first one although fingerprints differ; `True` for
            all. It is verified all the same.
        space: The folder of a guarded index that exists, or its fingerprint: only models of its space answer.
        for_new_store: The index is yet to be filled, so that any of the models may fill it: the first one that can
            embed is chosen, and nobody of another space answers later. `chosen` is its name.
        allow_fallback: Whether anybody but the first model may answer.
        allow_cloud: Whether texts may leave this machine; `router.allow_cloud` of the settings if `None`.
        private: Whether all texts must stay on this machine.
        local: Names of models that you vouch for: what they are asked stays with you.
        policy: What the section `router` of the settings says, if `None`: what is looked for in texts, and so on.
        min_cosine: How near the vectors of models that are declared equal have to be.
        embed_batch_size: Texts of one piece of a longer list; 1 to 2048.
    """

    models: SkipValidation[dict[str, BaseEmbedding]] = Field(exclude=True)
    same_space: bool | tuple[str, ...] = False
    space: SkipValidation[Space | None] = Field(default=None, exclude=True)
    for_new_store: bool = False
    allow_fallback: bool = True
    allow_cloud: bool | None = None
    private: bool = False
    local: tuple[str, ...] = ()
    policy: SkipValidation[Policy | None] = Field(default=None, exclude=True, repr=False)
    min_cosine: float = MIN_COSINE
    embed_batch_size: int = Field(default=_LARGEST_PIECE, gt=0, le=_LARGEST_PIECE)
    _backend: RoutedEmbeddingBackend = PrivateAttr()

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    def __init__(self, models: Members[BaseEmbedding], **options: Any) -> None:
        """Find out where each model computes, and refuse what can never work.

        Raises:
            InvalidRequestError: An option or a name does not exist, options contradict one another, or the first model
                may never be asked.
            SidecarError: The record of the index cannot be read.
        """
        found = _checked(named(models))
        given = canonical(options, type(self).model_fields, {})
        super().__init__(**{"models": found, "model_name": next(iter(found)), **given})
        self._backend = routed(
            found,
            _backend_of,
            inner=lambda model: model.backend if isinstance(model, MLXEmbedding) else _routed_in(model),
            is_ours=lambda model: isinstance(model, MLXEmbedding | RoutedEmbedding),
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
    def class_name(cls) -> str:
        """What the model is called where it is written down."""
        return "RoutedEmbedding"

    @classmethod
    def from_profile(cls, profile: str, fallbacks: Members[BaseEmbedding], **options: Any) -> Self:
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
            {profile: MLXEmbedding.from_profile(profile), **named(fallbacks)},
            allow_fallback=profile_allows(profile, options.pop("allow_fallback", None)),
            private=private,
            **options,
        )

    @property
    def chosen(self) -> str | None:
        """The name of the model that the others are held to; `None` while none has been asked for a new index."""
        return self._backend.chosen

    def fingerprint(self) -> EmbeddingFingerprint:
        """What makes these vectors comparable with others: an index that the first model filled can be asked with this.

        Raises:
            RouterError: Nobody can be asked whose vectors these are.
        """
        return self._backend.fingerprint()

    async def afingerprint(self) -> EmbeddingFingerprint:
        """The same for event loops."""
        return await asyncio.to_thread(self.fingerprint)

    def identity(self) -> EmbeddingFingerprint:
        """The fingerprint without its witness."""
        return self._backend.identity()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; models and what was found out about them are resources, which both copies use."""
        return self.model_copy()

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
        chunks = self._backend.stream(texts, EmbeddingOptions(side=side))
        return [vector for chunk in chunks for vector in chunk.vectors.tolist()]

    async def _aembedded(self, texts: Sequence[str], side: EmbeddingSide) -> list[Embedding]:
        async with aclosing(self._backend.astream(texts, EmbeddingOptions(side=side))) as chunks:
            return [vector async for chunk in chunks for vector in chunk.vectors.tolist()]


def _checked(models: dict[str, BaseEmbedding]) -> dict[str, BaseEmbedding]:
    for name, model in models.items():
        if not isinstance(model, BaseEmbedding):
            raise InvalidRequestError(f"`{name}` is `{model!r}`, no embedding model."[:300], field="models")
    return models


def _routed_in(model: Any) -> RoutedEmbeddingBackend | None:
    return model._backend if isinstance(model, RoutedEmbedding) else None


def _backend_of(name: str, model: BaseEmbedding) -> CalledEmbeddingBackend:
    def embed(texts: list[str], side: EmbeddingSide) -> EmbeddingResult:
        if side == "query":
            return result_of([model._get_query_embedding(text) for text in texts])
        return result_of(model._get_text_embeddings(texts))

    async def aembed(texts: list[str], side: EmbeddingSide) -> EmbeddingResult:
        if side == "query":
            return result_of([await model._aget_query_embedding(text) for text in texts])
        return result_of(await model._aget_text_embeddings(texts))

    is_own = isinstance(model, MLXEmbedding)
    return CalledEmbeddingBackend(
        name_of(model),
        embed,
        aembed,
        batch_size=_OWN_BATCH if is_own else model.embed_batch_size,
        identify=_identify(model),
        count=model.get_num_tokens if isinstance(model, MLXEmbedding) else None,
    )


def _identify(model: BaseEmbedding) -> Callable[[], EmbeddingFingerprint] | None:
    if isinstance(model, MLXEmbedding):
        return model.identity
    if not callable(getattr(model, "fingerprint", None)):
        return None
    return lambda: replace(fingerprint_of(model), witness=())


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"`text` is `{text!r}`, not a text."[:300], field="text")
    return text
