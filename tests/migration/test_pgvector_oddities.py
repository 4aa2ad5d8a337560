"""Tables, databases and programs that are not quite what one expects: nothing is lost, and what cannot be is told."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import Document, documents
from mlx_integrations.migration.moving import open_move
from mlx_integrations.migration.stores.pgvector import swap as pgvector_swap
from mlx_integrations.migration.stores.pgvector.server import Server, address_without_password
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from mlx_integrations.migration.targets.pgvector import PgvectorTarget
from tests.migration.pgvector_tables import as_text, asked, done, fill_collection, fill_table, uuid_of
from tests.migration.stores import executor, vectors
from tests.postgres import database_of, url_of

pytestmark = pytest.mark.usefixtures("own_data")


def indexes(url: str) -> dict[str, str]:
    query = "SELECT indexname, split_part(indexdef, ' USING ', 2) FROM pg_indexes WHERE tablename = 'notes'"
    return {name: made for name, made in asked(url, query) if name != "notes_pkey"}


# What others do between building and publishing


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE notes ADD COLUMN tag text DEFAULT 'x'",
        "ALTER TABLE notes ADD CHECK (page >= 0)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "CREATE UNIQUE INDEX ON notes (content)",
        "GRANT SELECT ON notes TO PUBLIC",
    ],
)
def test_what_is_set_up_after_building_is_taken_in(url: str, change: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    migrate(store, executor(), publishes=False)
    done(url, change)
    before = store.state().rpartition(":")[2]
    with pytest.raises(StoreChangedError):
        publish(store)
    assert migrate(store, executor()).embedded == 20
    if "COLUMN" in change:
        assert asked(url, "SELECT DISTINCT tag FROM notes") == [("x",)]
    rollback(store)
    assert store.state().rpartition(":")[2] == before


def test_an_index_that_is_made_after_building_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    migrate(store, executor(), publishes=False)
    done(url, "CREATE INDEX by_page ON notes (page)")
    with caplog.at_level(logging.WARNING):
        publish(store)
    assert "`by_page`" in caplog.text
    assert indexes(url) == {}


def test_an_index_that_is_dropped_meanwhile_is_in_nobodys_way(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    done(url, "CREATE INDEX near ON notes USING hnsw (embedding vector_l2_ops)")
    migrate(store, executor(), publishes=False)
    done(url, "DROP INDEX near")
    assert publish(store).in_use == "new"
    assert list(indexes(url)) == ["near"]
    done(url, "DROP INDEX near")
    assert rollback(store).in_use == "old"
    assert indexes(url) == {}


def test_a_view_that_is_made_after_building_goes_on_meaning_the_table(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    migrate(store, executor(), publishes=False)
    for change, undone in ((publish, "old"), (rollback, "new")):
        done(url, "CREATE VIEW seen AS SELECT content FROM notes")
        with pytest.raises(StoreError, match="view"):
            change(store)
        assert store.describe().dimensions == ((24,) if undone == "old" else (16,))
        done(url, "DROP VIEW seen")
        change(store)


def test_a_row_that_is_committed_while_publishing_waits_is_seen_in_databases_of_repeatable_reads(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector_swap, "LOCK_ATTEMPTS", 1)
    fill_collection(url, documents(20))
    done(url, f"ALTER DATABASE {database_of(tmp_path)} SET default_transaction_isolation = 'repeatable read'")
    store = PgvectorStore(url)
    migrate(store, executor(), publishes=False)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mlxi migrate' AND wait_event_type = 'Lock'"

    def commit_when_it_waits() -> None:
        until = time.monotonic() + 60
        while not asked(url, f"{waits} AND datname = current_database()")[0][0] and time.monotonic() < until:
            time.sleep(0.02)
        writer.commit()

    with psycopg.connect(url) as writer:
        copied = "'late', collection_id, embedding, 'late', '{}' FROM langchain_pg_embedding LIMIT 1"
        writer.execute(f"INSERT INTO langchain_pg_embedding SELECT {copied}")
        others = threading.Thread(target=commit_when_it_waits)
        others.start()
        with pytest.raises(StoreChangedError):
            publish(store)
        others.join()
    assert migrate(store, executor()).embedded == 21
    assert asked(url, "SELECT count(*) FROM langchain_pg_embedding") == [(21,)]


# Tables


@pytest.mark.parametrize("index", ["", "ivfflat (lists=2)"])
def test_indexes_over_other_vectors_stay_as_they_are(url: str, index: str) -> None:
    done(
        fill_table(url, documents(20)),
        "ALTER TABLE notes ADD COLUMN title vector(24)",
        "UPDATE notes SET title = embedding",
        "CREATE INDEX plain ON notes USING hnsw (title vector_l2_ops)",
        'CREATE INDEX "a USING b" ON notes USING hnsw ((title::halfvec(24)) halfvec_l2_ops)',
        "CREATE INDEX own ON notes USING hnsw ((embedding::halfvec(24)) halfvec_cosine_ops)",
    )
    before = indexes(url)
    store = PgvectorStore(url)
    assert (store.describe().metric, store.describe().index) == ("cosine", "hnsw")
    migrate(store, executor(), index=index)
    after = indexes(url)
    assert {name: after[name] for name in ("plain", "a USING b")} == {
        name: before[name] for name in ("plain", "a USING b")
    }
    assert ("own" in after and "halfvec(16)" in after["own"]) is not bool(index)


def test_an_index_over_several_collections_is_told(url: str) -> None:
    fill_collection(url, documents(9))
    for name, dimensions in (("others", 24), ("third", 5)):
        one = [Document(id=f"x-{name}", text="x", metadata={})]
        fill_collection(url, one, name, dimensions=dimensions)
    several = f"'{uuid_of('notes')}', '{uuid_of('others')}'"
    done(
        url,
        "CREATE INDEX two ON langchain_pg_embedding USING hnsw ((embedding::vector(24)) vector_ip_ops) "
        f"WHERE collection_id IN ({several})",
    )
    with pytest.raises(StoreError, match="`two` is over several collections"):
        migrate(PgvectorStore(url, "notes"), executor())


def test_columns_may_be_called_anything_and_hold_what_python_does_not_know(url: str) -> None:
    fill_table(url, documents(600))  # more than are read at once
    values = {
        "growth %": ("date", "infinity"),
        "%s": ("interval", "1 year 2 months"),
        "when": ("timestamptz", "4000-01-01 BC"),
        "span": ("tstzrange", "[-infinity,infinity]"),
        "late": ("time", "24:00"),
    }
    for name, (kind, value) in values.items():
        done(url, f"ALTER TABLE notes ADD COLUMN \"{name}\" {kind} DEFAULT '{value}'")
    store = PgvectorStore(url)
    first = next(iter(store.rows())).metadata
    assert (first["growth %"], first["late"]) == ("infinity", "24:00:00")
    columns = ", ".join(f'"{name}"::text' for name in values)
    before = asked(url, f"SELECT {columns} FROM notes")
    assert migrate(store, executor()).embedded == 600
    assert asked(url, f"SELECT {columns} FROM notes") == before


@pytest.mark.parametrize("said", ["contnt=page", "text=content", "metadata=nothing", "content", "id=content"])
def test_columns_that_are_named_wrongly_are_told(url: str, said: str) -> None:
    fill_table(url, documents(1))
    with pytest.raises(StoreError) as caught:
        PgvectorStore(url, f"notes?{said}")
    assert caught.value.hint


def test_a_constraint_that_old_rows_do_not_meet_is_kept(url: str) -> None:
    done(fill_table(url, documents(20)), "ALTER TABLE notes ADD CONSTRAINT late CHECK (page > 5) NOT VALID")
    assert migrate(PgvectorStore(url), executor()).embedded == 20
    query = "SELECT convalidated FROM pg_constraint WHERE conname = 'late' AND conrelid = 'notes'::regclass"
    assert asked(url, query) == [(False,)]


def test_policies_and_columns_that_mean_the_table_are_told(url: str) -> None:
    done(
        fill_table(url, documents(3)),
        "CREATE TABLE other (x int, whole notes)",
        "CREATE POLICY its ON other USING (EXISTS (SELECT 1 FROM notes WHERE page = x))",
        "CREATE POLICY again ON notes USING (EXISTS (SELECT 1 FROM notes n WHERE n.page = 1))",
        "CREATE POLICY plain ON notes USING (page = 1)",
    )
    (finding,) = PgvectorStore(url).describe().findings
    told = ("column whole of public.other", "policy again of public.notes", "policy its of public.other")
    assert finding.examples == told


def test_a_table_that_is_dropped_while_it_is_looked_at_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, every = PgvectorStore(fill_collection(url, documents(3))), Server.all

    def asked_and_dropped(server: Server, *question: Any, **options: Any) -> Any:
        found = every(server, *question, **options)
        if "pg_index" in question[0]:
            done(url, "DROP TABLE IF EXISTS langchain_pg_embedding", "DELETE FROM langchain_pg_collection")
        return found

    monkeypatch.setattr(Server, "all", asked_and_dropped)
    for look in (store.describe, store.state):
        with pytest.raises(StoreError) as caught:
            look()
        assert caught.value.hint
    with pytest.raises(StoreError, match="not there any more"):
        Server(url).one("SELECT 1 FROM pg_class WHERE oid = 0")


# Databases


def test_names_of_collections_may_be_anything_but_have_to_be_one(url: str) -> None:
    fill_collection(url, documents(3), "faq?v=2")
    done(
        url,
        "ALTER TABLE langchain_pg_collection ALTER name DROP NOT NULL",
        "ALTER TABLE langchain_pg_collection DROP CONSTRAINT langchain_pg_collection_name_key",
        f"INSERT INTO langchain_pg_collection VALUES ('{uuid_of('none')}', NULL, NULL)",
    )
    store = PgvectorStore(url)
    assert store.location.name == PgvectorStore(url, "faq?v=2").location.name == "faq?v=2"
    assert migrate(store, executor()).embedded == 3
    gc(store)
    fill_table(url, documents(2), "faq?v=2")
    with pytest.raises(StoreError, match="2 collections and tables of vectors that are called"):
        PgvectorStore(url, "faq?v=2")
    done(
        url, f"INSERT INTO langchain_pg_collection VALUES ('{uuid_of('x')}', 'x', NULL), ('{uuid_of('y')}', 'x', NULL)"
    )
    with pytest.raises(StoreError, match="2 collections and tables of vectors that are called `x`"):
        PgvectorStore(url, "x")


def test_what_others_have_in_the_database_is_in_nobodys_way(url: str, role: str, tmp_path: Path) -> None:
    for schema, owner in (("a", role), ("b", "postgres")):
        fill_collection(url, documents(3))
        done(url, f"CREATE SCHEMA {schema} AUTHORIZATION {owner}")
        for table in ("langchain_pg_embedding", "langchain_pg_collection"):
            done(url, f"ALTER TABLE {table} SET SCHEMA {schema}", f"ALTER TABLE {schema}.{table} OWNER TO {owner}")
    own = url_of(database_of(tmp_path), user=role)
    with psycopg.connect(url) as somebody:
        somebody.execute("CREATE TEMP TABLE passing (id int PRIMARY KEY, content text, embedding vector(3))")
        somebody.commit()
        store = PgvectorStore(own)
    assert store.location.name == "a.notes"
    assert migrate(store, executor()).in_use == "new"
    gc(store)
    with pytest.raises(StoreError) as caught:
        PgvectorStore(own, "b.notes")
    assert caught.value.hint == "It has `a.notes`. Collections of `b` cannot be read."


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_texts_are_read_whatever_the_encodings_are(
    url: str, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database_of(tmp_path)
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    done(url, "CREATE EXTENSION vector", "CREATE TABLE t (id text PRIMARY KEY, content text, embedding vector(24))")
    done(url, "SET client_encoding = 'UTF8'", f"INSERT INTO t VALUES ('é', 'Größe', '{as_text(vectors(1, 24)[0])}')")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1" if encoding == "SQL_ASCII" else "SQL_ASCII")
    store = PgvectorStore(url)
    assert [(row.id, row.text) for row in store.rows()] == [("é", "Größe")]
    assert migrate(store, executor()).embedded == 1


@pytest.mark.parametrize(
    "given",
    ["postgresql://ada:12#cret@host/db", "postgresql://ada:12?a=cret@host/db", "postgresql://ada:s@cret@host/db"],
)
def test_a_password_that_is_not_written_as_one_is_not_shown(given: str) -> None:
    with pytest.raises(StoreError, match="no URL") as caught:
        address_without_password(given)
    assert "12" not in str(caught.value) and "cret" not in str(caught.value)


# New tables


def test_a_place_where_no_table_can_be_made_is_told_before_anything_is_embedded(
    url: str, role: str, tmp_path: Path
) -> None:
    source = PgvectorStore(fill_collection(url, documents(3)))
    guest = url_of(database_of(tmp_path), user=role)
    for address, name, message in ((url, "nowhere.new", "no such schema"), (guest, "new", "may not be made")):
        seen: list[object] = []
        with pytest.raises(StoreError, match=message):
            migrate(open_move(source, PgvectorTarget(address, name)), executor(), on_progress=seen.append)
        assert seen == []


def test_who_may_only_read_a_table_can_move_it(url: str, role: str, tmp_path: Path) -> None:
    done(fill_table(url, documents(3)), f"GRANT SELECT ON notes TO {role}", "CREATE VIEW seen AS SELECT * FROM notes")
    source = PgvectorStore(url_of(database_of(tmp_path), user=role))
    assert len([each for each in source.describe().findings if each.is_blocking]) == 3
    assert migrate(open_move(source, PgvectorTarget(url, "new")), executor()).embedded == 3


def test_a_new_table_may_get_an_index_before_it_is_taken_back(url: str) -> None:
    move = open_move(PgvectorStore(fill_collection(url, documents(3))), PgvectorTarget(url, "new"))
    migrate(move, executor())
    done(url, "CREATE INDEX ON new USING hnsw (embedding vector_l2_ops)", "GRANT SELECT ON new TO PUBLIC")
    assert rollback(move).in_use == "nothing"
