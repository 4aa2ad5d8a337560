"""Tables of LanceDB, as LangChain and LlamaIndex fill them: the contract of all stores, and what is its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

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
from mlx_integrations.migration.stores.lancedb import LanceDBStore


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
