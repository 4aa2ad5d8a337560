"""Chroma's database read as what it is, a file of SQLite. Chroma's own client writes to it as soon as it is opened.

Rows come in the order in which they were added, from one key to the next and never by a count, so that what is deleted
or added meanwhile moves nothing. Vectors are not in this file; they are asked of a client on a copy.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreBusyError, StoreError
from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.stores.chroma.settings import PREFIX, models_of, schema_without_model, settings_of

__all__ = [
    "BUSY_SECONDS",
    "DATABASE",
    "DATABASE_NAME",
    "DOCUMENT",
    "TENANT",
    "URI",
    "ChromaFile",
    "Collection",
    "Entry",
]

DATABASE: Final = "chroma.sqlite3"
TENANT: Final = "default_tenant"
DATABASE_NAME: Final = "default_database"
"""Where LangChain and LlamaIndex keep their collections, and every client that is not told otherwise."""
DOCUMENT: Final = "chroma:document"
"""Among the metadata of a row, what Chroma calls its text."""
URI: Final = "chroma:uri"

BUSY_SECONDS = 30.0
"""How long another program may keep the database to itself before that is an error."""

_READ_ROWS: Final = 512
_SPACES: Final[dict[str, Metric]] = {"l2": "euclidean", "cosine": "cosine", "ip": "dot"}
_VALUES: Final = "string_value, int_value, float_value, bool_value"
_OWN_VALUES: Final = "str_value, int_value, float_value, bool_value"

_HAS_LISTS: Final = "SELECT 1 FROM sqlite_master WHERE name = 'embedding_metadata_array'"  # not before Chroma 1.5
_OURS: Final = "mlxi_"  # how names of a collection's metadata begin that migrations and guards write
_PRIMARY: Final = 0xFF  # of SQLite's codes: the rest says more of the same
_ID_LETTERS: Final = 36
_CHANGED_BYTES: Final = 8

Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One collection of a database.

    Attributes:
        id: Its own; it keeps it when it is given another name.
        name: What it is called.
        dimensions: Of its vectors; `None` as long as it has none.
        metric: How it compares them.
        metadata: Of the collection itself.
        settings: How it compares and searches, by the names that Chroma has for that today.
        schema: What else it does with each kind of metadata, as Chroma has it, but no model; `None` in early databases.
        rows_segment: Where its texts and metadata are.
        vectors_folder: The folder of its vectors, relative to the database's.
        models: Names of models that Chroma has noted with it, if it made vectors itself.
    """

    id: str
    name: str
    dimensions: int | None
    metric: Metric
    metadata: Mapping[str, Any]
    settings: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    rows_segment: str
    vectors_folder: str
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of a collection.

    Attributes:
        number: Where it is in the order of the rows.
        id: What its owner calls it.
        document: Its text, if it has one.
        metadata: Everything else.
    """

    number: int
    id: str
    document: str | None
    metadata: Values


class ChromaFile:
    """The database of a folder, for reading.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / DATABASE

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection that cannot write.

        Raises:
            StoreError: It is missing, damaged, or of something else.
        """
        if not self.path.is_file():
            raise StoreError(
                f"`{self.path}` is missing.",
                store=str(self.path.parent),
                hint="Name the folder that `PersistentClient` or `persist_directory` was given.",
            )
        if self.path.with_name(f"{DATABASE}-journal").exists():
            self._recover()
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as database:
                yield database
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                message = f"`{self.path}` is being written to by another program."
                raise StoreBusyError(
                    message, store=str(self.path.parent), hint="Wait until it has finished."
                ) from error
            raise StoreError(
                f"`{self.path}` is no database of Chroma, or is damaged: {error}.",
                store=str(self.path.parent),
                hint="If an early version of Chroma wrote it, open it with today's once, which brings it up to "
                "date: `chromadb.PersistentClient(folder).list_collections()`.",
            ) from error

    def _recover(self) -> None:
        """Take back what a program that was killed had not finished, which SQLite does whenever it may write."""
        try:
            with closing(sqlite3.connect(self.path)) as database:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError:
            return  # somebody is writing, or it is damaged: whoever reads it is told

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection for what Chroma's client cannot do; each statement is a transaction of its own."""
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)) as database:
                yield database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise  # a disk that is full
            raise StoreBusyError(
                f"`{self.path}` cannot be written to: {error}.",
                store=str(self.path.parent),
                hint="Wait until whoever is writing to it has finished, and run it again.",
            ) from error

    def collections(self) -> dict[str, Collection]:
        """Every collection of the default database, by name."""
        with self.opened() as database:
            columns = {row[1] for row in database.execute("PRAGMA table_info(collections)")}
            schema = "c.schema_str" if "schema_str" in columns else "NULL"
            config = "c.config_json_str" if "config_json_str" in columns else "NULL"
            query = (
                f"SELECT c.id, c.name, c.dimension, {schema}, {config} FROM collections c "
                "JOIN databases d ON d.id = c.database_id WHERE d.name = ? AND d.tenant_id = ?"
            )
            found = database.execute(query, (DATABASE_NAME, TENANT)).fetchall()
            return {row[1]: self._collection(database, *row) for row in found}

    def elsewhere(self) -> list[str]:
        """Every collection that is in another database of the same file, or another tenant's, with their names."""
        with self.opened() as database:
            query = (
                "SELECT d.tenant_id || '/' || d.name || '/' || c.name FROM collections c "
                "JOIN databases d ON d.id = c.database_id WHERE NOT (d.name = ? AND d.tenant_id = ?) ORDER BY 1"
            )
            return [str(row[0]) for row in database.execute(query, (DATABASE_NAME, TENANT))]

    def _collection(
        self, database: sqlite3.Connection, own_id: str, name: str, dimensions: int | None, schema: Any, config: Any
    ) -> Collection:
        query = "SELECT scope, id FROM segments WHERE collection = ?"
        segments = dict(database.execute(query, (own_id,)).fetchall())
        metadata = _own(database, "collection", own_id)
        vectors = segments.get("VECTOR", "")
        settings = settings_of(schema, config, _own(database, "segment", vectors), metadata)
        return Collection(
            id=own_id,
            name=name,
            dimensions=dimensions,
            metric=_SPACES.get(str(settings.get("space", "l2")), "unknown"),
            metadata=metadata,
            settings=settings,
            schema=schema_without_model(schema),
            rows_segment=segments.get("METADATA", ""),
            vectors_folder=vectors,
            models=tuple(models_of(schema, config)),
        )

    def segments(self) -> set[str]:
        """Names of all folders of vectors that collections have, whatever database of this file they are in."""
        with self.opened() as database:
            return {str(row[0]) for row in database.execute("SELECT id FROM segments")}

    def state(self, collection: Collection) -> str:
        """A short text that changes with a collection's rows, its metadata and its settings."""
        with self.opened() as database:
            database.execute("BEGIN")
            done = _last_change(database, collection)
            written, _ = _pending(database, collection, done)
        metadata = {key: value for key, value in collection.metadata.items() if not key.startswith(_OURS)}
        rest = json.dumps([metadata, dict(collection.settings)], sort_keys=True, default=repr)
        digest = hashlib.blake2b(rest.encode("utf-8", "surrogatepass"), digest_size=_CHANGED_BYTES).hexdigest()
        return f"{collection.id}:{done}<{written}:{digest}>"

    def pending(self, collection: Collection) -> int:
        """How many changes Chroma has written down, and not made yet.

        It writes them to a log first. A program that is killed in between leaves them there, until the next one that
        asks the collection for something.
        """
        with self.opened() as database:
            database.execute("BEGIN")
            return _pending(database, collection, _last_change(database, collection))[1]

    def count(self, collection: Collection) -> int:
        """How many rows it has."""
        with self.opened() as database:
            query = "SELECT count(*) FROM embeddings WHERE segment_id = ?"
            return int(database.execute(query, (collection.rows_segment,)).fetchone()[0])

    def entries(
        self, collection: Collection, after: int = 0, *, only_without_document: bool = False
    ) -> Iterator[Entry]:
        """The rows, in the order in which they were added.

        Args:
            collection: Of this file.
            after: The number of a row; those after it are read.
            only_without_document: Leave out those that have a text.
        """
        condition = ""
        if only_without_document:
            condition = (
                "AND NOT EXISTS (SELECT 1 FROM embedding_metadata m WHERE m.id = e.id AND m.key = 'chroma:document' "
                "AND trim(m.string_value, ' \t\n\r') <> '') "
            )
        # The plus keeps SQLite from an index that would have to be sorted for each batch.
        query = (
            "SELECT e.id, e.embedding_id FROM embeddings e WHERE +e.segment_id = ? AND e.id > ? "
            f"{condition}ORDER BY e.id LIMIT {_READ_ROWS}"
        )
        while True:
            with self.opened() as database:
                database.execute("BEGIN")
                found = database.execute(query, (collection.rows_segment, after)).fetchall()
                metadata = self._metadata(database, [number for number, _ in found])
            for number, own_id in found:
                values = metadata.get(number, {})
                yield Entry(number=number, id=own_id, document=values.pop(DOCUMENT, None), metadata=values)
            if len(found) < _READ_ROWS:
                return
            after = found[-1][0]

    def _metadata(self, database: sqlite3.Connection, numbers: list[int]) -> dict[int, Values]:
        found: dict[int, Values] = {}
        places = ", ".join("?" * len(numbers))
        query = f"SELECT id, key, {_VALUES} FROM embedding_metadata WHERE id IN ({places})"
        for number, key, *values in database.execute(query, numbers):
            found.setdefault(number, {})[key] = _value(values)
        if database.execute(_HAS_LISTS).fetchone():
            query = f"SELECT id, key, {_VALUES} FROM embedding_metadata_array WHERE id IN ({places}) ORDER BY rowid"
            for number, key, *values in database.execute(query, numbers):
                found.setdefault(number, {}).setdefault(key, []).append(_value(values))
        return found

    def swap_names(self, renames: Mapping[str, str]) -> None:
        """Give collections other names, all of them or none, in this order.

        Chroma's client can rename only one at a time, and no collection would have the name in between.

        Raises:
            StoreError: One of them is gone.
            StoreBusyError: Another program keeps the database to itself.
            IntegrityError: Of SQLite: another collection has one of these names.
        """
        with self._writing() as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA fullfsync = ON")
            database.execute("BEGIN IMMEDIATE")
            for own_id, name in renames.items():
                changed = database.execute("UPDATE collections SET name = ? WHERE id = ?", (name, own_id))
                if changed.rowcount != 1:  # nothing is committed when this is left
                    raise StoreError(
                        f"A collection in `{self.path.parent}` was deleted just when it was to be called `{name}`.",
                        store=str(self.path.parent),
                        hint="Look who else works with this database, and run it again.",
                    )
            database.execute("COMMIT")

    def copy_early_settings(self, old_id: str, new_id: str) -> None:
        """Show a collection's settings among the metadata of another one, which has them already.

        Programs read them there; Chroma's client lets nobody write them.
        """
        with self._writing() as database:
            query = (
                f"INSERT OR REPLACE INTO collection_metadata (collection_id, key, {_OWN_VALUES}) "
                f"SELECT ?, key, {_OWN_VALUES} FROM collection_metadata "
                "WHERE collection_id = ? AND substr(key, 1, ?) = ?"
            )
            database.execute(query, (new_id, old_id, len(PREFIX), PREFIX))

    def delete_lists(self, collection: Collection | None = None) -> None:
        """Delete what Chroma leaves behind of the metadata of a collection that is deleted: all that are lists.

        It gives the numbers of deleted rows to new ones, of whatever collection, which then have those lists. Seen with
        1.5.9, and to be removed once `delete_collection` takes them along.

        Args:
            collection: One that is about to be deleted; otherwise, the lists of rows that are gone already.
        """
        values: tuple[str, ...] = ()
        which = "NOT IN (SELECT id FROM embeddings)"
        if collection is not None:
            which, values = "IN (SELECT id FROM embeddings WHERE segment_id = ?)", (collection.rows_segment,)
        with self._writing() as database:
            if database.execute(_HAS_LISTS).fetchone():
                database.execute(f"DELETE FROM embedding_metadata_array WHERE id {which}", values)

    def copy_to(self, folder: Path) -> None:
        """Copy the database, in one state, while others may write to it."""
        with self.opened() as source, closing(sqlite3.connect(folder / DATABASE)) as target:
            source.backup(target)


def _value(values: list[Any]) -> Any:
    text, whole, real, truth = values
    if truth is not None:
        return bool(truth)
    return next((each for each in (text, whole, real) if each is not None), None)


def _own(database: sqlite3.Connection, of: str, own_id: str) -> Values:
    """Metadata of a collection, or of a segment."""
    columns = {row[1] for row in database.execute(f"PRAGMA table_info({of}_metadata)")}
    names = (
        _OWN_VALUES if "bool_value" in columns else _OWN_VALUES.replace("bool_value", "NULL")
    )  # not in early databases
    query = f"SELECT key, {names} FROM {of}_metadata WHERE {of}_id = ?"
    return {key: _value(values) for key, *values in database.execute(query, (own_id,))}


def _last_change(database: sqlite3.Connection, collection: Collection) -> int:
    """The number of the last change that was made to a collection's rows; 0 if there was none."""
    query = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?"
    (found,) = database.execute(query, (collection.rows_segment,)).fetchone() or (0,)
    return int.from_bytes(found, "big") if isinstance(found, bytes) else int(found)  # bytes in early databases


def _pending(database: sqlite3.Connection, collection: Collection, done: int) -> tuple[int, int]:
    """The number of the last change that was written down, and how many have not been made."""
    query = f"SELECT max(seq_id), count(*) FROM embeddings_queue WHERE seq_id > ? AND substr(topic, -{_ID_LETTERS}) = ?"
    last, count = database.execute(query, (done, collection.id)).fetchone()
    return last or done, count
