"""The journal of one run: what is done, so that a run which was killed goes on, and nothing else is believed.

A batch counts once its rows are committed here and its vectors are what the checksum beside them says. Both are flushed
to the disk at the same time, and before the next batch is written, so a crash at any moment costs at most the batch
that was being written.
"""

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from mlx_integrations.errors import JournalDamagedError, JournalError

__all__ = ["IN_USE", "DeadLetter", "Entry", "Journal", "Phase", "Written"]

Phase = Literal[
    "embedding",
    "embedded",
    "building",
    "built",
    "verified",
    "publishing",
    "published",
    "rolling back",
    "rolled back",
    "discarding",
]
"""How far a run is."""

IN_USE: Final = ("publishing", "published")
"""The phases in which a store may show its new vectors, and those that it had are kept."""

_FORMAT: Final = 1
_APPLICATION_ID: Final = 0x6D6C7869  # "mlxi"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    text BLOB NOT NULL,
    content BLOB NOT NULL,
    pass INTEGER NOT NULL,
    is_truncated INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batch (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, checksum INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS dead_letter (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, reason TEXT NOT NULL, pass INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (at REAL NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
"""
# Made when all rows are embedded: an index that grows in random places costs more than the embedding engine's overhead.
_KEY_INDEX: Final = "CREATE INDEX IF NOT EXISTS entry_of_key ON entry (key)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row that is embedded.

    Attributes:
        position: Where its vector is in the staging file.
        key: The row's key in the store.
        text: Digest of its text.
        content: Digest of id, text and metadata.
        is_truncated: Whether the model read only the beginning of the text.
    """

    position: int
    key: str
    text: bytes
    content: bytes
    is_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A row that cannot be embedded, and why."""

    key: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Vectors in the staging file: their positions and their CRC-32."""

    first: int
    count: int
    checksum: int


class Journal:
    """Opens a run's journal, or begins one. Used by one thread of one process at a time.

    Args:
        path: The file.
        clock: Seconds since the epoch.

    Raises:
        JournalDamagedError: The file is something else, or cannot be read.
        JournalError: It was written by a later version.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._open()
        except sqlite3.DatabaseError as error:
            # What SQLite calls an operational error is one of the disk, or of another process: nothing is damaged.
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise self._broken(str(error)) from error

    def _open(self) -> None:
        connection = self._connection
        (found,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and found != _APPLICATION_ID:
            raise self._broken("it is another program's database")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if sys.platform == "darwin":  # there, fsync alone leaves data in the drive's own memory
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("PRAGMA cache_size = -8000")
        if not tables:
            with self.transaction():
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                self.set_fact("format", _FORMAT)
        if (version := self.fact("format")) != _FORMAT:
            raise JournalError(
                f"`{self.path}` has the format `{version}`, and {_FORMAT} is the newest known.",
                store=str(self.path.parent),
                hint="Update mlx-integrations: a later version goes on with what an earlier one began.",
            )

    def check(self) -> None:
        """Read all of the file, which takes a second for a million rows.

        Raises:
            JournalDamagedError: Some of it cannot be read.
        """
        try:
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._broken(str(error)) from error
        if found != "ok":
            raise self._broken(found)

    def _broken(self, reason: str) -> JournalDamagedError:
        reason = reason.strip().replace("\n", " ")
        return JournalDamagedError(f"The journal `{self.path}` cannot be used: {reason}.", store=str(self.path.parent))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later run opens it again."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within is on the disk at the end, or none of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has rolled back by itself if the disk was full
                self._connection.execute("ROLLBACK")
            raise

    # Facts of the run

    def fact(self, name: str) -> Any:
        """A value that was set; `None` if it was not."""
        row = self._connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        """Keep a value: anything that JSON can hold."""
        self._connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, json.dumps(value)))

    @property
    def phase(self) -> Phase:
        """How far the run is."""
        phase: Phase = self.fact("phase") or "embedding"
        return phase

    def set_phase(self, phase: Phase, detail: str = "", **facts: Any) -> None:
        """Note that the run is further, with what belongs to it; it is on the disk when this returns."""
        with self.transaction():
            for name, value in facts.items():
                self.set_fact(name, value)
            self.set_fact("phase", phase)
            self._note(phase, detail)

    def _note(self, what: str, detail: str) -> None:
        self._connection.execute("INSERT INTO event VALUES (?, ?, ?)", (self._clock(), what, detail))

    def events(self) -> list[tuple[float, str, str]]:
        """What happened, with seconds since the epoch, oldest first."""
        return list(self._connection.execute("SELECT at, what, detail FROM event ORDER BY rowid"))

    # Rows

    def add_batch(
        self,
        entries: Sequence[Entry],
        dead: Sequence[DeadLetter],
        *,
        kept: Sequence[int] = (),
        written: Written,
        number: int,
        cursor: str,
        seconds: float,
    ) -> None:
        """Commit a batch whose vectors are on their way to the disk.

        Args:
            entries: Its rows; their positions are among those written.
            dead: Those that could not be embedded.
            written: The positions that were written, and the CRC-32 of their vectors.
            kept: Positions of rows that an earlier pass embedded and that are as they were.
            number: Of the pass, from 1.
            cursor: The last row's key: the next batch begins after it.
            seconds: What it took.
        """
        with self.transaction():
            execute = self._connection.executemany
            execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)",
                [(e.position, e.key, e.text, e.content, number, e.is_truncated) for e in entries],
            )
            execute(
                "INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?)",
                [(d.key, _shown(d.id), _shown(d.reason), number) for d in dead],
            )
            execute("UPDATE entry SET pass = ? WHERE position = ?", [(number, position) for position in kept])
            if written.count:
                row = (written.first, written.count, written.checksum, seconds)
                self._connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?)", row)
            self.set_fact("cursor", cursor)

    def begin_pass(self, number: int, state: str) -> None:
        """Note that the store is read from its beginning, and what its state was then."""
        with self.transaction():
            for name, value in (("pass", number), ("state", state), ("cursor", None), ("is_complete", False)):
                self.set_fact(name, value)
            if number > 1:
                self._connection.execute(_KEY_INDEX)
            self._note("pass", str(number))

    def end_pass(self, number: int) -> None:
        """Note that every row was seen: those that this pass did not meet are no longer in the store."""
        with self.transaction():
            self._connection.execute("DELETE FROM entry WHERE pass < ?", (number,))
            self._connection.execute("DELETE FROM dead_letter WHERE pass < ?", (number,))
            self._connection.execute(_KEY_INDEX)
            self.set_fact("is_complete", True)

    def last_written(self) -> Written | None:
        """The batch that was committed last."""
        row = self._connection.execute(
            "SELECT first, count, checksum FROM batch ORDER BY first DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Written(first=row[0], count=row[1], checksum=row[2])

    def batches(self) -> Iterator[Written]:
        """What was written to the staging file, in its order."""
        for first, count, checksum in self._connection.execute("SELECT first, count, checksum FROM batch"):
            yield Written(first=first, count=count, checksum=checksum)

    def forget_last_batch(self, cursor: str | None) -> None:
        """Undo the last batch: its vectors are not what was written."""
        last = self.last_written()
        if last is None:
            return
        with self.transaction():
            self._connection.execute("DELETE FROM entry WHERE position >= ?", (last.first,))
            self._connection.execute("DELETE FROM batch WHERE first = ?", (last.first,))
            self.set_fact("cursor", cursor)
            self._note("batch repeated", f"from position {last.first}")

    def next_position(self) -> int:
        """Where the next vector goes."""
        last = self.last_written()
        return 0 if last is None else last.first + last.count

    def key_before(self, position: int) -> str | None:
        """The key of the row before a position; `None` at the beginning."""
        query = "SELECT key FROM entry WHERE position < ? ORDER BY position DESC LIMIT 1"
        row = self._connection.execute(query, (position,)).fetchone()
        return None if row is None else str(row[0])

    def texts(self) -> Iterator[tuple[bytes, int]]:
        """Digests and positions of all texts that are embedded."""
        yield from self._connection.execute("SELECT text, position FROM entry")

    def text_at(self, position: int) -> tuple[bytes, bool] | None:
        """The digest of the text at a position, and whether it was truncated; `None` if there is none."""
        query = "SELECT text, is_truncated FROM entry WHERE position = ?"
        row = self._connection.execute(query, (position,)).fetchone()
        return None if row is None else (row[0], bool(row[1]))

    def entries_of_keys(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries of some rows; a key that is not embedded is left out."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT position, key, text, content, is_truncated FROM entry WHERE key IN ({marks}) ORDER BY position"
        rows = self._connection.execute(query, tuple(keys))
        return {
            key: Entry(position=p, key=key, text=t, content=c, is_truncated=bool(cut)) for p, key, t, c, cut in rows
        }

    def dead_among(self, keys: Sequence[str]) -> set[str]:
        """Those of some rows that could not be embedded."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key FROM dead_letter WHERE key IN ({marks})"
        return {str(key) for (key,) in self._connection.execute(query, tuple(keys))}

    def count_seen(self, number: int) -> int:
        """Rows that a pass has met so far."""
        query = (
            "SELECT (SELECT count(*) FROM entry WHERE pass = ?1) + (SELECT count(*) FROM dead_letter WHERE pass = ?1)"
        )
        return int(self._connection.execute(query, (number,)).fetchone()[0])

    def content_sum(self) -> int:
        """The digest of all embedded rows, whatever their order: the sum of theirs, modulo 2**128."""
        digests = self._connection.execute("SELECT content FROM entry")
        return sum(int.from_bytes(digest, "big") for (digest,) in digests) % (1 << 128)

    def count(self) -> int:
        """Rows that are embedded."""
        return int(self._connection.execute("SELECT count(*) FROM entry").fetchone()[0])

    def count_truncated(self) -> int:
        """Rows of which the model read only the beginning."""
        return int(self._connection.execute("SELECT count(*) FROM entry WHERE is_truncated").fetchone()[0])

    def count_texts(self) -> int:
        """Different texts that are embedded."""
        return int(self._connection.execute("SELECT count(DISTINCT text) FROM entry").fetchone()[0])

    def truncated_texts(self) -> Iterator[bytes]:
        """Digests of the texts of which the model read only the beginning."""
        for (text,) in self._connection.execute("SELECT DISTINCT text FROM entry WHERE is_truncated"):
            yield text

    def embedding_seconds(self) -> float:
        """What all batches took, without the pauses between them."""
        return float(self._connection.execute("SELECT total(seconds) FROM batch").fetchone()[0])

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Rows that could not be embedded."""
        for key, row_id, reason in self._connection.execute("SELECT key, id, reason FROM dead_letter ORDER BY key"):
            yield DeadLetter(key=key, id=row_id, reason=reason)

    def count_dead(self) -> int:
        """How many could not be embedded."""
        return int(self._connection.execute("SELECT count(*) FROM dead_letter").fetchone()[0])


def _shown(text: str) -> str:
    """A text that SQLite takes: it has no halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()
