from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psycopg
import pytest

from mlx_integrations.migration.api import gc, migrate, rollback, status
from mlx_integrations.migration.contract import Document, StoreContract, documents, snapshot
from mlx_integrations.migration.protocol import Run, Store
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from tests.migration.pgvector_tables import asked, fill_collection, fill_table, leftovers, shown, uuid_of
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, executor, vectors
from tests.postgres import database_of, make_database, server_url, url_of

pytestmark = pytest.mark.usefixtures("own_data")


class PgvectorContract(StoreContract):
    """A folder has a file with the name of its database; copying the folder copies the database."""

    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        self.fill(make_database(folder), contents)
        folder.mkdir(exist_ok=True)
        (folder / "database").write_text(database_of(folder))

    def fill(self, url: str, contents: Sequence[Document]) -> None:
        raise NotImplementedError

    def open(self, folder: Path) -> Store:
        file = folder / "database"
        if file.exists() and file.read_text() != database_of(folder):
            make_database(folder, file.read_text())
            file.write_text(database_of(folder))
        return PgvectorStore(url_of(database_of(folder)), "notes")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        self.fill(url_of(database_of(folder)), contents)

    @pytest.fixture
    def url(self, folder: Path) -> str:
        return url_of(database_of(folder))

    def committed(self) -> Callable[[], str]:
        """What tells by another value that a transaction has ended which wrote something."""
        connection = psycopg.connect(server_url(), autocommit=True)
        return lambda: str(connection.execute("SELECT pg_current_snapshot()").fetchone())

    # What may not change are rows of a database, not files.

    def test_reading_changes_nothing(self, store: Store, folder: Path) -> None:
        url = url_of(database_of(folder))
        before, state = shown(url), store.state()
        store.describe()
        snapshot(store)
        assert (shown(url), store.state(), self.open(folder).state()) == (before, state, state)
        assert leftovers(url) == []

    def test_building_leaves_the_store_as_it_is(self, store: Store, run: Run, folder: Path) -> None:
        url = url_of(database_of(folder))
        before, old, state = shown(url), snapshot(store), store.state()
        made = vectors(20, NEW_DIMENSIONS, seed=5)
        store.build(run, self.embedded(store, made))
        assert (shown(url), snapshot(store), store.state()) == (before, old, state)
        assert store.published(run) == "old"
        built = store.built(run)
        assert built.describe().dimensions == (NEW_DIMENSIONS,)
        assert snapshot(built)[0] == old[0]
        assert np.array_equal(built.vectors([row.key for row in built.rows()]), made)

    def test_what_was_built_can_be_discarded(self, store: Store, run: Run, folder: Path) -> None:
        url = url_of(database_of(folder))
        before = shown(url)
        store.build(run, self.embedded(store, vectors(20, NEW_DIMENSIONS)))
        for _ in range(2):
            store.discard(run)
            assert (shown(url), leftovers(url)) == (before, [])

    @pytest.mark.parametrize("count", [0, 1, 50])
    def test_a_migration(self, folder: Path, count: int) -> None:
        self.make(folder, documents(count))
        store, url = self.open(folder), url_of(database_of(folder))
        before = shown(url)
        report = migrate(store, executor(), batch_rows=8)
        assert (report.phase, report.in_use, report.embedded) == ("published", "new", count)
        assert store.describe().fingerprint == executor().fingerprint()
        self.assert_aligned(store)
        rollback(store)
        assert shown(url) == before
        migrate(store, executor(), batch_rows=8)
        assert gc(store)
        assert status(store) is None
        assert leftovers(url) == []
        self.assert_aligned(store)


class TestTable(PgvectorContract):
    def fill(self, url: str, contents: Sequence[Document]) -> None:
        fill_table(url, contents)

    def id_of(self, document: Document) -> str:
        return uuid_of(document.id)

    def test_metadata_of_both_kinds_of_columns_are_read(self, store: Store) -> None:
        found = {row.id: row.metadata for row in store.rows()}
        assert found == {uuid_of(each.id): each.metadata for each in documents(20)}


class TestCollection(PgvectorContract):
    """The only collection of its table, whose vectors have no declared size."""

    def fill(self, url: str, contents: Sequence[Document]) -> None:
        fill_collection(url, contents)


class TestSharedTable(PgvectorContract):
    """One of several collections of a table."""

    def fill(self, url: str, contents: Sequence[Document]) -> None:
        if not asked(url, "SELECT 1 FROM pg_tables WHERE tablename = 'langchain_pg_embedding'"):
            others = [Document(id=f"other-{each.id}", text=each.text, metadata={}) for each in documents(9)]
            fill_collection(url, others, "others", dimensions=5)
        fill_collection(url, contents)

    def test_it_describes_itself(self, store: Store) -> None:
        info = store.describe()
        assert (info.location, info.count, info.dimensions) == (store.location, 20, (OLD_DIMENSIONS,))
        assert [(each.code, each.is_blocking) for each in info.findings] == [("shared-table", False)]
