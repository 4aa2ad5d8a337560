"""Tables and programs that are not quite what one expects: nothing is lost, and what cannot be is told."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lance
import lancedb
import pyarrow as pa
import pytest
from lancedb.index import FTS, BTree, IvfFlat, IvfRq

from mlx_integrations.errors import RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import NEW_DIMENSIONS, OLD_DIMENSIONS, documents, executor, snapshot, vectors
from mlx_integrations.migration.moving import open_move
from mlx_integrations.migration.stores.lancedb import folders as lancedb_folders
from mlx_integrations.migration.stores.lancedb import store as lancedb_store
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
from mlx_integrations.migration.stores.lancedb.table import LanceTable
from mlx_integrations.migration.targets.lancedb import LanceDBTarget
from tests.migration.test_lancedb import as_langchain, column, filled, table_of


def plain(count: int = 20, **others: Any) -> Any:
    """A table of vectors and texts alone, and what else is asked for."""
    texts = pa.array([f"text {number}" for number in range(count)], pa.string())
    return pa.table({"vector": column(vectors(count, OLD_DIMENSIONS)), "text": texts, **others})


def ids(folder: Path) -> list[str]:
    found: list[str] = table_of(folder).to_arrow().column("id").to_pylist()
    return found


# Who writes meanwhile


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Has a row of so many dimensions committed when a table is about to go back or forth to another version."""

    def begin(folder: Path, dimensions: int) -> None:
        link_missing = lancedb_folders.link_missing

        def linked(source: Path, target: Path) -> None:
            link_missing(source, target)
            monkeypatch.setattr(lancedb_store, "link_missing", link_missing)
            rows = as_langchain(documents(21)[20:])
            table_of(folder).add(rows.set_column(0, "vector", column(vectors(1, dimensions))))

        monkeypatch.setattr(lancedb_store, "link_missing", linked)

    return begin


def test_what_is_written_while_a_table_goes_back_is_told_and_kept(
    tmp_path: Path, late: Callable[[Path, int], None]
) -> None:
    folder = filled(tmp_path / "db", documents(20))
    store = LanceDBStore(folder)
    old = snapshot(store)
    migrate(store, executor())
    late(folder, NEW_DIMENSIONS)
    with pytest.raises(StoreChangedError, match="just before") as caught:
        rollback(store)
    assert caught.value.hint is not None and "once more" in caught.value.hint
    assert migrate(store, executor()).in_use == "new"  # no other verb goes back instead
    assert (ids(folder)[-1], len(ids(folder)), store.describe().dimensions) == ("doc-00020", 21, (NEW_DIMENSIONS,))
    assert rollback(store).in_use == "old"
    assert snapshot(store) == old
    gc(store)
    assert snapshot(LanceDBStore(folder)) == old


def test_what_is_written_after_a_rollback_was_cut_off_is_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "db", documents(20))
    store = LanceDBStore(folder)
    migrate(store, executor())
    with monkeypatch.context() as patch:
        patch.setattr(lancedb_store, "link_missing", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rollback(store)
    rows = as_langchain(documents(21)[20:])
    table_of(folder).add(rows.set_column(0, "vector", column(vectors(1, NEW_DIMENSIONS))))
    with pytest.raises(StoreChangedError, match="just before"):
        rollback(store)
    assert len(ids(folder)) == 21


def test_what_is_written_while_a_table_goes_forth_again_is_taken_in(
    tmp_path: Path, late: Callable[[Path, int], None]
) -> None:
    folder = filled(tmp_path / "db", documents(20))
    store = LanceDBStore(folder)
    migrate(store, executor())
    rollback(store)
    late(folder, OLD_DIMENSIONS)
    with pytest.raises(StoreChangedError):
        migrate(store, executor())
    assert (len(ids(folder)), store.describe().dimensions) == (21, (OLD_DIMENSIONS,))
    assert migrate(store, executor()).embedded == 21
    assert len(ids(folder)) == 21
    rollback(store)
    assert len(ids(folder)) == 21


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_table_can_be_described_while_others_clean_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(filled(tmp_path / "db", documents(5)), documents(9)[5:])
    store, all_row_ids = LanceDBStore(folder), LanceTable.all_row_ids

    def and_then_it_is_tidied(table: LanceTable) -> Any:
        monkeypatch.setattr(LanceTable, "all_row_ids", all_row_ids)
        found = all_row_ids(table)
        table_of(folder).optimize(cleanup_older_than=dt.timedelta(0), delete_unverified=True)
        return found

    monkeypatch.setattr(LanceTable, "all_row_ids", and_then_it_is_tidied)
    assert store.describe().count == 9


def test_a_table_that_is_deleted_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "db", documents(5))
    store, all_row_ids = LanceDBStore(folder), LanceTable.all_row_ids

    def and_then_it_is_gone(table: LanceTable) -> Any:
        found = all_row_ids(table)
        lancedb.connect(folder).drop_table("notes")
        return found

    monkeypatch.setattr(LanceTable, "all_row_ids", and_then_it_is_gone)
    with pytest.raises(StoreError):
        store.describe()
    with pytest.raises(StoreError):
        LanceDBStore(folder, "notes")


def test_files_that_are_gone_before_they_are_counted_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LanceDBStore(filled(tmp_path / "db", documents(5)))
    size, files_below = store.describe().bytes, lancedb_folders.files_below
    monkeypatch.setattr(lancedb_folders, "files_below", lambda folder: (*files_below(folder), Path("data", ".tmp12")))
    assert store.describe().bytes == size


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_table_that_cleans_itself_up_goes_both_ways(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    settings: dict[str, str | None] = {"lance.auto_cleanup.interval": "1", "lance.auto_cleanup.older_than": "0s"}
    lance.dataset(str(folder / "notes.lance")).update_config(settings)
    table_of(folder).add(as_langchain(documents(23)[20:]))
    store = LanceDBStore(folder)
    old = snapshot(store)
    for _ in range(2):
        assert migrate(store, executor()).in_use == "new"
        rollback(store)
        assert snapshot(store) == old
    migrate(store, executor())
    gc(store)
    assert len(ids(folder)) == 23


def anew(folder: Path, commits: int) -> Any:
    """A table of the same name, as a program makes it that drops the one that there was."""
    lancedb.connect(folder).drop_table("notes")
    filled(folder, documents(2))
    for _ in range(commits - 1):
        table_of(folder).add(as_langchain(documents(3)[2:]))
    return table_of(folder)


def test_a_table_that_is_made_anew_keeps_its_versions_when_an_earlier_migration_is_forgotten(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    migrate(LanceDBStore(folder), executor())
    table = anew(folder, 6)
    table.tags.create("keep", 3)
    gc(LanceDBStore(folder))
    table = table_of(folder)
    assert [each["version"] for each in table.list_versions()] == [1, 2, 3, 4, 5, 6]
    table.checkout("keep")
    assert table.count_rows() == 4


def test_a_table_that_is_made_anew_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    migrate(LanceDBStore(folder), executor())
    rollback(LanceDBStore(folder))
    anew(folder, table_of(folder).version)  # so that the numbers of versions agree
    count = len(ids(folder))
    assert migrate(LanceDBStore(folder), executor()).embedded == count
    assert len(ids(folder)) == count


# Rights


def test_whoever_may_write_to_a_table_still_may(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    owner, group = (1234, 2345) if os.geteuid() == 0 else (-1, -1)
    for path in (folder / "notes.lance", *(folder / "notes.lance").rglob("*")):
        os.chown(path, owner, group)
        path.chmod(0o2775 if path.is_dir() else 0o664)

    def rights() -> set[tuple[int, int, int]]:
        found = [path.stat() for path in (folder / "notes.lance", *(folder / "notes.lance").rglob("*"))]
        return {(facts.st_mode, facts.st_uid, facts.st_gid) for facts in found}

    before, umask = rights(), os.umask(0o077)
    assert len(before) == 2
    try:
        store = LanceDBStore(folder)
        for _ in range(2):
            migrate(store, executor())
            assert rights() == before
            rollback(store)
            assert rights() == before
        gc(store)
        assert rights() == before
    finally:
        os.umask(umask)


def test_who_may_not_write_to_a_table_is_told_first_and_may_move_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "db", documents(3))
    store, access = LanceDBStore(folder), os.access

    def may(path: str | Path, mode: int, **options: Any) -> bool:  # nobody refuses anything to an administrator
        return access(path, mode, **options) and not (mode & os.W_OK and Path(path).is_relative_to(folder))

    monkeypatch.setattr(os, "access", may)
    (finding,) = store.describe().findings
    assert (finding.code, finding.is_blocking) == ("missing-privilege", True)
    with pytest.raises(RowsError, match="able to write"):
        migrate(store, executor())
    assert migrate(open_move(store, LanceDBTarget(tmp_path / "new", "notes")), executor()).embedded == 3


# Tables


def test_every_index_of_the_vectors_is_made_again(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(40))
    table = table_of(folder)
    for distance in ("cosine", "l2"):
        table.create_index("vector", config=IvfFlat(distance_type=distance), name=f"by_{distance}", replace=False)
    for kind in (FTS(), BTree()):
        table.create_index("text", config=kind, name=f"text_{type(kind).__name__}", replace=False)

    def known() -> list[tuple[str, str, str | None]]:
        handle = table_of(folder)
        found = [(each.name, each.index_type, handle.index_stats(each.name)) for each in handle.list_indices()]
        return sorted((name, kind, facts.distance_type) for name, kind, facts in found)

    before = known()
    assert len(before) == 4
    migrate(LanceDBStore(folder), executor())
    assert known() == before


def test_an_index_that_new_vectors_cannot_have_is_told_with_a_way_out(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(40))
    table_of(folder).create_index("vector", config=IvfRq())
    store = LanceDBStore(folder)
    with pytest.raises(StoreError, match="divisible by 8") as caught:
        migrate(store, executor(10))
    assert caught.value.hint is not None and "--index" in caught.value.hint
    assert migrate(store, executor(10), index="IVF_FLAT", restart=True).in_use == "new"


def test_dates_that_python_does_not_have_are_kept(tmp_path: Path) -> None:
    late_dates = pa.array([2**62, 0] * 10, pa.timestamp("us"))
    inside = pa.array([{"on": dt.date(2000, 1, 1)}] * 20, pa.struct([("on", pa.date32())]))
    days = pa.array([2**30, None] * 10, pa.date32())
    lancedb.connect(tmp_path).create_table("notes", plain(at=late_dates, day=days, inside=inside))
    store = LanceDBStore(tmp_path)
    first, second, *_ = store.rows()
    assert (first.metadata["at"], first.metadata["day"]) == (2**62, 2**30)
    assert (second.metadata["at"], second.metadata["inside"]) == (dt.datetime(1970, 1, 1), {"on": dt.date(2000, 1, 1)})
    before = table_of(tmp_path).to_arrow().drop_columns(["vector"])
    migrate(store, executor(), batch_rows=7)
    assert table_of(tmp_path).to_arrow().drop_columns(["vector"]).equals(before)


def test_maps_with_dates_that_python_does_not_have_are_kept(tmp_path: Path) -> None:
    micros, nanos = pa.timestamp("us"), pa.timestamp("ns")
    made = {
        "seen": pa.array([[("at", 2**62), ("by", 0)], None] * 10, pa.map_(pa.string(), micros)),
        "exact": pa.array([[("at", 7)], []] * 10, pa.map_(pa.string(), nanos)),
        "by_time": pa.array([[(2**62, "late"), (0, "early")], None] * 10, pa.map_(micros, pa.string())),
        "deep": pa.array([[[("days", [2**30, 0])]], None] * 10, pa.list_(pa.map_(pa.string(), pa.list_(pa.date32())))),
        "pairs": pa.array([[2**62, 0], None] * 10, pa.list_(micros, 2)),
    }
    lancedb.connect(tmp_path).create_table("notes", plain(**made))
    store = LanceDBStore(tmp_path)
    first, second, *_ = store.rows()
    assert first.metadata == {
        "seen": [("at", 2**62), ("by", 0)],
        "exact": [("at", 7)],
        "by_time": [(2**62, "late"), (0, "early")],
        "deep": [[("days", [2**30, 0])]],
        "pairs": [2**62, 0],
    }
    assert second.metadata == {"seen": None, "exact": [], "by_time": None, "deep": None, "pairs": None}
    before, old = table_of(tmp_path).to_arrow(), snapshot(store)
    migrate(store, executor(), batch_rows=7)
    assert table_of(tmp_path).to_arrow().drop_columns(["vector"]).equals(before.drop_columns(["vector"]))
    rollback(store)
    assert table_of(tmp_path).to_arrow().equals(before)
    assert snapshot(store) == old


def test_a_name_with_too_many_columns_is_told(tmp_path: Path) -> None:
    filled(tmp_path, documents(1))
    with pytest.raises(StoreError, match="more than a table"):
        LanceDBStore(tmp_path, "notes:vector:text:title")


@pytest.mark.parametrize("version", ["2.0", "2.2"])
def test_blobs_are_refused_before_anything_is_embedded(tmp_path: Path, version: Literal["2.0", "2.2"]) -> None:
    rows = plain()
    field = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    rows = rows.append_column(field, pa.array([b"x"] * 20, pa.large_binary()))
    lance.write_dataset(rows, str(tmp_path / "notes.lance"), data_storage_version=version)
    with pytest.raises(StoreError, match="blobs in `image`") as caught:
        LanceDBStore(tmp_path)
    assert caught.value.hint


def test_files_of_the_first_format_are_told_with_a_way_out(tmp_path: Path) -> None:
    place = str(tmp_path / "notes.lance")
    lance.write_dataset(plain(), place, data_storage_version="legacy", enable_v2_manifest_paths=False)
    with pytest.raises(StoreError, match="first format") as caught:
        list(LanceDBStore(tmp_path).rows())
    assert caught.value.hint is not None and "create_table" in caught.value.hint
    database = lancedb.connect(tmp_path)
    database.create_table("again", database.open_table("notes").to_arrow())
    assert migrate(LanceDBStore(tmp_path, "again"), executor()).embedded == 20


@pytest.mark.parametrize("options", [{"enable_v2_manifest_paths": False}, {"enable_stable_row_ids": True}])
def test_tables_of_other_layouts_go_both_ways(tmp_path: Path, options: dict[str, Any]) -> None:
    lance.write_dataset(plain(), str(tmp_path / "notes.lance"), **options)
    lance.write_dataset(plain(7), str(tmp_path / "notes.lance"), mode="append")
    store = LanceDBStore(tmp_path)
    old = snapshot(store)
    migrate(store, executor())
    rollback(store)
    assert snapshot(store) == old
    migrate(store, executor())
    gc(store)
    assert LanceDBStore(tmp_path).describe().count == 27


# New tables


def test_rows_without_ids_are_all_moved(tmp_path: Path) -> None:
    author = pa.array(["somebody with a very long name " * 5] * 20)
    lancedb.connect(tmp_path / "db").create_table("notes", plain(author=author))
    move = open_move(LanceDBStore(tmp_path / "db"), LanceDBTarget(tmp_path / "new", "notes"))
    assert move.describe().findings == ()
    assert migrate(move, executor()).embedded == 20
    assert sorted(ids(tmp_path / "new"), key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize("name", ["my notes", "a/b", "../notes", "", "größe", "a" * 300])
def test_a_name_that_no_table_can_have_is_told_before_anything_is_embedded(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="No table of LanceDB can have the name"):
        LanceDBTarget(tmp_path / "new", name)


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_embedded(tmp_path: Path) -> None:
    source = LanceDBStore(filled(tmp_path / "db", documents(3)))
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "new"):
        seen: list[object] = []
        with pytest.raises(StoreError, match="no folder that can be read and written to"):
            migrate(open_move(source, LanceDBTarget(place, "notes")), executor(), on_progress=seen.append)
        assert seen == []


def test_publishing_looks_once_more_after_giving_names(tmp_path: Path, late: Callable[[Path, int], None]) -> None:
    folder = filled(tmp_path / "db", documents(20))
    store = LanceDBStore(folder)
    migrate(store, executor(), publishes=False)
    late(folder, OLD_DIMENSIONS)
    with pytest.raises(StoreChangedError):
        publish(store)
    assert migrate(store, executor()).embedded == 21
    assert len(ids(folder)) == 21
