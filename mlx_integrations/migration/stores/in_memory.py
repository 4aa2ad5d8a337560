"""LangChain's `InMemoryVectorStore`, dumped: one file of JSON with texts and vectors.

    {"doc-1": {"id": "doc-1", "vector": [0.1, ...], "text": "...", "metadata": {...}}, ...}

A new file is written with everything of the old one but the vectors, and takes its place by one rename. Vectors take
twenty bytes a number there, so neither file is ever held in memory.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.likely import SAMPLED_ROWS, likely_model
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation, as_document
from mlx_integrations.migration.stores.file_swap import FileSwap, SwappedStore, file_state, until_changed
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts, several_sizes
from mlx_integrations.migration.stores.json_reader import JsonCursor, JsonFile, Members, Places
from mlx_integrations.migration.stores.langchain_json import is_readable, unescaped_value
from mlx_integrations.sidecar import sidecar_of

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "InMemoryDump"]

KIND: Final = "langchain-in-memory"
_VECTOR: Final = "vector"


class _Entries:
    """An open dump.

    Raises:
        StoreError: It is missing.
    """

    def __init__(self, path: Path) -> None:
        self.file = JsonFile(path)
        self.members = Members(self.file)

    def content(self, cursor: JsonCursor, name: str) -> tuple[dict[str, Any], bytes]:
        """What an entry has, without its vector, and the vector as it is written.

        Raises:
            StoreError: It is no entry of such a store.
        """
        values: dict[str, Any] = {}
        vector = b""
        if cursor.peek() == b"{":
            for part in cursor.members():
                if part == _VECTOR and cursor.peek() in (b"[", b"{"):  # an object in the place of one of NumPy
                    vector = cursor.raw()
                else:
                    values[part] = cursor.read()
        if not vector or not isinstance(values.get("text"), str | None):
            path = self.file.path
            raise StoreError(
                f"`{path}` is no dump of LangChain's `InMemoryVectorStore`: `{name}` has no vector, or no text.",
                store=str(path),
                hint="Name the file that `dump` was given.",
            )
        return values, vector


class _Dump:
    """One file of entries."""

    def __init__(self, location: StoreLocation, swap: FileSwap, path: Path) -> None:
        self._location = location
        self._swap = swap
        self._path = path
        self._opened: tuple[str, _Entries] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        entries = self._entries()
        dimensions: Counter[int] = Counter()
        names = Places()
        missing: list[str] = []
        unreadable: list[str] = []
        unwritten: list[str] = []
        count = 0
        cursor = entries.file.cursor()
        for name in cursor.members():
            names.add("id", name, (0, 0))
            values, vector = entries.content(cursor, name)
            count += 1
            if b"{" in vector:
                unwritten.append(name)
            else:
                dimensions[_size(vector)] += 1
            if not (values.get("text") or "").strip():
                missing.append(name)
            if not is_readable(values.get("metadata")):
                unreadable.append(name)
        cursor.end()
        record = self._swap.record()
        few = [str(number) for number in range(min(count, SAMPLED_ROWS))]
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=tuple(sorted(dimensions)),
            metric="cosine",
            fingerprint=record,
            likely_model=likely_model(tuple(dimensions), fingerprint=record, sample=partial(self.vectors, few)),
            bytes=self._path.stat().st_size,
            findings=tuple(_findings(dimensions, missing, unreadable, unwritten, count - names.count("id"))),
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        return until_changed(self._rows(0 if after is None else int(after) + 1), self.state)

    def _rows(self, first: int) -> Iterator[Row]:
        entries = self._entries()
        for number, name, cursor in entries.members.read(first):
            values, _ = entries.content(cursor, name)
            metadata = values.get("metadata")
            known = metadata if isinstance(metadata, dict) else {}
            yield Row(key=str(number), id=name, text=values.get("text"), metadata=known)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        for row in self.rows(after):
            yield as_document(replace(row, metadata=unescaped_value(row.metadata)))

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        entries = self._entries()
        wanted = [int(key) if key.isdecimal() else -1 for key in keys]
        found: dict[int, Any] = {}
        for number, name, cursor in entries.members.find(wanted):
            found[number] = cursor.parsed(entries.content(cursor, name)[1])
        if not keys:
            for _, name, cursor in entries.members.read():
                return np.empty((0, _size(entries.content(cursor, name)[1])), np.float32)
        vectors = [found.get(number) for number in wanted]
        sizes = {len(vector) for vector in vectors if vector is not None}
        reason = "no such row" if None in vectors else "vectors of several sizes" if len(sizes) > 1 else ""
        if not reason and not all(map(_is_numbers, vectors)):
            reason = "vectors that are no lists of numbers"
        if reason:
            raise StoreError(f"`{self._path}` has {reason} among those asked for.", store=str(self._location))
        return np.array(vectors, np.float32).reshape(len(keys), max(sizes, default=0))

    def state(self) -> str:
        return file_state(self._path)

    def close(self) -> None:
        self._opened = None

    def _entries(self) -> _Entries:
        state = file_state(self._path)
        if self._opened is None or self._opened[0] != state:
            self._opened = state, _Entries(self._path)
        return self._opened[1]


def _is_numbers(vector: Any) -> bool:
    return isinstance(vector, list) and all(isinstance(each, int | float) for each in vector)


def _size(vector: bytes) -> int:
    return vector.count(b",") + 1 if vector[1:-1].strip() else 0


def _findings(
    dimensions: Counter[int],
    missing: Sequence[str],
    unreadable: Sequence[str],
    unwritten: Sequence[str],
    repeated: int,
) -> Iterator[Finding]:
    if len(dimensions) > 1:
        yield several_sizes(dimensions, "Questions fail")
    if repeated:
        message = "Several entries have the same id, and LangChain reads the last of them."
        yield Finding(code="duplicate-ids", message=message, count=repeated)
    if missing:
        yield missing_texts(len(missing), missing)
    if unwritten:
        yield Finding(
            code="unreadable-vectors",
            message="Their vectors are of NumPy, which `dump` could not write, so that `load` refuses the file. The "
            "new ones can be read.",
            count=len(unwritten),
            examples=tuple(unwritten[:EXAMPLES]),
        )
    if unreadable:
        yield Finding(
            code="unreadable-metadata",
            message="Their metadata have values that `dump` could not write, so that `load` refuses the file. They "
            "stay as they are.",
            count=len(unreadable),
            examples=tuple(unreadable[:EXAMPLES]),
        )


class InMemoryDump(SwappedStore, _Dump):
    """A file that `InMemoryVectorStore.dump` wrote. Implements `Store`.

    Args:
        path: The file.

    Raises:
        StoreError: There is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(os.path.realpath(Path(path).expanduser()))
        if not file.is_file():
            raise StoreError(f"`{path}` is no file.", store=str(path), hint="Name the file that `dump` was given.")
        location = StoreLocation(kind=KIND, address=str(file))
        super().__init__(location, FileSwap(location, file, sidecar_of(file, is_file=True)), file)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write a file with the new vectors, and everything else of the old one as it is."""
        state = self.state()
        with self._swap.writing(run) as file:
            file.write(b"{")
            self._write_entries(file, self._entries(), rows)
            file.write(b"\n}" if file.tell() > 1 else b"}")
            if self.state() != state:
                raise self._changed()

    def built(self, run: Run) -> _Dump:
        """The file with the new vectors."""
        return _Dump(self.location, self._swap, self._swap.built(run))

    def replaced(self, run: Run) -> _Dump:
        """The file with the old vectors."""
        swap = self._swap.replaced(run)
        return _Dump(self.location, swap, swap.file)

    def _write_entries(self, file: IO[bytes], source: _Entries, rows: Iterator[Embedded]) -> None:
        entries = source.members.read()
        separator = b"\n"
        for part in rows:
            for row, vector in zip(part.rows, part.vectors.tolist(), strict=True):
                cursor = self._entry_of(row, entries)
                file.write(separator + json.dumps(row.id).encode() + b": ")
                _copy_entry(file, cursor, vector)
                separator = b",\n"

    def _entry_of(self, row: Row, entries: Iterator[tuple[int, str, JsonCursor]]) -> JsonCursor:
        for number, name, cursor in entries:
            if number == int(row.key) and name == row.id:
                return cursor
            cursor.skip()  # it has no vector
        raise self._changed()

    def _changed(self) -> StoreChangedError:
        return StoreChangedError(f"`{self.location}` was changed while it was migrated.", store=str(self.location))


def _copy_entry(file: IO[bytes], cursor: JsonCursor, vector: list[float]) -> None:
    separator = b"{"
    for part in cursor.members():
        content = cursor.raw()
        if part == _VECTOR:
            content = json.dumps(vector).encode()
        file.write(separator + json.dumps(part).encode() + b": " + content)
        separator = b", "
    file.write(b"}")
