"""Where answers are kept: in memory, or in one SQLite file that several processes may share.

Both are bounded in bytes and in time, forget what was not used for longest, and are safe from any thread. A cache never
makes a call fail: what cannot be read or written counts as missing, and a line of log says so.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from mlx_integrations.errors import ConfigurationError, InvalidRequestError

__all__ = ["MemoryResponses", "ResponseStore", "SQLiteResponses"]

_T = TypeVar("_T")
_MAX_BYTES: Final = 64 * 2**20
_DAY_SECONDS: Final = 86_400.0
_APPLICATION_ID: Final = 0x6D6C7869  # "mlxi": https://www.sqlite.org/pragma.html#pragma_application_id
_FORMAT: Final = 1
_BUSY_SECONDS: Final = 2.0
_ROW_BYTES: Final = 128  # what a row takes beside its value: key, times, its place in two indexes
_KEPT_SHARE: Final = 0.9  # of the bound: so that not every new answer has to make room
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY, size INTEGER NOT NULL, made REAL NOT NULL, used REAL NOT NULL, value BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS answers_used ON answers (used, size);
"""
_logger = logging.getLogger(__name__)


class ResponseStore(Protocol):
    """Keeps bytes by key."""

    @property
    def is_on_disk(self) -> bool:
        """Whether what is kept outlives the process: then nothing private goes there, and event loops do not wait."""
        ...

    def get(self, key: str) -> bytes | None:
        """What is kept; `None` if nothing is, or it is too old."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep something, if it is not larger than all there may be."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class MemoryResponses:
    """Answers of this process.

    Args:
        max_bytes: All of them together at most.
        max_age_seconds: How long one counts; `None` means for ever.
        clock: Seconds that only go up.
    """

    is_on_disk = False

    def __init__(
        self,
        *,
        max_bytes: int = _MAX_BYTES,
        max_age_seconds: float | None = _DAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(max_bytes, max_age_seconds)
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> bytes | None:
        """What is kept; `None` if nothing is, or it is too old."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            made, value = found
            if self._max_age_seconds is not None and self._clock() - made > self._max_age_seconds:
                self._drop(key)
                return None
            self._kept.move_to_end(key)
            return value

    def put(self, key: str, value: bytes) -> None:
        """Keep something, if it is not larger than all there may be."""
        size = len(value) + _ROW_BYTES
        if size > self._max_bytes:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = (self._clock(), value)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _drop(self, key: str) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1]) + _ROW_BYTES


class SQLiteResponses:
    """Answers in one file that only its owner may read; processes may share it.

    Nothing is opened before the first answer is asked for. A damaged file is put aside as `<name>.damaged`, and the
    cache starts afresh.

    Args:
        path: The file; its folder is made if need be.
        max_bytes: All answers together at most; the file stays a little larger.
        max_age_seconds: How long one counts; `None` means for ever.
        clock: Seconds since 1970: processes have to agree on it.
    """

    is_on_disk = True

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes: int = _MAX_BYTES,
        max_age_seconds: float | None = _DAY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check(max_bytes, max_age_seconds)
        self.path = Path(path).expanduser()
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        self._process = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ask(lambda db: int(db.execute("SELECT count(*) FROM answers").fetchone()[0])) or 0

    def get(self, key: str) -> bytes | None:
        """What is kept; `None` if nothing is, or it is too old.

        Raises:
            ConfigurationError: The file is a database of another program.
        """
        return self._ask(lambda db: self._get(db, key))

    def put(self, key: str, value: bytes) -> None:
        """Keep something, if it is not larger than all there may be.

        Raises:
            ConfigurationError: The file is a database of another program.
        """
        if len(value) + _ROW_BYTES <= self._max_bytes:
            self._ask(lambda db: self._put(db, key, value))

    def clear(self) -> None:
        """Forget everything, and give the disk back its space."""
        self._ask(lambda db: db.executescript("PRAGMA secure_delete = ON; DELETE FROM answers; VACUUM;"))

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            self._close()

    def _get(self, db: sqlite3.Connection, key: str) -> bytes | None:
        now = self._clock()
        row = db.execute("SELECT value, made FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        # One from the future was made before somebody set the clock back; when it grows old is anybody's guess.
        if self._max_age_seconds is not None and not 0 <= now - row[1] <= self._max_age_seconds:
            db.execute("DELETE FROM answers WHERE key = ?", (key,))
            return None
        db.execute("UPDATE answers SET used = ? WHERE key = ?", (now, key))
        return bytes(row[0])

    def _put(self, db: sqlite3.Connection, key: str, value: bytes) -> None:
        now = self._clock()
        with db:
            db.execute("BEGIN IMMEDIATE")
            if self._max_age_seconds is not None:
                db.execute("DELETE FROM answers WHERE made < ? AND key <> ?", (now - self._max_age_seconds, key))
            row = (key, len(value) + _ROW_BYTES, now, now, value)
            db.execute("INSERT OR REPLACE INTO answers (key, size, made, used, value) VALUES (?, ?, ?, ?, ?)", row)
            total = db.execute("SELECT sum(size) FROM answers").fetchone()[0]
            if total > self._max_bytes:
                self._make_room(db, key, total - int(self._max_bytes * _KEPT_SHARE))

    def _make_room(self, db: sqlite3.Connection, newest: str, needed: int) -> None:
        """Drop what was not used for longest; what has just come stays."""
        gone: list[tuple[str]] = []
        for key, size in db.execute("SELECT key, size FROM answers WHERE key <> ? ORDER BY used", (newest,)):
            if needed <= 0:
                break
            gone.append((key,))
            needed -= size
        db.executemany("DELETE FROM answers WHERE key = ?", gone)

    def _ask(self, ask: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Ask the database; `None` if it cannot answer."""
        with self._lock:
            for is_second_try in (False, True):
                try:
                    return ask(self._open())
                except (sqlite3.OperationalError, OSError) as error:
                    # Locked for too long, a full disk, a folder that may not be written: the next call may do better.
                    self._close()
                    _logger.warning("The cache of answers `%s` could not be used: %s.", self.path, error)
                    return None
                except sqlite3.DatabaseError as error:
                    self._close()
                    if is_second_try or not self._put_aside(error):
                        return None
        return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        if self._connection is not None:
            # Opened before a fork: the parent's, and not even to be closed here (sqlite.org/howtocorrupt.html, 2.6).
            self._inherited.append(self._connection)
            self._connection = None
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        if self.path.stat().st_mode & 0o077:
            self.path.chmod(0o600)
        # SQLite gives its own files beside it the same rights.
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._connection, self._process = db, os.getpid()
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        (owner,), (version,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner != _APPLICATION_ID and tables:
            raise ConfigurationError(
                f"`{self.path}` is a database of another program.", hint="Name another file for the cache of answers."
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if tables and version != _FORMAT:
            db.execute("DROP TABLE IF EXISTS answers")
        db.executescript(f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_FORMAT}; {_TABLES}")

    def _put_aside(self, error: sqlite3.DatabaseError) -> bool:
        """Move a damaged file out of the way; whether that could be done."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        _logger.warning(
            "The cache of answers `%s` is damaged (%s): it is put aside as `%s`, and starts afresh.",
            self.path,
            error,
            aside.name,
        )
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
        except OSError as problem:
            _logger.warning("It could not be put aside: %s.", problem)
            return False
        return True

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._process == os.getpid():
            connection.close()


def _check(max_bytes: int, max_age_seconds: float | None) -> None:
    if max_bytes < 1:
        raise InvalidRequestError(f"`max_bytes` cannot be {max_bytes}.", field="max_bytes")
    if max_age_seconds is not None and not max_age_seconds > 0:
        raise InvalidRequestError(f"`max_age_seconds` cannot be {max_age_seconds}.", field="max_age_seconds")
