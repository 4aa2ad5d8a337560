"""LangChain's FAISS folder: the contract of all stores, and what is its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import MissingExtraError, RowsError, StoreError
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.contract import Document, StoreContract
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.faiss.index import IndexFile, write_flat
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor, metadatas, save_faiss, texts, vectors


def load(folder: Path, name: str = "index") -> Any:
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    embeddings = DeterministicFakeEmbedding(size=OLD_DIMENSIONS)
    return FAISS.load_local(str(folder), embeddings, name, allow_dangerous_deserialization=True)


class TestLangChainFaiss(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        metadata, ids = [each.metadata for each in contents], [each.id for each in contents]
        save_faiss(folder, [each.text for each in contents], metadata=metadata, ids=ids)

    def open(self, folder: Path) -> Store:
        return LangChainFaissStore(folder)

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        store = load(folder)
        store.add_texts([e.text for e in contents], [e.metadata for e in contents], ids=[e.id for e in contents])
        store.save_local(str(folder))


class TestStreamedLangChainFaiss(TestLangChainFaiss):
    def open(self, folder: Path) -> Store:
        return LangChainFaissStore(folder, streamed_bytes=0)


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_flat_index_is_written_byte_for_byte_as_faiss_writes_it(tmp_path: Path, count: int, metric: str) -> None:
    import faiss

    made = vectors(count, 12)
    index = faiss.IndexFlatL2(12) if metric == "euclidean" else faiss.IndexFlatIP(12)
    index.add(made)
    faiss.write_index(index, str(tmp_path / "theirs"))
    parts = (made[first : first + 300] for first in range(0, count, 300))
    assert write_flat(tmp_path / "ours", 12, "dot" if metric == "dot" else "euclidean", parts) == count
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert np.array_equal(IndexFile(tmp_path / "theirs").vectors(range(count)), made)


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("Flat", "Flat"),
        ("HNSW16", "HNSW16"),
        ("IVF4,Flat", "IVF4,Flat"),
        ("SQ8", "SQ8"),
        ("PQ4x4", "PQ4x4"),
        pytest.param("PQ8x4", "Flat", id="PQ8x4 divides 24 coordinates and not 12"),
        ("IVF4,PQ4x4", "IVF4,PQ4x4"),
    ],
)
def test_the_kind_of_index_is_kept_where_the_new_dimensions_allow(tmp_path: Path, factory: str, expected: str) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(400), factory=factory))
    assert store.describe().index == factory
    assert plan_migration(store, executor(12)).index == expected
    migrate(store, executor(12), batch_rows=100)
    assert (store.describe().index, store.describe().dimensions) == (expected, (12,))
    rollback(store)
    assert (store.describe().index, store.describe().dimensions) == (factory, (24,))


def test_how_thoroughly_an_index_searches_is_kept(tmp_path: Path) -> None:
    import faiss

    for name, factory in (("hnsw", "HNSW16"), ("lists", "IVF8,Flat")):
        folder = save_faiss(tmp_path / name, texts(400), factory=factory)
        index: Any = faiss.read_index(str(folder / "index.faiss"))
        if name == "hnsw":
            index.hnsw.efSearch = 77
        else:
            index.nprobe = 5
        faiss.write_index(index, str(folder / "index.faiss"))
        migrate(LangChainFaissStore(folder), executor(12))
        index = faiss.read_index(str(folder / "index.faiss"))
        assert (index.hnsw.efSearch if name == "hnsw" else index.nprobe) == (77 if name == "hnsw" else 5)


def test_another_kind_of_index_can_be_asked_for(tmp_path: Path) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(100)))
    with pytest.raises(StoreError, match="PQ5"):
        migrate(store, executor(12), index="PQ5")
    migrate(store, executor(12), index="HNSW8", restart=True)
    assert store.describe().index == "HNSW8"


def test_the_guard_accepts_the_store_afterwards(tmp_path: Path) -> None:
    from langchain_community.vectorstores import FAISS

    from mlx_integrations.errors import EmbeddingMismatchError
    from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
    from mlx_integrations.testing import FakeEmbeddingBackend

    folder = save_faiss(tmp_path / "store", texts(30), metadata=metadatas(30))
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)
    embeddings = MLXEmbeddings(model="new-model", backend=backend)

    def opened() -> FAISS:
        return guarded(FAISS.load_local(str(folder), embeddings, allow_dangerous_deserialization=True), path=folder)

    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(opened())
    assert f"`mlxi migrate run {folder} --model new-model`" in caught.value.hint
    store = LangChainFaissStore(folder)
    migrate(store, executor())
    assert verify_store(opened()).differences(executor().fingerprint()) == ()
    asked = texts(30)[13]
    found = opened().similarity_search(asked, k=1)[0]
    assert (found.page_content, found.metadata) == (asked, metadatas(30)[13])
    rollback(store)
    with pytest.raises(EmbeddingMismatchError):
        verify_store(opened())


def test_an_index_of_another_name_is_its_own_store(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(10))
    load(folder).save_local(str(folder), "second")
    before = contents_of(folder)
    done = migrate(LangChainFaissStore(folder, "second"), executor())
    assert done.in_use == "new"
    assert (folder / "second.faiss.mlxi-embedding.json").exists()
    assert load(folder, "second").index.d == 16
    assert (load(folder).index.d, (folder / "index.faiss").read_bytes()) == (24, before["index.faiss"])


def test_a_store_is_one_wherever_it_is_opened_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_faiss(tmp_path / "store", texts(10))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    places = {LangChainFaissStore(place).location for place in (folder, "store", "link", "./store/../store")}
    assert len(places) == 1


def test_half_written_files_are_told(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(50))
    whole = (folder / "index.faiss").read_bytes()
    for size in (0, 3, 44, 45, len(whole) - 1):
        (folder / "index.faiss").write_bytes(whole[:size])
        with pytest.raises(StoreError):
            migrate(LangChainFaissStore(folder), executor())
    (folder / "index.faiss").write_bytes(whole + b"x")
    with pytest.raises(StoreError):
        migrate(LangChainFaissStore(folder), executor())


def test_vectors_without_documents_block_until_they_are_accepted(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(50))
    grown = save_faiss(tmp_path / "grown", texts(53))
    (folder / "index.faiss").write_bytes((grown / "index.faiss").read_bytes())
    store = LangChainFaissStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("misaligned", 3, True)
    before = contents_of(folder)
    with pytest.raises(RowsError, match="53 vectors and 50 documents"):
        migrate(store, executor())
    assert contents_of(folder) == before
    assert migrate(store, executor(), accept=True).embedded == 50
    assert store.describe().findings == ()


def test_documents_without_text_are_listed_and_nothing_is_dropped(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", ["a", " \n", "b", ""])
    store = LangChainFaissStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.examples) == ("missing-texts", 2, ("doc-00001", "doc-00003"))
    before = contents_of(folder)
    for accept in (False, True):
        with pytest.raises(RowsError) as caught:
            migrate(store, executor(), accept=accept)
        assert "doc-00001" in caught.value.ids
        assert caught.value.hint
    assert contents_of(folder) == before
    gc(store)
    faiss = load(folder)
    faiss.delete(["doc-00001", "doc-00003"])
    faiss.save_local(str(folder))
    assert migrate(store, executor()).embedded == 2


def test_one_document_with_several_vectors_keeps_them(tmp_path: Path) -> None:
    import pickle

    folder = save_faiss(tmp_path / "store", ["a", "b"])
    docstore, rows = pickle.loads((folder / "index.pkl").read_bytes())
    rows[1] = rows[0]
    (folder / "index.pkl").write_bytes(pickle.dumps((docstore, rows)))
    store = LangChainFaissStore(folder)
    assert [finding.code for finding in store.describe().findings] == ["duplicate-ids", "orphans"]
    assert migrate(store, executor()).embedded == 2
    assert np.array_equal(*store.vectors(["0", "1"]))


def test_an_index_with_numbers_of_its_own_is_refused(tmp_path: Path) -> None:
    import faiss

    folder = save_faiss(tmp_path / "store", ["a", "b"])
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(24))
    index.add_with_ids(vectors(2, 24), np.array([5, 6]))
    faiss.write_index(index, str(folder / "index.faiss"))
    with pytest.raises(StoreError, match="numbers of its own"):
        LangChainFaissStore(folder).describe()


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"IxF2")
    with pytest.raises(StoreError, match=r"index\.pkl"):
        LangChainFaissStore(tmp_path)
    (tmp_path / "index.pkl").write_bytes(b"not a pickle")
    with pytest.raises(StoreError):
        LangChainFaissStore(tmp_path).describe()


def test_other_indexes_need_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = save_faiss(tmp_path / "store", texts(20), factory="HNSW8")
    flat = save_faiss(tmp_path / "flat", texts(20))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="faiss"):
        LangChainFaissStore(folder).describe()
    assert migrate(LangChainFaissStore(flat), executor()).in_use == "new"  # a flat one needs nothing but NumPy
