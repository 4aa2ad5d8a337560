"""Puts new vectors in the place of old ones, and back, in one transaction each.

    mlxi_RUN_facts      what a run knows: how it replaces, whether it is built, whether its vectors are in use
    mlxi_RUN_vectors    keys and new vectors, while they are written
    mlxi_RUN_new        the new table while the old one is in use
    mlxi_RUN_old        the old table while the new one is in use

A table that is one store is replaced by another one that gets its name. Where collections share a table, the rows of
one get other vectors instead, and both tables of the run are copies of these rows.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlx_integrations.adapters.store_records.pgvector import (
    comment_query,
    comment_statement,
    comment_with,
    literal,
    metadata_with,
    quoted,
)
from mlx_integrations.errors import StoreBusyError, StoreChangedError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.stores.pgvector.clone import (
    create_empty,
    dependents,
    finish,
    index_names,
)
from mlx_integrations.migration.stores.pgvector.server import LOCK_ATTEMPTS, LOCK_SECONDS, Server
from mlx_integrations.migration.stores.pgvector.shared import Shared, columns_of
from mlx_integrations.migration.stores.pgvector.state import content_state, table_state
from mlx_integrations.migration.stores.pgvector.tables import PREFIX, Table, own_table

__all__ = ["Swap", "Way", "column_comment", "read_facts", "way_of"]

_logger = logging.getLogger(__name__)

Way = Literal["rename", "update"]
"""How old vectors are replaced: the whole table by another one, or only the vectors of some of its rows."""


def way_of(server: Server, table: Table) -> Way:
    """How a table's vectors would be replaced."""
    if table.collection is None:
        return "rename"
    query = f"SELECT EXISTS (SELECT 1 FROM {table.sql} t WHERE ({table.rows_of()}) IS NOT TRUE)"
    return "update" if server.one(query)[0] or dependents(server, table) else "rename"


def column_comment(server: Server, table: Table) -> str | None:
    """The comment on the column of a table's vectors."""
    comment = server.one(comment_query(table.sql, table.vector))[0]
    return None if comment is None else str(comment)


def read_facts(server: Server, schema: str, run: Run) -> Mapping[str, Any]:
    """What a run has noted; nothing if it did not begin to build."""
    facts = quoted(schema, f"{PREFIX}{run.id}_facts")
    if server.one("SELECT to_regclass(%s) IS NULL", [facts])[0]:
        return {}
    return {name: json.loads(value) for name, value in server.all(f"SELECT name, value FROM {facts}")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """The tables of one run, and what is done with them.

    Attributes:
        server: May be written to.
        table: The one in use.
        run: Whose vectors are new.
    """

    server: Server
    table: Table
    run: Run

    def name(self, part: str) -> str:
        """One of the run's own tables."""
        return f"{PREFIX}{self.run.id}_{part}"

    def sql(self, part: str) -> str:
        """The same, in statements."""
        return quoted(self.table.schema, self.name(part))

    def facts(self) -> Mapping[str, Any]:
        """What the run has noted."""
        return read_facts(self.server, self.table.schema, self.run)

    def note(self, **facts: Any) -> None:
        """Note something, in the transaction that is open."""
        for name, value in facts.items():
            self.server.do(
                f"INSERT INTO {self.sql('facts')} VALUES ({literal(name)}, {literal(json.dumps(value))}) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            )

    # Building

    def begin(self) -> Way:
        """Make the tables that are filled first, instead of those that an earlier call left.

        Raises:
            StoreError: The vectors cannot be replaced.
        """
        way = way_of(self.server, self.table)
        indexes = (
            self._shared().indexes(self.run.fingerprint.dimensions) if way == "update" else self._check_renamable()
        )
        with self.server.transaction():
            for part in ("vectors", "new", "old", "facts"):
                self.server.do(f"DROP TABLE IF EXISTS {self.sql(part)}")
            self.server.do(
                f"CREATE TABLE {self.sql('facts')} (name text PRIMARY KEY, value text NOT NULL)",
                f"CREATE TABLE {self.sql('vectors')} (key text NOT NULL, vector "
                f"{quoted(self.table.extension_schema, 'vector')} NOT NULL)",
            )
            self.note(way=way, indexes=indexes)
        return way

    def fill(self, way: Way, source: str) -> None:
        """Join old rows and new vectors.

        Args:
            way: What `begin` said.
            source: The state of the table before its rows were read.

        Raises:
            StoreChangedError: It has another state by now.
        """
        table, dimensions = self.table, self.run.fingerprint.dimensions
        columns = [column.name for column in table.columns if not column.is_generated]
        names = ", ".join(map(quoted, columns))
        vector = f"v.vector::{table.vector_type(None if table.dimensions is None else dimensions)}"
        values = ", ".join(vector if name == table.vector else f"t.{quoted(name)}" for name in columns)
        into = f"({names}) OVERRIDING SYSTEM VALUE SELECT"
        joined = f"{table.sql} t LEFT JOIN {self.sql('vectors')} v ON v.key = t.{quoted(table.key)}::text"
        # Rows that have no vector keep none: those of a table that is replaced would be lost otherwise.
        kept = f"v.key IS NOT NULL OR t.{quoted(table.vector)} IS NULL" if way == "rename" else "v.key IS NOT NULL"
        with self.server.transaction(is_repeatable=True):
            self._check_state(source)
            create_empty(self.server, table, self.name("new"), None if table.dimensions is None else dimensions)
            self.server.do(
                f"INSERT INTO {self.sql('new')} {into} {values} FROM {joined} WHERE {table.rows_of()} AND ({kept})"
            )
            if way == "update":
                create_empty(self.server, table, self.name("old"), table.dimensions)
                self.server.do(
                    f"INSERT INTO {self.sql('old')} {columns_of(self.table)} FROM {table.sql} t WHERE {table.rows_of()}"
                )
            self.note(source=source)

    def complete(self, way: Way) -> None:
        """Make keys, indexes and everything else, and note that nothing is missing."""
        server, table = self.server, self.table
        if way == "update":
            for part in ("new", "old"):
                server.do(f"ALTER TABLE {self.sql(part)} ADD PRIMARY KEY ({quoted(table.key)})")
        else:
            self._take_over_setup()
        with server.transaction():
            self.note(built=True, in_use=False)
            server.do(f"DROP TABLE {self.sql('vectors')}")

    def _take_over_setup(self) -> None:
        server, table, run = self.server, self.table, self.run
        new = own_table(server, table, self.name("new"))
        temporary = self.name("i")
        dimensions = run.fingerprint.dimensions
        finish(server, table, new.name, dimensions, run.index, run.metric, temporary)
        if table.collection is None:
            comment = comment_with(column_comment(server, table), run.fingerprint)
            server.do(comment_statement(self.sql("new"), table.vector, comment))
        names = [[table.name, self.name("new"), self.name("old")]]
        made = set(index_names(server, new))
        for number, name in enumerate(index_names(server, table)):
            if f"{temporary}{number}" in made:
                names.append([name, f"{temporary}{number}", self.name(f"o{number}")])
        sequences, others = self._sequences(table, "i"), self._sequences(new, "i")
        for number, column in enumerate(sorted(sequences)):
            names.append([sequences[column], others[column], self.name(f"s{number}")])
            own = literal(quoted(table.schema, sequences[column]))
            (kind,) = server.one(f"SELECT seqtypid::regtype::text FROM pg_sequence WHERE seqrelid = {own}::regclass")
            server.do(f"ALTER SEQUENCE {quoted(table.schema, others[column])} AS {kind}")  # which `LIKE` leaves out
        serials, known = self._sequences(table, "a"), index_names(server, table)
        with server.transaction():
            self.note(names=names, serials=serials, identities=sorted(sequences), known=known)

    def _check_renamable(self) -> list[Any]:
        found = dependents(self.server, self.table)
        if found:
            told = ", ".join(f"{each.kind} `{each.name}`" for each in found)
            raise StoreError(
                f"`{self.table.shown}` cannot be replaced: {told} would go on meaning the old table.",
                store=self.table.shown,
                hint="Drop them, and create them again afterwards.",
            )
        return []

    # Switching

    def publish(self) -> None:
        """Put the new vectors in use.

        Raises:
            StoreChangedError: The rows are not those that were built from.
            StoreBusyError: Somebody else keeps the table from being locked.
        """
        facts = self.facts()
        if not facts.get("built"):
            raise StoreError(f"Nothing was built for `{self.table.shown}`.", store=self.table.shown)
        if not facts["in_use"]:
            _patiently(lambda: self._publish(facts))
        self._shared().make_indexes((name, after) for name, _, after in facts["indexes"])

    def rollback(self) -> None:
        """Put the old vectors in use again.

        Raises:
            StoreError: They are no longer there.
            StoreBusyError: Somebody else keeps the table from being locked.
            StoreChangedError: Somebody wrote to it while the lock was waited for.
        """
        facts = self.facts()
        if not facts.get("built"):
            message = f"The old vectors of `{self.table.shown}` are no longer there."
            raise StoreError(message, store=self.table.shown)
        if facts["in_use"]:
            seen = table_state(self.server, self.table)
            _patiently(lambda: self._rollback(facts, seen))
        self._shared().make_indexes((name, before) for name, before, _ in facts["indexes"])

    def discard(self) -> None:
        """Delete what is not in use."""
        facts = self.facts()
        parts = {"facts", "vectors", "new", "old"}
        if facts.get("way") == "rename":
            parts -= {"new"} if facts.get("in_use") else {"old"}

        def drop() -> None:
            with self.server.transaction():
                for part in sorted(parts):
                    self.server.do(f"DROP TABLE IF EXISTS {self.sql(part)}")

        _patiently(drop)

    def _publish(self, facts: Mapping[str, Any]) -> None:
        with self.server.transaction():
            self._lock(facts["way"])
            self._check_state(facts["source"])
            if facts["way"] == "rename":
                self._check_renamable()
                self._tell_of_indexes(facts)
                self._carry_others(self.table.sql, self.sql("new"))
                self._rename(facts, is_rollback=False)
            else:
                self._shared().update(facts)
                self.note(published=content_state(self.server, self.table))
            if self.table.collection is not None:
                self.note(record=self._set_record(self.run.fingerprint))
            self.note(in_use=True)

    def _rollback(self, facts: Mapping[str, Any], seen: str) -> None:
        with self.server.transaction():
            self._lock(facts["way"])
            if table_state(self.server, self.table) != seen:
                raise StoreChangedError(
                    f"Something was written to `{self.table.shown}` just before it was to be rolled back.",
                    store=self.table.shown,
                    hint="Its new vectors are still in use. Roll it back once more to do without what was written.",
                )
            if facts["way"] == "rename":
                self._check_renamable()
                self._tell_of_indexes(facts)
                self._carry_others(self.table.sql, self.sql("old"))
                self._rename(facts, is_rollback=True)
            else:
                is_changed = self._shared().restore(facts) or bool(facts.get("is_changed"))
                self.note(source=table_state(self.server, self.table), is_changed=is_changed)
            if self.table.collection is not None:
                self._set_record(None, facts["record"])
            self.note(in_use=False)

    def _shared(self) -> Shared:
        return Shared(server=self.server, table=self.table, new=self.sql("new"), old=self.sql("old"))

    def _lock(self, way: Way) -> None:
        """Keep everybody from writing to the rows; others may read until the names change."""
        table = self.table
        if table.collection is not None:
            # Whoever adds a row to a collection holds a share of this lock, by its foreign key.
            query = f"SELECT 1 FROM {table.collections} WHERE uuid = {literal(table.collection.uuid)}::uuid FOR UPDATE"
            self.server.all(query)
        if way == "rename":
            self.server.do(f"LOCK TABLE {table.sql} IN SHARE ROW EXCLUSIVE MODE")
        else:
            self.server.one(
                f"SELECT count(*) FROM (SELECT 1 FROM {table.sql} t WHERE {table.rows_of()} "
                f"ORDER BY t.{quoted(table.key)} FOR UPDATE) locked"
            )

    def _check_state(self, expected: str) -> None:
        if table_state(self.server, self.table) != expected:
            raise StoreChangedError(f"`{self.table.shown}` was changed after it was embedded.", store=self.table.shown)

    def _tell_of_indexes(self, facts: Mapping[str, Any]) -> None:
        now = {name for name in index_names(self.server, self.table) if not name.startswith(PREFIX)}
        if more := sorted(now - set(facts.get("known", ()))):
            told = ", ".join(f"`{name}`" for name in more)
            _logger.warning(
                "`%s` got an index since its new vectors were built: make %s again.", self.table.shown, told
            )

    def _carry_others(self, source: str, target: str) -> None:
        """Take along what other collections have put into the table since it was copied."""
        if self.table.collection is None:
            return
        other = f"({self.table.rows_of()}) IS NOT TRUE"
        self.server.do(
            f"DELETE FROM {target} t WHERE {other}",
            f"INSERT INTO {target} {columns_of(self.table)} FROM {source} t WHERE {other}",
        )

    def _rename(self, facts: Mapping[str, Any], *, is_rollback: bool) -> None:
        server, schema, table = self.server, self.table.schema, self.table
        coming = own_table(server, table, self.name("old" if is_rollback else "new"))
        live, next_one = self._sequences(table, "i"), self._sequences(coming, "i")
        for column in facts["identities"]:
            source, target = quoted(schema, live[column]), quoted(schema, next_one[column])
            server.do(f"SELECT setval({literal(target)}, last_value, is_called) FROM {source}")
        for column, sequence in facts["serials"].items():
            server.do(f"ALTER SEQUENCE {quoted(schema, sequence)} OWNED BY {coming.sql}.{quoted(column)}")
        for number, (name, new, old) in enumerate(facts["names"]):
            away, come = (new, old) if is_rollback else (old, new)
            change = "ALTER TABLE IF EXISTS" if number else "ALTER TABLE"  # indexes may have been dropped meanwhile
            server.do(
                f"{change} {quoted(schema, name)} RENAME TO {quoted(away)}",
                f"{change} {quoted(schema, come)} RENAME TO {quoted(name)}",
            )

    def _set_record(self, fingerprint: EmbeddingFingerprint | None, before: Any = None) -> Any:
        """Write the record into the metadata of the collection, or put back what was there.

        Returns:
            The collection's metadata before.
        """
        table = self.table
        assert table.collection is not None
        where = f"FROM {table.collections} WHERE uuid = {literal(table.collection.uuid)}::uuid"
        text = self.server.one(f"SELECT cmetadata::text {where}")[0]
        metadata = None if text is None else json.loads(text)
        if fingerprint is None:
            old = None if before is None else json.loads(before)
            key = set(metadata_with({}, self.run.fingerprint) or ())
            wanted = {k: v for k, v in (metadata or {}).items() if k not in key}
            wanted |= {k: v for k, v in (old or {}).items() if k in key}
            same = wanted == (old or {})
            content = before if same else json.dumps(wanted)
        else:
            content = json.dumps(metadata_with(metadata, fingerprint))
        self.server.do(
            f"UPDATE {table.collections} SET cmetadata = {literal(content)} "
            f"WHERE uuid = {literal(table.collection.uuid)}::uuid"
        )
        return text

    def _sequences(self, table: Table, kind: Literal["a", "i"]) -> dict[str, str]:
        """Sequences that belong to columns: of serial ones (`a`), or of identities (`i`)."""
        query = (
            "SELECT a.attname, c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' "
            "JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
            "WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s "
            "AND d.deptype = %s"
        )
        return dict(self.server.all(query, [table.oid, kind]))


def _patiently(action: Callable[[], None]) -> None:
    """Try again when somebody else holds a lock for long."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            return action()
        except StoreBusyError:
            if attempt + 1 == LOCK_ATTEMPTS:
                raise
            time.sleep(LOCK_SECONDS / 2)
    return None
