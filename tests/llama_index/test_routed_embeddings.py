"""`RoutedEmbedding`: LlamaIndex's models as one, on indexes and event loops, and within what may leave."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import TextNode
from pydantic import Field

from mlx_integrations.errors import (
    EmbeddingMismatchError,
    EmbeddingSpaceError,
    GenerationError,
    InvalidRequestError,
    PrivacyError,
    RouterError,
)
from mlx_integrations.llama_index import MLXEmbedding, RoutedEmbedding, guarded, verify_index
from mlx_integrations.router.policy import Policy
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.router.embedding_fakes import Flaky

BROKEN = GenerationError("it broke")
TEXTS = ["The library opens at nine.", "The museum is closed on Mondays.", "A tram costs two euros."]
CANARY = "canary-7f3a"
PROMPTS: dict[str, Any] = {"query_prompt": "query: ", "text_prompt": "passage: "}


class Elsewhere(MockEmbedding):
    """A model that nobody can tell where it computes; notes what it is asked."""

    asked: list[str] = Field(default_factory=list)

    def _get_query_embedding(self, query: str) -> list[float]:
        self.asked.append(query)
        return super()._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        self.asked.append(text)
        return super()._get_text_embedding(text)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        self.asked.append(query)
        return await super()._aget_query_embedding(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        self.asked.append(text)
        return await super()._aget_text_embedding(text)


def over(backend: FakeEmbeddingBackend, **options: Any) -> MLXEmbedding:
    return MLXEmbedding("fake", backend=backend, **options)


@pytest.mark.parametrize("is_async", [False, True])
def test_another_model_of_the_same_space_goes_on(is_async: bool) -> None:
    first, second = Flaky(), Flaky()
    routed = RoutedEmbedding({"first": over(first, **PROMPTS), "second": over(second, **PROMPTS)})
    expected = over(FakeEmbeddingBackend(), **PROMPTS)
    for error in (None, BROKEN):
        routed.fingerprint()
        first.error = error
        if is_async:
            documents = asyncio.run(routed.aget_text_embedding_batch(TEXTS))
            query = asyncio.run(routed.aget_query_embedding("where?"))
        else:
            documents, query = routed.get_text_embedding_batch(TEXTS), routed.get_query_embedding("where?")
        assert documents == expected.get_text_embedding_batch(TEXTS)
        assert query == expected.get_query_embedding("where?")
    assert second.seen


def test_a_guarded_index_opens_with_the_routed_model_and_with_no_other(tmp_path: Path) -> None:
    first = Flaky()
    nodes = [TextNode(text=text) for text in TEXTS]
    index = guarded(VectorStoreIndex(nodes, embed_model=over(first)))
    index.storage_context.persist(tmp_path)
    first.error = BROKEN

    def opened(model: RoutedEmbedding) -> VectorStoreIndex:
        storage = StorageContext.from_defaults(persist_dir=str(tmp_path))
        loaded = load_index_from_storage(storage, embed_model=model)
        assert isinstance(loaded, VectorStoreIndex)
        return guarded(loaded, path=tmp_path)

    models = {"first": over(first), "second": over(FakeEmbeddingBackend(model_id="same"))}
    found = opened(RoutedEmbedding(models, space=tmp_path)).as_retriever(similarity_top_k=1).retrieve(TEXTS[1])
    assert found[0].text == TEXTS[1]
    with pytest.raises(EmbeddingMismatchError):
        verify_index(opened(RoutedEmbedding([over(FakeEmbeddingBackend(seed=1))])))
    with pytest.raises(EmbeddingSpaceError):
        RoutedEmbedding([over(FakeEmbeddingBackend(seed=1))], space=tmp_path).get_query_embedding("a")


def test_events_come_once() -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([handler])
    models = {name: over(Flaky(), callback_manager=manager) for name in ("first", "second")}
    routed = RoutedEmbedding(models, callback_manager=manager)
    routed.get_text_embedding_batch(TEXTS)
    assert len(handler.get_event_pairs(CBEventType.EMBEDDING)) == 1


def test_a_new_index_is_filled_by_one_model_only() -> None:
    cloud, mac = Elsewhere(embed_dim=12), Flaky(error=BROKEN)
    routed = RoutedEmbedding({"mac": over(mac), "cloud": cloud}, for_new_store=True, allow_cloud=True, policy=Policy())
    assert len(routed.get_text_embedding("a")) == 12 and routed.chosen == "cloud"
    mac.error = None
    assert len(routed.get_query_embedding("a")) == 12
    assert mac.seen == []


@pytest.mark.parametrize("options", [{"private": True}, {"allow_cloud": False}, {"allow_fallback": False}], ids=str)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_may_not_leave_never_does(options: dict[str, Any], is_async: bool) -> None:
    cloud = Elsewhere(embed_dim=32)
    models = {"mac": over(Flaky(error=BROKEN)), "cloud": cloud}
    arguments = {"allow_cloud": True, "policy": Policy(), "for_new_store": True, **options}
    routed = RoutedEmbedding(models, **arguments)
    with pytest.raises((PrivacyError, RouterError)) as caught:
        asyncio.run(routed.aget_text_embedding(CANARY)) if is_async else routed.get_query_embedding(CANARY)
    assert cloud.asked == [] and CANARY not in str(caught.value)


def test_set_up_wrongly() -> None:
    wrong: list[Any] = [[], {"a": "text-embedding-3-small"}, [Elsewhere(embed_dim=8)]]
    for models in wrong:
        with pytest.raises(InvalidRequestError):
            RoutedEmbedding(models, policy=Policy())
    with pytest.raises(InvalidRequestError, match="alow_cloud"):
        RoutedEmbedding([over(Flaky())], alow_cloud=True)
