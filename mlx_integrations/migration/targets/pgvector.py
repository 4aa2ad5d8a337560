"""A new table of PostgreSQL, as `PGVectorStore` of LangChain would fill it.

It is filled under a name of the run's own, and gets its name in one transaction; as long as its run is kept, a comment
on it says which run made it.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.pgvector import comment_statement, comment_with, literal, quoted
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Published, Reader, Run
from mlx_integrations.migration.records import Document, Framework, Held, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.pgvector.clone import INDEX_LIMITS, wish
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.store import KIND, NamedTable
from mlx_integrations.migration.stores.pgvector.tables import PREFIX
from mlx_integrations.migration.targets.place import not_built, taken
from mlx_integrations.migration.targets.values import LEFT_OUT, Changed, is_unicode, survivors, through_strict_json

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PgvectorTarget"]

_MARK: Final = "mlxi_run: "
_OPERATORS: Final[dict[Metric, str]] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2", "manhattan": "l1"}
_COPY_START: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_END: Final = b"\xff\xff"
_ROW_BYTES: Final = 200
_FLOAT_BYTES: Final = 4
_LONGEST_NAME: Final = 63


class PgvectorTarget:
    """A table that `PGVectorStore.create` will open. Implements `Target`.

    Args:
        url: Of the database; a password in it is used and shown nowhere.
        name: The table, with its schema and a dot before it if that is not `public`.
    """

    def __init__(self, url: str, name: str) -> None:
        schema, _, table = name.rpartition(".")
        self._schema, self._name, self._url = schema or "public", table, url
        self._server = Server(url, writes=True)
        self._location = StoreLocation(kind=KIND, address=self._server.address, name=name)

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        return self._location

    @property
    def frameworks(self) -> frozenset[Framework]:
        """Documents of LangChain."""
        return frozenset({"langchain"})

    @property
    def has_unique_ids(self) -> bool:
        """Ids are the table's primary key."""
        return True

    @property
    def folder(self) -> Path | None:
        """It is on the server's disks."""
        return None

    def check(self, run: Run | None = None) -> None:
        """Look whether the name is free, and whether the table can be made there."""
        names = (self._schema, self._name)
        if not all(map(_is_name, names)):
            message = f"`{'.'.join(names)}` is no name of a table: PostgreSQL takes 63 bytes, and no NUL."
            raise StoreError(message, store=str(self.location), hint="Name another one with `--to-name`.")
        if self._exists(self._name) and not (run is not None and self._mark() == run.id):
            raise taken(self.location)
        query = (
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'), pg_is_in_recovery() "
            "FROM pg_namespace WHERE nspname = %s"
        )
        (may_create, is_standby), *_ = self._server.all(query, [self._schema]) or [(None, False)]
        if is_standby:
            message = f"`{self._location.address}` is a standby, which cannot be written to."
            raise StoreError(message, store=str(self.location), hint="Name the primary server.")
        if not may_create:
            there = "may not be made by this user" if may_create is False else "cannot be made: there is no such schema"
            hint = f"`CREATE SCHEMA {quoted(self._schema)}`, or `GRANT CREATE, USAGE ON SCHEMA` to who migrates."
            message = f"A table in the schema `{self._schema}` {there}."
            raise StoreError(message, store=str(self.location), hint=hint)
        self._extension()

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as they are, and at most as much as the source has beside its own."""
        return source.count * (_FLOAT_BYTES * dimensions + _ROW_BYTES) + (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """A question says how to compare; an index is made for one way."""
        return metric if metric in _OPERATORS else "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """The one that is wanted, or none, as LangChain makes none either."""
        kind, options = wish(wanted)
        if kind not in ("", "none") and dimensions > INDEX_LIMITS["vector"]:
            message = f"`{kind}` takes at most {INDEX_LIMITS['vector']} dimensions."
            raise StoreError(message, store=str(self.location), hint="Build without one: `--index none`.")
        return f"{kind} ({options})" if options else kind or "none"

    def held(self, document: Document) -> Held:
        """Metadata are JSON; no text has the character 0."""
        metadata, losses = survivors(document.metadata, _kept)
        is_text = all(is_unicode(text) and "\0" not in text for text in (document.id, document.content))
        refused = "" if is_text else "PostgreSQL holds no NUL and no halves of characters in ids and texts"
        row = Row(key=document.key, id=document.id, text=document.text, metadata=metadata, refused=refused)
        return Held(row=row, losses=losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Fill a table of its own, make the index, and give it the name of what was built."""
        self.check(run)
        self.index_for(source, run.fingerprint.dimensions, run.index)
        server, part = self._server, self._sql(self._part(run))
        extension = self._extension()
        server.do(
            f"DROP TABLE IF EXISTS {part}",
            f"DROP TABLE IF EXISTS {self._sql(self._built(run))}",
            f"CREATE TABLE {part} (langchain_id text PRIMARY KEY, content text NOT NULL, "
            f"embedding {quoted(extension, 'vector')}({run.fingerprint.dimensions}) NOT NULL, "
            "langchain_metadata json)",
        )
        for each in rows:
            content = b"".join(map(_copied, each.rows, each.vectors))
            server.copy_in(f"COPY {part} FROM STDIN (FORMAT binary)", _COPY_START + content + _COPY_END)
        kind, options = wish(run.index)
        with server.transaction():
            if kind not in ("", "none"):
                opclass = quoted(extension, f"vector_{_OPERATORS[run.metric]}_ops")
                server.do(
                    f"CREATE INDEX ON {part} USING {kind} (embedding {opclass})"
                    + (f" WITH ({options})" if options else "")
                )
            server.do(
                comment_statement(part, "embedding", comment_with(None, run.fingerprint)),
                f"COMMENT ON TABLE {part} IS {literal(_MARK + run.id)}",
                f"ALTER TABLE {part} RENAME TO {quoted(self._built(run))}",
            )

    def built(self, run: Run) -> Reader:
        """The table."""
        if self._is_published(run):
            return NamedTable(self._url, self._schema, self._name)
        if not self._exists(self._built(run)):
            raise not_built(self.location)
        return NamedTable(self._url, self._schema, self._built(run))

    def published(self, run: Run) -> Published:
        """Whether it has its name."""
        return "new" if self._is_published(run) else "nothing"

    def publish(self, run: Run) -> None:
        """Give it its name."""
        if self._is_published(run):
            return
        if not self._exists(self._built(run)):
            raise not_built(self.location)
        if self._exists(self._name):
            raise taken(self.location)
        self._rename(self._built(run), self._name)

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        if self._is_published(run):
            self._rename(self._name, self._built(run))

    def discard(self, run: Run) -> None:
        """Drop what is not in use; of what is published only the comment."""
        if self._is_published(run):
            self._server.do(f"COMMENT ON TABLE {self._sql(self._name)} IS NULL")
        for name in (self._part(run), self._built(run)):
            self._server.do(f"DROP TABLE IF EXISTS {self._sql(name)}")

    def state(self) -> str:
        """That of its rows."""
        if self._mark() is None:
            return ""
        reader = NamedTable(self._url, self._schema, self._name)
        try:
            return reader.state()
        finally:
            reader.close()

    def close(self) -> None:
        """End the connection."""
        self._server.close()

    def _rename(self, old: str, new: str) -> None:
        with self._server.transaction():
            self._server.do(f"ALTER TABLE {self._sql(old)} RENAME TO {quoted(new)}")

    def _exists(self, name: str) -> bool:
        return bool(self._server.one("SELECT to_regclass(%s) IS NOT NULL", [self._sql(name)])[0])

    def _is_published(self, run: Run) -> bool:
        return self._mark() == run.id

    def _mark(self) -> str | None:
        """The run that made the table of the name, while it is kept."""
        query = "SELECT obj_description(to_regclass(%s)::oid, 'pg_class')"
        comment = self._server.one(query, [self._sql(self._name)])[0]
        is_mark = isinstance(comment, str) and comment.startswith(_MARK)
        return str(comment).removeprefix(_MARK) if is_mark else None

    def _extension(self) -> str:
        query = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = %s"
        found = self._server.all(query, ["vector"])
        if not found:
            hint = "Have it made there: `CREATE EXTENSION vector`."
            message = f"`{self._location.address}` does not have the extension pgvector."
            raise StoreError(message, store=str(self.location), hint=hint)
        return str(found[0][0])

    def _sql(self, name: str) -> str:
        return quoted(self._schema, name)

    def _built(self, run: Run) -> str:
        return f"{PREFIX}{run.id}_move"

    def _part(self, run: Run) -> str:
        return f"{self._built(run)}_part"


def _is_name(name: str) -> bool:
    return is_unicode(name) and "\0" not in name and 0 < len(name.encode()) <= _LONGEST_NAME


def _kept(name: str, value: Any) -> Changed:
    content, reason = through_strict_json(value)
    if content is not LEFT_OUT and (not is_unicode(name) or "\\u0000" in json.dumps([name, content])):
        return LEFT_OUT, "NUL or halves of characters, left out"
    return content, reason


def _copied(row: Row, vector: "NDArray[np.float32]") -> bytes:
    """A row as binary COPY has it: https://www.postgresql.org/docs/current/sql-copy.html."""
    texts = row.id.encode(), (row.text or "").encode()
    coordinates = struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()
    fields = (*texts, coordinates, json.dumps(dict(row.metadata)).encode())
    return struct.pack(">h", len(fields)) + b"".join(struct.pack(">i", len(field)) + field for field in fields)
