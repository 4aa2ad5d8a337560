"""A folder of Qdrant's local mode, read and written as what it is: one file of JSON, and one of SQLite a collection.

    meta.json                            collections with their settings, and aliases
    .lock                                locked by the one program that has the folder open
    collection/NAME/storage.sqlite       points: a pickle each

The client loads every point of every collection into memory when it opens a folder, writes to it, and runs what its
pickles ask for. Here they are read one after another and as data: only points and plain values are known, anything else
is refused by name.
"""

import base64
import contextlib
import io
import json
import os
import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import MissingExtraError, StoreBusyError, StoreError
from mlx_integrations.migration.files import flush, flush_folder, take_over_rights
from mlx_integrations.migration.stores.file_swap import file_state
from mlx_integrations.migration.stores.pickle_values import (
    BROKEN,
    RefusedError,
    TangledError,
    as_plain,
)
from mlx_integrations.migration.stores.qdrant.layout import own_id
from mlx_integrations.migration.stores.qdrant.stored_point import PointReader, StoredPoint, check_payload, checked_id

__all__ = ["META", "Meta", "Points", "QdrantFolder", "write_json", "write_points"]

META: Final = "meta.json"
Meta = dict[str, Any]
"""What `meta.json` has: `collections`, `aliases` and, of later clients, `text_indexes`."""

_LOCK: Final = ".lock"
_COLLECTIONS: Final = "collection"
_STORAGE: Final = "storage.sqlite"
_OLD_STORAGE: Final = "storage.dbm"  # of clients before 1.1.7, with endings that depend on the system
_KEY_PROTOCOL: Final = 4  # of the pickled ids that are the keys of the database
_READ_ROWS: Final = 256
_CHANGE_COUNTER: Final = slice(24, 28)  # https://www.sqlite.org/fileformat.html#file_change_counter


class QdrantFolder:
    """A folder. Reading it changes no byte of it.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_held = False

    def meta(self) -> Meta:
        """Collections and aliases.

        Raises:
            StoreError: It is no such folder, or a damaged one.
            StoreBusyError: A program has it open.
        """
        with self.shared():
            return self._meta()

    def _meta(self) -> Meta:
        try:
            content = (self.path / META).read_bytes()
        except OSError as error:
            raise StoreError(
                f"`{self.path / META}` cannot be read: {error.strerror}.",
                store=str(self.path),
                hint="Name the folder that `QdrantClient(path=...)` was given.",
            ) from error
        try:
            meta = json.loads(content)
            if isinstance(meta["collections"], dict) and isinstance(meta["aliases"], dict):
                return dict(meta)
            raise TypeError("no collections or aliases")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"`{self.path / META}` is no list of collections.", store=str(self.path)) from error

    def write_meta(self, meta: Meta) -> None:
        """Replace `meta.json` by one rename, alone in the folder."""
        with self.alone():
            write_json(self.path / META, meta)

    def collection(self, name: str) -> Path:
        """Where a collection is, or would be.

        Raises:
            StoreError: The name leads out of the folder.
        """
        base = (self.path / _COLLECTIONS).resolve()
        place = self.path / _COLLECTIONS / name
        if base not in place.resolve().parents:
            raise StoreError(f"`{name}` is no name of a collection.", store=str(self.path))
        return place

    def points(self, name: str) -> "Points":
        """The points of a collection."""
        return Points(self, self.collection(name) / _STORAGE)

    def delete(self, name: str) -> None:
        """Delete the files of a collection, not those of others: `a/b` of earlier clients is in the folder of `a`."""
        place = self.collection(name)
        if not place.is_dir():
            return
        for file in place.iterdir():
            if not file.is_dir():
                file.unlink(missing_ok=True)
        if not any(place.iterdir()):
            place.rmdir()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Nobody has the folder open meanwhile, as far as programs keep to its lock.

        Raises:
            StoreBusyError: Somebody has.
        """
        with self._locked(is_alone=False):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """As `shared`, and nobody reads it either.

        Raises:
            StoreBusyError: Somebody has it open, or reads it.
        """
        with self._locked(is_alone=True):
            yield

    def unreadable(self, error: OSError) -> StoreError:
        """What is told of a file that cannot be looked at."""
        return StoreError(
            f"`{error.filename}` cannot be read: {error.strerror}.",
            store=str(self.path),
            hint="Run it as the user whose folder it is, or let yours read and write it.",
        )

    @contextmanager
    def _locked(self, *, is_alone: bool) -> Iterator[None]:
        import fcntl

        flags = os.O_RDWR | os.O_CREAT if is_alone else os.O_RDONLY
        try:
            descriptor = -1 if self._is_held else os.open(self.path / _LOCK, flags, 0o644)
        except FileNotFoundError:  # no client has opened it here, or it is no such folder
            descriptor = -1
        except OSError as error:
            raise self.unreadable(error) from error
        if descriptor < 0:
            yield
            return
        try:
            # The same kind of lock that the client takes by way of `portalocker`.
            fcntl.flock(descriptor, (fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreBusyError(
                f"`{self.path}` is open in another program.",
                store=str(self.path),
                hint="Close it there: a folder of Qdrant belongs to one program at a time.",
            ) from error
        self._is_held = is_alone
        try:
            yield
        finally:
            self._is_held = False
            os.close(descriptor)


class Points:
    """The points of one collection, in the order in which they were written.

    Args:
        folder: Of the collection.
        path: The database.
    """

    def __init__(self, folder: QdrantFolder, path: Path) -> None:
        self._folder = folder
        self.path = path

    def state(self) -> str:
        """A short text that changes when a point may have changed."""
        with self._folder.shared():
            try:
                with self.path.open("rb") as file:
                    counter = file.read(100)[_CHANGE_COUNTER].hex()
            except FileNotFoundError:
                counter = ""
            except OSError as error:
                raise self._folder.unreadable(error) from error
            return f"{file_state(self.path)}:{counter}"

    def read(self, after: int = 0) -> Iterator[tuple[int, StoredPoint]]:
        """The points after a row, with their rows.

        Raises:
            StoreError: The database is missing, damaged, or asks for what no point needs.
            StoreBusyError: A program has the folder open.
        """
        for row, content in self._contents(after, self.outdated()):
            yield row, self._unpickled(content)

    def raw(self, rows: Iterable[int]) -> Iterator[tuple[str, bytes]]:
        """Points as they are stored."""
        for row in rows:
            with self._opened() as database:
                found = database.execute("SELECT id, point FROM points WHERE rowid = ?", (row,)).fetchone()
            yield found

    def find(self, wanted: Sequence[tuple[int, str]]) -> list[StoredPoint | None]:
        """Points by their ids, each with the row where it may be."""
        with self._opened() as database:
            return [self._found(database, row, point_id) for row, point_id in wanted]

    def _found(self, database: sqlite3.Connection, row: int, point_id: str) -> StoredPoint | None:
        key = _key(own_id(point_id))
        for query, value in (
            ("SELECT point FROM points WHERE rowid = ?", row),
            ("SELECT point FROM points WHERE id = ?", key),
        ):
            found = database.execute(query, (value,)).fetchone()
            if found is not None and str((point := self._unpickled(found[0])).id) == point_id:
                return point
        return None

    def _contents(self, after: int, outdated: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        query = f"SELECT rowid, point FROM points WHERE rowid > ? ORDER BY rowid LIMIT {_READ_ROWS}"
        while True:
            with self._opened() as database:
                found = database.execute(query, (after,)).fetchall()
            yield from (each for each in found if each[0] not in outdated)
            if len(found) < _READ_ROWS:
                return
            after = found[-1][0]

    def outdated(self) -> frozenset[int]:
        """Rows that another row of the same point has replaced: earlier clients had one for each spelling of an id.

        The last one counts. Keys that are spelt as they are today are told apart by the database.
        """
        rows_of: dict[int | str, set[int]] = {}
        with self._opened() as database:
            unusual = [
                (row, own)
                for row, key in database.execute("SELECT rowid, id FROM points")
                if key != _key(own := _normal(self._unpickled_id(key)))
            ]
            for row, own in unusual:
                usual = database.execute("SELECT rowid FROM points WHERE id = ?", (_key(own),)).fetchone() or ()
                rows_of.setdefault(own, set()).update((row, *usual))
        return frozenset(row for rows in rows_of.values() for row in rows - {max(rows)})

    def _unpickled_id(self, key: str) -> int | str:
        try:
            return checked_id(PointReader(io.BytesIO(base64.b64decode(key))).load())
        except (RefusedError, *BROKEN) as error:
            raise self._broken(error) from error

    def _unpickled(self, content: bytes) -> StoredPoint:
        try:
            point = PointReader(io.BytesIO(content)).load()
            if not isinstance(point, StoredPoint) or not isinstance(point.payload, dict):
                raise TypeError("not a point")
            check_payload(point.payload)
            return point
        except TangledError as error:
            raise StoreError(
                f"`{self.path}` cannot be read: the payload of `{point.id}` {error}.",
                store=str(self._folder.path),
                hint="Give that point another payload.",
            ) from error
        except (RefusedError, *BROKEN) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> StoreError:
        if isinstance(error, RefusedError):
            return StoreError(
                f"`{self.path}` asks for `{error}`, which no point needs. Nothing of it was run.",
                store=str(self._folder.path),
                hint="Do not open the folder with `QdrantClient` unless you know who made it.",
            )
        return StoreError(
            f"`{self.path}` has a damaged point: {type(error).__name__}: {error}.", store=str(self._folder.path)
        )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            is_old = any(self.path.parent.glob(f"{_OLD_STORAGE}*"))
            hint = "Open the folder once with `qdrant-client` 1.1.7, which rewrites it." if is_old else None
            raise StoreError(f"`{self.path}` is missing.", store=str(self._folder.path), hint=hint)
        with self._folder.shared():
            if self.path.with_name(f"{_STORAGE}-journal").exists():
                self._recover()
            try:
                with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                    yield database
            except sqlite3.DatabaseError as error:
                raise StoreError(
                    f"`{self.path}` is no database of Qdrant, or is damaged: {error}.", store=str(self._folder.path)
                ) from error

    def _recover(self) -> None:
        """Take back what a program that was killed had not finished, which SQLite does whenever it may write."""
        with contextlib.suppress(sqlite3.DatabaseError), closing(sqlite3.connect(self.path)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _normal(point_id: int | str) -> int | str:
    """An id as clients spell it today."""
    from uuid import UUID

    try:
        return str(UUID(point_id)) if isinstance(point_id, str) else point_id
    except ValueError:
        return point_id


def _key(point_id: int | str) -> str:
    return base64.b64encode(pickle.dumps(point_id, protocol=_KEY_PROTOCOL)).decode()


def write_points(folder: Path, points: Iterable[tuple[int | str, Any, dict[str, Any]]], raw: Iterable[Any]) -> None:
    """Write the database of a collection into a folder; it is on the disk when this returns.

    Args:
        folder: Of the collection.
        points: Ids, vectors and payloads; of `TextOf` in these the text is written.
        raw: Points to add as they are stored: the key and the content of each.

    Raises:
        MissingExtraError: The client, whose classes the pickles name, is not installed.
    """
    try:
        from qdrant_client.http.models.models import PointStruct, SparseVector
    except ImportError as error:
        raise MissingExtraError("Collections of Qdrant need `qdrant-client`.", extra="qdrant") from error

    def stored(vector: Any) -> Any:
        return SparseVector(**vector) if isinstance(vector, dict) else vector

    def contents() -> Iterator[tuple[str, bytes]]:
        for point_id, vector, payload in points:
            vectors = {name: stored(each) for name, each in vector.items()} if isinstance(vector, dict) else vector
            point = PointStruct.model_construct(id=point_id, vector=vectors, payload=as_plain(payload)[0])
            yield _key(point_id), pickle.dumps(point)
        yield from raw

    path = folder / _STORAGE
    path.touch(mode=0o600)  # until it has the rights of the one that it replaces
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Nobody sees the file before it is whole and flushed.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)")
        database.execute("BEGIN")
        database.executemany("INSERT OR REPLACE INTO points VALUES (?, ?)", contents())
        database.execute("COMMIT")
    with path.open("rb+") as file:
        flush(file.fileno())
    flush_folder(folder)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file as the client does; it is the old one or the new one at any moment."""
    part = path.with_name(f"{path.name}.mlxi-part")
    try:
        with part.open("w") as file:
            file.write(json.dumps(content))
            file.flush()
            flush(file.fileno())
        if path.exists():
            take_over_rights(part, path)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    flush_folder(path.parent)
