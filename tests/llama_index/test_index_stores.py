"""Indexes over FAISS and Chroma, by LlamaIndex's own packages: persisted, loaded again, and kept to their model."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chromadb
import faiss
import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document as LangChainDocument
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import TextNode
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

import mlx_integrations.langchain as langchain_room
from mlx_integrations.errors import EmbeddingMismatchError, SidecarError
from mlx_integrations.langchain import MLXEmbeddings
from mlx_integrations.llama_index import MLXLLM, MLXEmbedding, guarded, verify_index
from mlx_integrations.sidecar import read_sidecar, sidecar_of
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.llama_index.fakes import fake_embedding

TEXTS = [
    "The city museum opens at 10:00. The ticket costs 12 euros.",
    "The ferry leaves from pier 4 at 7:30.",
    "The bakery in Elm Street sells bread.",
]
DOCUMENTS = [Document(text=text, metadata={"page": number}) for number, text in enumerate(TEXTS)]
OTHERS = {"weights": {"seed": 1}, "model": {"name": "bge", "seed": 2}, "size": {"dimensions": 32}}
other_models = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


def flat(dimensions: int) -> FaissVectorStore:
    return FaissVectorStore(faiss_index=faiss.IndexFlatIP(dimensions))


def mapped(dimensions: int) -> FaissVectorStore:
    return FaissMapVectorStore(faiss_index=faiss.IndexIDMap2(faiss.IndexFlatIP(dimensions)))


faiss_stores = pytest.mark.parametrize("new_store", [flat, mapped])


def faiss_folder(
    folder: Path, model: MLXEmbedding, new_store: Callable[[int], FaissVectorStore] = flat, *, with_record: bool = True
) -> Path:
    storage = StorageContext.from_defaults(vector_store=new_store(len(model.get_text_embedding("x"))))
    index = VectorStoreIndex.from_documents(DOCUMENTS, storage_context=storage, embed_model=model)
    (guarded(index) if with_record else index).storage_context.persist(str(folder))
    return folder


def opened_faiss(
    folder: Path, model: MLXEmbedding, kind: type[FaissVectorStore] = FaissVectorStore, **options: Any
) -> VectorStoreIndex:
    store = kind.from_persist_dir(str(folder))
    storage = StorageContext.from_defaults(vector_store=store, persist_dir=str(folder))
    index = load_index_from_storage(storage, embed_model=model)
    assert isinstance(index, VectorStoreIndex)
    return guarded(index, path=folder, **options)


@faiss_stores
@pytest.mark.parametrize("with_record", [True, False])
def test_faiss_is_loaded_again_by_its_model(tmp_path: Path, new_store: Any, with_record: bool) -> None:
    folder = faiss_folder(tmp_path / "storage", fake_embedding(), new_store, with_record=with_record)
    index = opened_faiss(folder, fake_embedding(), type(new_store(1)))
    assert index.as_retriever(similarity_top_k=1).retrieve("Is there bread in Elm Street?")[0].text == TEXTS[2]
    index.insert(Document(text="A new one."))
    index.storage_context.persist(str(folder))
    assert read_sidecar(sidecar_of(folder)) == fake_embedding().fingerprint()
    again = opened_faiss(folder, fake_embedding(), type(new_store(1)))
    assert verify_index(again).model == "minilm"
    assert again.as_retriever(similarity_top_k=1).retrieve("A new one.")[0].text == "A new one."


@faiss_stores
@other_models
@pytest.mark.parametrize("with_record", [True, False])
def test_faiss_refuses_another_model(tmp_path: Path, new_store: Any, other: dict[str, Any], with_record: bool) -> None:
    folder = faiss_folder(tmp_path / "storage", fake_embedding(), new_store, with_record=with_record)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    index = opened_faiss(folder, fake_embedding(**other), type(new_store(1)))
    ways: tuple[Callable[[], object], ...] = (
        lambda: index.as_retriever(),
        lambda: index.insert(Document(text="x")),
        lambda: index.storage_context.persist(str(folder)),
    )
    for way in ways:
        with pytest.raises(EmbeddingMismatchError) as caught:
            way()
        assert str(folder) in caught.value.store
        assert f"`mlxi migrate run {folder} --model " in caught.value.hint
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_index_that_shows_no_vectors_is_adopted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Inverted lists give no vector back by its position."""
    model = fake_embedding()
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(64), 64, 1)
    vectors = faiss.rand((40, 64), 7)
    inverted.train(vectors)
    storage = StorageContext.from_defaults(vector_store=FaissVectorStore(faiss_index=inverted))
    index = VectorStoreIndex.from_documents(DOCUMENTS, storage_context=storage, embed_model=model)
    with caplog.at_level(logging.WARNING):
        assert verify_index(guarded(index)).model == "minilm"
    assert "no vectors to compare" in caplog.text


def collection_of(folder: Path, name: str = "notes") -> Any:
    return chromadb.PersistentClient(path=str(folder)).get_or_create_collection(
        name, metadata={"hnsw:space": "cosine", "owner": "ada"}
    )


def chroma_index(folder: Path, model: MLXEmbedding, name: str = "notes", **options: Any) -> VectorStoreIndex:
    store = ChromaVectorStore(chroma_collection=collection_of(folder, name))
    return guarded(VectorStoreIndex.from_vector_store(store, embed_model=model), **options)


def filled_chroma(folder: Path, model: MLXEmbedding) -> Path:
    index = chroma_index(folder, model)
    for document in DOCUMENTS:
        index.insert(document)
    return folder


async def test_chroma_keeps_the_record_in_its_collection(tmp_path: Path) -> None:
    model = fake_embedding()
    folder = filled_chroma(tmp_path / "db", model)
    metadata = collection_of(folder).metadata
    assert json.loads(metadata["mlxi_embedding"])["embedding"]["model"] == "minilm"
    assert metadata["owner"] == "ada" and collection_of(folder).configuration["hnsw"]["space"] == "cosine"
    index = chroma_index(folder, fake_embedding())
    assert verify_index(index) == model.fingerprint()
    retriever = index.as_retriever(similarity_top_k=1)
    assert retriever.retrieve("Is there bread in Elm Street?")[0].text == TEXTS[2]
    assert (await retriever.aretrieve("Is there bread in Elm Street?"))[0].text == TEXTS[2]
    await index.ainsert(Document(text="A new one."))
    assert collection_of(folder).count() == 4
    assert list(tmp_path.rglob("*mlxi*")) == []


@other_models
async def test_chroma_refuses_another_model(tmp_path: Path, other: dict[str, Any]) -> None:
    folder = filled_chroma(tmp_path / "db", fake_embedding())
    before = collection_of(folder).metadata
    index = chroma_index(folder, fake_embedding(**other))
    ways: tuple[Callable[[], object], ...] = (
        lambda: index.as_retriever(),
        lambda: index.insert(Document(text="x")),
        lambda: index.insert_nodes([TextNode(text="x")]),
    )
    for way in ways:
        with pytest.raises(EmbeddingMismatchError) as caught:
            way()
        assert caught.value.store == "the Chroma collection `notes`"
        assert f"`mlxi migrate run {folder} --name notes --model " in caught.value.hint
    with pytest.raises(EmbeddingMismatchError):
        await index.ainsert(Document(text="x"))
    assert (collection_of(folder).count(), collection_of(folder).metadata) == (3, before)


@other_models
def test_a_collection_without_a_record_is_known_by_its_vectors(tmp_path: Path, other: dict[str, Any]) -> None:
    """The vectors are of texts with their metadata, while the collection keeps the texts alone."""
    storage = StorageContext.from_defaults(
        vector_store=ChromaVectorStore(chroma_collection=collection_of(tmp_path / "db"))
    )
    VectorStoreIndex.from_documents(DOCUMENTS, storage_context=storage, embed_model=fake_embedding())
    with pytest.raises(EmbeddingMismatchError, match="does not say which model"):
        chroma_index(tmp_path / "db", fake_embedding(**other)).as_retriever()
    index = chroma_index(tmp_path / "db", fake_embedding())
    index.as_retriever()
    assert "mlxi_embedding" not in collection_of(tmp_path / "db").metadata
    index.insert(Document(text="x"))
    assert "mlxi_embedding" in collection_of(tmp_path / "db").metadata


def test_an_emptied_collection_may_get_another_model(tmp_path: Path) -> None:
    folder = filled_chroma(tmp_path / "db", fake_embedding())
    collection = collection_of(folder)
    collection.delete(ids=collection.get()["ids"])
    chroma_index(folder, fake_embedding(seed=1)).insert(Document(text="x"))
    assert verify_index(chroma_index(folder, fake_embedding(seed=1))) == fake_embedding(seed=1).fingerprint()
    with pytest.raises(EmbeddingMismatchError):
        verify_index(chroma_index(folder, fake_embedding()))


def test_each_collection_has_a_model_of_its_own(tmp_path: Path) -> None:
    folder = filled_chroma(tmp_path / "db", fake_embedding())
    chroma_index(folder, fake_embedding(seed=1), "other").insert(Document(text="x"))
    verify_index(chroma_index(folder, fake_embedding()))
    verify_index(chroma_index(folder, fake_embedding(seed=1), "other"))


def test_a_damaged_record_of_a_collection_is_named(tmp_path: Path) -> None:
    collection_of(tmp_path / "db").modify(metadata={"mlxi_embedding": "{"})
    with pytest.raises(SidecarError, match="the metadata of the Chroma collection `notes`"):
        verify_index(chroma_index(tmp_path / "db", fake_embedding()))


def test_a_path_keeps_the_record_beside_the_database(tmp_path: Path) -> None:
    chroma_index(tmp_path / "db", fake_embedding(), path=tmp_path / "beside").insert(Document(text="x"))
    assert read_sidecar(sidecar_of(tmp_path / "beside")) == fake_embedding().fingerprint()
    assert "mlxi_embedding" not in collection_of(tmp_path / "db").metadata


def test_persisting_writes_both_records(tmp_path: Path) -> None:
    index = chroma_index(tmp_path / "db", fake_embedding())
    index.storage_context.persist(str(tmp_path / "storage"))
    assert read_sidecar(sidecar_of(tmp_path / "storage")) == fake_embedding().fingerprint()
    assert "mlxi_embedding" in collection_of(tmp_path / "db").metadata


def test_both_frameworks_read_one_record(tmp_path: Path) -> None:
    def embeddings(seed: int = 0) -> MLXEmbeddings:
        backend = FakeEmbeddingBackend(
            model_id="minilm", seed=seed, dimensions=64, query_prompt="query: ", document_prompt="passage: "
        )
        return MLXEmbeddings(model="minilm", backend=backend)

    def store(seed: int = 0) -> Chroma:
        return langchain_room.guarded(Chroma("notes", embeddings(seed), persist_directory=str(tmp_path / "db")))

    store().add_documents([LangChainDocument(text) for text in TEXTS])
    assert verify_index(chroma_index(tmp_path / "db", fake_embedding())) == fake_embedding().fingerprint()
    with pytest.raises(EmbeddingMismatchError):
        chroma_index(tmp_path / "db", fake_embedding(seed=1)).as_retriever()
    chroma_index(tmp_path / "db", fake_embedding()).insert(Document(text="x"))
    with pytest.raises(EmbeddingMismatchError):
        store(seed=1).similarity_search("x")


@pytest.mark.parametrize("kind", ["faiss", "chroma"])
def test_minilm_and_the_demo_model_answer_from_a_store_on_disk(tmp_path: Path, kind: str) -> None:
    embedding, llm = MLXEmbedding("minilm-l6-v2"), MLXLLM("demo", temperature=0)
    if kind == "faiss":
        faiss_folder(tmp_path / "storage", embedding)
        index = opened_faiss(tmp_path / "storage", MLXEmbedding("minilm-l6-v2"))
    else:
        filled_chroma(tmp_path / "db", embedding)
        index = chroma_index(tmp_path / "db", MLXEmbedding("minilm-l6-v2"))
    answers = {"When does the museum open?": "10:00", "From which pier does the ferry leave?": "4"}
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    for question, answer in answers.items():
        response = engine.query(question)
        assert answer in str(response) and answer in response.source_nodes[0].text
    other = MLXEmbedding("minilm-l6-v2", dimensions=128)
    with pytest.raises(EmbeddingMismatchError, match=r"made by `minilm-l6-v2` \(384 dimensions\)"):
        (
            opened_faiss(tmp_path / "storage", other) if kind == "faiss" else chroma_index(tmp_path / "db", other)
        ).as_query_engine(llm=llm)
