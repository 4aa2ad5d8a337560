"""Databases of Chroma, and programs beside them, that are not quite what one expects: nothing is lost or altered."""

import json
import math
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb import Schema
from chromadb.api.types import StringInvertedIndexConfig, VectorIndexConfig
from chromadb.config import Settings

from mlx_integrations.errors import RowsError, StoreBusyError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.stores.chroma import file as chroma_file
from mlx_integrations.migration.stores.chroma.file import ChromaFile
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.migration.targets.chroma import ChromaTarget
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, executor, texts, vectors
from tests.migration.test_chroma import collection_of, filled, shown

pytestmark = pytest.mark.usefixtures("own_data")

DATABASE = "chroma.sqlite3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "db"


@contextmanager
def client_of(folder: Path, **options: Any) -> Iterator[Any]:
    client: Any = chromadb.PersistentClient(str(folder), **options)
    try:
        yield client
    finally:
        client.close()


def done(folder: Path, *statements: str) -> list[Any]:
    """What the last of some statements gives."""
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as database:
        return [database.execute(each).fetchall() for each in statements][-1]


def schema_of(folder: Path, name: str = "notes") -> Any:
    (((text,),)) = done(folder, f"SELECT schema_str FROM collections WHERE name = '{name}'")
    return json.loads(text)


def names_of(folder: Path) -> list[str]:
    return sorted(ChromaFile(folder).collections())


def vectors_of(folder: Path, name: str = "notes") -> Path:
    return folder / ChromaFile(folder).collections()[name].vectors_folder


def with_a_cut_off_write(folder: Path) -> Path:
    """A database of 20 rows, and 5 more that are in its log, as a program leaves it that is killed in between."""
    filled(folder, documents(20))
    done(folder, "CREATE TRIGGER cut_off BEFORE INSERT ON embeddings BEGIN SELECT RAISE(ABORT, 'cut off'); END")
    with pytest.raises(chromadb.errors.InternalError):
        filled(folder, documents(25)[20:])
    done(folder, "DROP TRIGGER cut_off")
    return folder


# What is written down, and not made yet


def test_rows_that_are_in_the_log_alone_are_told_and_migrated_once_chroma_has_made_them(folder: Path) -> None:
    store = ChromaStore(with_a_cut_off_write(folder))
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("pending-changes", 5, True)
    with pytest.raises(RowsError, match="not made yet"):
        migrate(store, executor())
    assert collection_of(folder).count() == 25
    assert store.describe().findings == ()
    assert migrate(store, executor()).embedded == 25


def test_rows_in_the_log_are_not_lost_either_where_that_is_accepted(folder: Path) -> None:
    store = ChromaStore(with_a_cut_off_write(folder))
    with pytest.raises(StoreChangedError):  # building has Chroma make them
        migrate(store, executor(), accept=True)
    assert migrate(store, executor()).embedded == 25
    assert gc(store)
    assert collection_of(folder).count() == 25


def test_a_log_that_chroma_cannot_read_any_more_is_told_and_the_rest_is_saved(folder: Path) -> None:
    filled(folder, documents(20))
    with pytest.raises(chromadb.errors.ChromaError), client_of(folder) as client:
        client.get_collection("notes", embedding_function=None).add(
            ids=["x"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["x"], metadatas=[{"list": [math.inf]}]
        )
    with pytest.raises(chromadb.errors.ChromaError), client_of(folder) as client:
        client.get_collection("notes", embedding_function=None).count()
    store = ChromaStore(folder)
    assert [finding.code for finding in store.describe().findings] == ["pending-changes"]
    with pytest.raises(RowsError):
        migrate(store, executor())
    done_with = migrate(store, executor(), accept=True)
    assert (done_with.embedded, done_with.in_use, done_with.accepted[0].count) == (20, "new", 1)
    assert collection_of(folder).count() == 20


# How a collection compares, searches and is shown


def test_every_setting_is_kept(folder: Path) -> None:
    settings: Any = {"space": "ip", "ef_search": 33, "max_neighbors": 20, "num_threads": 1, "batch_size": 50}
    filled(folder, documents(10), configuration={"hnsw": settings})
    before = schema_of(folder)
    migrate(ChromaStore(folder), executor())
    assert schema_of(folder) == before
    assert before["keys"]["#embedding"]["float_list"]["vector_index"]["config"]["hnsw"]["num_threads"] == 1


def test_a_schema_is_kept_without_its_model(folder: Path) -> None:
    with client_of(folder) as client:
        schema = Schema().delete_index(config=StringInvertedIndexConfig(), key="source")
        schema = schema.create_index(config=VectorIndexConfig(space="cosine"))
        client.create_collection("notes", schema=schema, metadata={"owner": "ada"})
    filled(folder, documents(10))
    before = schema_of(folder)
    vector_config = before["keys"]["#embedding"]["float_list"]["vector_index"]["config"]
    assert vector_config["embedding_function"]["type"] == "known"
    store = ChromaStore(folder)
    migrate(store, executor())
    after = schema_of(folder)
    for each in (before, after):
        for part in (each["defaults"], each["keys"]["#embedding"]):
            part["float_list"]["vector_index"]["config"].pop("embedding_function")
    assert after == before
    assert not after["keys"]["source"]["string"]["string_inverted_index"]["enabled"]
    assert collection_of(folder).configuration_json["embedding_function"] == {"type": "legacy"}
    with pytest.raises(chromadb.errors.ChromaError):
        collection_of(folder).get(where={"source": "a.txt"})


def test_settings_among_the_metadata_are_shown_as_before(folder: Path) -> None:
    metadata = {"hnsw:space": "cosine", "hnsw:M": 20, "hnsw:num_threads": 1, "owner": "ada", "is_open": True}
    filled(folder, documents(10), metadata=metadata)
    store = ChromaStore(folder)
    migrate(store, executor())
    assert collection_of(folder).metadata.items() >= metadata.items()
    rollback(store)
    assert collection_of(folder).metadata == metadata


EARLY_SETTINGS = (
    "UPDATE collections SET schema_str = NULL, config_json_str = '{}'",
    "INSERT INTO segment_metadata (segment_id, key, str_value) "
    "SELECT id, 'hnsw:space', 'cosine' FROM segments WHERE scope = 'VECTOR'",
    "INSERT INTO segment_metadata (segment_id, key, int_value) "
    "SELECT id, 'hnsw:search_ef', 44 FROM segments WHERE scope = 'VECTOR'",
)
CONFIGURATION = json.dumps(
    {
        "vector_index": {
            "hnsw": {
                "space": "cosine",
                "ef_construction": 100,
                "ef_search": 44,
                "max_neighbors": 16,
                "num_threads": 2,
                "resize_factor": 1.2,
                "batch_size": 100,
                "sync_threshold": 1000,
            }
        },
        "embedding_function": {"type": "legacy"},
    }
)


@pytest.mark.parametrize(
    "statements",
    [EARLY_SETTINGS, (f"UPDATE collections SET schema_str = NULL, config_json_str = '{CONFIGURATION}'",)],
    ids=["in the metadata of a segment", "in the configuration"],
)
def test_what_earlier_versions_wrote_down_is_how_vectors_are_compared(
    folder: Path, statements: tuple[str, ...]
) -> None:
    filled(folder, documents(10))
    done(folder, *statements)
    with client_of(folder) as client:
        old = client.get_collection("notes", embedding_function=None)
        asked = 3 * np.asarray(old.get(ids=["doc-00003"], include=["embeddings"])["embeddings"])
        near = old.query(query_embeddings=asked, n_results=1)["distances"][0][0]
    assert near == pytest.approx(0, abs=1e-5)  # of vectors of different lengths: Chroma compares by their angle
    store = ChromaStore(folder)
    assert store.describe().metric == "cosine"
    migrate(store, executor())
    made = collection_of(folder)
    assert (made.configuration_json["hnsw"]["space"], made.configuration_json["hnsw"]["ef_search"]) == ("cosine", 44)
    asked = 3 * np.asarray(made.get(ids=["doc-00003"], include=["embeddings"])["embeddings"])
    assert made.query(query_embeddings=asked, n_results=1)["distances"][0][0] == pytest.approx(0, abs=1e-5)


MIGRATIONS = Path(chromadb.__file__).parent / "migrations"


def of_an_earlier_version(folder: Path, *, sysdb: int, metadb: int) -> None:
    """A database as the first so many of Chroma's own migrations make it, with a collection of 5 rows."""
    folder.mkdir()
    steps = [("embeddings_queue", 1), ("sysdb", sysdb), ("metadb", metadb)]
    scripts = [path for kind, count in steps for path in sorted((MIGRATIONS / kind).glob("*.sql"))[:count]]
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        for script in scripts:
            database.executescript(script.read_text())
        columns = {row[1] for row in database.execute("PRAGMA table_info(collections)")}
        values = {"id": "c" * 36, "name": "notes", "dimension": 4, "topic": "t"}
        if "database_id" in columns:
            values["database_id"] = "00000000-0000-0000-0000-000000000000"
        kept = {name: value for name, value in values.items() if name in columns}
        database.execute(
            f"INSERT INTO collections ({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})", list(kept.values())
        )
        for scope in ("METADATA", "VECTOR"):
            segment = (scope.lower() * 5)[:36]
            database.execute(
                "INSERT INTO segments (id, type, scope, collection) VALUES (?, '', ?, ?)", (segment, scope, "c" * 36)
            )
        segment = ("metadata" * 5)[:36]
        for number in range(1, 6):
            row = (number, segment, f"id-{number}", number.to_bytes(8, "big"))
            database.execute("INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?, ?, ?, ?)", row)
            query = "INSERT INTO embedding_metadata (id, key, string_value) VALUES (?, 'chroma:document', ?)"
            database.execute(query, (number, f"text {number}"))
        database.execute("INSERT INTO max_seq_id (segment_id, seq_id) VALUES (?, ?)", (segment, (5).to_bytes(8, "big")))
        database.execute(
            "INSERT INTO collection_metadata (collection_id, key, str_value) VALUES (?, 'hnsw:space', 'ip')",
            ("c" * 36,),
        )
        database.commit()


def test_an_early_database_is_read_as_it_is(folder: Path) -> None:
    of_an_earlier_version(folder, sysdb=4, metadb=4)
    store = ChromaStore(folder)
    info = store.describe()
    assert (info.count, info.metric, info.dimensions, info.findings) == (5, "dot", (4,), ())
    assert [row.text for row in store.rows()] == [f"text {number}" for number in range(1, 6)]
    assert ":5<5:" in store.state()


def test_a_database_from_before_tenants_is_refused_with_what_to_do(folder: Path) -> None:
    of_an_earlier_version(folder, sysdb=3, metadb=1)
    with pytest.raises(StoreError, match="no such table") as caught:
        ChromaStore(folder)
    assert caught.value.hint is not None and "brings it up to date" in caught.value.hint


# Whose collections there are


def test_collections_of_other_tenants_and_databases_are_neither_taken_for_ours_nor_touched(folder: Path) -> None:
    admin = chromadb.AdminClient(Settings(is_persistent=True, persist_directory=str(folder)))
    admin.create_tenant("team")
    admin.create_database("default_database", tenant="team")
    admin.create_database("archive")
    others: tuple[dict[str, str], ...] = ({"tenant": "team"}, {"database": "archive"})
    for place in others:
        with client_of(folder, **place) as client:
            client.create_collection("notes", embedding_function=None).add(
                ids=["a"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["of others"]
            )
    for name in (None, "notes"):
        with pytest.raises(StoreError) as caught:
            ChromaStore(folder, name)
        assert caught.value.hint is not None and "`team/default_database/notes`" in caught.value.hint
    filled(folder, documents(10))
    store = ChromaStore(folder)
    assert store.describe().count == 10
    migrate(store, executor())
    assert collection_of(folder).count() == 10
    assert gc(store)
    for place in others:
        with client_of(folder, **place) as client:
            (kept,) = client.list_collections()
            assert (kept.name, kept.get()["documents"]) == ("notes", ["of others"])


# What a row can be


def in_use(store: ChromaStore) -> None:
    migrate(store, executor())


ODD_METADATA: list[dict[str, Any]] = [
    {"whole": 2**53 + 1, "largest": 2**63 - 1, "smallest": -(2**63)},
    {"tiny": 5e-324, "large": 1.7976931348623157e308, "zero": -0.0, "beyond": 2**63},
    {"empty": "", "nul": "a\0b", " ": "a blank name", "é\0": "é", "long": "x" * 100_000},
    {"truths": [True, False], "wholes": list(range(2_000)), "reals": [0.5, -1.5], "texts": ["", "b"]},
    {"nan": math.nan, "inf": math.inf, "kept": 1},
    {"only": math.nan},
    {"a\tb": True, "a.b": False, "chroma:hidden": "x"},
    {f"key-{number}": number for number in range(300)},
]
ODD_IDS = ["a:b", " ", "\n", "a\0b", "é", "x" * 5_000, "7:7", "'"]


def odd(folder: Path) -> Path:
    count = len(ODD_IDS)
    with client_of(folder) as client:
        client.create_collection("notes", embedding_function=None, metadata={"hnsw:space": "cosine"}).add(
            ids=ODD_IDS,
            embeddings=vectors(count, OLD_DIMENSIONS),
            documents=[f"text {number} of\0 these" for number in range(count)],
            metadatas=ODD_METADATA,
            uris=[f"file:///{number}" if number % 2 else None for number in range(count)],
        )
    return folder


def everything(folder: Path) -> list[Any]:
    with client_of(folder) as client:
        found = client.get_collection("notes", embedding_function=None).get(include=["documents", "metadatas", "uris"])
    rows = zip(found["ids"], found["documents"], found["metadatas"], found["uris"], strict=True)
    return [(own_id, text, sorted((metadata or {}).items()), uri) for own_id, text, metadata, uri in rows]


def test_rows_at_the_edge_are_shown_as_before_and_can_be_asked_for_and_changed(folder: Path) -> None:
    before = everything(odd(folder))
    store = ChromaStore(folder)
    for step in (in_use, rollback, in_use, gc):
        step(store)
        assert everything(folder) == before
    with client_of(folder) as client:
        notes = client.get_collection("notes", embedding_function=None)
        assert notes.get(where={"whole": 2**53 + 1})["ids"] == ["a:b"]
        assert notes.get(where={"truths": {"$contains": True}})["ids"] == ["a\0b"]
        assert notes.get(where_document={"$contains": "text 3"})["ids"] == ["a\0b"]
        asked: Any = vectors(1, NEW_DIMENSIONS)
        (found,) = notes.query(query_embeddings=asked, n_results=8, where={"kept": 1})["ids"]
        assert found == ["é"]
        (found,) = notes.query(query_embeddings=asked, n_results=8, where_document={"$not_contains": "text 3"})["ids"]
        assert sorted(found) == sorted({*ODD_IDS} - {"a\0b"})
        notes.update(ids=["é"], documents=["changed"], embeddings=asked, metadatas=[{"kept": 2}])
        notes.upsert(ids=["'", "new"], documents=["other", "new"], embeddings=vectors(2, NEW_DIMENSIONS))
        notes.delete(ids=[" "])
        assert (notes.count(), notes.peek(1)["ids"], notes.get(where={"kept": 2})["ids"]) == (8, ["a:b"], ["é"])
        assert notes.get(where_document={"$contains": "changed"})["ids"] == ["é"]


# Programs beside it


def test_clients_of_the_same_process_with_other_settings_go_on_working(folder: Path) -> None:
    filled(folder, documents(10))
    with client_of(folder, settings=Settings(anonymized_telemetry=False, allow_reset=True)) as client:
        notes = client.get_collection("notes", embedding_function=None)
        store = ChromaStore(folder)
        migrate(store, executor())
        assert notes.count() == 10  # the old one, which it has open
        anew = client.get_collection("notes", embedding_function=None)
        assert len(anew.query(query_embeddings=vectors(1, NEW_DIMENSIONS), n_results=3)["ids"][0]) == 3
        rollback(store)
        assert notes.query(query_embeddings=vectors(1, OLD_DIMENSIONS), n_results=1)["ids"] == [["doc-00000"]]
        move = Move(store, ChromaTarget(folder, "moved"))
        assert migrate(move, executor()).in_use == "new"
        assert client.get_collection("moved", embedding_function=None).count() == 10


def test_rows_that_another_client_changes_meanwhile_are_taken_in_or_stop_it(folder: Path) -> None:
    filled(folder, documents(30))
    store = ChromaStore(folder)
    with client_of(folder) as client:
        notes = client.get_collection("notes", embedding_function=None)

        def write_once(_: object) -> None:
            if notes.count() == 30:
                notes.add(ids=["added"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["while it runs"])

        assert migrate(store, executor(), batch_rows=8, publishes=False, on_progress=write_once).embedded == 31
        notes.delete(ids=["doc-00007"])
        with pytest.raises(StoreChangedError):
            publish(store)
        assert migrate(store, executor()).embedded == 30
        notes.upsert(ids=["late"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["to the old one"])
        with pytest.raises(StoreChangedError):
            gc(store)
        rollback(store)
        assert client.get_collection("notes", embedding_function=None).get(ids=["late", "added"])["ids"] == [
            "added",
            "late",
        ]


@pytest.mark.parametrize("change", [{"metadata": {"owner": "bob"}}, {"configuration": {"hnsw": {"ef_search": 77}}}])
def test_what_a_collection_says_of_itself_is_taken_in_too(folder: Path, change: dict[str, Any]) -> None:
    filled(folder, documents(10), metadata={"owner": "ada"})
    store = ChromaStore(folder)
    migrate(store, executor(), publishes=False)
    collection_of(folder).modify(**change)
    with pytest.raises(StoreChangedError):
        publish(store)
    migrate(store, executor())
    made = collection_of(folder)
    if "metadata" in change:
        assert made.metadata["owner"] == "bob"
    else:
        assert made.configuration_json["hnsw"]["ef_search"] == 77


def told_less(store: ChromaStore | Move) -> None:
    """Have a journal keep what versions kept that saw changes of rows alone."""
    with Workspace.locked(store.location) as place:
        kept = {name: place.journal.fact(name) for name in ("state", "published_state", "kept_state")}
        for name, state in kept.items():
            if state is not None:
                place.journal.set_fact(name, state.partition("<")[0])


def test_what_an_earlier_version_has_begun_is_finished(folder: Path) -> None:
    filled(folder, documents(20))
    store = ChromaStore(folder)
    old = shown(folder)
    migrate(store, executor(), publishes=False)
    told_less(store)
    assert publish(store).in_use == "new"
    told_less(store)
    assert rollback(store).in_use == "old"
    assert shown(folder)["notes"] == old["notes"]
    migrate(store, executor())
    told_less(store)
    assert gc(store)
    assert names_of(folder) == ["notes"]


def test_what_was_written_since_an_earlier_version_has_published_is_not_lost_either(folder: Path) -> None:
    filled(folder, documents(20))
    store = ChromaStore(folder)
    with client_of(folder) as client:
        early = client.get_collection("notes", embedding_function=None)
        migrate(store, executor())
        told_less(store)
        early.add(ids=["late"], documents=["late"], embeddings=vectors(1, OLD_DIMENSIONS))
    with pytest.raises(StoreChangedError, match="written to the old vectors"):
        gc(store)


def test_a_collection_that_gets_another_name_meanwhile_stops_it_and_leaves_nothing(folder: Path) -> None:
    filled(folder, documents(10))
    before = shown(folder)["notes"]
    store = ChromaStore(folder)

    def rename(_: object) -> None:
        if "notes" in names_of(folder):
            collection_of(folder).modify(name="letters")

    with pytest.raises(StoreError, match="no collection `notes`"):
        migrate(store, executor(), on_progress=rename)
    collection_of(folder, "letters").modify(name="notes")
    migrate(store, executor(), publishes=False)
    collection_of(folder).modify(name="letters")
    with pytest.raises(StoreError) as caught:
        migrate(ChromaStore(folder, "notes"), executor())
    assert caught.value.hint is not None and "gc" in caught.value.hint
    assert gc(ChromaStore(folder, "notes"))
    assert shown(folder) == {"letters": before}
    with pytest.raises(StoreError, match="no collection `notes`"):
        ChromaStore(folder, "notes")


def test_the_old_vectors_can_be_had_back_when_the_new_collection_was_deleted(folder: Path) -> None:
    filled(folder, documents(10))
    before = shown(folder)["notes"]
    migrate(ChromaStore(folder), executor())
    with client_of(folder) as client:
        client.delete_collection("notes")
    store = ChromaStore(folder, "notes")
    told = status(store)
    assert told is not None and told.in_use == "between"
    with pytest.raises(StoreError) as caught:
        store.describe()
    assert caught.value.hint is not None and ".old" in caught.value.hint
    (kept,) = names_of(folder)
    collection_of(folder, kept).modify(name="notes")
    assert gc(store)
    assert shown(folder) == {"notes": before}


def test_a_name_that_was_taken_meanwhile_is_told(folder: Path) -> None:
    filled(folder, documents(10))
    store = ChromaStore(folder)
    run_id = migrate(store, executor()).run_id
    filled(folder, documents(2), f"notes.mlxi-{run_id}")
    before = shown(folder)
    with pytest.raises(StoreError, match="has one of these names"):
        rollback(store)
    assert shown(folder) == before


def test_names_are_changed_together_or_not_at_all(folder: Path) -> None:
    file = ChromaFile(filled(folder, documents(2)))
    own_id = file.collections()["notes"].id
    with pytest.raises(StoreError, match="deleted just when"):
        file.swap_names({own_id: "other", "gone": "notes"})
    assert names_of(folder) == ["notes"]


# What is left, and who may read it


def test_nothing_is_left_of_what_is_not_in_use(folder: Path) -> None:
    filled(folder, documents(30))
    store = ChromaStore(folder)
    old, old_id = vectors_of(folder), ChromaFile(folder).collections()["notes"].id
    assert old.is_dir()
    for _ in range(2):  # what was built and is built again
        migrate(store, executor(), publishes=False, restart=True)
    migrate(store, executor())
    assert gc(store)
    assert sorted(path.name for path in folder.iterdir()) == sorted([DATABASE, vectors_of(folder).name])
    for table, column in (("embeddings_queue", "topic"), ("segments", "collection"), ("collections", "id")):
        assert done(folder, f"SELECT count(*) FROM {table} WHERE {column} LIKE '%{old_id}'") == [(0,)]
    for table in ("embeddings", "embedding_fulltext_search"):
        assert done(folder, f"SELECT count(*) FROM {table}") == [(30,)]


def test_new_rows_have_no_metadata_of_those_that_a_migration_has_deleted(folder: Path) -> None:
    with client_of(filled(folder, documents(10))) as client:
        client.create_collection("others", embedding_function=None).add(
            ids=["a"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["a"], metadatas=[{"ghost": ["of another one"]}]
        )
        client.delete_collection("others")  # leaves its list behind, for the next row that gets its number
    store = ChromaStore(folder)
    collection_of(folder).update(ids=["doc-00000"], metadatas=[{"tags": "no list any more"}])
    before = shown(folder)["notes"]
    for _ in range(2):
        migrate(store, executor())
        rollback(store)
        assert gc(store)
        assert shown(folder) == {"notes": before}
    move = Move(store, ChromaTarget(folder, "moved"))
    migrate(move, executor())
    rollback(move)
    assert gc(move)
    assert done(folder, "SELECT count(DISTINCT id) FROM embedding_metadata_array") == [(9,)]
    collection_of(folder).add(ids=["new"], embeddings=vectors(1, OLD_DIMENSIONS), documents=["new"])
    assert collection_of(folder).get(ids=["new"])["metadatas"] == [None]


def test_deleting_goes_on_where_it_was_cut_off(folder: Path) -> None:
    filled(folder, documents(30))
    store = ChromaStore(folder)
    run_id = migrate(store, executor()).run_id
    shutil.rmtree(vectors_of(folder, f"notes.mlxi-{run_id}.old"))  # as far as a killed `gc` came
    assert gc(store)
    assert names_of(folder) == ["notes"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([DATABASE, vectors_of(folder).name])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_those_read_the_new_vectors_who_could_read_the_old_ones(folder: Path) -> None:
    filled(folder, documents(30), configuration={"hnsw": {"sync_threshold": 10, "batch_size": 5}})
    for path in (*vectors_of(folder).iterdir(), folder / DATABASE):
        path.chmod(0o600)
    vectors_of(folder).chmod(0o700)
    store = ChromaStore(folder)
    migrate(store, executor())
    made = vectors_of(folder)
    assert (mode_of(made), {mode_of(path) for path in made.iterdir()}) == (0o700, {0o600})
    assert mode_of(folder / DATABASE) == 0o600
    (folder / DATABASE).chmod(0o640)
    move = Move(store, ChromaTarget(folder, "moved"))
    migrate(move, executor())
    assert mode_of(vectors_of(folder, "moved")) == 0o750


def test_a_copy_of_a_folder_that_is_published_is_a_store_of_its_own(folder: Path) -> None:
    filled(folder, documents(10))
    migrate(ChromaStore(folder), executor())
    before = shown(folder)
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    store = ChromaStore(copy)
    assert (store.location.name, store.describe().count) == ("notes", 10)
    migrate(store, executor())
    rollback(store)
    assert shown(copy).items() >= before.items()
    assert gc(store)
    assert shown(copy) == shown(folder) == before


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.delete_lists(),
        lambda file: file.copy_early_settings("old", "new"),
        lambda file: file.swap_names({"own-id": "name"}),
    ],
)
def test_a_database_that_another_program_writes_to_is_not_taken_for_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[ChromaFile], None]
) -> None:
    monkeypatch.setattr(chroma_file, "BUSY_SECONDS", 0.1)
    filled(folder, documents(3))
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="cannot be written to") as caught:
            write(ChromaFile(folder))
    assert "Wait" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no limit of file sizes there")
def test_a_full_disk_is_not_taken_for_another_program_when_a_new_collection_gets_its_name(folder: Path) -> None:
    import resource

    target = ChromaTarget(folder, "moved")
    move = Move(ChromaStore(filled(folder, documents(10))), target)
    run_id = migrate(move, executor(), publishes=False).run_id
    before, (_, most) = names_of(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        with pytest.raises(sqlite3.OperationalError):  # of which whoever calls it says what it is
            target.publish(Run(id=run_id, fingerprint=executor().fingerprint(), metric="euclidean"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert names_of(folder) == before
    assert publish(move).in_use == "new"


def test_lists_that_chroma_could_never_read_again_are_not_moved_into_it(folder: Path, tmp_path: Path) -> None:
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_core.vectorstores import InMemoryVectorStore

    source = InMemoryVectorStore(DeterministicFakeEmbedding(size=OLD_DIMENSIONS))
    odd_values: list[dict[str, Any]] = [{"v": [math.inf]}, {"v": math.nan}, {"v": [1, 2**64]}, {"v": [1, True]}, {}]
    source.add_documents(
        [Document(text, metadata=each) for text, each in zip(texts(5), odd_values, strict=True)], ids=list("abcde")
    )
    source.dump(str(tmp_path / "dump.json"))
    move = Move(InMemoryDump(tmp_path / "dump.json"), ChromaTarget(folder, "notes"))
    assert migrate(move, executor(), accept=True).embedded == 5
    found = collection_of(folder).get()
    assert (found["ids"], found["metadatas"]) == (list("abcde"), [None] * 5)
