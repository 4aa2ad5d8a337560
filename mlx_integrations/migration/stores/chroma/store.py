"""Chroma: a collection of a database in a folder, as LangChain or LlamaIndex fills it.

A collection has one size of vectors for ever, so the new ones get a collection of their own in the same database:

    notes                    in use
    notes.mlxi-RUN.part      new, and being filled
    notes.mlxi-RUN           new, whole and not in use
    notes.mlxi-RUN.old       the old one, while the new one is in use

Both names change in one transaction. The record of the model is part of a collection's metadata and goes with it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.chroma import record_in, write_record
from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation, as_document
from mlx_integrations.migration.stores.chroma.client import (
    add_rows,
    delete_collection,
    hand_on_rights,
    hide_vectors,
    make_pending,
    new_collection,
    opened_client,
)
from mlx_integrations.migration.stores.chroma.file import DOCUMENT, ChromaFile, Collection, Entry
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts
from mlx_integrations.migration.stores.json_numbers import settled_row
from mlx_integrations.migration.stores.llama_index_nodes import NODE, text_of_flat_node

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "BuiltCollection", "ChromaStore"]

KIND: Final = "chroma"
_OURS: Final = ".mlxi-"  # in the name of whatever a migration makes
_SEGMENT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LEVELS: Final = "data_level0.bin"  # in the folder of a collection's vectors
_ASKED_ROWS: Final = 500
_LONGEST_NAME: Final = 480  # of 512, with what a run adds to it


class _Reader:
    """A collection, by the name that it has at the moment."""

    def __init__(self, location: StoreLocation, name: str) -> None:
        self._location = location
        self._name = name
        self._file = ChromaFile(location.path)
        self._copy: tuple[str, tempfile.TemporaryDirectory[str]] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        collection = self._collection()
        try:
            record = record_in(collection.metadata, f"the Chroma collection `{collection.name}`")
        except SidecarError:
            record = None
        count = self._file.count(collection)
        dimensions = (collection.dimensions,) if collection.dimensions is not None and count else ()
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=dimensions,
            metric=collection.metric,
            index="HNSW",
            fingerprint=record,
            likely_model=likely_model(dimensions, fingerprint=record, hints=collection.models),
            bytes=_bytes_of(self._location.path),
            findings=(*self._findings(collection), *self._leftovers()),
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        for row in self._rows(after):
            yield settled_row(row)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        for row in self._rows(after):
            if NODE not in row.metadata:
                yield as_document(row)
                continue
            metadata = dict(row.metadata)
            content = metadata.pop(DOCUMENT) or ""
            yield replace(as_document(row), content=content, metadata=metadata, framework="llama-index")

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        collection = self._collection()
        ids = [key.partition(":")[2] for key in keys]
        found: dict[str, Any] = {}
        if ids:
            with self._asked(collection) as asked:
                for first in range(0, len(ids), _ASKED_ROWS):
                    part = asked.get(ids=sorted(set(ids[first : first + _ASKED_ROWS])), include=["embeddings"])
                    found |= zip(part["ids"], part["embeddings"], strict=True)
        if missing := [own_id for own_id in ids if own_id not in found]:
            raise StoreError(f"`{self._location}` has no vector of `{missing[0]}`.", store=str(self._location))
        if not ids:
            return np.empty((0, collection.dimensions or 0), np.float32)
        return np.array([found[own_id] for own_id in ids], np.float32)

    def state(self) -> str:
        return self._file.state(self._collection())

    def close(self) -> None:
        if self._copy is not None:
            self._copy[1].cleanup()
        self._copy = None

    def _rows(self, after: str | None) -> Iterator[Row]:
        """Rows with the numbers that Chroma shows."""
        first = 0 if after is None else int(after.partition(":")[0])
        for entry in self._file.entries(self._collection(), first):
            yield _row(entry)

    def _collection(self) -> Collection:
        found = self._file.collections()
        if self._name in found:
            return found[self._name]
        hint = (
            f"It has {', '.join(f'`{name}`' for name in sorted(found))}." if found else _nothing_to_migrate(self._file)
        )
        if any(name.startswith(f"{self._name[:_LONGEST_NAME]}{_OURS}") for name in found):
            hint += (
                " It was deleted or given another name while it was migrated. Its old vectors are in the one that ends "
                f"in `.old`, if there is one: `modify(name=...)` of Chroma makes that `{self._name}` again. "
                "`mlxi migrate gc` deletes what the migration has left."
            )
        raise StoreError(
            f"`{self._location.path}` has no collection `{self._name}`.", store=str(self._location), hint=hint
        )

    @contextmanager
    def _asked(self, collection: Collection) -> Iterator[Any]:
        """The collection by Chroma's client, on a copy: the client writes to what it opens."""
        state = self.state()
        if self._copy is None or self._copy[0] != state:
            self.close()
            copy = tempfile.TemporaryDirectory(prefix="mlxi-chroma-", ignore_cleanup_errors=True)
            self._file.copy_to(Path(copy.name))
            vectors = self._location.path / collection.vectors_folder
            if collection.vectors_folder and vectors.is_dir():
                shutil.copytree(vectors, Path(copy.name) / collection.vectors_folder)
            self._copy = state, copy
        with opened_client(Path(self._copy[1].name)) as client:
            yield client.get_collection(self._name, embedding_function=None)

    def _findings(self, collection: Collection) -> Iterator[Finding]:
        if pending := self._file.pending(collection):
            yield Finding(
                code="pending-changes",
                message="Changes that Chroma has written down and not made yet: a program is writing, or was killed. "
                "They stay behind, unless you let Chroma make them: with `count()` of the collection.",
                count=pending,
                is_blocking=True,
            )
        rows = (_row(entry) for entry in self._file.entries(collection, only_without_document=True))
        missing = [row.id for row in rows if not (row.text or "").strip()]
        if missing:
            yield missing_texts(len(missing), missing)

    def _leftovers(self) -> Iterator[Finding]:
        """What Chroma does not delete with a collection: the folder of its vectors."""
        known = self._file.segments()
        left = [folder for folder in self._location.path.iterdir() if _is_vectors_folder(folder, known)]
        if left:
            size = sum(_bytes_of(folder) for folder in left)
            yield Finding(
                code="leftover-folders",
                message=f"Folders of vectors that no collection has any more; they only take room, {size:,} bytes.",
                count=len(left),
                examples=tuple(sorted(folder.name for folder in left)[:EXAMPLES]),
            )


class BuiltCollection(_Reader):
    """A collection that a run made or renamed: its database has been written to already, so it is asked there."""

    @contextmanager
    def _asked(self, collection: Collection) -> Iterator[Any]:
        with opened_client(self._location.path) as client:
            yield client.get_collection(self._name, embedding_function=None)


class ChromaStore(_Reader):
    """A collection of a persistent Chroma. Implements `Store`.

    Args:
        folder: The folder of the database.
        name: The collection; the only one there is if left out.

    Raises:
        StoreError: There is no such database or collection, or there are several and none is named.
    """

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        file = ChromaFile(path)
        names = sorted(file.collections())
        if name is None:
            own = [each for each in names if _OURS not in each]
            if len(own) != 1:
                raise StoreError(
                    f"`{folder}` has {len(own)} collections.",
                    store=str(folder),
                    hint=f"Say which: {', '.join(own)}." if own else _nothing_to_migrate(file),
                )
            name = own[0]
        super().__init__(StoreLocation(kind=KIND, address=str(path), name=name), name)
        # What a run has left behind can be deleted, whatever has become of the collection.
        if not any(each.startswith(f"{name[:_LONGEST_NAME]}{_OURS}") for each in names):
            self._collection()

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own with the new vectors and everything else of the old one."""
        part = f"{self._built(run)}.part"
        old = self._collection()
        with opened_client(self._location.path) as client:
            for name in (part, self._built(run)):
                delete_collection(client, self._file, name)
            self._file.delete_lists()
            made = new_collection(client, part, old)
            if not old.settings.items() <= self._file.collections()[part].settings.items():
                raise StoreError(
                    f"Chroma makes no collection with the settings of `{self.location}`: {dict(old.settings)}.",
                    store=str(self.location),
                    hint="Give it others, with `modify(configuration=...)` of the collection.",
                )
            hide_vectors(self._file, part)
            write_record(made, run.fingerprint)
            self._file.copy_early_settings(old.id, str(made.id))
            at_once = client.get_max_batch_size()
            for each in rows:
                for first in range(0, len(each.rows), at_once):
                    add_rows(made, each.rows[first : first + at_once], each.vectors[first : first + at_once])
            make_pending(client, self._name)  # what came meanwhile changes the store, and is noticed
            made.modify(name=self._built(run))
        hand_on_rights(self._file, self._built(run), old)

    def built(self, run: Run) -> _Reader:
        """The new collection."""
        names = self._file.collections()
        name = self._name if self._old(run) in names else self._built(run)
        if name not in names:
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))
        return BuiltCollection(self.location, name)

    def replaced(self, run: Run) -> _Reader:
        """The old collection."""
        names = self._file.collections()
        if self._old(run) in names:
            return BuiltCollection(self.location, self._old(run))
        if self._built(run) not in names:
            raise self._no_longer_there()
        return _Reader(self.location, self._name)

    def kept_state(self, run: Run) -> str | None:
        """The state of the old collection: a client that had it open knows it by its id, and goes on writing to it."""
        found = self._file.collections().get(self._old(run))
        return None if found is None else self._file.state(found)

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by the names of the collections."""
        names = self._file.collections()
        if self._old(run) not in names:
            return "old"
        return "new" if self._name in names else "between"

    def publish(self, run: Run) -> None:
        """Give the new collection the name, and the old one another."""
        names = self._file.collections()
        if self._old(run) in names:
            return
        if self._built(run) not in names:
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))
        self._rename({names[self._name].id: self._old(run), names[self._built(run)].id: self._name})

    def rollback(self, run: Run) -> None:
        """Give the old collection the name again."""
        names = self._file.collections()
        if self._old(run) in names:
            in_use = {names[self._name].id: self._built(run)} if self._name in names else {}
            self._rename({**in_use, names[self._old(run)].id: self._name})
        elif self._built(run) not in names:
            raise self._no_longer_there()

    def discard(self, run: Run) -> None:
        """Delete the collection that is not in use."""
        names = self._file.collections()
        for name in (f"{self._built(run)}.part", self._built(run), self._old(run)):
            if name in names:
                with opened_client(self._location.path) as client:
                    delete_collection(client, self._file, name)

    def _rename(self, renames: Mapping[str, str]) -> None:
        import sqlite3

        try:
            self._file.swap_names(renames)
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"Another collection in `{self.location.path}` has one of these names: {', '.join(renames.values())}.",
                store=str(self.location),
                hint="Give it another one, and run it again.",
            ) from error

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))

    def _built(self, run: Run) -> str:
        return f"{self._name[:_LONGEST_NAME]}.mlxi-{run.id}"

    def _old(self, run: Run) -> str:
        return f"{self._built(run)}.old"


def _nothing_to_migrate(file: ChromaFile) -> str:
    others = file.elsewhere()
    if not others:
        return "There is nothing to migrate."
    shown = ", ".join(f"`{each}`" for each in others[:EXAMPLES])
    return f"Only those of the default tenant and database are migrated; others have {len(others)}, such as {shown}."


def _row(entry: Entry) -> Row:
    text = entry.document
    metadata = entry.metadata
    if NODE in metadata:
        # LlamaIndex embeds a text with some of its metadata, and stores it alone.
        text = text_of_flat_node(metadata, text or "")
        metadata = {**metadata, DOCUMENT: entry.document}
    return Row(key=f"{entry.number}:{entry.id}", id=entry.id, text=text, metadata=metadata)


def _is_vectors_folder(folder: Path, known: Set[str]) -> bool:
    return _SEGMENT.fullmatch(folder.name) is not None and folder.name not in known and (folder / _LEVELS).is_file()


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
