"""pgvector: a table of PostgreSQL, or a collection in one, as LangChain or LlamaIndex fills it.

The new vectors get a table of their own beside the old one, with all of its rows, keys, indexes and rights. One
transaction switches over: the two tables change names, or, where a table has other collections too, the rows of this
one get the new vectors. The record of the model is a comment on the column of the vectors, or part of the collection's
metadata.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.pgvector import literal, quoted, record_in_comment, record_in_metadata
from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import (
    Document,
    Metric,
    Row,
    StoreInfo,
    StoreLocation,
    as_document,
)
from mlx_integrations.migration.stores.llama_index_nodes import text_of_flat_node
from mlx_integrations.migration.stores.pgvector.clone import index_limit, wish
from mlx_integrations.migration.stores.pgvector.findings import check_wish, faults, hindrances, sizes_of
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.state import content_state, table_state
from mlx_integrations.migration.stores.pgvector.swap import Swap, column_comment, read_facts
from mlx_integrations.migration.stores.pgvector.tables import (
    PREFIX,
    Table,
    find_table,
    own_table,
    table_named,
    vector_indexes,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "NamedTable", "PgvectorStore"]

KIND: Final = "pgvector"
_NODE: Final = "_node_content"  # where LlamaIndex keeps a node, without its text
_TEXT: Final = "postgresql:text"  # the text of a node, which is not what was embedded, among its metadata
_READ_ROWS: Final = 512
_NO_INDEX: Final = "none"
_COPY_START: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_END: Final = b"\xff\xff"


class _Reader:
    """A table, by the name that it has at the moment. Every question is a transaction of its own, and a short one."""

    def __init__(self, location: StoreLocation, server: Server, wanted: str, own_name: str | None = None) -> None:
        self._location = location
        self._server = server
        self._wanted = wanted
        self._own_name = own_name
        self._seen: Table | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        server, table = self._server, self._table()
        vector = f"t.{quoted(table.vector)}"
        (count,) = server.one(f"SELECT count({vector}) FROM {table.sql} t WHERE {table.rows_of()}")
        indexes = vector_indexes(server, table)
        sizes = sizes_of(server, table)
        metrics = {index.metric for index in indexes}
        record = self._record(table)
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=tuple(sorted(sizes)),
            metric=metrics.pop() if len(metrics) == 1 else "unknown",
            index=", ".join(map(str, indexes)) or _NO_INDEX,
            fingerprint=record,
            likely_model=likely_model(tuple(sizes), fingerprint=record),
            bytes=server.one("SELECT pg_total_relation_size(%s)", [table.oid])[0],
            findings=() if self._own_name else (*faults(server, table, sizes), *hindrances(server, table)),
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        table = self._table()
        key = f"t.{quoted(table.key)}"
        others = [table.json] if table.json is not None else []
        columns = ", ".join(f"t.{quoted(name)}" for name in (*others, *table.metadata))
        # In the order of the key's own index; nothing but the server ever compares keys.
        query = (
            f"SELECT {key}::text, t.{quoted(table.id)}::text, t.{quoted(table.text)}{columns and ', '}{columns} "
            f"FROM {table.sql} t WHERE {table.rows_of()} AND t.{quoted(table.vector)} IS NOT NULL"
        )
        end = f" ORDER BY {key} LIMIT {_READ_ROWS}"
        while True:
            if after is None:
                found = self._server.all(query + end)
            else:
                found = self._server.all(f"{query} AND {key} > {literal(after)}::{table.key_type}{end}")
            for row in found:
                yield _row(table, row)
            if len(found) < _READ_ROWS:
                return
            after = found[-1][0]

    def documents(self, after: str | None = None) -> Iterator[Document]:
        for row in self.rows(after):
            if _TEXT not in row.metadata:
                yield as_document(row)
                continue
            metadata = dict(row.metadata)
            content = metadata.pop(_TEXT) or ""
            yield replace(as_document(row), content=content, metadata=metadata, framework="llama-index")

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        table = self._seen or self._table()
        query = (
            f"SELECT t.{quoted(table.key)}::text, t.{quoted(table.vector)} FROM {table.sql} t WHERE {table.rows_of()} "
            f"AND t.{quoted(table.key)} = ANY(ARRAY[{', '.join(map(literal, keys))}]::text[]::{table.key_type}[])"
        )
        rows = self._server.all(query, binary=True) if keys else []
        kind = ">f4" if table.kind == "vector" else ">f2"
        found = {key: np.frombuffer(content, kind, offset=4) for key, content in rows if content is not None}
        if missing := [key for key in keys if key not in found]:
            raise StoreError(f"`{self._location}` has no vector of `{missing[0]}`.", store=str(self._location))
        if not keys:
            sizes = self.describe().dimensions
            return np.empty((0, sizes[0] if sizes else 0), np.float32)
        if len({len(vector) for vector in found.values()}) > 1:
            message = f"`{self._location}` has vectors of several dimensions."
            raise StoreError(message, store=str(self._location))
        return np.array([found[key] for key in keys], np.float32)

    def state(self) -> str:
        return table_state(self._server, self._table())

    def close(self) -> None:
        self._server.close()

    def _table(self) -> Table:
        self._seen = find_table(self._server, self._wanted)
        if self._own_name is not None:
            self._seen = own_table(self._server, self._seen, self._own_name)
        return self._seen

    def _record(self, table: Table, kept: str | None = "") -> EmbeddingFingerprint | None:
        """The record of a table's vectors; of a collection's, that in metadata which are kept, where some are given."""
        try:
            if table.collection is None:
                return record_in_comment(column_comment(self._server, table), table.shown)
            where = f"WHERE uuid = {literal(table.collection.uuid)}::uuid"
            query = f"SELECT cmetadata::text FROM {table.collections} {where}"
            text = self._server.one(query)[0] if kept == "" else kept
            return None if text is None else record_in_metadata(json.loads(text), table.shown)
        except SidecarError:
            return None


class _OfRun(_Reader):
    """Vectors of a run, new or old, wherever they are: what is known of them without asking goes with them."""

    def __init__(
        self,
        store: "PgvectorStore",
        own_name: str | None,
        metric: Metric,
        fingerprint: EmbeddingFingerprint | None,
    ) -> None:
        super().__init__(store.location, Server(store._server.url), store._wanted, own_name)
        self._metric = metric
        self._fingerprint = fingerprint

    def describe(self) -> StoreInfo:
        return replace(super().describe(), metric=self._metric, fingerprint=self._fingerprint)


class NamedTable(_Reader):
    """A table by its own name, also if it is one of a run.

    Args:
        url: Of the database.
        schema: Of the table.
        name: Of the table.
    """

    def __init__(self, url: str, schema: str, name: str) -> None:
        server = Server(url)
        super().__init__(StoreLocation(kind=KIND, address=server.address, name=f"{schema}.{name}"), server, name)
        self._own = schema, name

    def state(self) -> str:
        """That of its rows: indexes and rights of a new table are still being given to it."""
        return content_state(self._server, self._table())

    def _table(self) -> Table:
        self._seen = table_named(self._server, *self._own)
        return self._seen


class PgvectorStore(_Reader):
    """A table or collection with vectors. Implements `Store`.

    Args:
        url: `postgresql://user@host:port/database`. A password in it is used and shown nowhere; `PGPASSWORD` and
            `~/.pgpass` are read too.
        name: The collection, or the table with its schema; the only one there is if left out.

    Raises:
        StoreError: There is no such database or table, or there are several and none is named.
    """

    def __init__(self, url: str, name: str | None = None) -> None:
        server = Server(url)
        table = find_table(server, name)
        _, mark, columns = (name or "").partition("?")
        wanted = table.shown if name == table.shown else f"{table.shown}{mark}{columns}"
        super().__init__(StoreLocation(kind=KIND, address=server.address, name=wanted), server, wanted)
        self._writer = Server(url, writes=True)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The index that new vectors would get, for a plan.

        Args:
            dimensions: Of the new vectors.
            wanted: What a person wishes; empty for no wish.

        Raises:
            StoreError: What is wished is no index of pgvector, or cannot be built over such vectors.
        """
        table = self._table()
        kind, options = wish(wanted)
        if kind:
            if kind != _NO_INDEX:
                check_wish(self._server, table, kind, dimensions)
            return f"{kind} ({options})" if options else kind
        indexes = vector_indexes(self._server, table)
        limit = min((index_limit(each.opclass) for each in indexes), default=dimensions)
        if dimensions > limit:
            return f"{_NO_INDEX} ({indexes[0].kind} takes at most {limit} dimensions of type {table.kind})"
        return ", ".join(map(str, indexes)) or _NO_INDEX

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a table of its own with the new vectors, and everything else of the old rows."""
        self.index_for(run.fingerprint.dimensions, run.index)
        with self._swap(run) as swap:
            if swap.facts().get("in_use"):
                raise StoreError(f"`{self._location}` has its new vectors in use.", store=str(self._location))
            way = swap.begin()
            source = self.state()
            for each in rows:
                content = b"".join(map(_copied, each.rows, each.vectors))
                statement = f"COPY {swap.sql('vectors')} FROM STDIN (FORMAT binary)"
                self._writer.copy_in(statement, _COPY_START + content + _COPY_END)
            swap.fill(way, source)
            swap.complete(way)

    def built(self, run: Run) -> _Reader:
        """The new table, or the store itself while it has the new vectors."""
        facts = read_facts(self._server, self._table().schema, run)
        if not facts.get("built"):
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))
        name = None if facts["in_use"] else f"{PREFIX}{run.id}_new"
        return _OfRun(self, name, run.metric, run.fingerprint)

    def replaced(self, run: Run) -> _Reader:
        """The old vectors, in use or not.

        Raises:
            StoreError: They are no longer there.
        """
        table = self._table()
        facts = read_facts(self._server, table.schema, run)
        if not facts.get("built"):
            message = f"The old vectors of `{self.location}` are no longer there."
            raise StoreError(message, store=str(self.location))
        if not facts["in_use"]:
            return _OfRun(self, None, run.metric, self._record(table))
        old = own_table(self._server, table, f"{PREFIX}{run.id}_old")
        record = self._record(old, facts.get("record")) if table.collection else self._record(old)
        return _OfRun(self, old.name, run.metric, record)

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the transaction that switches over has noted."""
        return "new" if read_facts(self._server, self._table().schema, run).get("in_use") else "old"

    def publish(self, run: Run) -> None:
        """Switch over to the new vectors, in one transaction."""
        with self._swap(run) as swap:
            swap.publish()

    def rollback(self, run: Run) -> None:
        """Switch back to the old vectors, in one transaction."""
        with self._swap(run) as swap:
            swap.rollback()

    def discard(self, run: Run) -> None:
        """Delete the table that is not in use."""
        with self._swap(run) as swap:
            swap.discard()

    def close(self) -> None:
        """End both connections."""
        super().close()
        self._writer.close()

    @contextmanager
    def _swap(self, run: Run) -> Iterator[Swap]:
        with self._writer.alone(self._table().sql):
            yield Swap(server=self._writer, table=self._table(), run=run)


def _row(table: Table, values: Sequence[Any]) -> Row:
    key, own_id, text, *others = values
    metadata: dict[str, Any] = {}
    if table.json is not None:
        json_value = others.pop(0)
        is_plain = json_value is None or isinstance(json_value, dict)
        metadata = (json_value or {}) if is_plain else {table.json: json_value}
    metadata = {**metadata, **dict(zip(table.metadata, others, strict=True))}
    if table.is_of_nodes and _NODE in metadata:
        # LlamaIndex embeds a text with some of its metadata, and stores it alone.
        text, metadata = text_of_flat_node(metadata, text), {**metadata, _TEXT: text}
    return Row(key=key, id=own_id if own_id is not None else key, text=text, metadata=metadata)


def _copied(row: Row, vector: "NDArray[np.float32]") -> bytes:
    """A key and a vector, as binary COPY has them.

    The format: https://www.postgresql.org/docs/current/sql-copy.html.
    """
    import struct

    key = row.key.encode()
    start = struct.pack(f">hi{len(key)}siHH", 2, len(key), key, 4 + 4 * len(vector), len(vector), 0)
    return start + vector.astype(">f4").tobytes()
