"""Reads JSON files that are larger than memory: a value at a time, and only those that are asked for.

Python's own reader takes a file as a whole; vectors written as text take twenty bytes a number. This one knows where
values begin and end, steps over those that nobody wants, and leaves the rest to Python's.
"""

import json
import os
import re
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import may_not_read

__all__ = ["JsonCursor", "JsonFile", "Members", "Places", "Span"]

Span = tuple[int, int]
"""Where in a file a value begins, and where it ends: bytes."""

_READ_BYTES: Final = 1 << 18
_COMMITTED_PLACES: Final = 10_000
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# A string, a bracket, or the beginning of a string that goes on beyond what was read.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}"]', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+.\w]+")


class JsonFile:
    """An open file. It stays what it was if another file is put in its place.

    Args:
        path: The file.
        read_bytes: How much is read at once.

    Raises:
        StoreError: It is missing.
    """

    def __init__(self, path: Path, *, read_bytes: int = _READ_BYTES) -> None:
        self.path = path
        self.read_bytes = read_bytes
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error
        except PermissionError as error:
            raise may_not_read(path) from error

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, place: int, size: int) -> bytes:
        """Bytes from a place on; fewer only at the end."""
        return os.pread(self._descriptor, size, place)

    def cursor(self, place: int = 0) -> "JsonCursor":
        """A cursor at a place of it."""
        return JsonCursor(self, place)

    def value(self, span: Span) -> Any:
        """The value at a place that `JsonCursor.skip` returned."""
        return self.cursor(span[0]).parsed(self.read(span[0], span[1] - span[0]))


class JsonCursor:
    """A place in a JSON file.

    Args:
        file: The file.
        place: Where to begin, in bytes.

    Attributes:
        name_place: Where the name of the last member began.

    Raises:
        StoreError: In all methods: it is no JSON, or was cut off while it was written.
    """

    def __init__(self, file: JsonFile, place: int = 0) -> None:
        self.name_place = place
        self._file = file
        self._buffer = b""
        self._base = place  # of the buffer, in the file
        self._at = 0  # in the buffer

    @property
    def place(self) -> int:
        """Where it is in the file, in bytes."""
        return self._base + self._at

    def seek(self, place: int) -> None:
        """Go to another place."""
        if self._base <= place <= self._base + len(self._buffer):
            self._at = place - self._base
        else:
            self._buffer, self._base, self._at = b"", place, 0

    def peek(self) -> bytes:
        """The next character that is no space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._more():
                return b""

    def enter(self) -> None:
        """Step into an object."""
        self._expect(b"{")

    def member(self, *, is_first: bool) -> str | None:
        """Step to the value of an object's next member, and return its name; `None` when the object is over.

        Args:
            is_first: Whether no comma stands before it.
        """
        found = self.peek()
        if found == b"}":
            self._at += 1
            return None
        if not is_first:
            self._expect(b",")
            self.peek()
        self.name_place = self.place
        name = self.read()
        if not isinstance(name, str):
            raise self._broken("a name is missing")
        self._expect(b":")
        return name

    def members(self) -> Iterator[str]:
        """Names of an object's members. Each value is to be read or skipped before the next one is asked for."""
        self.enter()
        is_first = True
        while (name := self.member(is_first=is_first)) is not None:
            yield name
            is_first = False

    def skip(self) -> Span:
        """Step over a value."""
        length = self._length()
        start = self.place
        self._at += length
        return start, start + length

    def read(self) -> Any:
        """The next value."""
        return self.parsed(self.raw())

    def raw(self) -> bytes:
        """The next value as it is written."""
        length = self._length()
        content = self._buffer[self._at : self._at + length]
        self._at += length
        return content

    def parsed(self, content: bytes) -> Any:
        """What some of the file means."""
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._broken(str(error)) from error

    def end(self) -> None:
        """See to it that nothing follows."""
        if self.peek():
            raise self._broken("something follows")

    def _expect(self, character: bytes) -> None:
        if self.peek() != character:
            raise self._broken(f"`{character.decode()}` is missing")
        self._at += 1

    def _length(self) -> int:
        """Bytes of the next value, all of which are in the buffer afterwards."""
        first = self.peek()
        if first == b'"':
            return self._string_length()
        if first in (b"[", b"{"):
            return self._nested_length(first)
        while True:
            found = _SCALAR.match(self._buffer, self._at)
            if found is None:
                raise self._broken("a value is missing")
            if found.end() < len(self._buffer) or not self._more():
                return found.end() - self._at

    def _string_length(self) -> int:
        while (found := _STRING.match(self._buffer, self._at)) is None:
            self._need_more()
        return found.end() - self._at

    def _nested_length(self, first: bytes) -> int:
        depth = seen = 0
        while True:
            if first == b"[" and seen <= 1 and (length := self._numbers_length()):
                return length
            for token in _TOKEN.finditer(self._buffer, self._at + seen):
                mark = token.group()
                if mark == b'"':
                    break
                seen = token.end() - self._at
                depth += (mark in (b"[", b"{")) - (mark in (b"]", b"}"))
                if not depth:
                    return seen
            self._need_more()

    def _numbers_length(self) -> int:
        """Bytes of a list in which nothing is nested, such as a vector; 0 if it is none, or not seen to its end."""
        end = self._buffer.find(b"]", self._at)
        if end < 0 or any(self._buffer.find(mark, self._at + 1, end) >= 0 for mark in (b'"', b"[", b"{")):
            return 0
        return end + 1 - self._at

    def _more(self) -> bool:
        """Read on. What lies before the cursor is forgotten."""
        size = max(self._file.read_bytes, len(self._buffer) - self._at)
        content = self._file.read(self._base + len(self._buffer), size)
        self._buffer = self._buffer[self._at :] + content
        self._base += self._at
        self._at = 0
        return bool(content)

    def _need_more(self) -> None:
        if not self._more():
            raise self._broken("its end is missing")

    def _broken(self, reason: str) -> StoreError:
        return StoreError(
            f"`{self._file.path}` is no JSON, or was cut off while it was written: {reason}, at byte {self.place}.",
            store=str(self._file.path.parent),
            hint="Save the store once more with its own library, or restore the file from a copy.",
        )


class Members:
    """The members of a large object by number. Where each of them is, is remembered once it is found: 8 bytes each.

    Args:
        file: The file.
        start: Where in it the object begins.
    """

    def __init__(self, file: JsonFile, start: int = 0) -> None:
        self._file = file
        self._start = start
        self._places = array("q")  # of names

    def read(self, first: int = 0) -> Iterator[tuple[int, str, JsonCursor]]:
        """Numbers and names of members, each with a cursor at its value, which has to be read or skipped.

        Args:
            first: The number to begin with.
        """
        number = max(min(first, len(self._places) - 1), 0)
        cursor = self._file.cursor(self._places[number] if self._places else self._start)
        if not self._places:
            cursor.enter()
        is_first = True
        while (name := cursor.member(is_first=is_first)) is not None:
            is_first = False
            if number == len(self._places):
                self._places.append(cursor.name_place)
            if number < first:
                cursor.skip()
            else:
                yield number, name, cursor
            number += 1

    def find(self, numbers: Iterable[int]) -> Iterator[tuple[int, str, JsonCursor]]:
        """The same of some members, in the order of their numbers; those that do not exist are left out."""
        wanted = sorted(set(numbers))
        if not wanted:
            return
        for _, _, cursor in self.read(len(self._places)) if wanted[-1] >= len(self._places) else ():
            cursor.skip()
            if len(self._places) > wanted[-1]:
                break
        cursor = self._file.cursor()
        for number in wanted:
            if 0 <= number < len(self._places):
                cursor.seek(self._places[number])
                yield number, cursor.member(is_first=True) or "", cursor


class Places:
    """Where in files the values of names are; kept on the disk, gone when nobody refers to it any more."""

    def __init__(self) -> None:
        # Without a name SQLite takes a file that the system deletes however this process ends:
        # https://sqlite.org/inmemorydb.html#temp_db
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE place (kind TEXT, name BLOB, start INTEGER, stop INTEGER, PRIMARY KEY (kind, name)) "
            "WITHOUT ROWID"
        )
        self._waiting: list[tuple[str, bytes, int, int]] = []

    def __del__(self) -> None:
        self._database.close()

    def add(self, kind: str, name: str, span: Span) -> None:
        """Remember one; of two of the same name the last one counts, as for Python's own reader."""
        self._waiting.append((kind, _key(name), *span))
        if len(self._waiting) >= _COMMITTED_PLACES:
            self._commit()

    def find(self, kind: str, name: str) -> Span | None:
        """Where the value of a name is."""
        self._commit()
        query = "SELECT start, stop FROM place WHERE kind = ? AND name = ?"
        found: Span | None = self._database.execute(query, (kind, _key(name))).fetchone()
        return found

    def count(self, kind: str) -> int:
        """How many names of a kind there are."""
        self._commit()
        return int(self._database.execute("SELECT count(*) FROM place WHERE kind = ?", (kind,)).fetchone()[0])

    def _commit(self) -> None:
        if not self._waiting:
            return
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)", self._waiting)
        self._database.execute("COMMIT")
        self._waiting.clear()


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # JSON can hold halves of characters, which SQLite's text cannot
