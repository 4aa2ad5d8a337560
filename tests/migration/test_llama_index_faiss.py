"""LlamaIndex's persisted storage context over FAISS, with and without a map: the contract, and what is its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

from mlx_integrations.errors import EmbeddingMismatchError, RowsError, StoreError
from mlx_integrations.llama_index import guarded, verify_index
from mlx_integrations.migration.api import migrate, rollback
from mlx_integrations.migration.contract import Document, StoreContract, documents
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.faiss.llama_index import LlamaIndexFaissStore
from mlx_integrations.migration.stores.llama_index_simple import LlamaIndexSimpleStore
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor, vectors
from tests.migration.test_llama_index_simple import new_model, nodes_of, persisted

VECTORS = "default__vector_store.json"
OLD_MODEL = MockEmbedding(embed_dim=OLD_DIMENSIONS)
both = pytest.mark.parametrize("kind", [FaissVectorStore, FaissMapVectorStore])


def saved(folder: Path, nodes: Sequence[TextNode], kind: type[FaissVectorStore], factory: str = "Flat") -> Path:
    index: Any = faiss.index_factory(OLD_DIMENSIONS, factory)
    if not index.is_trained:
        index.train(vectors(400, OLD_DIMENSIONS))
    store = kind(faiss_index=faiss.IndexIDMap2(index) if kind is FaissMapVectorStore else index)
    storage = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex(nodes=nodes, storage_context=storage, embed_model=OLD_MODEL).storage_context.persist(str(folder))
    return folder


def loaded(folder: Path, kind: type[FaissVectorStore], embed_model: Any = OLD_MODEL) -> VectorStoreIndex:
    storage = StorageContext.from_defaults(vector_store=kind.from_persist_dir(str(folder)), persist_dir=str(folder))
    index = load_index_from_storage(storage, embed_model=embed_model)
    assert isinstance(index, VectorStoreIndex)
    return index


class TestLlamaIndexFaiss(StoreContract):
    kind: type[FaissVectorStore] = FaissVectorStore

    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        saved(folder, nodes_of(contents), self.kind)

    def open(self, folder: Path) -> Store:
        return LlamaIndexFaissStore(folder)

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        index = loaded(folder, self.kind)
        index.insert_nodes(nodes_of(contents))
        index.storage_context.persist(str(folder))


class TestLlamaIndexFaissMap(TestLlamaIndexFaiss):
    kind = FaissMapVectorStore


@pytest.mark.parametrize("kind", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_a_map_is_written_byte_for_byte_as_faiss_writes_it(tmp_path: Path, kind: Any) -> None:
    numbers = np.arange(20) * 3 + 1
    theirs: Any = kind(faiss.IndexFlatL2(16))
    folder = saved(tmp_path / "storage", nodes_of(documents(20)), FaissMapVectorStore)
    old: Any = kind(faiss.IndexFlatL2(OLD_DIMENSIONS))
    old.add_with_ids(vectors(20, OLD_DIMENSIONS), numbers)
    faiss.write_index(old, str(folder / VECTORS))
    ids = {str(number): f"doc-{place:05d}" for place, number in enumerate(numbers.tolist())}
    id_map = {"faiss_id_to_node_id_map": ids, "node_id_to_faiss_id_map": {node: int(key) for key, node in ids.items()}}
    (folder / "id_map.json").write_text(json.dumps(id_map))
    store = LlamaIndexFaissStore(folder)
    migrate(store, executor())
    theirs.add_with_ids(store.vectors([str(place) for place in range(20)]), numbers)
    faiss.write_index(theirs, str(tmp_path / "theirs"))
    assert (folder / VECTORS).read_bytes() == (tmp_path / "theirs").read_bytes()


@both
def test_the_index_finds_its_nodes_afterwards_and_its_guard_accepts_it(tmp_path: Path, kind: Any) -> None:
    nodes = nodes_of(documents(30), embeds_metadata=True)
    folder = saved(tmp_path / "storage", nodes, kind)
    with pytest.raises(EmbeddingMismatchError):
        verify_index(guarded(loaded(folder, kind, new_model()), path=folder))
    before = contents_of(folder)
    store = LlamaIndexFaissStore(folder)
    migrate(store, executor())
    assert {name for name in before if contents_of(folder)[name] != before[name]} == {VECTORS}
    index = guarded(loaded(folder, kind, new_model()), path=folder)
    assert verify_index(index).differences(executor().fingerprint()) == ()
    for wanted in nodes[3::9]:
        (found,) = index.as_retriever(similarity_top_k=1).retrieve(wanted.get_content(MetadataMode.EMBED))
        assert (found.node.node_id, found.node.metadata) == (wanted.node_id, wanted.metadata)
    index.insert_nodes([TextNode(text="A new one.")])
    assert index.as_retriever(similarity_top_k=1).retrieve("A new one.")[0].text == "A new one."
    rollback(store)
    assert {name: contents_of(folder)[name] for name in before} == before
    with pytest.raises(EmbeddingMismatchError):
        verify_index(guarded(loaded(folder, kind, new_model()), path=folder))


def test_deleted_nodes_leave_gaps_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    folder = saved(tmp_path / "storage", nodes_of(documents(20)), FaissMapVectorStore)
    index = loaded(folder, FaissMapVectorStore)
    index.delete_nodes(["doc-00004", "doc-00011"])
    index.storage_context.persist(str(folder))
    store = LlamaIndexFaissStore(folder)
    assert [(each.code, each.count, each.is_blocking) for each in store.describe().findings] == [("orphans", 2, False)]
    assert migrate(store, executor()).embedded == 18
    new: Any = faiss.read_index(str(folder / VECTORS))
    assert faiss.vector_to_array(new.id_map).tolist() == [each for each in range(20) if each not in (4, 11)]
    index = loaded(folder, FaissMapVectorStore, new_model())
    assert index.as_retriever(similarity_top_k=1).retrieve(documents(20)[15].text)[0].node.node_id == "doc-00015"
    index.delete_nodes(["doc-00015"])
    found = index.as_retriever(similarity_top_k=20).retrieve("The 15 of spades")
    assert len(found) == 17 and "doc-00015" not in {each.node.node_id for each in found}


def test_numbers_given_twice_are_told(tmp_path: Path) -> None:
    """LlamaIndex numbers a new node by how many there are, and so twice after one was deleted."""
    folder = saved(tmp_path / "storage", nodes_of(documents(5)), FaissMapVectorStore)
    index = loaded(folder, FaissMapVectorStore)
    index.delete_nodes(["doc-00001"])
    index.insert_nodes(nodes_of(documents(1, first=5)))
    index.storage_context.persist(str(folder))
    store = LlamaIndexFaissStore(folder)
    (finding, _) = store.describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("duplicate-ids", 1, True)
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 5


@pytest.mark.parametrize(("factory", "expected"), [("HNSW16", "HNSW16"), ("IVF4,Flat", "IVF4,Flat"), ("PQ8x4", "Flat")])
@both
def test_the_kind_of_index_is_kept_where_the_new_dimensions_allow(
    tmp_path: Path, kind: Any, factory: str, expected: str
) -> None:
    store = LlamaIndexFaissStore(saved(tmp_path / "storage", nodes_of(documents(200)), kind, factory))
    assert store.describe().index == factory
    assert plan_migration(store, executor(12)).index == expected
    migrate(store, executor(12))
    assert (store.describe().index, store.describe().dimensions) == (expected, (12,))


@both
def test_nodes_without_text_are_never_dropped_silently(tmp_path: Path, kind: Any) -> None:
    folder = saved(tmp_path / "storage", nodes_of(documents(8)), kind)
    docstore = json.loads((folder / "docstore.json").read_text())
    del docstore["docstore/data"]["doc-00002"]
    (folder / "docstore.json").write_text(json.dumps(docstore))
    store = LlamaIndexFaissStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == ("missing-texts", ("doc-00002",), True)
    before = contents_of(folder)
    with pytest.raises(RowsError):
        migrate(store, executor())
    if kind is FaissVectorStore:
        with pytest.raises(RowsError, match="cannot leave them out"):
            migrate(store, executor(), accept=True)
        assert contents_of(folder) == before
        return
    assert migrate(store, executor(), accept=True).embedded == 7
    found = loaded(folder, kind, new_model()).as_retriever(similarity_top_k=10).retrieve("The 1 of spades")
    assert len(found) == 7


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (FaissVectorStore, VECTORS),
        (FaissVectorStore, "docstore.json"),
        (FaissVectorStore, "index_store.json"),
        (FaissMapVectorStore, VECTORS),
        (FaissMapVectorStore, "id_map.json"),
    ],
)
def test_files_that_were_cut_off_are_told(tmp_path: Path, kind: Any, name: str, share: float) -> None:
    folder = saved(tmp_path / "storage", nodes_of(documents(30)), kind)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    before = contents_of(folder)
    with pytest.raises(StoreError):
        migrate(LlamaIndexFaissStore(folder), executor())
    assert contents_of(folder) == before


def test_each_of_the_two_layouts_names_the_other(tmp_path: Path) -> None:
    simple = persisted(tmp_path / "simple", nodes_of(documents(3)))
    with pytest.raises(StoreError) as caught:
        LlamaIndexFaissStore(simple).describe()
    assert caught.value.hint is not None and "llama-index-simple" in caught.value.hint
    flat = saved(tmp_path / "flat", nodes_of(documents(3)), FaissVectorStore)
    with pytest.raises(StoreError) as caught:
        LlamaIndexSimpleStore(flat).describe()
    assert caught.value.hint is not None and "llama-index-faiss" in caught.value.hint


def test_several_indexes_of_one_file_of_vectors_are_migrated_together(tmp_path: Path) -> None:
    context = StorageContext.from_defaults(vector_store=FaissVectorStore(faiss.IndexFlatL2(OLD_DIMENSIONS)))
    model = MockEmbedding(embed_dim=OLD_DIMENSIONS)
    for name in ("cats", "dogs"):
        nodes = [TextNode(id_=f"{name} {number}", text=f"{name}, page {number}") for number in range(3)]
        index = VectorStoreIndex(nodes, storage_context=context, embed_model=model, store_nodes_override=True)
        index.set_index_id(name)
    context.persist(str(tmp_path / "store"))
    store = LlamaIndexFaissStore(tmp_path / "store")
    assert store.describe().findings == ()
    assert migrate(store, executor()).embedded == 6
    opened = StorageContext.from_defaults(
        vector_store=FaissVectorStore.from_persist_dir(str(tmp_path / "store")), persist_dir=str(tmp_path / "store")
    )
    for name in ("cats", "dogs"):
        found: Any = load_index_from_storage(opened, name, embed_model=MockEmbedding(embed_dim=16))
        assert sorted(found.index_struct.nodes_dict.values()) == [f"{name} {number}" for number in range(3)]
    assert [row.id for row in store.rows()] == [f"{name} {number}" for name in ("cats", "dogs") for number in range(3)]


@pytest.mark.parametrize(
    "damage", ['{"__type__": "vector_store"}', "[]", '{"__type__": "vector_store", "__data__": 1}']
)
def test_an_index_store_of_other_parts_is_told(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path / "store", nodes_of(documents(3)), FaissVectorStore)
    (folder / "index_store.json").write_text('{"index_store/data": {"a": %s}}' % damage)  # noqa: UP031 -- braces
    with pytest.raises(StoreError, match="is not what LlamaIndex writes") as caught:
        LlamaIndexFaissStore(folder).describe()
    assert caught.value.hint


def test_indexes_that_name_the_same_vector_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "store", nodes_of(documents(3)), FaissVectorStore)
    path = folder / "index_store.json"
    known = json.loads(path.read_text())
    ((name, first),) = known["index_store/data"].items()
    other = first | {"__data__": first["__data__"].replace("doc-00000", "another")}
    path.write_text(json.dumps({"index_store/data": {name: first, "other": other}}))
    with pytest.raises(StoreError, match="several indexes"):
        LlamaIndexFaissStore(folder).describe()
