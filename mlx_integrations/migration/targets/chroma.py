"""A new collection of Chroma, as LangChain or LlamaIndex would fill it.

Where there is no database yet, a folder with one is built beside its place and gets its name by one rename. In a
database that exists, the collection is built under a name of its own and gets its name in one transaction; as long as
its run is kept, its metadata say which run made it.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mlx_integrations.adapters.store_records.chroma import write_record
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Document, Framework, Held, Loss, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.chroma.client import (
    add_rows,
    delete_collection,
    hand_on_rights,
    hide_vectors,
    opened_client,
)
from mlx_integrations.migration.stores.chroma.file import DATABASE, DOCUMENT, URI, ChromaFile, Collection
from mlx_integrations.migration.stores.chroma.store import KIND, BuiltCollection
from mlx_integrations.migration.stores.json_numbers import TOLD_DIGITS, settled, settled_row
from mlx_integrations.migration.stores.llama_index_nodes import NODE
from mlx_integrations.migration.targets.names import CHROMA, check_name
from mlx_integrations.migration.targets.place import FolderPlace, existing_folder, not_built, taken
from mlx_integrations.migration.targets.values import (
    LEFT_OUT,
    MARKS_NODES,
    Changed,
    is_unicode,
    losses_of_class,
    survivors,
)

__all__ = ["ChromaTarget"]

_SPACES: Final = {"euclidean": "l2", "cosine": "cosine", "dot": "ip"}
_RUN: Final = "mlxi_run"
_OWN_NAMES: Final = ("#", "$", "chroma:")
_WHOLE_NUMBERS: Final = range(-(2**63), 2**63)
_URI_TOLD: Final = "kept where Chroma keeps the address of a document, which LangChain does not show"
_TOLD_ZERO: Final = "`-0.0`, which SQLite keeps as `0.0`"
_ROW_BYTES: Final = 2_000
_FLOAT_BYTES: Final = 4


class ChromaTarget:
    """A collection of a persistent Chroma. Implements `Target`.

    Args:
        folder: The folder of the database, which may exist.
        name: The collection, which may not.

    Raises:
        StoreError: No collection can have that name.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        path = Path(folder).expanduser().absolute()
        check_name(name, CHROMA, str(path))
        self._name = name
        self._location = StoreLocation(kind=KIND, address=str(path), name=name)
        self._place = FolderPlace(self._location, path)
        self._file = ChromaFile(path)

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        return self._location

    @property
    def frameworks(self) -> frozenset[Framework]:
        """Both fill collections, each in its own way."""
        return frozenset({"langchain", "llama-index"})

    @property
    def has_unique_ids(self) -> bool:
        """A collection has one document of an id."""
        return True

    @property
    def folder(self) -> Path | None:
        """The nearest folder that exists."""
        return existing_folder(self._location.path)

    def check(self, run: Run | None = None) -> None:
        """Look whether the name is free."""
        if self._is_in_folder(run):
            self._place.check(run)
        elif self._place.is_published():
            raise StoreError(
                f"The database at `{self._location.path}` was made by another run, which may still be taken back.",
                store=str(self.location),
                hint="Finish that one first, with `mlxi migrate gc`.",
            )
        elif (there := self._collections().get(self._name)) and not (run and there.metadata.get(_RUN) == run.id):
            raise taken(self.location)

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors are kept twice at first, and texts are indexed."""
        return source.count * (2 * _FLOAT_BYTES * dimensions + _ROW_BYTES) + 2 * (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """The same where Chroma has it."""
        return metric if metric in _SPACES else "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """Chroma has one kind."""
        if wanted and wanted != "HNSW":
            raise StoreError(
                f"Chroma makes no index of the kind `{wanted}`.", store=str(self.location), hint="Leave it out."
            )
        return "HNSW"

    def held(self, document: Document) -> Held:
        """Metadata of Chroma are texts, numbers, truths, and lists of one of them.

        A node of LlamaIndex has all of its metadata in itself: what cannot be among the collection's is not lost, but
        cannot be asked for either.
        """
        is_node = document.framework == "llama-index"
        metadata, losses = survivors(
            document.metadata, _kept_of_node if is_node else _kept_of_document, is_blocking=not is_node
        )
        if URI in metadata:
            losses = (*losses, Loss(key=URI, reason=_URI_TOLD, is_blocking=False))
        changed = [name for name, value in metadata.items() if settled(value) != value]
        losses += tuple(Loss(key=name, reason=TOLD_DIGITS, is_blocking=False) for name in changed)
        zeros = [name for name in metadata if _has_lost_sign(document.metadata.get(name))]
        losses += tuple(Loss(key=name, reason=_TOLD_ZERO, is_blocking=False) for name in zeros)
        if is_node:
            metadata[DOCUMENT] = document.content
            losses += losses_of_class(document)
        row = Row(
            key=document.key,
            id=document.id,
            text=document.text,
            metadata=metadata,
            refused=_refusal(document, metadata),
        )
        return Held(row=settled_row(row), losses=losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own."""
        self.check(run)
        if self._is_in_folder(run):
            with self._place.filling(run, source.location) as folder, opened_client(folder, is_new=True) as client:
                self._fill(client, self._name, run, rows)
            return
        with opened_client(self._location.path) as client:
            for name in (self._part(run), self._built(run)):
                delete_collection(client, self._file, name)
            self._file.delete_lists()
            self._fill(client, self._part(run), run, rows, {_RUN: run.id}).modify(name=self._built(run))
        hand_on_rights(self._file, self._built(run), None)

    def built(self, run: Run) -> BuiltCollection:
        """The collection."""
        if self._is_in_folder(run):
            folder = self._place.built(run)
            return BuiltCollection(StoreLocation(kind=KIND, address=str(folder), name=self._name), self._name)
        names = self._collections()
        name = self._name if self._is_own(names.get(self._name), run) else self._built(run)
        if name not in names:
            raise not_built(self.location)
        return BuiltCollection(self.location, name)

    def published(self, run: Run) -> Published:
        """Whether it has its name."""
        if self._is_in_folder(run):
            return self._place.published(run)
        return "new" if self._is_own(self._collections().get(self._name), run) else "nothing"

    def publish(self, run: Run) -> None:
        """Give it its name."""
        if self._is_in_folder(run):
            self._place.publish(run)
            return
        names = self._collections()
        if self._is_own(names.get(self._name), run):
            return
        if self._built(run) not in names:
            raise not_built(self.location)
        if self._name in names:
            raise taken(self.location)
        self._rename({names[self._built(run)].id: self._name})

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        if self._is_in_folder(run):
            self._place.rollback(run)
            return
        names = self._collections()
        if self._is_own(there := names.get(self._name), run) and there is not None:
            self._rename({there.id: self._built(run)})

    def discard(self, run: Run) -> None:
        """Delete what is not in use."""
        if self._is_in_folder(run):
            self._place.discard(run)
            return
        names = self._collections()
        with opened_client(self._location.path) as client:
            for name in (self._part(run), self._built(run)):
                delete_collection(client, self._file, name)
            if self._is_own(names.get(self._name), run):
                made = client.get_collection(self._name, embedding_function=None)
                made.modify(metadata={key: value for key, value in made.metadata.items() if key != _RUN})

    def state(self) -> str:
        """That of its rows; of a database that the run made, that of all collections, as they go when it goes."""
        names = self._collections()
        if self._place.is_published():
            return " ".join(f"{name}:{self._state(names[name])}" for name in sorted(names))
        there = names.get(self._name)
        return self._state(there) if there is not None and _RUN in there.metadata else ""

    def close(self) -> None:
        """Nothing is kept open."""

    def _fill(
        self,
        client: Any,
        name: str,
        run: Run,
        rows: Iterator[Embedded],
        metadata: dict[str, Any] | None = None,
    ) -> Any:
        made = client.create_collection(
            name, metadata=metadata, configuration={"hnsw": {"space": _SPACES[run.metric]}}, embedding_function=None
        )
        if metadata is not None:  # beside others, in a folder that has its rights
            hide_vectors(self._file, name)
        write_record(made, run.fingerprint)
        at_once = client.get_max_batch_size()
        for each in rows:
            for first in range(0, len(each.rows), at_once):
                add_rows(made, each.rows[first : first + at_once], each.vectors[first : first + at_once])
        return made

    def _is_in_folder(self, run: Run | None) -> bool:
        """Whether the database comes with the collection; otherwise it was there before."""
        if run is not None and (self._place.has(run)):
            return True
        return not self._has_database()

    def _has_database(self) -> bool:
        return os.access(self._location.path / DATABASE, os.F_OK)  # where nobody may look there is none

    def _collections(self) -> dict[str, Collection]:
        return self._file.collections() if self._has_database() else {}

    def _state(self, collection: Collection) -> str:
        return self._file.state(collection)

    def _is_own(self, collection: Collection | None, run: Run) -> bool:
        return collection is not None and collection.metadata.get(_RUN) == run.id

    def _rename(self, renames: Mapping[str, str]) -> None:
        import sqlite3

        try:
            self._file.swap_names(renames)
        except sqlite3.IntegrityError as error:
            raise taken(self.location) from error

    def _built(self, run: Run) -> str:
        return f"{self._name}.mlxi-{run.id}"

    def _part(self, run: Run) -> str:
        return f"{self._built(run)}.part"


def _refusal(document: Document, metadata: Mapping[str, Any]) -> str:
    if not document.id:
        return "Chroma has no empty ids"
    if not is_unicode(document.id) or not is_unicode(document.content):
        return "Chroma holds no halves of characters in ids and texts"
    if document.framework == "llama-index" and NODE not in metadata:
        return "Chroma holds no halves of characters in nodes"
    return ""


def _kept_of_document(name: str, value: Any) -> Changed:
    return (LEFT_OUT, MARKS_NODES) if name == NODE else _kept(name, value)


def _kept_of_node(name: str, value: Any) -> Changed:
    """LlamaIndex writes nothing as empty text."""
    content, reason = _kept(name, "" if value is None else value)
    return content, reason and f"{reason.removesuffix(', left out')}; kept in the node, but not to be asked for"


def _kept(name: str, value: Any) -> Changed:
    if not is_unicode(name) or not name or (name.startswith(_OWN_NAMES) and not (name == URI and type(value) is str)):
        return LEFT_OUT, "a name that Chroma keeps for itself, left out"
    if isinstance(value, list):
        return _kept_list(value)
    return _kept_value(value)


def _has_lost_sign(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_lost_sign, value))
    return type(value) is float and value == 0 and math.copysign(1, value) < 0


def _kept_list(values: list[Any]) -> Changed:
    kinds = {type(each) for each in values}
    if len(kinds) != 1:
        return LEFT_OUT, "lists that are empty or have values of several kinds, left out"
    parts = [(LEFT_OUT, "lists of lists, left out") if isinstance(each, list) else _kept_value(each) for each in values]
    lost = next((reason for _, reason in parts if reason), "")
    return (
        (LEFT_OUT, f"lists of {lost}" if not lost.startswith("lists") else lost)
        if lost
        else ([each for each, _ in parts], "")
    )


def _kept_value(value: Any) -> Changed:
    if type(value) is str:
        return (value, "") if is_unicode(value) else (LEFT_OUT, "halves of characters, left out")
    if type(value) is bool:
        return value, ""
    if type(value) is int:
        return (value, "") if value in _WHOLE_NUMBERS else (LEFT_OUT, "whole numbers of more than 64 bits, left out")
    if type(value) is float:
        is_finite = value - value == 0
        return (value + 0.0, "") if is_finite else (LEFT_OUT, "numbers that are not finite, left out")
    if value is None:
        return LEFT_OUT, "values of `None`, left out"
    return LEFT_OUT, f"values of `{type(value).__name__}`, left out"
