"""Folders of Qdrant's local mode, as LangChain and LlamaIndex fill them: the contract of all stores, and their own."""

import base64
import copyreg
import io
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid5

import numpy as np
import pytest
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexQdrant
from qdrant_client import QdrantClient, models

from mlx_integrations.errors import EmbeddingMismatchError, MissingExtraError, RowsError, StoreBusyError, StoreError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.llama_index import MLXEmbedding, verify_index
from mlx_integrations.llama_index import guarded as guarded_index
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import Document, documents, snapshot
from mlx_integrations.migration.moving import open_move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
from mlx_integrations.migration.targets.langchain_faiss import FaissTarget
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.qdrant_stores import NAMESPACE, FolderAliasContract, FolderContract, alias, filled, point_id
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, contents_of, executor, flat_nodes, vectors


def shown(folder: Path, name: str) -> list[tuple[Any, Any, Any]]:
    """What the client itself says of the points of a collection."""
    client = QdrantClient(path=str(folder))
    found, _ = client.scroll(name, limit=10_000, with_payload=True, with_vectors=True)
    client.close()
    return [(each.id, each.payload, each.vector) for each in found]


def storage(folder: Path, name: str = "notes") -> Path:
    return folder / "collection" / name / "storage.sqlite"


def backend() -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)


class TestQdrantLocal(FolderContract):
    pass


class TestQdrantLocalAlias(FolderAliasContract):
    pass


class Words(SparseEmbeddings):
    """Sparse vectors as BM25 makes them, without a model."""

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> SparseVector:
        words = sorted({sum(map(ord, word)) for word in text.split()})
        return SparseVector(indices=words, values=[1.0 / (1 + at) for at in range(len(words))])


def hybrid(client: QdrantClient, name: str, embeddings: MLXEmbeddings, vector_name: str) -> QdrantVectorStore:
    """A store of LangChain that also searches by words, with names of its own in payloads, behind its guard."""
    store = QdrantVectorStore(
        client,
        name,
        embeddings,
        retrieval_mode=RetrievalMode.HYBRID,
        vector_name=vector_name,
        sparse_embedding=Words(),
        sparse_vector_name="words",
        content_payload_key="body",
        metadata_payload_key="facts",
        validate_collection_config=False,
    )
    return guarded(store)


def hybrid_points(contents: Sequence[Document], vector_name: str) -> list[models.PointStruct]:
    """What such a store has written."""
    sparse = Words().embed_documents([each.text for each in contents])
    made = vectors(len(contents), OLD_DIMENSIONS).tolist()
    return [
        models.PointStruct(
            id=point_id(each),
            vector={vector_name: dense, "words": models.SparseVector(**words.model_dump())},
            payload={"body": each.text, "facts": each.metadata},
        )
        for each, dense, words in zip(contents, made, sparse, strict=True)
    ]


@pytest.mark.parametrize("vector_name", ["", "title"])
def test_langchain_finds_its_documents_afterwards_and_the_guard_accepts_it(tmp_path: Path, vector_name: str) -> None:
    folder = tmp_path / "db"
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.COSINE)
    client = QdrantClient(path=str(folder))
    client.create_collection(
        "notes",
        vectors_config={vector_name: params} if vector_name else params,
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        metadata={"owner": "ada"},
    )
    contents = documents(30)
    client.upsert("notes", hybrid_points(contents, vector_name))
    client.close()
    embeddings = MLXEmbeddings(model="new-model", backend=backend())
    client = QdrantClient(path=str(folder))
    with pytest.raises(EmbeddingMismatchError) as refused:
        verify_store(hybrid(client, "notes", embeddings, vector_name))
    assert f"mlxi migrate run {folder} --name notes --model new-model" in str(refused.value.hint)
    client.close()
    before = shown(folder, "notes")
    store = QdrantLocalStore(folder)
    assert (store.location.name, store.describe().metric) == ("notes", "cosine")
    migrate(store, executor())
    after = shown(folder, "notes")
    assert [(each[0], each[1], each[2]["words"]) for each in after] == [
        (each[0], each[1], each[2]["words"]) for each in before
    ]
    client = QdrantClient(path=str(folder))
    opened_store = hybrid(client, "notes", embeddings, vector_name)
    assert verify_store(opened_store).differences(executor().fingerprint()) == ()
    wanted = contents[13]
    (found,) = opened_store.similarity_search(wanted.text, k=1)
    assert (found.page_content, found.metadata["page"]) == (wanted.text, 13)
    config = client.get_collection("notes").config
    assert config.metadata is not None and config.metadata["owner"] == "ada"
    assert config.params.sparse_vectors == {"words": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    opened_store.add_texts(["A new one."])
    assert opened_store.similarity_search("A new one.", k=1)[0].page_content == "A new one."
    client.close()


def test_a_store_of_langchain_writes_its_record_before_its_first_text(tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "db"))
    params = models.VectorParams(size=16, distance=models.Distance.COSINE)
    client.create_collection("notes", vectors_config=params, metadata={"owner": "ada"})
    store = guarded(QdrantVectorStore(client, "notes", MLXEmbeddings(model="new-model", backend=backend())))
    store.add_texts(["The library opens at nine."])
    metadata = client.get_collection("notes").config.metadata
    assert metadata is not None and metadata["owner"] == "ada"
    assert "new-model" in metadata["mlxi_embedding"]
    other = FakeEmbeddingBackend(model_id="other-model", dimensions=16, seed=7, max_tokens=64)
    with pytest.raises(EmbeddingMismatchError, match="other-model"):
        guarded(QdrantVectorStore(client, "notes", MLXEmbeddings(model="other-model", backend=other))).add_texts(["x"])
    client.close()
    assert QdrantLocalStore(tmp_path / "db").describe().fingerprint == executor().fingerprint()


def test_llama_index_finds_its_nodes_afterwards_and_the_guard_accepts_it(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    nodes = flat_nodes(30, [str(uuid5(NAMESPACE, each.id)) for each in documents(30)])

    def words(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        made = Words().embed_documents(texts)
        return [each.indices for each in made], [each.values for each in made]

    def vector_store(client: QdrantClient) -> LlamaIndexQdrant:
        return LlamaIndexQdrant("notes", client=client, enable_hybrid=True, sparse_doc_fn=words, sparse_query_fn=words)

    client = QdrantClient(path=str(folder))
    storage_context = StorageContext.from_defaults(vector_store=vector_store(client))
    VectorStoreIndex(nodes, storage_context=storage_context, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS))
    client.close()
    model = MLXEmbedding(model_name="new-model", backend=backend())

    def opened(client: QdrantClient) -> VectorStoreIndex:
        return guarded_index(VectorStoreIndex.from_vector_store(vector_store(client), embed_model=model))

    client = QdrantClient(path=str(folder))
    with pytest.raises(EmbeddingMismatchError):
        verify_index(opened(client))
    client.close()
    store = QdrantLocalStore(folder)
    expected = {node.node_id: node.get_content(MetadataMode.EMBED) for node in nodes}
    assert {row.id: row.text for row in store.rows()} == expected
    assert store.describe().extra["vector"] == "text-dense"
    before = shown(folder, "notes")
    migrate(store, executor())
    after = shown(folder, "notes")
    for old, new in zip(before, after, strict=True):
        assert (old[:2], old[2]["text-sparse-new"]) == (new[:2], new[2]["text-sparse-new"])
    client = QdrantClient(path=str(folder))
    index = opened(client)
    assert verify_index(index).differences(executor().fingerprint()) == ()
    wanted = nodes[13]
    (found,) = index.as_retriever(similarity_top_k=1).retrieve(expected[wanted.node_id])
    assert (found.node.node_id, found.node.metadata, found.text) == (wanted.node_id, wanted.metadata, wanted.text)
    hybrid = index.as_retriever(
        vector_store_query_mode=VectorStoreQueryMode.HYBRID, similarity_top_k=3, sparse_top_k=3, hybrid_top_k=3
    )
    assert wanted.node_id in [each.node.node_id for each in hybrid.retrieve(expected[wanted.node_id])]
    index.insert_nodes([TextNode(id_=str(uuid5(NAMESPACE, "new")), text="A new one.")])
    client.close()
    assert QdrantLocalStore(folder).describe().fingerprint == executor().fingerprint()


def test_other_collections_and_aliases_stay_as_they_are(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(10)), documents(5), "other")
    filled(folder, documents(4), "third")
    alias(folder, "public", "other")
    alias(folder, "internal", "other")
    before = {name: shown(folder, name) for name in ("other", "third", "public")}
    notes = QdrantLocalStore(folder, "notes")
    migrate(notes, executor())
    migrate(QdrantLocalStore(folder, "public"), executor())
    after = {name: shown(folder, name) for name in ("internal", "third", "public")}
    assert (after["internal"], after["third"]) == (before["other"], before["third"])
    assert [each[:2] for each in after["public"]] == [each[:2] for each in before["public"]]
    assert len(after["public"][0][2]) == NEW_DIMENSIONS
    gc(QdrantLocalStore(folder, "public"))
    gc(notes)
    assert shown(folder, "internal") == before["other"]  # it is asked for by another alias
    meta = json.loads((folder / "meta.json").read_text())
    assert sorted(meta["aliases"]) == ["internal", "notes", "public"]
    assert {path.name for path in (folder / "collection").iterdir()} == set(meta["collections"])
    assert set(meta["aliases"].values()) | {"third"} == set(meta["collections"])


def test_text_indexes_are_kept(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(10)), [], "other")
    client = QdrantClient(path=str(folder))
    index = models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=True, lowercase=True)
    client.create_payload_index("notes", "page_content", index)
    client.close()
    before = (folder / "meta.json").read_bytes()
    known = json.loads(before)["text_indexes"]["notes"]
    store = QdrantLocalStore(folder, "notes")
    migrate(store, executor())
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["text_indexes"] == {meta["aliases"]["notes"]: known}
    rollback(store)
    assert (folder / "meta.json").read_bytes() == before


def test_settings_that_are_changed_after_it_was_built_are_kept(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(10))
    store = QdrantLocalStore(folder)
    migrate(store, executor(), publishes=False)
    client = QdrantClient(path=str(folder))
    client.update_collection("notes", metadata={"owner": "ada"})
    client.close()
    publish(store)
    client = QdrantClient(path=str(folder))
    assert (client.get_collection("notes").config.metadata or {})["owner"] == "ada"
    client.close()
    assert store.describe().fingerprint == executor().fingerprint()


def test_no_other_index_can_be_asked_for(tmp_path: Path) -> None:
    store = QdrantLocalStore(filled(tmp_path / "db", documents(10)))
    assert plan_migration(store, executor()).index == "exact search"
    with pytest.raises(StoreError, match="cannot have the index `Flat`"):
        plan_migration(store, executor(), index="Flat")
    with pytest.raises(StoreError, match="cannot have the index `Flat`"):
        migrate(store, executor(), index="Flat")


def test_a_folder_that_is_open_elsewhere_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(5))
    store = QdrantLocalStore(folder)
    migrate(store, executor(), publishes=False)
    program = "import sys, qdrant_client as q; c = q.QdrantClient(path=sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        for action in (lambda: publish(store), store.describe, lambda: list(store.rows()), store.state):
            with pytest.raises(StoreBusyError, match="open in another program"):
                action()
        with pytest.raises(StoreBusyError):
            open_store(folder)
        other.stdin.write(b"\n")
        other.stdin.close()
    assert store.describe().dimensions == (OLD_DIMENSIONS,)
    assert publish(store).in_use == "new"


class Attack:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._marker}",)


@pytest.mark.parametrize("place", ["payload", "vector", "key", "whole"])
def test_what_a_pickle_asks_for_is_refused_and_not_run(tmp_path: Path, place: str) -> None:
    folder, marker = filled(tmp_path / "db", documents(5)), tmp_path / "ran"
    attack: Any = Attack(marker)
    point = models.PointStruct.model_construct(
        id=1,
        vector=attack if place == "vector" else [0.0] * OLD_DIMENSIONS,
        payload={"page_content": "x", "more": attack if place == "payload" else 1},
    )
    key = base64.b64encode(pickle.dumps(attack if place == "key" else 1)).decode()
    with closing(sqlite3.connect(storage(folder))) as database:
        content = pickle.dumps(attack if place == "whole" else point)
        database.execute("INSERT INTO points VALUES (?, ?)", (key, content))
        database.commit()
    store = QdrantLocalStore(folder)
    for action in (store.describe, lambda: list(store.rows())):
        with pytest.raises(StoreError, match=r"asks for `posix\.system`"):
            action()
    assert not marker.exists()


def stored(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(storage(folder))


class OldPickler(pickle.Pickler):
    """Writes points as clients with pydantic 1 did."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, models.PointStruct):
            state = {"__dict__": vars(value), "__fields_set__": {"id"}, "__private_attribute_values__": {}}
            return copyreg.__newobj__, (models.PointStruct,), state  # type: ignore[attr-defined]
        return NotImplemented


def test_points_of_earlier_clients_are_read(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(6))
    own = str(uuid5(NAMESPACE, "doc-00001"))
    written: list[tuple[Any, str]] = [
        (own, "an earlier one"),
        (own.upper(), "a later one"),
        (own.replace("-", ""), "the last one"),
        (77, "77"),
    ]
    with closing(stored(folder)) as database:
        database.execute("DELETE FROM points WHERE id = ?", (base64.b64encode(pickle.dumps(own, protocol=4)).decode(),))
        for spelled, text in written:
            buffer = io.BytesIO()
            point = models.PointStruct(id=spelled, vector=[1.0] * OLD_DIMENSIONS, payload={"page_content": text})
            OldPickler(buffer, protocol=3).dump(point)
            key = base64.b64encode(pickle.dumps(spelled, protocol=3 if spelled == 77 else 4)).decode()
            database.execute("INSERT INTO points VALUES (?, ?)", (key, buffer.getvalue()))
        database.commit()
    store = QdrantLocalStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("duplicate-ids", 2, False)
    found = {row.id: row.text for row in store.rows()}
    assert len(found) == 7
    assert (found[own.replace("-", "")], found["77"]) == ("the last one", "77")
    keys = [row.key for row in store.rows()]
    assert np.array_equal(store.vectors(keys)[-2:], np.ones((2, OLD_DIMENSIONS)))
    migrate(store, executor())
    assert {each[0]: each[1]["page_content"] for each in shown(folder, "notes")}[own] == "the last one"


def test_points_without_the_vector_are_kept_as_they_are(tmp_path: Path) -> None:
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.DOT)
    other = models.VectorParams(size=3, distance=models.Distance.EUCLID)
    folder = tmp_path / "db"
    client = QdrantClient(path=str(folder))
    client.create_collection("notes", vectors_config={"text": params, "image": other})
    made = vectors(4, OLD_DIMENSIONS).tolist()
    named: list[dict[str, Any]] = [{"text": made[0], "image": [1, 2, 3]}, {"image": [4, 5, 6]}, {"text": made[2]}, {}]
    client.upsert(
        "notes",
        [
            models.PointStruct(id=at, vector=each, payload={"page_content": f"text {at}"})
            for at, each in enumerate(named)
        ],
    )
    client.close()
    with pytest.raises(StoreError, match="2 dense vectors") as caught:
        QdrantLocalStore(folder)
    assert "--name COLLECTION:VECTOR" in str(caught.value.hint)
    store = open_store(folder, "notes:text")
    info = store.describe()
    assert (info.count, info.location.name) == (2, "notes:text")
    assert [(each.code, each.count, each.is_blocking) for each in info.findings] == [("missing-vectors", 2, False)]
    moved = open_move(store, FaissTarget(tmp_path / "moved")).describe().findings
    assert ("missing-vectors", 2, True) in [(each.code, each.count, each.is_blocking) for each in moved]
    before = shown(folder, "notes")
    migrate(store, executor())
    after = shown(folder, "notes")
    assert [each[:2] for each in after] == [each[:2] for each in before]
    assert [each[2].get("image") for each in after] == [[1, 2, 3], [4, 5, 6], None, None]
    assert [len(each[2].get("text", ())) for each in after] == [NEW_DIMENSIONS, 0, NEW_DIMENSIONS, 0]
    with pytest.raises(StoreError, match="no dense vector `title`"):
        QdrantLocalStore(folder, "notes:title")


def test_vectors_of_which_a_text_has_several_are_refused(tmp_path: Path) -> None:
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    params = models.VectorParams(size=4, distance=models.Distance.DOT, multivector_config=several)
    folder = filled(tmp_path / "db", [], vectors_config=params)
    with pytest.raises(StoreError, match="several for each text"):
        QdrantLocalStore(folder)


def test_rows_without_text_are_left_out_only_when_that_is_accepted(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(4))
    client = QdrantClient(path=str(folder))
    texts: list[Any] = [None, " \n", "", 7]
    client.upsert(
        "notes",
        [
            models.PointStruct(id=100 + at, vector=[1.0] * OLD_DIMENSIONS, payload={"page_content": text})
            for at, text in enumerate(texts)
        ],
    )
    client.close()
    store = QdrantLocalStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == (
        "missing-texts",
        ("100", "101", "102", "103"),
        True,
    )
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 4
    assert len(shown(folder, "notes")) == 4
    rollback(store)
    assert len(shown(folder, "notes")) == 8


def test_vectors_of_several_sizes_are_told_and_become_of_one(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(6))
    with closing(stored(folder)) as database:
        point = models.PointStruct(id=999, vector=[1.0] * 7, payload={"page_content": "short", "metadata": {}})
        database.execute("INSERT INTO points VALUES ('x', ?)", (pickle.dumps(point),))
        database.execute("UPDATE points SET id = ? WHERE id = 'x'", (base64.b64encode(pickle.dumps(999)).decode(),))
        database.commit()
    store = QdrantLocalStore(folder)
    info = store.describe()
    assert info.dimensions == (7, OLD_DIMENSIONS)
    assert [(each.code, each.count) for each in info.findings] == [("mixed-dimensions", 1)]
    assert migrate(store, executor()).embedded == 7
    assert {len(each[2]) for each in shown(folder, "notes")} == {NEW_DIMENSIONS}


def test_the_name_has_to_be_said_where_there_are_several(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(3)), documents(2), "other")
    with pytest.raises(StoreError, match="2 collections") as caught:
        QdrantLocalStore(folder)
    assert caught.value.hint is not None and "notes, other" in caught.value.hint
    with pytest.raises(StoreError, match="no collection `third`"):
        QdrantLocalStore(folder, "third")
    alias(folder, "public", "other")
    with pytest.raises(StoreError, match="goes by the alias `public`"):
        QdrantLocalStore(folder, "other")
    assert QdrantLocalStore(folder, "public").describe().count == 2


def test_where_the_texts_are_is_guessed_only_where_it_is_clear(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", [])
    client = QdrantClient(path=str(folder))
    payload = {"title": "A", "body": "The text.", "n": 3}
    client.upsert("notes", [models.PointStruct(id=1, vector=[1.0] * OLD_DIMENSIONS, payload=payload)])
    client.close()
    with pytest.raises(StoreError, match="`body`, `title`"):
        QdrantLocalStore(folder).describe()
    store = QdrantLocalStore(folder, content_key="body")
    (row,) = store.rows()
    assert (row.text, row.metadata) == ("The text.", {"title": "A", "n": 3})
    migrate(store, executor())
    assert shown(folder, "notes")[0][1] == payload


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "meta.json").write_text("{"), "no list of collections"),
        (lambda folder: (folder / "meta.json").write_text("[]"), "no list of collections"),
        (lambda folder: (folder / "meta.json").unlink(), "cannot be read"),
        (lambda folder: storage(folder).unlink(), "is missing"),
        (lambda folder: storage(folder).write_bytes(b"x" * 5000), "no database of Qdrant"),
        (lambda folder: storage(folder).write_bytes(storage(folder).read_bytes()[:5000]), "no database of Qdrant"),
    ],
)
def test_a_damaged_folder_is_told(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    folder = filled(tmp_path / "db", documents(60))
    damage(folder)
    before = contents_of(folder)
    with pytest.raises(StoreError, match=message):
        snapshot(QdrantLocalStore(folder))
    assert contents_of(folder) == before


def test_a_damaged_point_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3))
    with closing(stored(folder)) as database:
        database.execute("UPDATE points SET point = substr(point, 1, 100)")
        database.commit()
    with pytest.raises(StoreError, match="damaged point"):
        list(QdrantLocalStore(folder).rows())


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(120))
    before = contents_of(folder)
    program = """
import resource, sys
from tests.migration.stores import executor
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
store = QdrantLocalStore(sys.argv[1])
migrate(store, executor(1000), should_stop=lambda: True)
resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000))
try:
    migrate(store, executor(1000))
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert "cannot write" in done.stdout, done.stderr
    after = contents_of(folder)
    assert {name: content for name, content in after.items() if name in before} == before
    store = QdrantLocalStore(folder)
    assert migrate(store, executor(1000)).in_use == "new"


def test_its_client_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = QdrantLocalStore(filled(tmp_path / "db", documents(3)))
    monkeypatch.setitem(sys.modules, "qdrant_client.http.models.models", None)
    assert store.describe().count == len(list(store.rows())) == 3
    with pytest.raises(MissingExtraError, match="qdrant"):
        migrate(store, executor())
