"""What every store that is migrated has to do, as tests for pytest.

To test yours, inherit and say how one is made and opened:

    class TestMyStore(StoreContract):
        def make(self, folder, documents): ...
        def open(self, folder): ...
        def add(self, folder, documents): ...

`make` gets an empty folder and writes a store of the documents with whatever vectors it likes, of `OLD_DIMENSIONS`
coordinates; `open` returns the `Store`; `add` adds documents with the store's own library, as its owner would.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_integrations.errors import StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.migration.protocol import Embedded, KeepsOld, Reader, Run, Store
from mlx_integrations.migration.records import Row, content_digest
from mlx_integrations.migration.report.measure import measure_migration
from mlx_integrations.testing import FakeEmbeddingBackend

__all__ = [
    "NEW_DIMENSIONS",
    "OLD_DIMENSIONS",
    "Document",
    "StoreContract",
    "contents_of",
    "documents",
    "executor",
    "metadatas",
    "snapshot",
    "texts",
    "vectors",
]

OLD_DIMENSIONS, NEW_DIMENSIONS = 24, 16


def texts(count: int) -> list[str]:
    """Texts of which every tenth is the same as an earlier one."""
    return [
        f"The {number // 2 if number % 10 == 9 else number} of spades, page {number % 7}" for number in range(count)
    ]


def metadatas(count: int) -> list[dict[str, Any]]:
    """Metadata with numbers, words and lists."""
    return [{"page": number, "source": f"book-{number % 3}.txt", "tags": ["a", str(number)]} for number in range(count)]


def vectors(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    """Random vectors, (count, dimensions)."""
    made: NDArray[np.float32] = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return made


def executor(
    dimensions: int = NEW_DIMENSIONS, *, seed: int = 1, long_texts: LongTexts = "truncate", max_tokens: int = 64
) -> LocalExecutor:
    """A model that is quick, and gives each text a vector of its own."""
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=dimensions, seed=seed, max_tokens=max_tokens)
    return LocalExecutor(backend, long_texts=long_texts)


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a store is filled with."""

    id: str
    text: str
    metadata: dict[str, Any]


def documents(count: int, first: int = 0) -> list[Document]:
    """So many documents; those from `first` on are others than those before."""
    pairs = list(zip(texts(first + count), metadatas(first + count), strict=True))
    return [
        Document(id=f"doc-{number:05d}", text=pairs[number][0], metadata=pairs[number][1])
        for number in range(first, first + count)
    ]


def snapshot(reader: Reader) -> tuple[str, str]:
    """Digests of all rows and of all vectors."""
    rows = list(reader.rows())
    found = reader.vectors([row.key for row in rows])
    return (
        hashlib.sha256(b"".join(content_digest(row) for row in rows)).hexdigest(),
        hashlib.sha256(np.ascontiguousarray(found, "<f4").tobytes()).hexdigest(),
    )


class StoreContract:
    """The tests; pytest runs them for each class that inherits.

    Attributes:
        keeps_old: Whether the store implements `KeepsOld`, which it need not.
    """

    keeps_old = True

    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        raise NotImplementedError

    def open(self, folder: Path) -> Store:
        raise NotImplementedError

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        raise NotImplementedError

    def id_of(self, document: Document) -> str:
        """The id of a document, where the store takes only some kinds of ids."""
        return document.id

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "the store"

    @pytest.fixture
    def store(self, folder: Path) -> Iterator[Store]:
        self.make(folder, documents(20))
        store = self.open(folder)
        yield store
        store.close()

    @pytest.fixture
    def run(self, store: Store) -> Run:
        fingerprint = EmbeddingFingerprint(model="new-model", dimensions=NEW_DIMENSIONS)
        return Run(id="0123456789ab", fingerprint=fingerprint, metric=store.describe().metric)

    @staticmethod
    def embedded(store: Store, made: NDArray[np.float32]) -> Iterator[Embedded]:
        rows = list(store.rows())
        for first in range(0, len(rows), 7):
            yield Embedded(rows=tuple(rows[first : first + 7]), vectors=made[first : first + 7])

    # Reading

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)

    def test_it_describes_itself(self, store: Store) -> None:
        info = store.describe()
        assert info.location == store.location
        assert info.count == 20
        assert info.dimensions == (OLD_DIMENSIONS,)
        assert info.findings == ()

    def test_every_document_is_read(self, store: Store) -> None:
        rows = list(store.rows())
        assert sorted((row.id, row.text) for row in rows) == sorted(
            (self.id_of(each), each.text) for each in documents(20)
        )
        assert len({row.key for row in rows}) == 20

    def test_metadata_is_read(self, store: Store) -> None:
        found = {row.id: row.metadata for row in store.rows()}
        for document in documents(20):
            assert "page" in str(found[self.id_of(document)])
            assert str(document.metadata["source"]) in str(found[self.id_of(document)])

    def test_reading_goes_on_after_any_key(self, store: Store) -> None:
        rows = list(store.rows())
        for at, row in enumerate(rows):
            assert list(store.rows(row.key)) == rows[at + 1 :]

    def test_vectors_are_those_of_the_keys(self, store: Store) -> None:
        keys = [row.key for row in store.rows()]
        everything = store.vectors(keys)
        assert everything.shape == (20, OLD_DIMENSIONS)
        chosen = [7, 3, 19]
        assert np.array_equal(store.vectors([keys[at] for at in chosen]), everything[chosen])
        assert store.vectors([]).shape == (0, OLD_DIMENSIONS)

    def test_an_unknown_key_has_no_vector(self, store: Store) -> None:
        with pytest.raises(StoreError):
            store.vectors(["987654321"])

    def test_reading_changes_nothing(self, store: Store, folder: Path) -> None:
        before, state = contents_of(folder), store.state()
        store.describe()
        snapshot(store)
        assert contents_of(folder) == before
        assert store.state() == state
        assert self.open(folder).state() == state

    def test_its_state_changes_with_its_contents(self, store: Store, folder: Path) -> None:
        state = store.state()
        self.add(folder, documents(1, first=20))
        assert store.state() != state
        assert len(list(store.rows())) == 21

    def test_an_empty_store_is_one(self, folder: Path) -> None:
        self.make(folder, [])
        store = self.open(folder)
        assert store.describe().count == 0
        assert list(store.rows()) == []

    def test_nothing_is_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError):
            self.open(tmp_path / "nothing").describe()
        (tmp_path / "empty").mkdir()
        with pytest.raises(StoreError):
            self.open(tmp_path / "empty").describe()

    # Writing

    def test_nothing_is_built_at_first(self, store: Store, run: Run) -> None:
        assert store.published(run) == "old"
        with pytest.raises(StoreError):
            store.built(run).describe()

    def test_building_leaves_the_store_as_it_is(self, store: Store, run: Run, folder: Path) -> None:
        before, old = contents_of(folder), snapshot(store)
        made = vectors(20, NEW_DIMENSIONS, seed=5)
        store.build(run, self.embedded(store, made))
        assert {name: content for name, content in contents_of(folder).items() if name in before} == before
        assert store.published(run) == "old"
        assert snapshot(store) == old
        built = store.built(run)
        assert built.describe().dimensions == (NEW_DIMENSIONS,)
        assert snapshot(built)[0] == old[0]
        assert np.array_equal(built.vectors([row.key for row in built.rows()]), made)

    def test_a_build_that_was_cut_off_is_made_again(self, store: Store, run: Run) -> None:
        made = vectors(20, NEW_DIMENSIONS, seed=5)

        def broken() -> Iterator[Embedded]:
            yield next(self.embedded(store, made))
            raise RuntimeError("the power went")

        with pytest.raises(RuntimeError):
            store.build(run, broken())
        with pytest.raises(StoreError):
            store.built(run).describe()
        store.build(run, self.embedded(store, made))
        store.build(run, self.embedded(store, made))
        built = store.built(run)
        assert np.array_equal(built.vectors([row.key for row in built.rows()]), made)

    def test_publishing_and_rolling_back(self, store: Store, run: Run, folder: Path) -> None:
        old, made = snapshot(store), vectors(20, NEW_DIMENSIONS, seed=5)
        store.build(run, self.embedded(store, made))
        new = snapshot(store.built(run))
        for _ in range(2):
            for _ in range(2):
                store.publish(run)
                assert store.published(run) == "new"
                assert snapshot(store) == snapshot(self.open(folder)) == snapshot(store.built(run)) == new
                assert store.describe().fingerprint == run.fingerprint
            for _ in range(2):
                store.rollback(run)
                assert store.published(run) == "old"
                assert snapshot(store) == snapshot(self.open(folder)) == old
                assert store.describe().fingerprint is None
                assert snapshot(store.built(run)) == new
        store.publish(run)
        for _ in range(2):
            store.discard(run)
            assert snapshot(store) == snapshot(self.open(folder)) == new
        with pytest.raises(StoreError):
            store.rollback(run)
        assert snapshot(store) == new

    def test_the_old_vectors_can_be_read_until_they_are_discarded(self, store: Store, run: Run, folder: Path) -> None:
        assert isinstance(store, KeepsOld) is self.keeps_old
        if not isinstance(store, KeepsOld):
            return
        old = snapshot(store)
        store.build(run, self.embedded(store, vectors(20, NEW_DIMENSIONS, seed=5)))
        for _ in range(2):
            for change in (None, store.publish, store.rollback):
                if change is not None:
                    change(run)
                before, state = contents_of(folder), store.state()
                replaced = store.replaced(run)
                info = replaced.describe()
                assert (info.count, info.dimensions, info.metric) == (20, (OLD_DIMENSIONS,), run.metric)
                assert info.fingerprint is None
                assert snapshot(replaced) == old
                replaced.close()
                assert store.state() == state
                assert store.published(run) == "new" or contents_of(folder) == before
        store.publish(run)
        store.discard(run)
        with pytest.raises(StoreError):
            store.replaced(run)

    def test_an_earlier_record_comes_back(self, store: Store, run: Run) -> None:
        made = vectors(20, NEW_DIMENSIONS, seed=5)
        store.build(run, self.embedded(store, made))
        store.publish(run)
        store.discard(run)
        later = replace(run, id="ba9876543210", fingerprint=replace(run.fingerprint, model="later-model"))
        store.build(later, self.embedded(store, made * 2))
        store.publish(later)
        assert store.describe().fingerprint == later.fingerprint
        if isinstance(store, KeepsOld):
            assert store.replaced(later).describe().fingerprint == run.fingerprint
        store.rollback(later)
        assert store.describe().fingerprint == run.fingerprint
        store.publish(later)
        assert store.describe().fingerprint == later.fingerprint

    def test_what_was_built_can_be_discarded(self, store: Store, run: Run, folder: Path) -> None:
        before = contents_of(folder)
        store.build(run, self.embedded(store, vectors(20, NEW_DIMENSIONS)))
        for _ in range(2):
            store.discard(run)
            assert contents_of(folder) == before

    def test_nothing_can_be_published_that_was_not_built(self, store: Store, run: Run, folder: Path) -> None:
        before = contents_of(folder)
        with pytest.raises(StoreError):
            store.publish(run)
        assert contents_of(folder) == before

    # Together

    @pytest.mark.parametrize("count", [0, 1, 50])
    def test_a_migration(self, folder: Path, count: int) -> None:
        self.make(folder, documents(count))
        store = self.open(folder)
        before, old = contents_of(folder), snapshot(store) if count else None
        done = migrate(store, executor(), batch_rows=8)
        assert (done.phase, done.in_use, done.embedded) == ("published", "new", count)
        assert [check.name for check in done.checks if not check.is_passed] == []
        assert store.describe().fingerprint == executor().fingerprint()
        assert _by_id(store) == {row.id: row.text for row in store.rows()}
        self.assert_aligned(store)
        rollback(store)
        assert old is None or snapshot(store) == old
        assert {name: content for name, content in contents_of(folder).items() if name in before} == before
        migrate(store, executor(), batch_rows=8)
        assert gc(store)
        assert status(store) is None
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        self.assert_aligned(store)

    def test_what_is_added_meanwhile_is_taken_in(self, folder: Path) -> None:
        self.make(folder, documents(30))
        store = self.open(folder)
        asked = 0

        def adds_once() -> bool:
            nonlocal asked
            asked += 1
            if asked == 2:
                self.add(folder, documents(5, first=30))
            return False

        done = migrate(store, executor(), batch_rows=8, should_stop=adds_once)
        assert done.embedded == 35
        assert {row.id for row in store.rows()} == {self.id_of(each) for each in documents(35)}
        self.assert_aligned(store)

    def test_what_is_added_before_publishing_is_taken_in(self, folder: Path) -> None:
        from mlx_integrations.errors import StoreChangedError

        self.make(folder, documents(10))
        store = self.open(folder)
        migrate(store, executor(), batch_rows=8, publishes=False)
        self.add(folder, documents(5, first=10))
        with pytest.raises(StoreChangedError):
            publish(store)
        assert store.describe().dimensions == (OLD_DIMENSIONS,)
        assert migrate(store, executor(), batch_rows=8).embedded == 15
        self.assert_aligned(store)

    def test_a_report_compares_old_and_new_wherever_they_are(self, folder: Path) -> None:
        self.make(folder, documents(40))
        store, model = self.open(folder), executor()
        migrate(store, model, batch_rows=8, publishes=False)
        before = measure_migration(store, model.backend)
        publish(store)
        state = store.state()
        after = measure_migration(store, model.backend)
        assert store.state() == state
        assert (before.in_use, after.in_use) == ("old", "new")
        assert [note.code for note in after.notes if note.is_warning] == []
        assert after.known_items is not None
        assert after.known_items == before.known_items
        assert (after.new.count, after.new.dimensions, after.counts.embedded) == (40, (NEW_DIMENSIONS,), 40)
        assert before.old is not None
        assert before.old.dimensions == (OLD_DIMENSIONS,)
        assert self.keeps_old is (after.overlap is not None)
        if self.keeps_old:
            assert (after.overlap, after.scores, after.changed) == (before.overlap, before.scores, before.changed)
            assert after.old is not None
            assert after.old.dimensions == (OLD_DIMENSIONS,)

    def assert_aligned(self, reader: Reader) -> None:
        """Every vector is that of its own text."""
        rows: list[Row] = list(reader.rows())
        if not rows:
            return
        made = next(iter(executor().embed([[row.text or "" for row in rows]]))).vectors
        assert np.allclose(reader.vectors([row.key for row in rows]), made, atol=1e-6)


def _by_id(reader: Reader) -> dict[str, str | None]:
    return {row.id: row.text for row in reader.rows()}
