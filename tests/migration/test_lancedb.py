"""Tables of LanceDB, as LangChain and LlamaIndex fill them: the contract of all stores, and what is its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from langchain_community.vectorstores import LanceDB
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.vector_stores.lancedb import LanceDBVectorStore
from numpy.typing import NDArray

from mlx_integrations.errors import EmbeddingMismatchError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.llama_index import MLXEmbedding, verify_index
from mlx_integrations.llama_index import guarded as guarded_index
from mlx_integrations.migration.api import gc, migrate, rollback, status
from mlx_integrations.migration.contract import (
    OLD_DIMENSIONS,
    Document,
    StoreContract,
    contents_of,
    documents,
    executor,
    snapshot,
    vectors,
)
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import flat_nodes


def column(made: NDArray[np.float32]) -> Any:
    """Vectors as LanceDB keeps them."""
    return pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), made.shape[1])


def as_langchain(contents: Sequence[Document], seed: int = 0) -> Any:
    """Documents in the columns that LangChain's `LanceDB` writes."""
    made = {
        "vector": column(vectors(len(contents), OLD_DIMENSIONS, seed=seed)),
        "id": pa.array([each.id for each in contents], pa.string()),
        "text": pa.array([each.text for each in contents], pa.string()),
    }
    kind = pa.struct([("page", pa.int64()), ("source", pa.string()), ("tags", pa.list_(pa.string()))])
    return pa.table({**made, "metadata": pa.array([each.metadata for each in contents], kind)})


def filled(folder: Path, contents: Sequence[Document], name: str = "notes") -> Path:
    """A table as LangChain fills it, with vectors of our own."""
    rows = as_langchain(contents)
    database = lancedb.connect(folder)
    if (folder / f"{name}.lance").exists():
        database.open_table(name).add(rows)
    else:
        database.create_table(name, rows)
    return folder


def table_of(folder: Path, name: str = "notes") -> Any:
    return lancedb.connect(folder).open_table(name)


def shown(folder: Path, name: str = "notes") -> tuple[Any, ...]:
    """What LanceDB itself shows of a table."""
    table = table_of(folder, name)
    indexes = sorted((each.name, each.index_type, each.columns, each.index_details) for each in table.list_indices())
    return table.schema, table.schema.metadata, table.to_arrow().to_pylist(), indexes


class TestLanceDB(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def open(self, folder: Path) -> Store:
        return LanceDBStore(folder, "notes")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    # Going back to the old vectors is one more version of the table: what may not change is what it shows.

    @pytest.mark.parametrize("count", [0, 1, 50])
    def test_a_migration(self, folder: Path, count: int) -> None:
        self.make(folder, documents(count))
        store = self.open(folder)
        before, old, files = shown(folder), snapshot(store), contents_of(folder)
        done = migrate(store, executor(), batch_rows=8)
        assert (done.phase, done.in_use, done.embedded) == ("published", "new", count)
        assert store.describe().fingerprint == executor().fingerprint()
        self.assert_aligned(store)
        rollback(store)
        assert (snapshot(store), shown(folder)) == (old, before)
        now = contents_of(folder)
        assert {name: now[name] for name in files if not name.endswith(".json")}.items() <= files.items()
        migrate(store, executor(), batch_rows=8)
        assert gc(store)
        assert status(store) is None
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert [path.name for path in folder.iterdir()] == ["notes.lance"]
        self.assert_aligned(store)


def backend(seed: int = 1) -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=seed, max_tokens=64)


def langchain_store(folder: Path, embeddings: Any, **options: Any) -> LanceDB:
    return LanceDB(lancedb.connect(folder), embeddings, table_name="notes", mode="append", **options)


@pytest.mark.parametrize(
    ("keys", "name"),
    [({}, None), ({"vector_key": "my_vector", "id_key": "key", "text_key": "body"}, "notes:my_vector:body")],
)
def test_langchain_finds_its_documents_afterwards_and_the_guard_accepts_it(
    tmp_path: Path, keys: dict[str, str], name: str | None
) -> None:
    folder = tmp_path / "db"
    wanted = documents(30)[13]
    filling = langchain_store(folder, DeterministicFakeEmbedding(size=OLD_DIMENSIONS), **keys)
    for first in (0, 20):
        some = documents(30)[first : first + 20]
        filling.add_texts([each.text for each in some], [each.metadata for each in some], [each.id for each in some])
    embeddings = MLXEmbeddings(model="new-model", backend=backend())

    def opened() -> LanceDB:
        return guarded(langchain_store(folder, embeddings, **keys))

    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(opened())
    assert caught.value.hint is not None
    assert f"mlxi migrate run {folder} --name {name or 'notes'} --model new-model" in caught.value.hint
    store = LanceDBStore(folder)
    assert {row.id: (row.text, row.metadata) for row in store.rows()} == {
        each.id: (each.text, each.metadata) for each in documents(30)
    }
    migrate(store, executor())
    assert verify_store(opened()).differences(executor().fingerprint()) == ()
    (found,) = opened().similarity_search(wanted.text, k=1)
    assert (found.page_content, found.metadata) == (wanted.text, wanted.metadata)
    opened().add_texts(["A new one."], [wanted.metadata], ["new"])
    assert opened().similarity_search("A new one.", k=1)[0].page_content == "A new one."
    assert store.describe().fingerprint is not None
    gc(store)
    other = MLXEmbeddings(model="other-model", backend=backend(seed=9))
    with pytest.raises(EmbeddingMismatchError) as caught:
        guarded(langchain_store(folder, other, **keys)).add_texts(["A foreign one."])
    assert caught.value.fields == ("witness",)


def test_a_table_that_langchain_makes_or_overwrites_gets_its_record(tmp_path: Path) -> None:
    embeddings = MLXEmbeddings(model="new-model", backend=backend())
    store = guarded(LanceDB(lancedb.connect(tmp_path), embeddings, table_name="notes"))
    for text in ("The first one.", "The one that overwrites it."):
        store.add_texts([text])
        assert LanceDBStore(tmp_path).describe().fingerprint == embeddings.fingerprint()
        assert [row.text for row in LanceDBStore(tmp_path).rows()] == [text]


def test_llama_index_finds_its_nodes_afterwards_and_the_guard_accepts_it(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    nodes = flat_nodes(30)

    def vector_store() -> LanceDBVectorStore:
        return LanceDBVectorStore(uri=str(folder), table_name="notes")

    storage = StorageContext.from_defaults(vector_store=vector_store())
    VectorStoreIndex(nodes, storage_context=storage, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS))
    model = MLXEmbedding(model_name="new-model", backend=backend())

    def opened() -> VectorStoreIndex:
        return guarded_index(VectorStoreIndex.from_vector_store(vector_store(), embed_model=model))

    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_index(opened())
    assert caught.value.hint is not None and f"mlxi migrate run {folder} --name notes" in caught.value.hint
    store = LanceDBStore(folder)
    expected = {node.node_id: node.get_content(MetadataMode.EMBED) for node in nodes}
    assert {row.id: row.text for row in store.rows()} == expected
    before = table_of(folder).to_arrow().drop_columns(["vector"])
    migrate(store, executor())
    assert table_of(folder).to_arrow().drop_columns(["vector"]).equals(before)
    assert verify_index(opened()).differences(executor().fingerprint()) == ()
    (found,) = opened().as_retriever(similarity_top_k=1).retrieve(expected["doc-00013"])
    assert (found.node.node_id, found.node.metadata, found.text) == ("doc-00013", nodes[13].metadata, nodes[13].text)
    opened().insert_nodes([TextNode(id_="new", text="A new one.", metadata=nodes[0].metadata)])
    assert table_of(folder).count_rows() == 31
    (document, *_) = store.documents()
    assert (document.framework, document.content, document.text) == (
        "llama-index",
        nodes[0].text,
        expected["doc-00000"],
    )
    assert (document.metadata["page"], "text" in document.metadata) == (0, False)


def test_a_record_of_llama_index_is_written_with_the_first_node_that_is_added(tmp_path: Path) -> None:
    model = MLXEmbedding(model_name="new-model", backend=backend())
    nodes = [TextNode(text=each.text) for each in documents(3)]
    vector_store = LanceDBVectorStore(uri=str(tmp_path), table_name="notes")
    storage = StorageContext.from_defaults(vector_store=vector_store)
    index = guarded_index(VectorStoreIndex(nodes[:2], storage_context=storage, embed_model=model))
    assert LanceDBStore(tmp_path).describe().fingerprint is None
    index.insert_nodes(nodes[2:])
    assert LanceDBStore(tmp_path).describe().fingerprint == verify_index(index)
    assert LanceDBStore(tmp_path).describe().count == 3
