"""Gives the rows of one collection other vectors, in a table that has rows of others too.

Rows are updated in place, so the indexes over vectors that take one size only go before, and come again afterwards.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.adapters.store_records.pgvector import literal, quoted
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.stores.pgvector.clone import cast_to, index_limit
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.state import content_state
from mlx_integrations.migration.stores.pgvector.tables import OVER_VECTORS, Table

__all__ = ["Index", "Shared", "columns_of"]

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Index = list[str | None]
"""One that has to be made anew: its name, and its definitions over the old and over the new vectors."""


def columns_of(table: Table) -> str:
    """What copies rows as they are, from where to where: the part between the two names of tables."""
    names = [quoted(column.name) for column in table.columns if not column.is_generated]
    return f"({', '.join(names)}) OVERRIDING SYSTEM VALUE SELECT {', '.join(f't.{name}' for name in names)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A collection's rows in a table that is not its own.

    Attributes:
        server: May be written to.
        table: The table, and which collection is meant.
        new: The copy of its rows with new vectors.
        old: The copy of its rows as they were.
    """

    server: Server
    table: Table
    new: str
    old: str

    def indexes(self, dimensions: int) -> list[Index]:
        """The indexes that have to be made anew for vectors of another size.

        Raises:
            StoreError: The other rows of the table keep it from having vectors of another size.
        """
        table = self.table
        if table.dimensions not in (None, dimensions):
            raise StoreError(
                f"The column that `{table.shown}` shares holds {table.dimensions} dimensions, and not {dimensions}.",
                store=table.shown,
                hint=f"Let it hold any: `ALTER TABLE {table.schema}.{table.name} ALTER COLUMN {table.vector} TYPE "
                "vector`; its index then has to be one for each collection.",
            )
        query = (
            "SELECT c.relname, pg_get_indexdef(c.oid), p.opcname FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_opclass p ON p.oid = i.indclass[0] "
            f"WHERE i.indrelid = %s AND {OVER_VECTORS}"
        )
        anew: list[Index] = []
        assert table.collection is not None
        for name, definition, opclass in self.server.all(query, [table.oid, table.vector]):
            after = cast_to(definition, None, dimensions)
            if after == definition:
                continue
            collections = set(_UUID.findall(definition.partition(" WHERE ")[2]))
            if collections == {table.collection.uuid}:
                anew.append([name, definition, after if dimensions <= index_limit(opclass) else None])
            elif not collections or table.collection.uuid in collections:
                raise StoreError(
                    f"The index `{name}` is over {'several' if collections else 'all'} collections, and takes vectors "
                    "of one size only.",
                    store=table.shown,
                    hint="Replace it by one for each collection, with `WHERE collection_id = '...'`.",
                )
        return anew

    def update(self, facts: Mapping[str, Any]) -> None:
        """Give the rows their new vectors, in the transaction that is open.

        Args:
            facts: Of the run.
        """
        self._drop_indexes(facts)
        has_vector = f"AND t.{quoted(self.table.vector)} IS NOT NULL"
        self._replace_rows(self.new, is_whole=bool(facts.get("is_changed")), concerned=has_vector)

    def restore(self, facts: Mapping[str, Any]) -> bool:
        """Give the rows their old vectors, in the transaction that is open.

        Args:
            facts: Of the run.

        Returns:
            Whether something was changed since they got the new ones; it is in the copy now that has those.
        """
        table, new = self.table, self.new
        is_changed = content_state(self.server, table) != str(facts["published"])
        if is_changed:  # what was changed since goes with the new vectors
            self.server.do(
                f"DELETE FROM {new}",
                f"INSERT INTO {new} {columns_of(table)} FROM {table.sql} t "
                f"WHERE {table.rows_of()} AND t.{quoted(table.vector)} IS NOT NULL",
            )
        self._drop_indexes(facts)
        self._replace_rows(self.old, is_whole=is_changed)
        return is_changed

    def _replace_rows(self, copy: str, *, is_whole: bool, concerned: str = "") -> None:
        """Make the rows in use those of a copy.

        Args:
            copy: Which one.
            is_whole: Whether more than vectors may differ.
            concerned: A condition on those that are deleted if the copy does not have them.
        """
        table, key = self.table, quoted(self.table.key)
        columns = [each.name for each in table.columns if not each.is_generated and each.name != table.key]
        values = ", ".join(f"{quoted(name)} = c.{quoted(name)}" for name in (columns if is_whole else [table.vector]))
        self.server.do(
            f"DELETE FROM {table.sql} t WHERE {table.rows_of()} {concerned} "
            f"AND NOT EXISTS (SELECT 1 FROM {copy} c WHERE c.{key} = t.{key})",
            f"UPDATE {table.sql} t SET {values} FROM {copy} c WHERE c.{key} = t.{key} AND {table.rows_of()}",
            f"INSERT INTO {table.sql} {columns_of(table)} FROM {copy} t "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table.sql} l WHERE l.{key} = t.{key} AND {table.rows_of('l')})",
        )

    def _drop_indexes(self, facts: Mapping[str, Any]) -> None:
        for name, _, _ in facts["indexes"]:
            self.server.do(f"DROP INDEX IF EXISTS {quoted(self.table.schema, name)}")

    def make_indexes(self, wanted: Iterable[tuple[str, str | None]]) -> None:
        """Make the indexes that are not there, or were cut off.

        Those that take vectors of one size can only be made when nobody sees other ones any more: a plain index, made
        in the same transaction or soon after, would have rows that are just replaced in it, too.
        """
        for name, definition in wanted:
            index = quoted(self.table.schema, name)
            valid = f"SELECT 1 FROM pg_index WHERE indexrelid = to_regclass({literal(index)}) AND indisvalid"
            if definition is not None and not self.server.all(valid):
                concurrent = definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)
                self.server.do(f"DROP INDEX IF EXISTS {index}", concurrent)
