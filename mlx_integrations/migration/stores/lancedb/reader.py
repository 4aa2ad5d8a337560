"""Reads a table of LanceDB: the one of a store, or one that a run made."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlx_integrations.adapters.store_records.lancedb import record_in, table_name
from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation, as_document
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts
from mlx_integrations.migration.stores.lancedb.folders import bytes_below, is_writable, state_of
from mlx_integrations.migration.stores.lancedb.indexes import index_for, index_of_vectors, indexes_of
from mlx_integrations.migration.stores.lancedb.table import (
    READ_ROWS,
    Content,
    LanceTable,
    embedding_functions,
    model_of,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SUFFIX", "LanceReader", "references"]

SUFFIX: Final = ".lance"
_ATTEMPTS: Final = 3


class LanceReader:
    """A table of a database.

    Args:
        location: Of the store.
        folder: The database, which is the store's own or one that a run made.
        name: The table.
        columns: Names of the columns of vectors and texts, where they are not to be guessed.
    """

    def __init__(self, location: StoreLocation, folder: Path, name: str, columns: tuple[str, str]) -> None:
        self._location = location
        self._folder = folder
        self._name = name
        self._columns = columns
        self._opened: tuple[str, LanceTable] | None = None

    @property
    def location(self) -> StoreLocation:
        """Where the store is."""
        return self._location

    @property
    def table_folder(self) -> Path:
        """The folder of the table."""
        return self._folder / f"{self._name}{SUFFIX}"

    def describe(self) -> StoreInfo:
        """What the table shows, and what of it cannot be migrated or kept."""
        for _ in range(_ATTEMPTS):
            begun = self.state()
            try:
                return self._described(self._table())
            except StoreError:  # its files may have been cleaned up while they were read
                if self.state() == begun:
                    raise
        return self._described(self._table())

    def _described(self, table: LanceTable) -> StoreInfo:
        try:
            record = record_in(table.field.metadata or {}, table_name(self._name))
        except SidecarError:
            record = None
        count = len(table.row_ids())
        dimensions = (table.dimensions,) if count else ()
        index = index_of_vectors(table)
        functions = [each for each in embedding_functions(table.schema) if table.makes_vectors(each)]
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=dimensions,
            # Without an index it is the distance that LanceDB takes unless a search names another one.
            metric="euclidean" if index is None else index.metric,
            index=index_for(index, ""),
            fingerprint=record,
            likely_model=likely_model(dimensions, fingerprint=record, hints=[model_of(each) for each in functions]),
            bytes=bytes_below(self.table_folder),
            findings=tuple(self._findings(table)),
            extra={"vectors": table.columns.vector, "texts": table.columns.text, "version": table.handle.version},
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        """The rows that have a vector, in the order of their row ids."""
        for each in self._contents(after):
            yield _row(each)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        """The same rows, as the framework that filled the table gives them."""
        has_ids = self._table().columns.id is not None
        for each in self._contents(after):
            document = as_document(_row(each))
            if not has_ids:  # what is shown of such rows does not tell them apart
                yield replace(document, id=document.key)
            elif each.node is None:
                yield document
            else:
                yield replace(document, content=each.own_text or "", metadata=each.node, framework="llama-index")

    def _contents(self, after: str | None) -> Iterator[Content]:
        begun = self.state()
        table = self._table()
        ids = table.row_ids()
        if after is not None:
            ids = ids[ids > int(after)]
        for first in range(0, len(ids), READ_ROWS):
            try:
                part = list(table.contents(ids[first : first + READ_ROWS].tolist()))
            except StoreError:
                if self.state() == begun:
                    raise
                return  # its files were cleaned up; whoever reads a store compares its state, and reads it again
            yield from part

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        """The vectors of some rows."""
        return self._table().vectors([int(key) for key in keys])

    def state(self) -> str:
        """A short text that changes with each commit."""
        return state_of(self.table_folder)

    def close(self) -> None:
        """Let go of the table."""
        self._opened = None

    def _table(self) -> LanceTable:
        """The table as it is now."""
        state = state_of(self.table_folder)
        if state == "missing":
            raise StoreError(
                f"`{self.table_folder}` is no table of LanceDB, or was cut off while it was made.",
                store=str(self._location),
            )
        if self._opened is None or self._opened[0] != state:
            vector, text = self._columns
            self._opened = state, LanceTable(self._folder, self._name, vector=vector, text=text)
        return self._opened[1]

    def _findings(self, table: LanceTable) -> Iterator[Finding]:
        missing = [row.id for row in self._without_text(table)]
        if missing:
            yield missing_texts(len(missing), missing)
        if table.field.nullable and (without := len(table.all_row_ids()) - len(table.row_ids())):
            message = "They have no vector, and keep none."
            yield Finding(code="missing-vectors", message=message, count=without)
        if not is_writable(self.table_folder):
            message = "Who migrates has to be able to write to its files, and to the folder of the database."
            yield Finding(code="missing-privilege", message=message, is_blocking=True)
        for index in indexes_of(table):
            if not index.can_be_made:
                yield Finding(
                    code="index-lost",
                    message=f"The index `{index.name}` is a `{index.kind}`, which is not made again.",
                    examples=(index.column,),
                )
        for each in embedding_functions(table.schema):
            if table.makes_vectors(each):
                yield Finding(
                    code="embedding-function",
                    message=f"LanceDB makes vectors for it with `{model_of(each)}`, and will not do so any more.",
                )
        if kept := references(self.table_folder):
            yield Finding(
                code="tags",
                message="Tags or branches keep earlier versions: deleting the old vectors is left to `optimize`.",
                count=len(kept),
                examples=tuple(kept[:EXAMPLES]),
            )

    def _without_text(self, table: LanceTable) -> Iterator[Row]:
        found = table.row_ids_without_text()
        for first in range(0, len(found), READ_ROWS):
            for each in table.contents(found[first : first + READ_ROWS].tolist()):
                if not (each.text or "").strip():  # what is embedded of a node has its metadata, too
                    yield _row(each)


def references(place: Path) -> list[str]:
    """Names of the tags and branches of a table."""
    return sorted(path.stem for path in (place / "_refs").rglob("*.json"))


def _row(content: Content) -> Row:
    return Row(key=str(content.number), id=content.id, text=content.text, metadata=content.values)
