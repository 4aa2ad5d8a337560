"""Stores that take no vectors of another model: FAISS, Chroma, the store in memory, and stores of any other kind."""

import asyncio
import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_community.vectorstores import FAISS
from langchain_core import exceptions
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore

from mlx_integrations.errors import EmbeddingMismatchError, InvalidRequestError, SidecarError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.langchain.store_guard import fingerprint_of
from mlx_integrations.sidecar import SIDECAR_NAME, read_sidecar
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.langchain.shelves import (
    QUESTION,
    SHELVES,
    TEXTS,
    ChromaShelf,
    FaissShelf,
    MemoryShelf,
    OtherShelf,
    OtherStore,
    Shelf,
    model,
)

OTHERS: dict[str, Callable[[], MLXEmbeddings]] = {
    "other weights": lambda: model("bge", seed=1),
    "other dimensions": lambda: model("big", dimensions=96),
    "cut dimensions": lambda: model(dimensions=64).model_copy(update={"dimensions": 32}),
    "other query prompt": lambda: model().model_copy(update={"query_prompt": "ask: "}),
}


def asked(embeddings: MLXEmbeddings) -> int:
    """How many streams its backend was asked for; fingerprints leave no trace there."""
    assert isinstance(embeddings.backend, FakeEmbeddingBackend)
    return len(embeddings.backend.requests)


@pytest.fixture(params=SHELVES)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return SHELVES[request.param](tmp_path)


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    """A store that a guarded program filled with `minilm`, and closed."""
    store = shelf.guard(shelf.new(model()))
    store.add_texts(["A fourth text."])
    shelf.save(store)
    return shelf


def found(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


# Round trips


def test_a_guarded_store_is_the_same_object_of_its_own_type(shelf: Shelf) -> None:
    store = shelf.new(model())
    base = type(store)
    assert shelf.guard(store) is store
    assert isinstance(store, base) and type(store).__name__ == f"Guarded{base.__name__}"
    assert shelf.guard(store) is store and type(store).__mro__.count(base) == 1


async def test_a_store_is_filled_saved_opened_and_asked(filled: Shelf) -> None:
    store = filled.guard(filled.open(model()))
    assert found(store.similarity_search(QUESTION, k=1)) == TEXTS[:1]
    assert found(await store.asimilarity_search(QUESTION, k=1)) == TEXTS[:1]
    assert found(store.as_retriever(search_kwargs={"k": 1}).invoke(QUESTION)) == TEXTS[:1]
    assert found(await store.as_retriever(search_kwargs={"k": 1}).ainvoke(QUESTION)) == TEXTS[:1]
    store.add_documents([Document("A fifth text of dogs.")])
    await store.aadd_texts(["A sixth text of birds."])
    assert found(store.similarity_search("birds", k=1)) == ["A sixth text of birds."]
    assert filled.record() == model().fingerprint()


def test_the_same_weights_under_another_name_are_let_in(filled: Shelf) -> None:
    store = filled.guard(filled.open(model("/models/all-minilm")))
    assert len(store.similarity_search("cat", k=4)) == 4
    store.add_texts(["more"])
    record = filled.record()
    assert record is not None and record.model == "minilm", "the record stays as it was"


def test_a_cached_model_is_the_model(filled: Shelf) -> None:
    store = filled.guard(filled.open(model().cached(InMemoryByteStore())))
    assert found(store.similarity_search(QUESTION, k=1)) == TEXTS[:1]


def test_scores_and_diversity_work_as_before(tmp_path: Path) -> None:
    for kind in (FaissShelf, MemoryShelf, ChromaShelf):
        shelf = kind(tmp_path / kind.__name__)
        plain = shelf.new(model())
        scores = [(document.page_content, score) for document, score in plain.similarity_search_with_score("cat", k=3)]
        diverse = found(plain.max_marginal_relevance_search("cat", k=2))
        store = shelf.guard(plain)
        again = [(document.page_content, score) for document, score in store.similarity_search_with_score("cat", k=3)]
        assert again == scores
        assert found(store.max_marginal_relevance_search("cat", k=2)) == diverse
        vector = model().embed_query("cat")
        assert found(store.similarity_search_by_vector(vector, k=1)) == [scores[0][0]]


@pytest.mark.parametrize("kind", [FaissShelf, MemoryShelf, ChromaShelf])
def test_langchains_indexing_works(kind: type[Shelf], tmp_path: Path) -> None:
    shelf = kind(tmp_path)
    store = shelf.guard(shelf.new(model()))
    records = InMemoryRecordManager("notes")
    records.create_schema()
    documents = [Document("A new text.", metadata={"source": "a"})]
    options: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(documents, records, store, **options)["num_added"] == 1
    assert index(documents, records, store, **options)["num_skipped"] == 1
    assert index([], records, store, **options)["num_deleted"] == 1


# Mismatches


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_another_model_is_refused_and_nothing_is_written_or_embedded(
    filled: Shelf, other: Callable[[], MLXEmbeddings]
) -> None:
    embeddings = other()
    store = filled.guard(filled.open(embeddings))
    before = filled.files()
    vector = [0.1] * 64
    calls: list[Callable[[], Any]] = [
        lambda: store.add_texts(["x"]),
        lambda: store.add_documents([Document("x")]),
        lambda: store.similarity_search("x"),
        lambda: store.as_retriever().invoke("x"),
    ]
    acalls: list[Callable[[], Any]] = [
        lambda: store.aadd_texts(["x"]),
        lambda: store.aadd_documents([Document("x")]),
        lambda: store.asimilarity_search("x"),
        lambda: store.as_retriever().ainvoke("x"),
    ]
    if not isinstance(filled, OtherShelf):
        calls += [
            lambda: store.similarity_search_with_score("x"),
            lambda: store.max_marginal_relevance_search("x"),
            lambda: store.similarity_search_by_vector(vector),
            lambda: store.search("x", "mmr"),
        ]
        acalls += [
            lambda: store.asimilarity_search_with_score("x"),
            lambda: store.amax_marginal_relevance_search("x"),
            lambda: store.asimilarity_search_by_vector(vector),
        ]
    if isinstance(filled, FaissShelf | ChromaShelf):  # the one in memory has no such scores
        calls.append(lambda: store.similarity_search_with_relevance_scores("x"))
        acalls.append(lambda: store.asimilarity_search_with_relevance_scores("x"))
    for call in calls:
        with pytest.raises(EmbeddingMismatchError):
            call()
    for acall in acalls:
        with pytest.raises(EmbeddingMismatchError):
            await acall()
    assert filled.files() == before
    assert asked(embeddings) == 0


def test_the_error_names_both_models_the_store_and_the_way_out(filled: Shelf) -> None:
    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(filled.guard(filled.open(model("big", dimensions=96))))
    error = caught.value
    assert "made by `minilm` (64 dimensions)" in error.message and "opened with `big` (96 dimensions)" in error.message
    assert error.fields == ("dimensions",)
    assert error.stored["model"] == "minilm" and error.current["model"] == "big"
    assert error.store in error.message
    assert ("`notes`" if isinstance(filled, ChromaShelf) else str(filled.folder)) in error.store
    change = "fill a new store from its documents with `big`"
    if isinstance(filled, FaissShelf | MemoryShelf | ChromaShelf):  # which can be given the vectors of another model
        name = " --name notes" if isinstance(filled, ChromaShelf) else ""
        change = f"embed its texts with `big`: `mlxi migrate run {filled.folder}{name} --model big`"
    assert error.hint == f"Open it with `minilm`, `dimensions=64`; or {change}."
    assert isinstance(error, exceptions.LangChainException)


@pytest.mark.parametrize("kind", [FaissShelf, MemoryShelf, ChromaShelf])
async def test_a_vector_of_another_width_is_refused_with_both_numbers(kind: type[Shelf], tmp_path: Path) -> None:
    store = kind(tmp_path).guard(kind(tmp_path).new(model()))
    vector = [0.1] * 96
    with pytest.raises(InvalidRequestError, match=r"has 96 coordinates, and those of the .* have 64") as caught:
        store.similarity_search_by_vector(vector)
    assert caught.value.field == "embedding" and "`minilm`" in caught.value.hint
    with pytest.raises(InvalidRequestError):
        store.max_marginal_relevance_search_by_vector(k=1, embedding=vector)
    with pytest.raises(InvalidRequestError):
        await store.asimilarity_search_by_vector(vector)


def test_a_store_cannot_be_saved_by_another_model(tmp_path: Path) -> None:
    for kind in (FaissShelf, MemoryShelf):
        shelf = kind(tmp_path / kind.__name__)
        shelf.folder.parent.mkdir()
        shelf.save(shelf.guard(shelf.new(model())))
        before = shelf.files()
        with pytest.raises(EmbeddingMismatchError):
            shelf.save(shelf.guard(shelf.open(model("bge", seed=1))))
        assert shelf.files() == before


def test_a_store_whose_embeddings_are_exchanged_is_compared_again() -> None:
    store = guarded(InMemoryVectorStore.from_texts(TEXTS, model()))
    verify_store(store)
    store.embedding = model("bge", seed=1)
    with pytest.raises(EmbeddingMismatchError):
        store.similarity_search("x")


def test_a_damaged_record_stops_everything_and_says_how_to_go_on(filled: Shelf) -> None:
    filled.damage()
    store = filled.guard(filled.open(model()))
    for call in (lambda: store.add_texts(["x"]), lambda: store.similarity_search("x")):
        with pytest.raises(SidecarError, match="damaged") as caught:
            call()
        assert isinstance(caught.value, exceptions.LangChainException)


def test_stores_of_two_models_are_not_merged() -> None:
    store = guarded(FAISS.from_texts(TEXTS, model()))
    for other in (
        FAISS.from_texts(["x y z"], model("bge", seed=1)),
        guarded(FAISS.from_texts(["x"], model("b", seed=1))),
    ):
        with pytest.raises(EmbeddingMismatchError):
            store.merge_from(other)
    assert store.index.ntotal == 3
    store.merge_from(FAISS.from_texts(["x y z"], model("the same by another name")))
    assert store.index.ntotal == 4


# Stores without a record


def test_a_store_without_a_record_is_known_by_its_vectors(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlx_integrations")
    shelf.save(shelf.new(model()))
    store = shelf.guard(shelf.open(model()))
    assert found(store.similarity_search(QUESTION, k=1)) == TEXTS[:1]
    (record,) = caplog.records
    assert record.levelno == (logging.INFO if shelf.has_samples else logging.WARNING)
    assert "`minilm`" in record.message and "No fingerprint" in record.message
    assert shelf.record() is None, "a question writes nothing"
    store.add_texts(["more"])
    shelf.save(store)
    assert shelf.record() == model().fingerprint()


@pytest.mark.parametrize("kind", [FaissShelf, MemoryShelf, ChromaShelf])
def test_vectors_of_another_model_are_known_without_a_record(kind: type[Shelf], tmp_path: Path) -> None:
    shelf = kind(tmp_path)
    shelf.save(shelf.new(model()))
    before = shelf.files()
    with pytest.raises(EmbeddingMismatchError, match=r"not those that its texts have now \(cosine") as caught:
        shelf.guard(shelf.open(model("bge", seed=1))).add_texts(["x"])
    assert caught.value.fields == ("witness",)
    assert "adopt=True" in caught.value.hint
    with pytest.raises(EmbeddingMismatchError, match="have 64 dimensions") as caught:
        shelf.guard(shelf.open(model("big", dimensions=96))).add_texts(["x"])
    assert (caught.value.fields, caught.value.stored) == (("dimensions",), {"dimensions": 64})
    assert shelf.files() == before


def test_a_store_may_be_adopted_whatever_its_vectors_look_like(tmp_path: Path) -> None:
    store = InMemoryVectorStore(model())
    store.store = {"1": {"id": "1", "text": "x", "metadata": {}, "vector": model().embed_documents(["a summary"])[0]}}
    with pytest.raises(EmbeddingMismatchError):
        guarded(store).similarity_search("x")
    assert found(guarded(store, adopt=True).similarity_search("x")) == ["x"]
    store.embedding = model("big", dimensions=96)
    with pytest.raises(EmbeddingMismatchError):
        guarded(store, adopt=True).similarity_search("x")


def test_adopting_does_not_overrule_a_record(filled: Shelf) -> None:
    with pytest.raises(EmbeddingMismatchError):
        filled.guard(filled.open(model("bge", seed=1)), adopt=True).similarity_search("x")


def test_an_index_that_gives_no_vectors_back_is_adopted(caplog: pytest.LogCaptureFixture) -> None:
    import faiss

    store = FAISS.from_texts(TEXTS, model())
    vectors = store.index.reconstruct_n(0, 3)
    store.index = faiss.IndexIVFFlat(faiss.IndexFlatL2(64), 64, 1)
    store.index.train(vectors)
    store.index.add(vectors)
    assert found(guarded(store).similarity_search(QUESTION, k=1)) == TEXTS[:1]
    assert "no vectors to compare" in caplog.text


# Empty stores


def test_an_empty_store_is_anyones(tmp_path: Path) -> None:
    shelf = ChromaShelf(tmp_path)
    first = shelf.guard(shelf.open(model()))
    assert isinstance(first, Chroma)
    first.delete(first.add_texts(TEXTS))
    other = model("big", dimensions=64, seed=1)
    store = shelf.guard(shelf.open(other))
    store.add_texts(TEXTS)
    assert shelf.record() == other.fingerprint()
    with pytest.raises(EmbeddingMismatchError):
        shelf.guard(shelf.open(model())).add_texts(["x"])


def test_an_index_made_for_another_model_is_refused_before_it_has_vectors() -> None:
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore

    store = guarded(FAISS(model(), faiss.IndexFlatL2(9), InMemoryDocstore(), {}))
    with pytest.raises(EmbeddingMismatchError, match="have 9 dimensions"):
        store.add_texts(["x"])


# Where records lie


def test_a_record_is_replaced_when_another_store_is_saved_in_its_place(tmp_path: Path) -> None:
    folder = str(tmp_path)
    guarded(FAISS.from_texts(TEXTS, model())).save_local(folder)
    other = model("bge", seed=1)
    guarded(FAISS.from_texts(TEXTS, other)).save_local(folder_path=folder)
    assert read_sidecar(tmp_path / SIDECAR_NAME) == other.fingerprint()


def test_indexes_of_other_names_have_records_of_their_own(tmp_path: Path) -> None:
    other = model("bge", seed=1)
    guarded(FAISS.from_texts(TEXTS, model())).save_local(str(tmp_path))
    guarded(FAISS.from_texts(TEXTS, other)).save_local(str(tmp_path), "second")
    assert read_sidecar(tmp_path / SIDECAR_NAME) == model().fingerprint()
    assert read_sidecar(tmp_path / f"second.faiss.{SIDECAR_NAME}") == other.fingerprint()
    opened = FAISS.load_local(str(tmp_path), other, "second", allow_dangerous_deserialization=True)
    verify_store(guarded(opened, path=tmp_path / "second.faiss"))
    with pytest.raises(EmbeddingMismatchError):
        verify_store(guarded(opened, path=tmp_path))


def test_dumps_in_one_folder_have_records_of_their_own(tmp_path: Path) -> None:
    other = model("bge", seed=1)
    guarded(InMemoryVectorStore.from_texts(TEXTS, model())).dump(str(tmp_path / "a.json"))
    guarded(InMemoryVectorStore.from_texts(TEXTS, other)).dump(str(tmp_path / "b.json"))
    verify_store(guarded(InMemoryVectorStore.load(str(tmp_path / "b.json"), other), path=tmp_path / "b.json"))
    with pytest.raises(EmbeddingMismatchError):
        verify_store(guarded(InMemoryVectorStore.load(str(tmp_path / "a.json"), other), path=tmp_path / "a.json"))


def test_a_record_that_is_not_of_these_vectors_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = FaissShelf(tmp_path)
    shelf.save(guarded(shelf.new(model())))
    big = model("big", dimensions=96)
    shelf.save(shelf.new(big))
    with pytest.raises(EmbeddingMismatchError, match="have 96 dimensions"):
        shelf.guard(shelf.open(model())).similarity_search("x")
    store = shelf.guard(shelf.open(big))
    assert found(store.similarity_search(QUESTION, k=1)) == TEXTS[:1]
    assert "has 96 dimensions and a record of 64" in caplog.text
    shelf.save(store)
    assert shelf.record() == big.fingerprint()


def test_a_save_that_fails_leaves_no_wrong_record(tmp_path: Path) -> None:
    guarded(FAISS.from_texts(TEXTS, model())).save_local(str(tmp_path))
    (tmp_path / "index.pkl").unlink()
    (tmp_path / "index.pkl").mkdir()
    with pytest.raises(IsADirectoryError):
        guarded(FAISS.from_texts(TEXTS, model("bge", seed=1))).save_local(str(tmp_path))
    assert read_sidecar(tmp_path / SIDECAR_NAME) is None


def test_chromas_other_metadata_and_its_distance_stay(tmp_path: Path) -> None:
    shelf = ChromaShelf(tmp_path)
    shelf.guard(shelf.open(model())).add_texts(TEXTS)
    assert shelf.metadata()["owner"] == "me"
    again = shelf.open(model())
    assert (again._collection.configuration["hnsw"] or {})["space"] == "cosine"
    _, score = again.similarity_search_with_relevance_scores(TEXTS[0], k=1)[0]
    assert 0.5 < score <= 1.001


def test_collections_of_one_directory_have_models_of_their_own(tmp_path: Path) -> None:
    embeddings = {"notes": model(), "mails": model("bge", seed=1)}
    for name, embedding in embeddings.items():
        guarded(Chroma(name, embedding, persist_directory=str(tmp_path))).add_texts(TEXTS)
    for name, embedding in embeddings.items():
        verify_store(guarded(Chroma(name, embedding, persist_directory=str(tmp_path))))
    with pytest.raises(EmbeddingMismatchError, match="`mails`"):
        verify_store(guarded(Chroma("mails", embeddings["notes"], persist_directory=str(tmp_path))))


def test_what_another_program_wrote_meanwhile_is_seen(tmp_path: Path) -> None:
    shelf = ChromaShelf(tmp_path)
    late = shelf.guard(shelf.open(model("bge", seed=1)))
    shelf.guard(shelf.open(model())).add_texts(TEXTS)
    with pytest.raises(EmbeddingMismatchError):
        late.add_texts(["x"])


def test_a_collection_that_was_emptied_gets_its_record_again(tmp_path: Path) -> None:
    shelf = ChromaShelf(tmp_path)
    store = shelf.guard(shelf.open(model()))
    assert isinstance(store, Chroma)
    store.add_texts(TEXTS)
    store.reset_collection()
    store.add_texts(TEXTS)
    assert shelf.record() == model().fingerprint()


def test_chromas_record_may_be_a_file(tmp_path: Path) -> None:
    store = guarded(Chroma("notes", model(), persist_directory=str(tmp_path / "db")), path=tmp_path)
    store.add_texts(TEXTS)
    assert read_sidecar(tmp_path / SIDECAR_NAME) == model().fingerprint()
    assert "mlxi_embedding" not in (store._collection.metadata or {})


def test_a_store_of_unknown_kind_needs_a_place_for_its_record() -> None:
    with pytest.raises(InvalidRequestError, match="where a `OtherStore` could keep") as caught:
        guarded(OtherStore(model(), []))
    assert caught.value.field == "path"


def test_an_address_is_no_place_for_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(exceptions.ModelInvalidRequestError, match="address of a server is no path") as caught:
        guarded(OtherStore(model(), []), path="postgresql://somebody:secret@host/db")
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_store_without_embeddings_is_told_its_model(tmp_path: Path) -> None:
    shelf = ChromaShelf(tmp_path)
    shelf.guard(shelf.open(model())).add_texts(TEXTS)
    bare = Chroma("notes", persist_directory=str(shelf.folder))
    with pytest.raises(InvalidRequestError, match="has no embeddings"):
        guarded(bare)
    vector = model().embed_query(QUESTION)
    assert found(guarded(bare, model()).similarity_search_by_vector(vector, k=1)) == TEXTS[:1]
    with pytest.raises(EmbeddingMismatchError):
        guarded(bare, model("bge", seed=1)).similarity_search_by_vector(vector)


def test_only_guarded_stores_can_be_verified() -> None:
    with pytest.raises(InvalidRequestError, match="not guarded"):
        verify_store(InMemoryVectorStore(model()))


# Cost and side effects


async def test_nothing_is_loaded_until_it_is_used_and_then_once_off_the_event_loop(filled: Shelf) -> None:
    import threading

    threads: list[int] = []

    class Watched(FakeEmbeddingBackend):
        def fingerprint(self, *args: Any) -> EmbeddingFingerprint:
            threads.append(threading.get_ident())
            return super().fingerprint(*args)

    embeddings = MLXEmbeddings(model="m", backend=Watched(dimensions=64, query_prompt="query: "))
    store = filled.guard(filled.open(embeddings))
    assert threads == []
    for _ in range(2):
        await store.asimilarity_search("x")
        await store.aadd_texts(["x"])
    assert len(threads) == 1 and threads[0] != threading.get_ident()


async def test_a_guard_keeps_no_event_loop_waiting_once_it_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    store = guarded(InMemoryVectorStore.from_texts(TEXTS, model()))
    await store.asimilarity_search("x")

    def no_threads(*_: Any) -> Any:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(asyncio, "to_thread", no_threads)
    assert len(await store.asimilarity_search("x", k=2)) == 2
    await store.aadd_texts(["x"])
    assert len(await store.amax_marginal_relevance_search("x", k=2)) == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copies_are_guarded(copied: Callable[[Any], Any]) -> None:
    embeddings = DeterministicFakeEmbedding(size=16)
    store = copied(guarded(InMemoryVectorStore.from_texts(TEXTS, embeddings)))
    assert isinstance(store, InMemoryVectorStore)
    assert len(store.similarity_search("x", k=3)) == 3
    store.embedding = DeterministicFakeEmbedding(size=17)
    with pytest.raises(EmbeddingMismatchError):
        store.similarity_search("x")


def test_a_class_made_for_guards_makes_plain_stores_too() -> None:
    store = guarded(FAISS.from_texts(TEXTS, model()))
    another = type(store).from_texts(TEXTS, model("bge", seed=1))
    assert found(another.similarity_search(QUESTION, k=1)) == TEXTS[:1]


def test_guards_of_one_class_do_not_know_each_other() -> None:
    first = guarded(FAISS.from_texts(TEXTS, model()))
    second = guarded(FAISS.from_texts(TEXTS, model("bge", seed=1)))
    for store in (first, second, first):
        assert found(store.similarity_search(QUESTION, k=1)) == TEXTS[:1]


# Models that have no fingerprint of their own


def test_any_embedding_model_has_a_fingerprint() -> None:
    class Named(DeterministicFakeEmbedding):
        model: str = "text-embedding-9"

    named, other = fingerprint_of(Named(size=8)), fingerprint_of(DeterministicFakeEmbedding(size=9))
    assert (named.model, named.dimensions, named.normalize) == ("text-embedding-9", 8, False)
    assert other.model == "DeterministicFakeEmbedding"
    assert named.differences(fingerprint_of(DeterministicFakeEmbedding(size=8))) == ()
    assert fingerprint_of(model().cached(InMemoryByteStore())) == model().fingerprint()


def test_a_model_without_a_fingerprint_is_known_by_its_vectors(filled: Shelf) -> None:
    class Foreign(Embeddings):
        """A model of another package that happens to have the same weights, and no prompts that could be seen."""

        def __init__(self, inner: MLXEmbeddings) -> None:
            self._inner = inner

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return self._inner.embed_documents(texts)

        def embed_query(self, text: str) -> list[float]:
            return self._inner.embed_query(text)

    with pytest.raises(EmbeddingMismatchError, match="opened with `Foreign`"):
        verify_store(filled.guard(filled.open(Foreign(model("bge", seed=1)))))
    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(filled.guard(filled.open(Foreign(model()))))
    assert caught.value.fields == ("query_prompt",)
