"""Indexes that take no vectors of another model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, StorageContext, SummaryIndex, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult

from mlx_integrations.errors import EmbeddingMismatchError, InvalidRequestError, SidecarError
from mlx_integrations.llama_index import MLXEmbedding, guarded, verify_index
from mlx_integrations.llama_index.index_guard import fingerprint_of
from mlx_integrations.sidecar import read_sidecar, sidecar_of
from tests.llama_index.fakes import backend_of, fake_embedding

TEXTS = ["The cat sat on the mat.", "Interest rates rose again.", "Bread needs flour, water and time."]
DOCUMENTS = [Document(text=text, metadata={"page": number}) for number, text in enumerate(TEXTS)]


def new_index(model: BaseEmbedding) -> VectorStoreIndex:
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=model)


def saved(folder: Path, model: BaseEmbedding, *, with_record: bool = True) -> Path:
    index = new_index(model)
    (guarded(index) if with_record else index).storage_context.persist(str(folder))
    return folder


def loaded(folder: Path, model: BaseEmbedding, **options: Any) -> VectorStoreIndex:
    storage = StorageContext.from_defaults(persist_dir=str(folder))
    index = load_index_from_storage(storage, embed_model=model)
    assert isinstance(index, VectorStoreIndex)
    return guarded(index, path=folder, **options)


def test_persisting_writes_the_record(tmp_path: Path) -> None:
    model = fake_embedding()
    saved(tmp_path / "storage", model)
    assert read_sidecar(sidecar_of(tmp_path / "storage")) == model.fingerprint()


async def test_the_same_model_finds_again(tmp_path: Path) -> None:
    folder = saved(tmp_path / "storage", fake_embedding())
    index = loaded(folder, fake_embedding())
    assert verify_index(index).model == "minilm"
    retriever = index.as_retriever(similarity_top_k=1)
    assert retriever.retrieve("Has the cat sat on the mat?")[0].text == TEXTS[0]
    assert (await retriever.aretrieve("Has the cat sat on the mat?"))[0].text == TEXTS[0]
    index.insert(Document(text="A new one."))
    index.storage_context.persist(str(folder))
    assert len(loaded(folder, fake_embedding()).index_struct.nodes_dict) == 4


@pytest.mark.parametrize("with_record", [True, False])
@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"dimensions": 32}, {"name": "bge", "seed": 2}], ids=["weights", "dimensions", "model"]
)
async def test_another_model_is_refused_at_every_way_in(
    tmp_path: Path, with_record: bool, other: dict[str, Any]
) -> None:
    folder = saved(tmp_path / "storage", fake_embedding(), with_record=with_record)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    model = fake_embedding(**other)
    index = loaded(folder, model)
    ways: list[Callable[[], object]] = [
        lambda: verify_index(index),
        lambda: index.as_retriever(),
        lambda: index.as_query_engine(llm=MockLLM()),
        lambda: VectorIndexRetriever(index),
        lambda: index.insert(Document(text="x")),
        lambda: index.storage_context.persist(str(folder)),
    ]
    for way in ways:
        with pytest.raises(EmbeddingMismatchError) as caught:
            way()
        assert f"`mlxi migrate run {folder} --model {other.get('name', 'minilm')}`" in caught.value.hint
        assert str(folder) in caught.value.store
    with pytest.raises(EmbeddingMismatchError):
        await index.ainsert(Document(text="x"))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert all("x" not in request.texts for request in backend_of(model).requests)


def test_a_retrievers_own_model_is_compared(tmp_path: Path) -> None:
    index = guarded(new_index(fake_embedding()))
    index.as_retriever(embed_model=fake_embedding())
    with pytest.raises(EmbeddingMismatchError):
        index.as_retriever(embed_model=fake_embedding(seed=1))
    index._embed_model = fake_embedding(seed=1)
    with pytest.raises(EmbeddingMismatchError):
        index.as_retriever()


def test_vectors_of_unknown_origin_may_be_adopted(tmp_path: Path) -> None:
    folder = saved(tmp_path / "storage", fake_embedding(), with_record=False)
    model = fake_embedding(seed=1)
    loaded(folder, model, adopt=True).storage_context.persist(str(folder))
    assert verify_index(loaded(folder, fake_embedding(seed=1))).model == "minilm"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "storage", fake_embedding())
    sidecar_of(folder).write_text("{")
    with pytest.raises(SidecarError) as caught:
        verify_index(loaded(folder, fake_embedding()))
    assert caught.value.path == str(sidecar_of(folder))


class OwnStore(BasePydanticVectorStore):
    """A vector store that keeps itself, and its texts, as a server would; it shows nobody its vectors."""

    stores_text: bool = True

    @property
    def client(self) -> Any:
        return None

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        raise NotImplementedError

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        raise NotImplementedError


def test_a_store_that_keeps_itself_gets_its_record_at_the_first_insertion(tmp_path: Path) -> None:
    storage = StorageContext.from_defaults(vector_store=OwnStore())
    index = guarded(
        VectorStoreIndex([], storage_context=storage, embed_model=fake_embedding()), path=tmp_path / "notes"
    )
    assert not sidecar_of(tmp_path / "notes").exists()
    index.insert(Document(text="x"))
    record = json.loads(sidecar_of(tmp_path / "notes").read_text())
    assert record["embedding"]["model"] == "minilm"
    other = VectorStoreIndex([], storage_context=storage, embed_model=fake_embedding(seed=1))
    with pytest.raises(EmbeddingMismatchError):
        guarded(other, path=tmp_path / "notes").insert(Document(text="y"))


class Letters(BaseEmbedding):
    """A model of somebody else, without a fingerprint of its own."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(text.count(letter)) for letter in "abcdefgh"]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def test_other_embedding_models_are_known_by_their_vectors(tmp_path: Path) -> None:
    folder = saved(tmp_path / "storage", Letters(model_name="letters"))
    assert verify_index(loaded(folder, Letters(model_name="letters"))).dimensions == 8
    assert not fingerprint_of(Letters()).normalize
    with pytest.raises(EmbeddingMismatchError, match="`letters`"):
        verify_index(loaded(folder, fake_embedding()))


def test_only_vector_indexes_are_guarded() -> None:
    with pytest.raises(InvalidRequestError):
        guarded(SummaryIndex([]))  # type: ignore[type-var]
    with pytest.raises(InvalidRequestError, match="not guarded"):
        verify_index(new_index(fake_embedding()))


def test_an_address_is_no_place_for_a_record() -> None:
    with pytest.raises(InvalidRequestError, match="address of a server is no path") as caught:
        guarded(new_index(fake_embedding()), path="postgresql://somebody:secret@host/db")
    assert "secret" not in str(caught.value)


def test_guarding_twice_changes_nothing() -> None:
    index = guarded(guarded(new_index(fake_embedding())))
    assert type(index).__name__ == "GuardedVectorStoreIndex" and isinstance(index, VectorStoreIndex)
    assert isinstance(index._embed_model, MLXEmbedding)
