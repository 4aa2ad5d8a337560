"""Tables of LanceDB of all kinds: what is kept, who has them open, and what their owners do to them meanwhile."""

import datetime as dt
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.index import FTS, Bitmap, BTree, HnswSq, IvfFlat, IvfPq, LabelList

from mlx_integrations.errors import MissingExtraError, RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import (
    NEW_DIMENSIONS,
    OLD_DIMENSIONS,
    contents_of,
    documents,
    executor,
    snapshot,
    vectors,
)
from mlx_integrations.migration.moving import open_move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.stores.lancedb import folders as lancedb_folders
from mlx_integrations.migration.stores.lancedb import store as lancedb_store
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.targets.langchain_faiss import FaissTarget
from tests.migration.test_lancedb import as_langchain, column, filled, shown, table_of

COUNT = 40
AT = dt.datetime(2024, 2, 29, 12, 0, 0, 7)


def plain_columns(count: int = COUNT) -> dict[str, Any]:
    """A column of every kind that programs keep in tables."""
    nested = [{"a": {"b": [1, None], "at": AT}, "tags": [{"x": 0.5}, None]}, None]
    return {
        "body": pa.array([f"text {number}" for number in range(count)], pa.large_string()),
        "embedding": column(vectors(count, OLD_DIMENSIONS)),
        "image": column(vectors(count, 32, seed=1)),
        "number": pa.array(range(count), pa.int32()),
        "at": pa.array([number * 1_000_000_007 for number in range(count)], pa.timestamp("ns", "UTC")),
        "day": pa.array([None, dt.date(1999, 12, 31)] * (count // 2)),
        "took": pa.array([1, None] * (count // 2), pa.duration("ns")),
        "price": pa.array([Decimal("1.25"), None] * (count // 2), pa.decimal128(9, 2)),
        "content": pa.array([b"\x00\xff", None] * (count // 2), pa.binary()),
        "nested": pa.array(nested * (count // 2)),
        "labels": pa.array([["a", "b"], []] * (count // 2), pa.list_(pa.string())),
        "kind": pa.array(["x", "y"] * (count // 2)).dictionary_encode(),
        "small": pa.array(np.arange(count, dtype=np.float16)),
    }


def plain(folder: Path, count: int = COUNT, **options: Any) -> Path:
    """A table as a program makes it that knows of no framework."""
    columns = plain_columns(count)
    fields = [pa.field(name, each.type, name != "number", {"about": name}) for name, each in columns.items()]
    schema = pa.schema(fields, metadata={"owner": "ada"})
    lancedb.connect(folder).create_table("things", pa.table(list(columns.values()), schema=schema), **options)
    return folder


def without_vectors(folder: Path, name: str, vector: str) -> Any:
    return table_of(folder, name).to_arrow().drop_columns([vector])


def test_every_column_of_a_plain_table_is_kept_exactly(tmp_path: Path) -> None:
    options = {"new_table_enable_stable_row_ids": "true", "new_table_data_storage_version": "2.1"}
    folder = plain(tmp_path / "db", storage_options=options)
    with pytest.raises(StoreError, match="several columns that could hold vectors") as caught:
        LanceDBStore(folder)
    assert caught.value.hint is not None and "`embedding`, `image`" in caught.value.hint
    store = LanceDBStore(folder, "things:embedding")
    assert store.location.name == "things:embedding"
    before, schema = without_vectors(folder, "things", "embedding"), table_of(folder, "things").schema
    rows = list(store.rows())
    assert (rows[3].text, rows[3].metadata["at"], rows[2].metadata["number"]) == ("text 3", 3_000_000_021, 2)
    migrate(store, executor())
    assert without_vectors(folder, "things", "embedding").equals(before)
    table = table_of(folder, "things")
    assert table.schema.names == schema.names
    assert table.schema.metadata == schema.metadata
    for field in schema:
        made = table.schema.field(field.name)
        if field.name != "embedding":
            assert made.equals(field, check_metadata=True)
    assert made.nullable and table.schema.field("embedding").metadata[b"about"] == b"embedding"
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), NEW_DIMENSIONS)
    lance = table.to_lance()
    assert (lance.has_stable_row_ids, lance.data_storage_version) == (True, "2.1")


def test_rows_without_vectors_stay_and_rows_without_texts_lose_theirs(tmp_path: Path) -> None:
    rows = as_langchain(documents(6))
    made = pa.array([[1.0] * OLD_DIMENSIONS, None] * 3, rows.schema.field("vector").type)
    texts = pa.array(["a", "b", None, "c", " \n", "d"])
    table = rows.set_column(0, "vector", made).set_column(2, "text", texts)
    empty = table.schema.empty_table()
    lancedb.connect(tmp_path).create_table("notes", empty).add(table)
    store = LanceDBStore(tmp_path)
    finding, without = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == ("missing-texts", ("doc-00002", "doc-00004"), True)
    assert (without.code, without.count, without.is_blocking) == ("missing-vectors", 3, False)
    moved = open_move(store, FaissTarget(tmp_path / "moved")).describe().findings
    assert ("missing-vectors", "They have no vector, and are not moved.", 3, True) in [
        (each.code, each.message, each.count, each.is_blocking) for each in moved
    ]
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 1
    assert (store.describe().count, store.describe().dimensions) == (1, (NEW_DIMENSIONS,))
    assert table_of(tmp_path).to_arrow().drop_columns(["vector"]).equals(table.drop_columns(["vector"]))
    with pytest.raises(StoreError, match="no vector of the row"):
        store.vectors(["1"])
    rollback(store)
    assert table_of(tmp_path).to_arrow().equals(table)


def test_a_column_that_needs_a_vector_leaves_out_what_has_no_text(tmp_path: Path) -> None:
    rows = as_langchain(documents(4)).set_column(2, "text", pa.array(["a", None, "b", "c"]))
    schema = rows.schema.set(0, rows.schema.field(0).with_nullable(False))
    lancedb.connect(tmp_path).create_table("notes", schema=schema).add(rows.cast(schema))
    store = LanceDBStore(tmp_path)
    migrate(store, executor(), accept=True)
    assert table_of(tmp_path).to_arrow()["id"].to_pylist() == ["doc-00000", "doc-00002", "doc-00003"]


def test_rows_are_read_in_the_order_of_their_ids_however_the_table_was_compacted(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(10))
    for first in (10, 20):
        filled(folder, documents(first + 10)[first:])
    table = table_of(folder)
    table.delete("id = 'doc-00003'")
    table.optimize()
    filled(folder, documents(40)[30:])
    store = LanceDBStore(folder)
    rows = list(store.rows())
    assert len({row.id for row in rows}) == 39
    assert [int(row.key) for row in rows] == sorted(int(row.key) for row in rows)
    assert list(store.rows(rows[17].key)) == rows[18:]
    assert list(store.rows(str(int(rows[17].key) - 1)))[:1] == [rows[17]]


def with_indexes(folder: Path) -> Path:
    filled(folder, documents(800))  # 256 for each part of the index of vectors
    table = table_of(folder)
    config = IvfPq(distance_type="cosine", num_partitions=3, num_sub_vectors=8, num_bits=4, max_iterations=7)
    table.create_index("vector", config=config, name="near")
    table.create_index(
        "text", config=FTS(with_position=True, stem=False, language="German", base_tokenizer="whitespace")
    )
    table.create_index("id", config=BTree())
    table.create_index("metadata.page", config=Bitmap())
    table.create_index("metadata.tags", config=LabelList(), name="tags")
    return folder


def known_indexes(folder: Path, name: str = "notes") -> dict[str, Any]:
    table = table_of(folder, name)
    return {
        each.name: (each.index_type, each.columns, each.num_indexed_rows, dict(each.index_details or {}))
        for each in table.list_indices()
    }


def partitions(folder: Path, dimensions: int) -> str:
    plan = table_of(folder).search(np.ones(dimensions)).distance_type("cosine").nprobes(1).limit(1).analyze_plan()
    return str(plan).partition("partitions_ranked=")[2].partition(",")[0]


def test_every_index_is_made_again_as_it_was(tmp_path: Path) -> None:
    folder = with_indexes(tmp_path / "db")
    before = known_indexes(folder)
    store = LanceDBStore(folder)
    info = store.describe()
    assert (info.metric, info.index, info.findings) == ("cosine", "IVF_PQ", ())
    assert plan_migration(store, executor(), probe=False).index == "IVF_PQ"
    migrate(store, executor())
    assert known_indexes(folder) == before
    assert partitions(folder, NEW_DIMENSIONS) == "3"
    assert store.describe().is_exact
    table = table_of(folder)
    assert len(table.search("spades,", query_type="fts").limit(3).to_list()) == 3
    rollback(store)
    assert known_indexes(folder) == before
    assert partitions(folder, OLD_DIMENSIONS) == "3"


@pytest.mark.parametrize(
    ("asked", "expected"), [("none", {}), ("ivf_hnsw_sq", {"near": "IvfHnswSq"}), ("IVF_FLAT", {"near": "IvfFlat"})]
)
def test_another_index_can_be_asked_for(tmp_path: Path, asked: str, expected: dict[str, str]) -> None:
    folder = filled(tmp_path / "db", documents(30))
    table_of(folder).create_index("vector", config=HnswSq(m=7, ef_construction=50, distance_type="dot"), name="near")
    store = LanceDBStore(folder)
    migrate(store, executor(), index=asked)
    assert {name: each[0] for name, each in known_indexes(folder).items()} == expected
    assert all(each[3]["metric_type"] == "DOT" for each in known_indexes(folder).values())


def test_an_unknown_index_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    store = LanceDBStore(filled(tmp_path / "db", documents(3)))
    with pytest.raises(StoreError, match="no index `HNSW32`") as caught:
        plan_migration(store, executor(), index="HNSW32")
    assert caught.value.hint is not None and "IVF_PQ" in caught.value.hint


def test_what_lancedb_makes_vectors_with_is_told_and_not_used_any_more(tmp_path: Path) -> None:
    functions = [{"name": "openai", "model": {"name": "ada-002"}, "source_column": "text", "vector_column": "vector"}]
    rows = as_langchain(documents(3)).replace_schema_metadata(
        {"embedding_functions": json.dumps(functions), "own": "x"}
    )
    table = lancedb.connect(tmp_path).create_table("notes", schema=rows.schema.remove_metadata())
    table.add(rows.replace_schema_metadata(None))
    lance = table.to_lance()
    lance.update_schema_metadata({"embedding_functions": json.dumps(functions), "own": "x"}, replace=True)
    store = LanceDBStore(tmp_path)
    (finding,) = store.describe().findings
    assert (finding.code, finding.is_blocking) == ("embedding-function", False)
    assert "ada-002" in finding.message
    migrate(store, executor())
    assert table_of(tmp_path).schema.metadata == {b"own": b"x"}


def asked(table: Any, dimensions: int) -> int:
    """Ask in all ways; how many rows there are."""
    assert len(table.search(np.ones(dimensions, np.float32)).limit(2).to_list()) == 2
    assert len(table.search("spades", query_type="fts").limit(2).to_list()) == 2
    return int(table.to_arrow().num_rows)


def test_handles_that_are_open_read_on_and_cannot_damage_what_came_after_them(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(30))
    table_of(folder).create_index("vector", config=IvfFlat(num_partitions=2))
    table_of(folder).create_index("text", config=FTS())
    table_of(folder).delete("id = 'doc-00004'")
    old = [table_of(folder) for _ in range(3)]
    follows = lancedb.connect(folder, read_consistency_interval=dt.timedelta(0)).open_table("notes")
    assert asked(old[0], OLD_DIMENSIONS) == asked(follows, OLD_DIMENSIONS) == 29
    store = LanceDBStore(folder)
    migrate(store, executor())
    assert asked(old[0], OLD_DIMENSIONS) == asked(old[1], OLD_DIMENSIONS) == 29
    assert asked(follows, NEW_DIMENSIONS) == asked(table_of(folder), NEW_DIMENSIONS) == 29
    changes: list[Callable[[Any], Any]] = [
        lambda table: table.add(as_langchain(documents(2))),
        lambda table: table.delete("id = 'doc-00007'"),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match="incompatible with concurrent transaction"):
            change(old[2])
    new = [table_of(folder) for _ in range(2)]
    rollback(store)
    assert asked(new[0], NEW_DIMENSIONS) == asked(follows, OLD_DIMENSIONS) == asked(old[1], OLD_DIMENSIONS) == 29
    for change in changes[1:]:
        with pytest.raises(RuntimeError, match="incompatible with concurrent transaction"):
            change(new[1])
    assert asked(table_of(folder), OLD_DIMENSIONS) == 29
    old[2].checkout_latest()
    assert asked(old[2], OLD_DIMENSIONS) == 29


def test_a_commit_in_the_last_moment_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "db", documents(10))
    store = LanceDBStore(folder)
    migrate(store, executor(), publishes=False)
    exchange = lancedb_folders.exchange
    with monkeypatch.context() as patch:

        def late(first: Path, second: Path) -> None:
            patch.setattr(lancedb_store, "exchange", exchange)
            for number in range(10, 14):  # as many commits as building has made, so that numbers of versions agree
                filled(folder, documents(number + 1)[number:])
            exchange(first, second)

        patch.setattr(lancedb_store, "exchange", late)
        with pytest.raises(StoreChangedError):
            publish(store)
    assert (store.describe().count, store.describe().dimensions) == (14, (OLD_DIMENSIONS,))
    assert migrate(store, executor()).embedded == 14
    assert store.describe().count == 14


def tidied(folder: Path) -> None:
    table = table_of(folder)
    table.optimize(cleanup_older_than=dt.timedelta(0), delete_unverified=True)


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_cleanup_by_its_owner_costs_neither_the_old_nor_the_new_vectors(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(20)), documents(30)[20:])
    store = LanceDBStore(folder)
    old = snapshot(store)
    migrate(store, executor(), publishes=False)
    tidied(folder)
    with pytest.raises(StoreChangedError):  # the fragments were put together: keys are others
        publish(store)
    migrate(store, executor())
    new = snapshot(store)
    lancedb_before = shown(folder)
    lance = table_of(folder).to_lance()
    lance.cleanup_old_versions(dt.timedelta(0), delete_unverified=True)
    assert len(table_of(folder).list_versions()) == 1
    rollback(store)
    assert snapshot(store) == old
    table_of(folder).to_lance().cleanup_old_versions(dt.timedelta(0), delete_unverified=True)
    assert migrate(store, executor()).in_use == "new"
    assert snapshot(store) == new
    assert shown(folder) == lancedb_before
    gc(store)
    tidied(folder)
    assert snapshot(store) == new


def test_deleting_the_old_vectors_frees_their_disk_and_keeps_what_is_in_use(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(400)), documents(500)[400:])
    old_size = sum(map(len, contents_of(folder).values()))
    store = LanceDBStore(folder)
    migrate(store, executor())
    rollback(store)
    migrate(store, executor())
    new = snapshot(store)
    gc(store)
    assert snapshot(LanceDBStore(folder)) == new
    assert sum(map(len, contents_of(folder).values())) < old_size
    table = table_of(folder)
    assert all(table.checkout(each["version"]) or table.to_arrow() for each in table.list_versions()[-1:])
    filled_again = table_of(folder)
    filled_again.delete("id = 'doc-00001'")
    filled_again.optimize(cleanup_older_than=dt.timedelta(days=1))
    assert LanceDBStore(folder).describe().count == 499


def test_going_back_and_deleting_leaves_the_earlier_versions_of_its_owner(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(20)), documents(30)[20:])
    before = contents_of(folder)
    store = LanceDBStore(folder)
    old = snapshot(store)
    migrate(store, executor())
    rollback(store)
    filled(folder, documents(32)[30:])
    gc(store)
    assert snapshot(LanceDBStore(folder))[0] != old[0]
    now = contents_of(folder)
    assert {name: content for name, content in before.items() if not name.endswith(".json")}.items() <= now.items()
    assert len([name for name in now if "/data/" in name]) == 3
    table = table_of(folder)
    for version, count in ((1, 20), (2, 30), (table.version, 32)):
        table.checkout(version)
        assert table.to_arrow().num_rows == count


def test_tags_keep_what_they_name(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    table_of(folder).tags.create("first", 1)
    store = LanceDBStore(folder)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.examples) == ("tags", 1, ("first",))
    migrate(store, executor())
    gc(store)
    table = table_of(folder)
    table.checkout("first")
    assert (table.to_arrow().num_rows, table.schema.field("vector").type.list_size) == (20, OLD_DIMENSIONS)
    assert [path.name for path in folder.iterdir()] == ["notes.lance"]


def test_the_table_has_to_be_said_where_there_are_several(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    for number in range(12):
        filled(folder, documents(2), f"table-{number:02d}")
    with pytest.raises(StoreError, match="12 tables") as caught:
        LanceDBStore(folder)
    assert (
        caught.value.hint is not None and "table-00, table-01" in caught.value.hint and "table-11" in caught.value.hint
    )
    with pytest.raises(StoreError, match="no table `third`"):
        LanceDBStore(folder, "third")
    assert open_store(folder, "table-11").location.name == "table-11"
    assert open_store(folder / "table-03.lance").location == LanceDBStore(folder, "table-03").location
    with pytest.raises(StoreError, match="no column of texts that is called `nothing`"):
        LanceDBStore(folder, "table-00::nothing")
    with pytest.raises(StoreError, match="Cloud") as caught:
        open_store("db://project")
    assert caught.value.hint


def test_tables_without_vectors_or_texts_are_told(tmp_path: Path) -> None:
    database = lancedb.connect(tmp_path)
    database.create_table("words", pa.table({"text": ["a"]}))
    database.create_table("vectors", pa.table({"vector": column(vectors(3, 24)), "n": [1, 2, 3]}))
    database.create_table("two", pa.table({"vector": column(vectors(1, 24)), "title": ["a"], "body": ["b"]}))
    database.create_table("loose", [{"vec": [1.0] * 24, "text": "a"}, {"vec": [1.0], "text": "b"}])
    with pytest.raises(StoreError, match="lists of any length in `vec`"):
        LanceDBStore(tmp_path, "loose")
    with pytest.raises(StoreError, match="no column of vectors"):
        LanceDBStore(tmp_path, "words")
    with pytest.raises(StoreError, match="no column of texts"):
        LanceDBStore(tmp_path, "vectors")
    with pytest.raises(StoreError, match="several columns that could hold texts") as caught:
        LanceDBStore(tmp_path, "two")
    assert caught.value.hint == "Say which, as `--name TABLE:VECTORS:TEXTS`: `title`, `body`."
    assert [row.text for row in LanceDBStore(tmp_path, "two::body").rows()] == ["b"]


def test_half_written_and_damaged_tables_are_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(20))
    (manifest,) = (folder / "notes.lance" / "_versions").glob("*.manifest")
    (data,) = (folder / "notes.lance" / "data").iterdir()
    for path, content in ((data, data.read_bytes()[:500]), (manifest, b"no manifest"), (manifest, None), (data, None)):
        whole = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        before = contents_of(folder)
        with pytest.raises(StoreError):
            snapshot(LanceDBStore(folder))
        assert contents_of(folder) == before
        path.write_bytes(whole)
    assert LanceDBStore(folder).describe().count == 20


FULL = """
import resource, sys
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.contract import executor
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LanceDBStore(sys.argv[1])
migrate(store, executor(), batch_rows=4096, publishes=False, should_stop=lambda: True)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    migrate(store, executor())
except StoreError as error:
    print(error.message, error.hint)
"""


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3000))
    before = shown(folder)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    size = 100_000  # of one file: less than the new table has
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL, str(folder), str(size)], capture_output=True, text=True, check=True
    )
    assert "LanceDB fails" in done.stdout and "disk has room" in done.stdout
    assert shown(folder) == before
    assert migrate(LanceDBStore(folder), executor()).embedded == 3000


def test_its_client_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "db", documents(3))
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match="lancedb"):
        LanceDBStore(tmp_path / "db")
