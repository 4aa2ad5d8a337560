"""LlamaIndex's persisted storage context with its own vector store: the contract of all stores, and what is its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode

from mlx_integrations.errors import EmbeddingMismatchError, RowsError, StoreError
from mlx_integrations.llama_index import MLXEmbedding, guarded, verify_index
from mlx_integrations.migration.api import migrate, rollback
from mlx_integrations.migration.contract import Document, StoreContract, documents
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.llama_index_simple import LlamaIndexSimpleStore
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor, vectors

VECTORS = "default__vector_store.json"


def nodes_of(contents: Sequence[Document], *, embeds_metadata: bool = False) -> list[TextNode]:
    made = vectors(len(contents), OLD_DIMENSIONS).tolist()
    return [
        TextNode(
            id_=each.id,
            text=each.text,
            metadata=each.metadata,
            excluded_embed_metadata_keys=["tags"] if embeds_metadata else list(each.metadata),
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"of-{each.id}")},
            embedding=vector,
        )
        for each, vector in zip(contents, made, strict=True)
    ]


def persisted(folder: Path, nodes: Sequence[TextNode]) -> Path:
    index = VectorStoreIndex(nodes=nodes, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS))
    index.storage_context.persist(str(folder))
    return folder


def loaded(folder: Path, embed_model: Any = None) -> VectorStoreIndex:
    storage = StorageContext.from_defaults(persist_dir=str(folder))
    index = load_index_from_storage(storage, embed_model=embed_model or MockEmbedding(embed_dim=OLD_DIMENSIONS))
    assert isinstance(index, VectorStoreIndex)
    return index


def new_model() -> MLXEmbedding:
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)
    return MLXEmbedding(model_name="new-model", backend=backend)


class TestLlamaIndexSimple(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        persisted(folder, nodes_of(contents))

    def open(self, folder: Path) -> Store:
        return LlamaIndexSimpleStore(folder)

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        index = loaded(folder)
        index.insert_nodes(nodes_of(contents))
        index.storage_context.persist(str(folder))


def test_the_text_is_what_was_embedded(tmp_path: Path) -> None:
    nodes = nodes_of(documents(12), embeds_metadata=True)
    store = LlamaIndexSimpleStore(persisted(tmp_path / "storage", nodes))
    expected = {node.node_id: node.get_content(MetadataMode.EMBED) for node in nodes}
    assert {row.id: row.text for row in store.rows()} == expected
    assert "source: book-1.txt" in expected["doc-00001"]
    assert "tags" not in expected["doc-00001"]


def test_the_index_finds_its_nodes_afterwards_and_its_guard_accepts_it(tmp_path: Path) -> None:
    nodes = nodes_of(documents(30), embeds_metadata=True)
    folder = persisted(tmp_path / "storage", nodes)
    with pytest.raises(EmbeddingMismatchError):
        verify_index(guarded(loaded(folder, new_model()), path=folder))
    before = contents_of(folder)
    store = LlamaIndexSimpleStore(folder)
    migrate(store, executor())
    assert {name for name, content in contents_of(folder).items() if before.get(name) == content} == {
        *before.keys() - {VECTORS}
    }
    index = guarded(loaded(folder, new_model()), path=folder)
    assert verify_index(index).differences(executor().fingerprint()) == ()
    wanted = nodes[13]
    (found,) = index.as_retriever(similarity_top_k=1).retrieve(wanted.get_content(MetadataMode.EMBED))
    assert found.score == pytest.approx(1.0)
    assert (found.node.node_id, found.node.metadata) == ("doc-00013", wanted.metadata)
    assert found.node.ref_doc_id == "of-doc-00013"
    index.delete_ref_doc("of-doc-00013")
    index.insert_nodes([TextNode(text="A new one.")])
    index.storage_context.persist(str(folder))
    again = guarded(loaded(folder, new_model()), path=folder)
    assert again.as_retriever(similarity_top_k=1).retrieve("A new one.")[0].text == "A new one."


def test_the_old_index_is_back_after_a_rollback(tmp_path: Path) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(10)))
    before = contents_of(folder)
    store = LlamaIndexSimpleStore(folder)
    migrate(store, executor())
    rollback(store)
    assert {name: contents_of(folder)[name] for name in before} == before
    with pytest.raises(EmbeddingMismatchError):
        verify_index(guarded(loaded(folder, new_model()), path=folder))


def test_everything_else_of_the_file_is_kept(tmp_path: Path) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(7)))
    path = folder / VECTORS
    old = json.loads(path.read_text())
    reordered = {"metadata_dict": old["metadata_dict"], "later": [1, {"x": "}"}], **old, "note": 'a"b'}
    path.write_text(json.dumps(reordered, indent=3, ensure_ascii=False))
    migrate(LlamaIndexSimpleStore(folder), executor())
    new = json.loads(path.read_text())
    assert {name: part for name, part in new.items() if name != "embedding_dict"} == {
        name: part for name, part in reordered.items() if name != "embedding_dict"
    }
    assert list(new["embedding_dict"]) == list(old["embedding_dict"])


def test_nodes_deleted_from_the_index_stay_deleted(tmp_path: Path) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(20)))
    index = loaded(folder)
    index.delete_nodes(["doc-00004", "doc-00005"])
    index.storage_context.persist(str(folder))
    store = LlamaIndexSimpleStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("orphans", 2, False)
    assert migrate(store, executor()).embedded == 18
    assert "doc-00004" not in json.loads((folder / VECTORS).read_text())["embedding_dict"]


def test_vectors_of_several_sizes_are_told_and_become_one(tmp_path: Path) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(9)))
    index = loaded(folder)
    index.insert_nodes([TextNode(id_="wide", text="wide", embedding=[0.5] * 40)])
    index.storage_context.persist(str(folder))
    store = LlamaIndexSimpleStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, store.describe().dimensions) == ("mixed-dimensions", 1, (24, 40))
    keys = {row.id: row.key for row in store.rows()}
    assert store.vectors([keys["wide"]]).shape == (1, 40)
    with pytest.raises(StoreError, match="another size"):
        store.vectors(list(keys.values()))
    migrate(store, executor())
    assert (store.describe().dimensions, store.describe().findings) == ((16,), ())


def test_vectors_without_a_text_are_left_out_only_when_that_is_accepted(tmp_path: Path) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(8)))
    docstore = json.loads((folder / "docstore.json").read_text())
    del docstore["docstore/data"]["doc-00002"]
    docstore["docstore/data"]["doc-00003"]["__data__"]["text"] = " "
    docstore["docstore/data"]["doc-00005"] = {"__type__": "of another time", "__data__": {}}
    (folder / "docstore.json").write_text(json.dumps(docstore))
    store = LlamaIndexSimpleStore(folder)
    (finding,) = store.describe().findings
    lost = ("doc-00002", "doc-00003", "doc-00005")
    assert (finding.code, finding.examples, finding.is_blocking) == ("missing-texts", lost, True)
    before = contents_of(folder)
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert contents_of(folder) == before
    done = migrate(store, executor(), accept=True)
    assert (done.embedded, done.unembedded, done.in_use) == (5, 3, "new")
    kept = json.loads((folder / VECTORS).read_text())
    assert all(kept[part].keys() == {row.id for row in store.rows()} for part in kept)
    assert not kept["embedding_dict"].keys() & {*lost}
    index = loaded(folder, new_model())
    assert len(index.as_retriever(similarity_top_k=10).retrieve("The 1 of spades")) == 5
    index.delete_ref_doc("of-doc-00002")  # its leavings would make that fail


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", [VECTORS, "docstore.json"])
def test_files_that_were_cut_off_are_told(tmp_path: Path, name: str, share: float) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(30)))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    before = contents_of(folder)
    with pytest.raises(StoreError):
        migrate(LlamaIndexSimpleStore(folder), executor())
    assert contents_of(folder) == before


@pytest.mark.parametrize("content", ["[]", "{}", '{"embedding_dict": []}', "null", "IxF2", '{"embedding_dict": {}} x'])
def test_other_files_are_told(tmp_path: Path, content: str) -> None:
    folder = persisted(tmp_path / "storage", nodes_of(documents(3)))
    (folder / VECTORS).write_text(content)
    with pytest.raises(StoreError):
        LlamaIndexSimpleStore(folder).describe()
