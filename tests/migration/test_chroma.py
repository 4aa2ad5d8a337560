"""Chroma's collections, as LangChain and LlamaIndex fill them: the contract of all stores, and what is its own."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from langchain_chroma import Chroma
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode
from llama_index.vector_stores.chroma import ChromaVectorStore

from mlx_integrations.errors import EmbeddingMismatchError, MissingExtraError, RowsError, StoreError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.llama_index import MLXEmbedding, verify_index
from mlx_integrations.llama_index import guarded as guarded_index
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import Document, StoreContract, documents, snapshot
from mlx_integrations.migration.protocol import Run, Store
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, contents_of, executor, flat_nodes, vectors


def filled(folder: Path, contents: Sequence[Document], name: str = "notes", **options: Any) -> Path:
    """A collection as a program fills it that makes its own vectors."""
    client = chromadb.PersistentClient(str(folder))
    collection = client.get_or_create_collection(name, embedding_function=None, **options)
    if contents:
        collection.add(
            ids=[each.id for each in contents],
            embeddings=vectors(len(contents), OLD_DIMENSIONS),
            documents=[each.text for each in contents],
            metadatas=[each.metadata for each in contents],
        )
    client.close()  # type: ignore[attr-defined]
    return folder


def collection_of(folder: Path, name: str = "notes") -> Any:
    return chromadb.PersistentClient(str(folder)).get_collection(name, embedding_function=None)


def backend() -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)


class TestChroma(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def open(self, folder: Path) -> Store:
        return ChromaStore(folder, "notes")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    # A database is written to when something is built beside the old vectors: what may not change is what it shows.

    def test_building_leaves_the_store_as_it_is(self, store: Store, run: Run, folder: Path) -> None:
        before, old = shown(folder), snapshot(store)
        made = vectors(20, NEW_DIMENSIONS, seed=5)
        store.build(run, self.embedded(store, made))
        assert shown(folder).items() >= before.items()
        assert (store.published(run), snapshot(store)) == ("old", old)
        built = store.built(run)
        assert built.describe().dimensions == (NEW_DIMENSIONS,)
        assert snapshot(built)[0] == old[0]
        assert np.array_equal(built.vectors([row.key for row in built.rows()]), made)

    def test_what_was_built_can_be_discarded(self, store: Store, run: Run, folder: Path) -> None:
        before = shown(folder)
        store.build(run, self.embedded(store, vectors(20, NEW_DIMENSIONS)))
        for _ in range(2):
            store.discard(run)
            assert shown(folder) == before

    @pytest.mark.parametrize("count", [0, 1, 50])
    def test_a_migration(self, folder: Path, count: int) -> None:
        self.make(folder, documents(count))
        store, before = self.open(folder), shown(folder)
        done = migrate(store, executor(), batch_rows=8)
        assert (done.phase, done.in_use, done.embedded) == ("published", "new", count)
        assert store.describe().fingerprint == executor().fingerprint()
        self.assert_aligned(store)
        rollback(store)
        assert shown(folder).items() >= before.items()
        migrate(store, executor(), batch_rows=8)
        assert gc(store)
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert list(shown(folder)) == ["notes"]
        self.assert_aligned(store)


def shown(folder: Path) -> dict[str, Any]:
    """What Chroma itself says of every collection."""
    client = chromadb.PersistentClient(str(folder))
    found = {}
    for each in client.list_collections():
        collection = client.get_collection(each.name, embedding_function=None)
        everything = collection.get(include=["documents", "metadatas", "embeddings"])
        rows = everything["ids"], everything["documents"], everything["metadatas"]
        found[each.name] = (collection.metadata, rows, np.asarray(everything["embeddings"]).tolist())
    client.close()  # type: ignore[attr-defined]
    return found


def test_langchain_finds_its_documents_afterwards_and_the_guard_accepts_it(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    metadata = {"hnsw:space": "cosine", "owner": "ada", "hnsw:search_ef": 77}
    filled(folder, documents(30), metadata=metadata)
    embeddings = MLXEmbeddings(model="new-model", backend=backend())

    def opened() -> Chroma:
        return guarded(Chroma("notes", embeddings, persist_directory=str(folder), collection_metadata=metadata))

    with pytest.raises(EmbeddingMismatchError):
        verify_store(opened())
    store = ChromaStore(folder)
    assert (store.location.name, store.describe().metric) == ("notes", "cosine")
    migrate(store, executor())
    assert verify_store(opened()).differences(executor().fingerprint()) == ()
    wanted = documents(30)[13]
    (found,) = opened().similarity_search(wanted.text, k=1)
    assert (found.id, found.page_content, found.metadata) == (wanted.id, wanted.text, wanted.metadata)
    hnsw = collection_of(folder).configuration_json["hnsw"]
    assert (hnsw["space"], hnsw["ef_search"], collection_of(folder).metadata["owner"]) == ("cosine", 77, "ada")
    opened().add_texts(["A new one."])
    assert opened().similarity_search("A new one.", k=1)[0].page_content == "A new one."
    gc(store)
    assert [each.name for each in chromadb.PersistentClient(str(folder)).list_collections()] == ["notes"]


def test_llama_index_finds_its_nodes_afterwards_and_the_guard_accepts_it(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    nodes = flat_nodes(30)
    client = chromadb.PersistentClient(str(folder))
    storage = StorageContext.from_defaults(
        vector_store=ChromaVectorStore(chroma_collection=client.get_or_create_collection("notes"))
    )
    VectorStoreIndex(nodes, storage_context=storage, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS))
    model = MLXEmbedding(model_name="new-model", backend=backend())

    def opened() -> VectorStoreIndex:
        vector_store = ChromaVectorStore(chroma_collection=client.get_or_create_collection("notes"))
        return guarded_index(VectorStoreIndex.from_vector_store(vector_store, embed_model=model))

    with pytest.raises(EmbeddingMismatchError):
        verify_index(opened())
    store = ChromaStore(folder)
    expected = {node.node_id: node.get_content(MetadataMode.EMBED) for node in nodes}
    assert {row.id: row.text for row in store.rows()} == expected
    before = shown(folder)["notes"][1]
    migrate(store, executor())
    assert shown(folder)["notes"][1] == before
    assert verify_index(opened()).differences(executor().fingerprint()) == ()
    (found,) = opened().as_retriever(similarity_top_k=1).retrieve(expected["doc-00013"])
    assert (found.node.node_id, found.node.metadata, found.text) == ("doc-00013", nodes[13].metadata, nodes[13].text)
    rollback(store)
    with pytest.raises(EmbeddingMismatchError):
        verify_index(opened())


def test_metadata_of_every_kind_and_rows_of_several_batches_are_kept_in_their_order(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", [])
    kinds: list[Any] = [{"t": "x", "i": 2**40, "f": 0.1, "b": False, "l": [3, 1, 2], "s": ["b", "a"]}, None, {"i": -1}]
    count = 1300
    ids = [f"{(number * 7919) % count:05d}" for number in range(count)]
    collection_of(folder).add(
        ids=ids,
        embeddings=vectors(count, OLD_DIMENSIONS),
        documents=[f"text {each}" for each in ids],
        metadatas=[kinds[number % 3] for number in range(count)],
    )
    filled(folder, documents(5), "other")
    collection_of(folder).delete(ids=ids[700:710])
    before = shown(folder)
    store = ChromaStore(folder, "notes")
    rows = list(store.rows())
    assert [row.id for row in rows] == ids[:700] + ids[710:]
    assert [row.id for row in store.rows(rows[600].key)] == [row.id for row in rows[601:]]
    assert np.array_equal(store.vectors([rows[5].key, rows[1280].key]), vectors(count, OLD_DIMENSIONS)[[5, 1290]])
    migrate(store, executor())
    after = shown(folder)
    assert after["notes"][1] == before["notes"][1]
    assert after["other"] == before["other"]


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_how_vectors_are_compared_is_kept(tmp_path: Path, space: Any) -> None:
    folder = filled(tmp_path / "db", documents(10), configuration={"hnsw": {"space": space, "ef_construction": 120}})
    store = ChromaStore(folder)
    assert store.describe().metric == {"l2": "euclidean", "cosine": "cosine", "ip": "dot"}[space]
    migrate(store, executor())
    configuration = collection_of(folder).configuration_json
    assert (configuration["hnsw"]["space"], configuration["hnsw"]["ef_construction"]) == (space, 120)


def test_its_state_is_that_of_its_rows_alone(tmp_path: Path) -> None:
    store = ChromaStore(filled(tmp_path / "db", documents(5)))
    states = [store.state()]
    filled(tmp_path / "db", documents(5), "other")
    assert store.state() == states[0]
    collection = collection_of(tmp_path / "db")
    changes: tuple[Callable[[], Any], ...] = (
        lambda: collection.delete(ids=["doc-00001"]),
        lambda: collection.update(ids=["doc-00002"], metadatas=[{"page": 99}]),
        lambda: collection.upsert(ids=["doc-00003"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["other"]),
    )
    for change in changes:
        change()
        states.append(store.state())
    assert len(set(states)) == len(states)


def test_rows_without_text_are_left_out_only_when_that_is_accepted(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(4))
    texts: Any = [None, " \n", ""]
    collection_of(folder).add(ids=["a", "b", "c"], embeddings=vectors(3, OLD_DIMENSIONS), documents=texts)
    store = ChromaStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == ("missing-texts", ("a", "b", "c"), True)
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 4
    assert collection_of(folder).count() == 4
    rollback(store)
    assert collection_of(folder).count() == 7


def test_the_collection_has_to_be_said_where_there_are_several(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(3)), documents(2), "other")
    with pytest.raises(StoreError, match="2 collections") as caught:
        ChromaStore(folder)
    assert caught.value.hint is not None and "notes, other" in caught.value.hint
    with pytest.raises(StoreError, match="no collection `third`"):
        ChromaStore(folder, "third")


def test_other_files_are_told(tmp_path: Path) -> None:
    import sqlite3

    for content in (b"", b"SQLite format 3\0 and no more", b"x" * 5000):
        (tmp_path / "chroma.sqlite3").write_bytes(content)
        with pytest.raises(StoreError):
            ChromaStore(tmp_path, "notes")
        assert [path.name for path in tmp_path.iterdir()] == ["chroma.sqlite3"]
        assert (tmp_path / "chroma.sqlite3").read_bytes() == content
    (tmp_path / "chroma.sqlite3").unlink()
    sqlite3.connect(tmp_path / "chroma.sqlite3").execute("CREATE TABLE notes (id)").connection.close()
    with pytest.raises(StoreError, match="no database of Chroma"):
        ChromaStore(tmp_path, "notes")


def test_a_database_that_is_being_written_to_is_told_and_published_later(tmp_path: Path) -> None:
    import sqlite3

    from mlx_integrations.errors import StoreBusyError
    from mlx_integrations.migration.stores.chroma import file as chroma_file

    store = ChromaStore(filled(tmp_path / "db", documents(5)))
    migrate(store, executor(), publishes=False)
    assert chroma_file.BUSY_SECONDS >= 10
    holder = sqlite3.connect(tmp_path / "db" / "chroma.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chroma_file, "BUSY_SECONDS", 0.1)
        with pytest.raises(StoreBusyError):
            publish(store)
    assert store.describe().dimensions == (OLD_DIMENSIONS,)
    holder.execute("ROLLBACK")
    holder.close()
    assert publish(store).in_use == "new"


KILLED_WRITER = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("DELETE FROM embedding_metadata")
database.execute("CREATE TABLE filler (content)")
database.executemany("INSERT INTO filler VALUES (?)", ((b"x" * 4000,) for _ in range(300)))
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_program_had_not_finished_is_taken_back(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    before = snapshot(ChromaStore(folder))
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(folder / "chroma.sqlite3")], check=False)
    assert (folder / "chroma.sqlite3-journal").stat().st_size
    assert snapshot(ChromaStore(folder)) == before


def test_its_client_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChromaStore(filled(tmp_path / "db", documents(3)))
    monkeypatch.setitem(sys.modules, "chromadb", None)
    assert store.describe().count == len(list(store.rows())) == 3
    with pytest.raises(MissingExtraError, match="chroma"):
        migrate(store, executor())


def test_reading_leaves_every_byte_as_it_was(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(1200))
    before = contents_of(folder)
    (folder / "chroma.sqlite3").chmod(0o400)
    store = ChromaStore(folder)
    assert store.describe().count == 1200
    snapshot(store)
    store.close()
    assert contents_of(folder) == before
