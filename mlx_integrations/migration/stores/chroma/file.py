"""Chroma's database read as what it is, a file of SQLite. Chroma's own client writes to it as soon as it is opened.

Rows come in the order in which they were added, from one key to the next and never by a count, so that what is deleted
or added meanwhile moves nothing. Vectors are not in this file; they are asked of a client on a copy.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreBusyError, StoreError
from mlx_integrations.migration.records import Metric

__all__ = ["BUSY_SECONDS", "DATABASE", "DOCUMENT", "URI", "ChromaFile", "Collection", "Entry"]

DATABASE: Final = "chroma.sqlite3"
DOCUMENT: Final = "chroma:document"
"""Among the metadata of a row, what Chroma calls its text."""
URI: Final = "chroma:uri"

BUSY_SECONDS = 30.0
"""How long another program may keep the database to itself before that is an error."""

_READ_ROWS: Final = 512
_SPACES: Final[dict[str, Metric]] = {"l2": "euclidean", "cosine": "cosine", "ip": "dot"}
_VALUES: Final = "string_value, int_value, float_value, bool_value"
_OWN_VALUES: Final = "str_value, int_value, float_value, bool_value"

_SCHEMA_FUNCTION: Final = ("keys", "#embedding", "float_list", "vector_index", "config", "embedding_function")
_CONFIG_FUNCTION: Final = ("embedding_function",)

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
        rows_segment: Where its texts and metadata are.
        vectors_folder: The folder of its vectors, relative to the database's.
        models: Names of models that Chroma has noted with it, if it made vectors itself.
    """

    id: str
    name: str
    dimensions: int | None
    metric: Metric
    metadata: Mapping[str, Any]
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
                f"`{self.path}` is no database of Chroma, or is damaged: {error}.", store=str(self.path.parent)
            ) from error

    def _recover(self) -> None:
        """Take back what a program that was killed had not finished, which SQLite does whenever it may write."""
        try:
            with closing(sqlite3.connect(self.path)) as database:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError:
            return  # somebody is writing, or it is damaged: whoever reads it is told

    def collections(self) -> dict[str, Collection]:
        """Every collection of the default database, by name."""
        with self.opened() as database:
            columns = {row[1] for row in database.execute("PRAGMA table_info(collections)")}
            schema = "c.schema_str" if "schema_str" in columns else "NULL"
            config = "c.config_json_str" if "config_json_str" in columns else "NULL"
            query = (
                f"SELECT c.id, c.name, c.dimension, {schema}, {config} FROM collections c "
                "JOIN databases d ON d.id = c.database_id WHERE d.name = 'default_database'"
            )
            found = database.execute(query).fetchall()
            return {row[1]: self._collection(database, *row) for row in found}

    def _collection(
        self, database: sqlite3.Connection, own_id: str, name: str, dimensions: int | None, schema: Any, config: Any
    ) -> Collection:
        query = "SELECT scope, id FROM segments WHERE collection = ?"
        segments = dict(database.execute(query, (own_id,)).fetchall())
        query = f"SELECT key, {_OWN_VALUES} FROM collection_metadata WHERE collection_id = ?"
        metadata = {key: _value(values) for key, *values in database.execute(query, (own_id,))}
        space = _space(schema, config) or metadata.get("hnsw:space") or "l2"
        return Collection(
            id=own_id,
            name=name,
            dimensions=dimensions,
            metric=_SPACES.get(str(space), "unknown"),
            metadata=metadata,
            rows_segment=segments.get("METADATA", ""),
            vectors_folder=segments.get("VECTOR", ""),
            models=tuple(_models(schema, config)),
        )

    def segments(self) -> set[str]:
        """Names of all folders of vectors that collections have, whatever database of this file they are in."""
        with self.opened() as database:
            return {str(row[0]) for row in database.execute("SELECT id FROM segments")}

    def last_change(self, collection: Collection) -> int | None:
        """The number of the last change to a collection's rows; `None` if there was none."""
        with self.opened() as database:
            query = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?"
            found = database.execute(query, (collection.rows_segment,)).fetchone()
            return None if found is None else found[0]

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
        tables = "SELECT 1 FROM sqlite_master WHERE name = 'embedding_metadata_array'"
        if database.execute(tables).fetchone():  # not before Chroma 1.5
            query = f"SELECT id, key, {_VALUES} FROM embedding_metadata_array WHERE id IN ({places}) ORDER BY rowid"
            for number, key, *values in database.execute(query, numbers):
                found.setdefault(number, {}).setdefault(key, []).append(_value(values))
        return found

    def swap_names(self, renames: Mapping[str, str]) -> None:
        """Give collections other names, all of them or none, in this order.

        Chroma's client can rename only one at a time, and no collection would have the name in between.
        """
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA fullfsync = ON")
            database.execute("BEGIN IMMEDIATE")
            for own_id, name in renames.items():
                database.execute("UPDATE collections SET name = ? WHERE id = ?", (name, own_id))
            database.execute("COMMIT")

    def copy_to(self, folder: Path) -> None:
        """Copy the database, in one state, while others may write to it."""
        with self.opened() as source, closing(sqlite3.connect(folder / DATABASE)) as target:
            source.backup(target)


def _value(values: list[Any]) -> Any:
    text, whole, real, truth = values
    if truth is not None:
        return bool(truth)
    return next((each for each in (text, whole, real) if each is not None), None)


def _models(schema: str | None, config: str | None) -> Iterator[str]:
    """The model of the embedding function that a collection was made with, where that is known by name.

    Chroma's client notes it. LangChain leaves nothing there, and collections made for LlamaIndex have the function that
    is used when nobody says, which names no model.
    """
    for text, path in ((schema, _SCHEMA_FUNCTION), (config, _CONFIG_FUNCTION)):
        try:
            function = json.loads(text or "{}")
            for name in path:
                function = function[name]
            model = function["config"]["model_name"]
        except (KeyError, TypeError, ValueError):
            continue
        if isinstance(model, str):
            yield model


def _space(schema: str | None, config: str | None) -> str | None:
    """How a collection compares vectors, by what versions of Chroma from 1.0 on have written."""
    try:
        vectors = json.loads(schema or "{}")["keys"]["#embedding"]["float_list"]["vector_index"]["config"]
        return str(vectors["space"])
    except (KeyError, TypeError, ValueError):
        pass
    try:
        return str(json.loads(config or "{}")["hnsw"]["space"])
    except (KeyError, TypeError, ValueError):
        return None
