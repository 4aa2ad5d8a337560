"""Everything that somebody set up for a table is there when its vectors are others."""

import re
import subprocess
from pathlib import Path

import numpy as np
import psycopg
import pytest

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.contract import snapshot
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.stores.pgvector import swap as pgvector_swap
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from tests.migration.pgvector_tables import (
    as_text,
    asked,
    done,
    leftovers,
    make_role,
)
from tests.migration.stores import executor, vectors
from tests.postgres import program

RUN = Run(id="0123456789ab", fingerprint=EmbeddingFingerprint(model="new-model", dimensions=16), metric="cosine")
SETUP = """
CREATE SCHEMA "My docs";
CREATE TABLE "My docs".authors (name text PRIMARY KEY);
INSERT INTO "My docs".authors VALUES ('ada'), ('bob');
CREATE TABLE "My docs"."Notes" (
    key text PRIMARY KEY CHECK (key <> ''),
    "The text" text NOT NULL,
    "vec""tor" vector(24) NOT NULL,
    author text DEFAULT 'ada' REFERENCES "My docs".authors ON DELETE CASCADE,
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    counter bigserial,
    made timestamptz DEFAULT '2026-01-01 12:00:00+02',
    price numeric(12, 4) CONSTRAINT fair CHECK (price >= 0),
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', "The text")) STORED,
    rest jsonb
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = off);
ALTER TABLE "My docs"."Notes" ALTER COLUMN rest SET STORAGE EXTERNAL, ALTER COLUMN author SET STATISTICS 77;
CREATE INDEX "by vector" ON "My docs"."Notes" USING hnsw ("vec""tor" vector_l2_ops) WITH (m = 7, ef_construction = 40);
CREATE INDEX by_cast ON "My docs"."Notes" USING hnsw (("vec""tor"::halfvec(24)) halfvec_l2_ops);
CREATE INDEX by_lists ON "My docs"."Notes" USING ivfflat ("vec""tor" vector_l2_ops) WITH (lists = 3);
CREATE INDEX by_words ON "My docs"."Notes" USING gin (words);
CREATE UNIQUE INDEX by_price ON "My docs"."Notes" (price DESC, lower(author)) INCLUDE (made) WHERE price > 5;
ALTER TABLE "My docs"."Notes" CLUSTER ON "Notes_pkey";
ALTER TABLE "My docs"."Notes" REPLICA IDENTITY FULL;
COMMENT ON TABLE "My docs"."Notes" IS 'It''s 100% mine';
COMMENT ON COLUMN "My docs"."Notes"."vec""tor" IS 'made by hand';
COMMENT ON INDEX "My docs".by_words IS 'for words';
CREATE FUNCTION "My docs".touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.author := ''bob''; RETURN NEW; END';
CREATE TRIGGER touches BEFORE INSERT OR UPDATE OF price ON "My docs"."Notes" FOR EACH ROW
    WHEN (NEW.price > 100) EXECUTE FUNCTION "My docs".touch();
CREATE TRIGGER sleeps AFTER DELETE ON "My docs"."Notes" EXECUTE FUNCTION "My docs".touch();
ALTER TABLE "My docs"."Notes" DISABLE TRIGGER sleeps;
GRANT SELECT, INSERT ON "My docs"."Notes" TO mlxi_test_reader WITH GRANT OPTION;
GRANT UPDATE (price) ON "My docs"."Notes" TO PUBLIC;
ALTER TABLE "My docs"."Notes" ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON "My docs"."Notes" FOR UPDATE TO mlxi_test_reader USING (author = 'ada') WITH CHECK (price < 9);
ALTER TABLE "My docs"."Notes" OWNER TO mlxi_test_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA "My docs" GRANT DELETE ON TABLES TO mlxi_test_reader;
"""
NAME = 'My docs.Notes?content=The text&embedding=vec"tor'


@pytest.fixture(autouse=True)
def _quick(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(pgvector_swap, "LOCK_ATTEMPTS", 1)


@pytest.fixture
def url(url: str) -> str:
    """A database on a server that knows the users of `SETUP`."""
    for role in ("mlxi_test_reader", "mlxi_test_owner"):
        make_role(url, role)
    return url


def set_up(url: str) -> str:
    done(url, SETUP)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.cursor().executemany(
            'INSERT INTO "My docs"."Notes" (key, "The text", "vec""tor", price, rest) VALUES (%s, %s, %s, %s, %s)',
            [
                (f"é-{number:02d}", f"text {number}", as_text(vector), number * 7, '{"b": 1.50, "a": [true, null]}')
                for number, vector in enumerate(vectors(20, 24))
            ],
        )
    return url


def dump(url: str, *options: str) -> str:
    """The database as PostgreSQL's own program writes it, but for the record of a model."""
    command = [str(program("pg_dump")), "--restrict-key=x", *options, "--exclude-table=*.mlxi_*", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\nmlxi_embedding: [^\n]*(?=';)", "", text)


def schema(url: str) -> list[str]:
    """The definitions of all things, without the size of vectors."""
    return dump(url, "--schema-only").replace("(16)", "(24)").split("\n")


def rows(url: str) -> list[tuple[object, ...]]:
    columns = 'key, "The text", author, number, counter, made, price, words, rest::text'
    return asked(url, f'SELECT {columns} FROM "My docs"."Notes" ORDER BY 1')


def test_everything_that_was_set_up_is_kept(url: str) -> None:
    before, definitions, contents = dump(set_up(url)), schema(url), rows(url)
    store = PgvectorStore(url, NAME)
    old, info = snapshot(store), store.describe()
    assert (info.count, info.metric, info.findings) == (20, "euclidean", ())
    migrate(store, executor())
    assert schema(url) == definitions
    assert rows(url) == contents
    assert "vector(16)" in dump(url)
    rollback(store)
    assert snapshot(store) == old
    assert dump(url) == before
    migrate(store, executor())
    gc(store)
    assert (leftovers(url), schema(url), rows(url)) == ([], definitions, contents)
    values = f"'new', 'x', '{as_text(np.ones(16))}', 200"
    done(url, f'INSERT INTO "My docs"."Notes" (key, "The text", "vec""tor", price) VALUES ({values})')
    new = asked(url, """SELECT number, counter, author FROM "My docs"."Notes" WHERE key = 'new'""")
    assert new == [(21, 21, "bob")]
    store.close()
