"""Tables with vectors as LangChain makes them, and what is in a database."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import psycopg

from mlx_integrations.migration.contract import Document
from tests.migration.stores import OLD_DIMENSIONS, vectors

COLLECTIONS = (
    "CREATE TABLE IF NOT EXISTS langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, "
    "cmetadata json)",
    "CREATE TABLE IF NOT EXISTS langchain_pg_embedding (id varchar PRIMARY KEY, collection_id uuid REFERENCES "
    "langchain_pg_collection (uuid) ON DELETE CASCADE, embedding vector{size}, document varchar, cmetadata jsonb)",
    "CREATE INDEX IF NOT EXISTS ix_cmetadata_gin ON langchain_pg_embedding USING gin (cmetadata jsonb_path_ops)",
)
TABLE = (
    'CREATE TABLE IF NOT EXISTS "{name}" (langchain_id uuid PRIMARY KEY, content text NOT NULL, '
    "embedding vector({dimensions}) NOT NULL, page integer, langchain_metadata json)"
)
NAMESPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def uuid_of(text: str) -> str:
    return str(uuid5(NAMESPACE, text))


def done(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def make_role(url: str, name: str) -> str:
    """A user of the server who may log in, unless there is one already."""
    if not asked(url, f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
        done(url, f"CREATE ROLE {name} LOGIN")
    return name


def as_text(vector: Any) -> str:
    return str([float(x) for x in vector])


def fill_collection(
    url: str, contents: Sequence[Document], name: str = "notes", *, size: str = "", dimensions: int = OLD_DIMENSIONS
) -> str:
    """The tables of `PGVector`, with rows of one more collection."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in COLLECTIONS:
            connection.execute(statement.replace("{size}", size))
        values = [uuid_of(name), name, '{"owner": "ada",  "n": 1}']
        connection.execute("INSERT INTO langchain_pg_collection VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", values)
        connection.cursor().executemany(
            "INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s)",
            [
                (each.id, uuid_of(name), as_text(vector), each.text, json.dumps(each.metadata))
                for each, vector in zip(contents, vectors(len(contents), dimensions), strict=True)
            ],
        )
    return url


def fill_table(url: str, contents: Sequence[Document], name: str = "notes") -> str:
    """A table of `PGVectorStore`, with one of the metadata in a column of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE.format(name=name, dimensions=OLD_DIMENSIONS))
        connection.cursor().executemany(
            f'INSERT INTO "{name}" VALUES (%s, %s, %s, %s, %s)',
            [
                (
                    uuid_of(each.id),
                    each.text,
                    as_text(vector),
                    each.metadata["page"],
                    json.dumps({key: value for key, value in each.metadata.items() if key != "page"}),
                )
                for each, vector in zip(contents, vectors(len(contents), OLD_DIMENSIONS), strict=True)
            ],
        )
    return url


def shown(url: str) -> dict[str, list[str]]:
    """Every row of every table but those of a migration."""
    query = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
    names = [row[0] for row in asked(url, f"{query} ORDER BY 1") if ".mlxi_" not in row[0]]
    return {name: sorted(row[0] for row in asked(url, f"SELECT t::text FROM {name} t")) for name in names}


def leftovers(url: str) -> list[str]:
    return [row[0] for row in asked(url, r"SELECT relname FROM pg_class WHERE relname LIKE '%mlxi\_%' ORDER BY 1")]
