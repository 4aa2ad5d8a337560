"""What can go wrong with a database: each is a clear error or a finding, and the table is as it was."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mlx_integrations.errors import MigrationError, RowsError, StoreBusyError, StoreChangedError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import Document, StoreContract, documents, snapshot
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.stores.pgvector import server as pgvector_server
from mlx_integrations.migration.stores.pgvector import swap as pgvector_swap
from mlx_integrations.migration.stores.pgvector.server import Server, address_without_password
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from tests.migration.pgvector_tables import asked, done, fill_collection, fill_table, leftovers, shown, uuid_of
from tests.migration.stores import OLD_DIMENSIONS, executor, vectors
from tests.postgres import SECRETIVE, database_of, is_own, restart, url_of

RUN = Run(id="0123456789ab", fingerprint=EmbeddingFingerprint(model="new-model", dimensions=16), metric="cosine")


@pytest.fixture(autouse=True)
def _quick(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(pgvector_swap, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(pgvector_server, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(pgvector_server, "LOCK_SECONDS", 0.1)


def build(store: PgvectorStore, run: Run = RUN, count: int = 20) -> None:
    store.build(run, StoreContract.embedded(store, vectors(count, run.fingerprint.dimensions, seed=5)))


# Who else is at it


def test_a_lock_that_somebody_holds_is_told_and_published_later(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    migrate(store, executor(), publishes=False)
    with psycopg.connect(url) as somebody:
        somebody.execute("INSERT INTO notes SELECT gen_random_uuid(), content, embedding FROM notes LIMIT 1")
        with pytest.raises(StoreBusyError, match="in use") as caught:
            publish(store)
        assert caught.value.is_retryable
        assert store.describe().dimensions == (OLD_DIMENSIONS,)
        somebody.rollback()
    with psycopg.connect(url) as reader:
        reader.execute("SELECT 1 FROM notes")
        with pytest.raises(StoreBusyError):
            publish(store)
        reader.rollback()
    assert publish(store).in_use == "new"


def test_another_migration_of_the_same_table_is_kept_out_wherever_it_runs(url: str) -> None:
    store, other = PgvectorStore(fill_table(url, documents(20))), Server(url, writes=True)
    with other.alone(store._table().sql), pytest.raises(StoreBusyError, match="another process"):
        build(store)
    assert leftovers(url) == []
    build(store)


@pytest.mark.parametrize("fill", [fill_table, fill_collection])
def test_what_comes_in_at_the_last_moment_is_seen_and_taken_in(url: str, fill: Any) -> None:
    """Between the last look at the table and its locks."""
    fill(url, documents(20))

    class Late(PgvectorStore):
        def publish(self, run: Run) -> None:
            if not asked(url, "SELECT 1 FROM pg_tables WHERE tablename = 'seen'"):
                done(url, "CREATE TABLE seen ()")
                fill(url, documents(1, first=20))
            super().publish(run)

    with pytest.raises(StoreChangedError):
        migrate(Late(url, "notes"), executor())
    store = Late(url, "notes")
    assert store.describe().dimensions == (OLD_DIMENSIONS,)
    assert migrate(store, executor()).embedded == 21
    assert len(list(store.rows())) == 21


@pytest.mark.parametrize("others", [False, True])
def test_what_is_written_while_a_rollback_waits_for_its_lock_is_told_and_kept(
    url: str, others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if others:
        fill_collection(url, [Document(id="x", text="x", metadata={})], "others", dimensions=5)
    store = PgvectorStore(fill_collection(url, documents(20)), "notes")
    migrate(store, executor())
    lock = pgvector_swap.Swap._lock

    def late(swap: pgvector_swap.Swap, way: pgvector_swap.Way) -> None:
        monkeypatch.setattr(pgvector_swap.Swap, "_lock", lock)
        done(
            url,
            f"INSERT INTO langchain_pg_embedding SELECT 'late', '{uuid_of('notes')}', embedding, 'late', '{{}}' "
            "FROM langchain_pg_embedding WHERE id = 'doc-00005'",
        )
        lock(swap, way)

    monkeypatch.setattr(pgvector_swap.Swap, "_lock", late)
    with pytest.raises(StoreChangedError, match="just before"):
        rollback(store)
    assert migrate(store, executor()).in_use == "new"
    assert len(list(store.rows())) == 21
    assert rollback(store).in_use == "old"
    assert len(list(store.rows())) == 20


@pytest.mark.parametrize("others", [False, True])
def test_rows_that_changed_since_are_kept_with_the_new_vectors(url: str, others: bool) -> None:
    if others:
        fill_collection(url, [Document(id="x", text="x", metadata={})], "others", dimensions=5)
    store = PgvectorStore(fill_collection(url, documents(20)), "notes")
    old = snapshot(store)
    build(store)
    store.publish(RUN)
    done(
        url,
        "DELETE FROM langchain_pg_embedding WHERE id = 'doc-00003'",
        "UPDATE langchain_pg_embedding SET document = 'changed' WHERE id = 'doc-00004'",
        f"INSERT INTO langchain_pg_embedding SELECT 'late', '{uuid_of('notes')}', embedding, 'late', '{{}}' "
        "FROM langchain_pg_embedding WHERE id = 'doc-00005'",
    )
    new = snapshot(store)
    store.rollback(RUN)
    assert snapshot(store) == old
    store.publish(RUN)
    assert snapshot(store) == new


def test_rows_of_other_collections_are_taken_along_whenever_they_come(url: str) -> None:
    store = PgvectorStore(fill_collection(url, documents(20)))
    build(store)
    for number, change in enumerate((store.publish, store.rollback, store.publish)):
        one = [Document(id=f"other-{number}", text="x", metadata={})]
        fill_collection(url, one, f"others-{number}", dimensions=5)
        change(RUN)
        found = asked(url, "SELECT id FROM langchain_pg_embedding WHERE id LIKE 'other-%' ORDER BY 1")
        assert [row[0] for row in found] == [f"other-{each}" for each in range(number + 1)]


# Tables of several collections


def test_an_index_of_one_collection_is_made_anew(url: str) -> None:
    fill_collection(url, [Document(id="x", text="x", metadata={})], "others", dimensions=5)
    fill_collection(url, documents(20))
    table = "langchain_pg_embedding USING hnsw"
    own, other = (
        f"CREATE INDEX {name} ON {table} ((embedding::vector({size})) vector_ip_ops) WITH (m = 5) "
        f"WHERE collection_id = '{uuid_of(collection)}'"
        for name, size, collection in (("own", 24, "notes"), ("other", 5, "others"))
    )
    done(url, own, other)
    query = "SELECT indexdef FROM pg_indexes WHERE tablename = 'langchain_pg_embedding' ORDER BY indexname"
    before, old = asked(url, query), shown(url)
    store = PgvectorStore(url, "notes")
    assert (store.describe().metric, store.describe().index) == ("dot", "hnsw (m=5)")
    migrate(store, executor())
    assert asked(url, query) == [(text.replace("(24)", "(16)"),) for (text,) in before]
    rollback(store)
    assert (asked(url, query), shown(url)) == (before, old)


def test_a_shared_column_of_one_size_is_told_and_refused(url: str) -> None:
    others = [Document(id=f"other-{each.id}", text=each.text, metadata={}) for each in documents(3)]
    fill_collection(url, others, "others", size="(24)")
    store = PgvectorStore(fill_collection(url, documents(20)), "notes")
    before = shown(url)
    assert [each.code for each in store.describe().findings if each.is_blocking] == ["shared-column"]
    with pytest.raises(RowsError):
        migrate(store, executor())
    with pytest.raises(StoreError, match="holds 24 dimensions") as caught:
        migrate(store, executor(), accept=True)
    assert caught.value.hint is not None and "TYPE vector" in caught.value.hint
    assert (shown(url), leftovers(url)) == (before, [])
    same_size = executor(24)
    assert migrate(store, same_size, accept=True, restart=True).in_use == "new"
    assert [row for row in shown(url)["public.langchain_pg_embedding"] if "other-" in row] == [
        row for row in before["public.langchain_pg_embedding"] if "other-" in row
    ]


def test_an_index_over_all_collections_is_told(url: str) -> None:
    fill_collection(url, [Document(id="x", text="x", metadata={})], "others")
    store = PgvectorStore(fill_collection(url, documents(20)), "notes")
    done(url, "CREATE INDEX all_of_them ON langchain_pg_embedding USING hnsw ((embedding::vector(24)) vector_l2_ops)")
    with pytest.raises(StoreError, match="all_of_them"):
        build(store)
    assert leftovers(url) == []


# Tables that are used otherwise, too


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("view", "CREATE VIEW seen AS SELECT content FROM notes"),
        ("foreign key", "CREATE TABLE likes (note uuid REFERENCES notes)"),
        ("function", "CREATE FUNCTION first() RETURNS notes LANGUAGE sql AS 'SELECT * FROM notes LIMIT 1'"),
        ("publication", "CREATE PUBLICATION feed FOR TABLE notes"),
    ],
)
def test_what_means_the_table_itself_is_told_and_kept(url: str, kind: str, statement: str) -> None:
    done(fill_table(url, documents(3)), statement)
    store = PgvectorStore(url)
    (finding,) = store.describe().findings
    assert (finding.code, finding.is_blocking) == ("dependents", True)
    assert kind in finding.message
    with pytest.raises(StoreError, match=kind):
        migrate(store, executor(), accept=True)
    assert leftovers(url) == []


def test_partitioned_tables_and_tables_without_a_key_are_refused(url: str) -> None:
    done(
        url,
        "CREATE TABLE parts (id int, content text, embedding vector(3)) PARTITION BY RANGE (id)",
        "CREATE TABLE keyless (id int, content text, embedding vector(3))",
        "CREATE TABLE wordless (id int PRIMARY KEY, embedding vector(3))",
        "CREATE TABLE wordy (id int PRIMARY KEY, one text, two text, embedding vector(3))",
        "CREATE TABLE twofold (id int PRIMARY KEY, content text, one vector(3), two halfvec(3))",
        "CREATE TABLE bits (id int PRIMARY KEY, content text, embedding bit(3))",
    )
    told = {"parts": "partitioned", "keyless": "unique", "wordless": "content", "wordy": "content", "bits": "no coll"}
    for name, message in {**told, "twofold": "embedding", "wordy?content=three": "content", "parts?": "part"}.items():
        with pytest.raises(StoreError, match=message):
            PgvectorStore(url, name)
    assert PgvectorStore(url, "wordy?content=two")._table().text == "two"
    assert PgvectorStore(url, "twofold?embedding=two")._table().kind == "halfvec"


# Rights and addresses


def test_who_may_not_replace_a_table_is_told_first(url: str, role: str, tmp_path: Path) -> None:
    fill_table(url, documents(20))
    done(url, f"GRANT SELECT ON notes TO {role}")
    store = PgvectorStore(url_of(database_of(tmp_path), user=role))
    assert [(each.code, each.is_blocking) for each in store.describe().findings] == [("missing-privilege", True)] * 2
    with pytest.raises(StoreError, match="does not allow"):
        migrate(store, executor(), accept=True)
    assert (len(list(store.rows())), leftovers(url)) == (20, [])
    done(url, "ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
    with pytest.raises(StoreError, match="row-level security"):
        list(store.rows())


def test_an_owner_who_is_no_superuser_can_migrate(url: str, role: str, tmp_path: Path) -> None:
    fill_table(url, documents(20))
    done(url, f"ALTER TABLE notes OWNER TO {role}", f"GRANT CREATE ON SCHEMA public TO {role}")
    store = PgvectorStore(url_of(database_of(tmp_path), user=role))
    assert migrate(store, executor()).in_use == "new"
    rollback(store)
    gc(store)
    assert leftovers(url) == []


def test_reading_cannot_write(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(3)))
    for statement in ("CREATE TABLE x ()", "DELETE FROM public.notes", "COMMENT ON TABLE public.notes IS 'x'"):
        with pytest.raises(StoreError, match="read-only"):
            store._server.do(statement)


@pytest.mark.skipif(not is_own(), reason="one's own server may ask nobody for a password")
def test_passwords_are_used_and_nowhere_shown(
    url: str, tmp_path: Path, own_data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    if not asked(url, f"SELECT 1 FROM pg_roles WHERE rolname = '{SECRETIVE}'"):
        done(url, f"CREATE ROLE {SECRETIVE} SUPERUSER LOGIN PASSWORD 'right/secret'")
    fill_table(url, documents(20))

    def opened(password: str) -> PgvectorStore:
        return PgvectorStore(url_of(database_of(tmp_path), user=f"{SECRETIVE}{password}"))

    for password, message in ((":wrong%2Fsecret", "refuses"), ("", "asks for a password"), (":wr/secret", "no URL")):
        with pytest.raises(StoreError, match=message) as caught:
            opened(password)
        told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
        assert "secret'" not in told.replace(SECRETIVE, "") and "2Fsecret" not in told and "wr/" not in told
        assert caught.value.hint
    store = opened(":right%2Fsecret")
    store.location.address.index(SECRETIVE)
    migrate(store, executor())
    written = b"".join(path.read_bytes() for path in own_data.rglob("*") if path.is_file())
    everything = f"{store.location!r}{store._server!r}{caplog.text}{written!r}"
    assert SECRETIVE in everything and "right" not in everything
    monkeypatch.setenv("PGPASSWORD", "right/secret")
    assert opened("").published(RUN) == "old"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://ada:pw@host:5432/db", "postgresql://ada@host:5432/db"),
        ("postgres://host/db", "postgresql://host/db"),
        (
            "postgresql+psycopg://ada:p%40w@host/db?sslmode=require&password=x",
            "postgresql://ada@host/db?sslmode=require",
        ),
        ("postgresql:///db?host=/run/pg&user=ada", "postgresql:///db?host=/run/pg&user=ada"),
        ("postgresql://ada:pw@[::1]:5432,b:1/db", "postgresql://ada@[::1]:5432,b:1/db"),
    ],
)
def test_addresses_have_no_password(given: str, expected: str) -> None:
    assert address_without_password(given) == expected


def test_what_is_not_there_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="0 collections and tables"):
        open_store(url)
    fill_collection(fill_table(url, documents(1), "cards"), documents(1))
    with pytest.raises(StoreError, match="2 collections") as caught:
        open_store(url)
    assert caught.value.hint == "Say which: cards, notes."
    with pytest.raises(StoreError, match="`letters`"):
        open_store(url, "letters")
    assert open_store(url, "public.cards").location.name == "cards"
    with pytest.raises(StoreError, match="does not exist"):
        open_store(url_of("mlxi_test_nothing"))
    with pytest.raises(StoreError, match="cannot be reached"):
        open_store("postgresql://127.0.0.1:1/db")
    with pytest.raises(StoreError, match="no address"):
        open_store(f"{url}&colour=blue")
    done(url, "DROP EXTENSION vector CASCADE")
    with pytest.raises(StoreError, match="pgvector"):
        open_store(url)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("53100", StoreError, "has no room"),
        ("40P01", StoreBusyError, "in use"),
        ("40001", StoreBusyError, "in use"),
        ("22000", StoreError, "refuses it"),
    ],
)
def test_what_the_server_says_has_a_meaning(url: str, code: str, error: type[MigrationError], message: str) -> None:
    with pytest.raises(error, match=f"{message}.*some words") as caught:
        Server(url).do(f"DO $$ BEGIN RAISE EXCEPTION 'some words' USING ERRCODE = '{code}'; END $$")
    assert caught.value.hint


# Connections that end


def test_reading_goes_on_over_another_connection(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(50)))

    def cuts() -> bool:
        _end_all(url)
        return False

    assert migrate(store, executor(), batch_rows=8, should_stop=cuts).in_use == "new"


@pytest.mark.parametrize("statement", ["CREATE TABLE", "INSERT", "CREATE INDEX", "LOCK TABLE", "ALTER TABLE"])
def test_a_writer_that_is_cut_is_told_and_goes_on_later(
    url: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    done(url, "CREATE INDEX ON notes USING hnsw (embedding vector_l2_ops)")
    before, original = snapshot(store), Server.do
    cut: list[str] = []

    def do(server: Server, *statements: str) -> None:
        if statements[-1].startswith(statement) and not cut:
            cut.append(statements[-1])
            _end_all(url)
        original(server, *statements)

    monkeypatch.setattr(Server, "do", do)
    with pytest.raises(StoreError, match=r"lost|cannot be reached"):
        migrate(store, executor())
    assert cut and (snapshot(store), store.published(RUN)) == (before, "old")
    assert migrate(PgvectorStore(url), executor()).in_use == "new"
    assert store.describe().index == "hnsw"


@pytest.mark.skipif(not is_own(), reason="one's own server is not for tests to restart")
def test_a_server_that_crashes_is_told_and_nothing_is_lost(url: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    migrate(store, executor(), publishes=False)
    restart()
    assert publish(store).in_use == "new"


def _end_all(url: str) -> None:
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'mlxi migrate'"
    asked(url, f"{query} AND datname = current_database()")


# Rows and columns of every kind


def test_rows_without_text_or_vector_are_listed(url: str) -> None:
    fill_collection(url, documents(4))
    values = f"'{uuid_of('notes')}', array_fill(1, ARRAY[24])::vector"
    done(
        url,
        *(
            f"INSERT INTO langchain_pg_embedding VALUES ({key}, {values}, {text}, NULL)"
            for key, text in (("'a'", "NULL"), ("'b'", "E' \\n'"), ("'c'", "''"))
        ),
        f"INSERT INTO langchain_pg_embedding VALUES ('d', '{uuid_of('notes')}', NULL, 'text', NULL)",
    )
    store, before = PgvectorStore(url), shown(url)
    missing, texts = store.describe().findings
    assert (missing.code, missing.examples, missing.is_blocking) == ("missing-vectors", ("d",), False)
    assert (texts.code, texts.examples, texts.is_blocking) == ("missing-texts", ("a", "b", "c"), True)
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 4
    ids = [row[0] for row in asked(url, "SELECT id FROM langchain_pg_embedding ORDER BY 1")]
    assert ids == ["d", *(f"doc-{number:05d}" for number in range(4))]
    rollback(store)
    assert shown(url) == before


def test_vectors_of_several_sizes_are_listed(url: str) -> None:
    fill_collection(url, documents(5))
    fill_collection(url, documents(2, first=5), dimensions=7)
    store = PgvectorStore(url)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, store.describe().dimensions) == ("mixed-dimensions", 2, (7, 24))
    with pytest.raises(StoreError, match="several dimensions"):
        store.vectors([row.key for row in store.rows()])
    migrate(store, executor())
    assert (store.describe().dimensions, store.describe().findings) == ((16,), ())


def test_halves_stay_halves_and_limits_of_indexes_are_said(url: str) -> None:
    done(
        url,
        "CREATE TABLE halves (id bigint PRIMARY KEY, content text, embedding halfvec(3))",
        "INSERT INTO halves SELECT n, 'text ' || n, ARRAY[n, 1.5, -2] FROM generate_series(1, 9) n",
        "CREATE INDEX ON halves USING hnsw (embedding halfvec_cosine_ops) WITH (m = 9)",
    )
    store = PgvectorStore(url)
    assert store.vectors(["2", "9"]).tolist() == [[2, 1.5, -2], [9, 1.5, -2]]
    assert plan_migration(store, executor(), probe=False).index == "hnsw (m=9)"
    assert store.index_for(4000, "") == "hnsw (m=9)"
    assert store.index_for(4001, "") == "none (hnsw takes at most 4000 dimensions of type halfvec)"
    with pytest.raises(StoreError, match="`ivfflat` takes at most 4000 dimensions of type halfvec"):
        migrate(store, executor(dimensions=5000), index="ivfflat (lists=2)")
    assert status(store) is None  # nothing was embedded
    assert migrate(store, executor()).in_use == "new"
    assert asked(url, "SELECT pg_typeof(embedding)::text, vector_dims(embedding) FROM halves LIMIT 1") == [
        ("halfvec", 16)
    ]
    large = Run(id="ba9876543210", fingerprint=EmbeddingFingerprint(model="large", dimensions=4100), metric="cosine")
    gc(store)
    build(store, large, 9)
    store.publish(large)
    assert (store.describe().dimensions, store.describe().index) == ((4100,), "none")


@pytest.mark.parametrize(
    ("index", "expected"), [("none", "none"), ("ivfflat (lists=2)", "ivfflat (lists=2)"), ("HNSW", "hnsw")]
)
def test_another_index_can_be_wished_for(url: str, index: str, expected: str) -> None:
    store = PgvectorStore(fill_table(url, documents(20)))
    done(url, "CREATE INDEX ON notes USING hnsw (embedding vector_ip_ops)")
    migrate(store, executor(), index=index)
    info = store.describe()
    assert (info.index, info.metric) == (expected, "unknown" if expected == "none" else "dot")
    with pytest.raises(StoreError, match="no index of pgvector"):
        store.index_for(16, "flat")


def test_an_index_cannot_be_wished_for_where_vectors_may_have_any_size(url: str) -> None:
    store = PgvectorStore(fill_collection(url, documents(3)))
    with pytest.raises(StoreError, match="any size"):
        migrate(store, executor(), index="hnsw")
    assert (status(store), leftovers(url)) == (None, [])


def test_rows_are_read_in_the_order_of_any_key(url: str) -> None:
    keys = ["a", "B", "b", "Z", "z", "é", "É", "-a", "a-", "", " ", "ß", "\U0001f600", "%s", "'", "\\"]
    query = "SELECT collname FROM pg_collation WHERE collprovider IN ('c', 'i') AND collencoding IN (-1, 6)"
    collations = [row[0] for row in asked(url, f"{query} AND collname ~ '^(C|C.utf8|en_US.utf8)$'")]
    assert "C" in collations  # which others there are depends on the machine
    for number, kind in enumerate(["varchar(20)", *(f'text COLLATE "{name}"' for name in collations)]):
        done(url, f"CREATE TABLE t{number} (id {kind} PRIMARY KEY, content text, embedding vector(1))")
        with psycopg.connect(url) as connection:
            values = [(key,) for key in keys]
            connection.cursor().executemany(f"INSERT INTO t{number} VALUES (%s, 'text', '[1]')", values)
        store = PgvectorStore(url, f"t{number}")
        rows = list(store.rows())
        assert sorted(row.id for row in rows) == sorted(keys)
        for at, row in enumerate(rows):
            assert list(store.rows(row.key)) == rows[at + 1 :]
        store.close()


def test_pages_of_many_rows_are_whole(url: str) -> None:
    done(
        url,
        "CREATE TABLE many (id bigint PRIMARY KEY, content text, embedding vector(1), embedded date, metadata jsonb)",
        "INSERT INTO many SELECT n, 'text ' || n, ARRAY[n], '2026-01-01', '{}' FROM generate_series(-650, 649) n",
    )
    store = PgvectorStore(url)
    assert [int(row.id) for row in store.rows()] == list(range(-650, 650))
    assert [int(row.id) for row in store.rows("-140")] == list(range(-139, 650))
    store.close()


def test_nodes_of_llama_index_are_embedded_with_their_metadata(url: str) -> None:
    """The table of LlamaIndex's `PGVectorStore`, of which this package has no other part to test with."""
    from llama_index.core.schema import MetadataMode, TextNode
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    nodes = [
        TextNode(
            id_=each.id, text=each.text, metadata={"source": "x", "page": 1}, excluded_embed_metadata_keys=["page"]
        )
        for each in documents(9)
    ]
    done(
        url,
        "CREATE TABLE data_nodes (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, "
        "embedding vector(24))",
    )
    with psycopg.connect(url) as connection:
        connection.cursor().executemany(
            "INSERT INTO data_nodes (text, metadata_, node_id, embedding) VALUES (%s, %s, %s, %s)",
            [
                (node.text, json.dumps(node_to_metadata_dict(node, remove_text=True)), node.node_id, str([1.0] * 24))
                for node in nodes
            ],
        )
    before = asked(url, "SELECT id, text, metadata_::text, node_id FROM data_nodes ORDER BY 1")
    store = PgvectorStore(url)
    expected = [(node.node_id, node.get_content(MetadataMode.EMBED)) for node in nodes]
    assert [(row.id, row.text) for row in store.rows()] == expected
    assert [(each.id, each.content, each.framework) for each in store.documents()] == [
        (node.node_id, node.text, "llama-index") for node in nodes
    ]
    migrate(store, executor())
    gc(store)
    assert asked(url, "SELECT id, text, metadata_::text, node_id FROM data_nodes ORDER BY 1") == before
    done(url, "INSERT INTO data_nodes (text, embedding) VALUES ('x', array_fill(1, ARRAY[16])::vector)")
    assert asked(url, "SELECT max(id) FROM data_nodes") == [(10,)]
