"""A new table of LanceDB, as LangChain or LlamaIndex would fill it.

.notes.mlxi-move-RUN.part/notes.lance    new, and being filled
.notes.mlxi-move-RUN/notes.lance         new, whole, and not in use
notes.lance                              in use; the folder of the run stays, without it, as long as the run is kept
"""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.lancedb import RECORD
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import flush_folder
from mlx_integrations.migration.protocol import Embedded, Published, Reader, Run
from mlx_integrations.migration.records import Document, Framework, Held, Loss, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.lancedb.folders import flush_below
from mlx_integrations.migration.stores.lancedb.store import KIND, LanceDBStore
from mlx_integrations.migration.stores.lancedb.table import filled
from mlx_integrations.migration.stores.llama_index_nodes import NODE, with_text
from mlx_integrations.migration.targets.lancedb_schema import MISSING, Kind, conformed, kind_of, merged
from mlx_integrations.migration.targets.names import LANCEDB, check_name
from mlx_integrations.migration.targets.place import check_room, existing_folder, not_built, rights_of, taken
from mlx_integrations.migration.targets.values import (
    LEFT_OUT,
    MARKS_NODES,
    Changed,
    is_unicode,
    losses_of_class,
    survivors,
    through_strict_json,
)
from mlx_integrations.sidecar import encode

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LanceDBTarget"]

_MADE: Final = "made-the-database"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]").search
_FLOAT_BYTES: Final = 4
_ROW_BYTES: Final = 200
_NODE_TEXT, _NODE_OWNER = "text", "doc_id"


class LanceDBTarget:
    """A table that `lancedb.connect(folder).open_table(name)` will open. Implements `Target` and `Surveys`.

    Args:
        folder: The database, which may exist.
        name: The table, which may not.

    Raises:
        StoreError: No table can have that name.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        path = Path(folder).expanduser().absolute()
        check_name(name, LANCEDB, str(path))
        self._name, self._table = name, path / f"{name}.lance"
        self._location = StoreLocation(kind=KIND, address=str(path), name=name)
        self._framework: Framework = "langchain"
        self._kinds: dict[str, Kind] = {}
        self._always: dict[str, int] = {}
        self._count = 0

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        return self._location

    @property
    def frameworks(self) -> frozenset[Framework]:
        """Both fill tables, each in its own way."""
        return frozenset({"langchain", "llama-index"})

    @property
    def has_unique_ids(self) -> bool:
        """A table has as many rows of an id as it is given, but nobody can tell them apart."""
        return True

    @property
    def folder(self) -> Path | None:
        """The nearest folder that exists."""
        return existing_folder(self._table)

    def check(self, run: Run | None = None) -> None:
        """Look whether the name is free, and whether something can be written there."""
        if run is not None and self._is_published(run):
            return
        check_room(self._table, self.location)
        if _CONTROLS(str(self._table)):
            message = (
                f"LanceDB opens nothing at `{self.location}`: there are line breaks or other controls in that name."
            )
            raise StoreError(message, store=str(self.location), hint="Name another place with `--to`.")
        if os.path.lexists(self._table):
            raise taken(self.location)

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as they are, and at most as much as the source has beside its own."""
        return source.count * (_FLOAT_BYTES * dimensions + _ROW_BYTES) + (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """A search says how to compare, and otherwise LanceDB takes the distance."""
        return "euclidean"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """None: LanceDB makes one of a table that has enough rows when it is asked to."""
        if wanted and wanted != "none":
            hint = "Leave it out, and make one with `create_index` when the table is there."
            raise StoreError("A new table of LanceDB gets no index.", store=str(self.location), hint=hint)
        return "none"

    def survey(self, documents: Iterator[Document]) -> None:
        """Find out which kind each name of metadata has."""
        self._kinds, self._always, self._count = {}, {}, 0
        for document in documents:
            self._framework = document.framework
            self._count += 1
            for name, value in self._metadata(document)[0].items():
                self._always[name] = self._always.get(name, 0) + 1
                own = kind_of(value)
                both = own if name not in self._kinds or own is None else merged(self._kinds[name], own)
                if both is not None:
                    self._kinds[name] = both

    def held(self, document: Document) -> Held:
        """Metadata as the columns of all documents together hold them."""
        is_node = document.framework == "llama-index"
        if is_node and document.text is None:
            return Held(row=Row(key=document.key, id=document.id, text=None))
        known, losses = self._metadata(document)
        losses += losses_of_class(document)
        metadata: dict[str, Any] = {}
        for name, kind in self._kinds.items():
            metadata[name], reason = conformed(known.get(name), kind) if name in known else (None, "")
            if metadata[name] is LEFT_OUT:
                metadata[name] = None
            if reason:
                is_lost = not is_node and reason.endswith(("left out", "point"))
                losses += (Loss(key=name, reason=reason, is_blocking=is_lost),)
            if name not in known and not is_node:
                losses += (Loss(key=name, reason=MISSING, is_blocking=False),)
        for name in known.keys() - self._kinds.keys():
            reason = "values of several kinds, left out"
            losses += (Loss(key=name, reason=reason, is_blocking=not is_node),)
        texts = (document.id, document.content)
        refused = "" if all(map(is_unicode, texts)) else "LanceDB holds no halves of characters in ids and texts"
        shown = self._shown_node(document, metadata) if is_node else metadata
        row = Row(
            key=document.key, id=document.id, text=document.text, metadata=shown, refused=refused, carried=metadata
        )
        return Held(row=row, losses=losses)

    def _shown_node(self, document: Document, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What reading a table gives of a node: its columns, and what of its metadata hides none of them."""
        columns = {_NODE_OWNER: _owner_of(metadata), _NODE_TEXT: document.content}
        if all(name not in columns or columns[name] == value for name, value in metadata.items()):
            return {**columns, **metadata}
        return {**columns, "metadata": dict(metadata)}

    def _metadata(self, document: Document) -> tuple[dict[str, Any], tuple[Loss, ...]]:
        if document.framework == "langchain":
            return survivors(document.metadata, _kept_of_document)
        if document.text is None:
            return {}, ()
        return survivors(with_text(document.metadata, document.content), _kept_of_node, is_blocking=False)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Write a table of its own."""
        self.check(run)
        home = self._home(run)
        part = home.with_name(f"{home.name}.part")
        is_made = not self._table.parent.exists() or self._has_made_database(run)
        for folder in (part, home):
            shutil.rmtree(folder, ignore_errors=True)
        part.mkdir(parents=True)
        if is_made:
            (part / _MADE).touch()
        mode = rights_of(part, source.location)
        part.chmod(stat.S_IRWXU)
        self._write(part, run, rows)
        (part / self._table.name).chmod(mode)
        flush_below(part)
        part.rename(home)
        flush_folder(home.parent)

    def _write(self, folder: Path, run: Run, rows: Iterator[Embedded]) -> None:
        schema = self._schema(run)
        batches = (self._batch(schema, each.rows, each.vectors) for each in rows)
        filled(folder, self._name, schema, batches, str(self.location))

    def _schema(self, run: Run) -> Any:
        import pyarrow as pa

        vector = pa.field("vector", pa.list_(pa.float32(), run.fingerprint.dimensions))
        vector = vector.with_metadata({RECORD: encode(run.fingerprint).encode()})
        texts = [pa.field("id", pa.string()), pa.field("text", pa.string())]
        fields = [vector, *texts]
        if self._framework == "llama-index":
            fields = [texts[0], pa.field(_NODE_OWNER, pa.string()), vector, texts[1]]
        if self._kinds:
            fields.append(pa.field("metadata", Kind("mapping", parts=self._kinds).arrow()))
        return pa.schema(fields)

    def _batch(self, schema: Any, rows: tuple[Row, ...], vectors: "NDArray[np.float32]") -> Any:
        import pyarrow as pa

        field = schema.field("vector")
        is_node = self._framework == "llama-index"
        columns: dict[str, Any] = {
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=field.type),
            "id": pa.array([row.id for row in rows], pa.string()),
            "text": pa.array([row.metadata[_NODE_TEXT] if is_node else row.text for row in rows], pa.string()),
            _NODE_OWNER: pa.array([_owner_of(row.carried) for row in rows], pa.string()),
        }
        if self._kinds:
            columns["metadata"] = pa.array([row.carried for row in rows], schema.field("metadata").type)
        return pa.RecordBatch.from_arrays([columns[each.name] for each in schema], schema=schema)

    def built(self, run: Run) -> Reader:
        """The table."""
        if self._is_published(run):
            return LanceDBStore(self._table.parent, self._name)
        if not self._built(run).is_dir():
            raise not_built(self.location)
        return LanceDBStore(self._home(run), self._name)

    def published(self, run: Run) -> Published:
        """Whether it has its name."""
        return "new" if self._is_published(run) else "nothing"

    def publish(self, run: Run) -> None:
        """Give it its name."""
        if self._is_published(run):
            return
        if not self._built(run).is_dir():
            raise not_built(self.location)
        if os.path.lexists(self._table):
            raise taken(self.location)
        try:
            self._move(self._built(run), self._table)
        except OSError as error:
            if self._built(run).is_dir() and os.path.lexists(self._table):  # somebody was faster
                raise taken(self.location) from error
            raise

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        if self._is_published(run):
            self._move(self._table, self._built(run))

    def discard(self, run: Run) -> None:
        """Delete what is not in use; of what is published only the folder of the run."""
        home = self._home(run)
        part = home.with_name(f"{home.name}.part")
        is_made = self._has_made_database(run)
        shutil.rmtree(part, ignore_errors=True)
        if self._built(run).is_dir():
            home.rename(part)  # so that what is half deleted is not taken for what is published
            shutil.rmtree(part)
        shutil.rmtree(home, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is something else in it
            if is_made:
                self._table.parent.rmdir()

    def state(self) -> str:
        """That of its versions."""
        homes = self._table.parent.glob(f".{self._name}.mlxi-move-*")
        is_kept = any(not (home / self._table.name).exists() for home in homes if home.suffix != ".part")
        if not (is_kept and self._table.exists()):
            return ""
        return LanceDBStore(self._table.parent, self._name).state()

    def close(self) -> None:
        """Nothing is kept open."""

    def _has_made_database(self, run: Run) -> bool:
        home = self._home(run)
        return any((folder / _MADE).exists() for folder in (home, home.with_name(f"{home.name}.part")))

    def _move(self, old: Path, new: Path) -> None:
        old.rename(new)
        for folder in (old.parent, new.parent):
            flush_folder(folder)

    def _is_published(self, run: Run) -> bool:
        return self._home(run).is_dir() and not self._built(run).exists() and self._table.exists()

    def _home(self, run: Run) -> Path:
        return self._table.with_name(f".{self._name}.mlxi-move-{run.id}")

    def _built(self, run: Run) -> Path:
        return self._home(run) / self._table.name


def _owner_of(metadata: Mapping[str, Any] | None) -> str | None:
    """The document that a node is part of."""
    owner = (metadata or {}).get("ref_doc_id")
    return None if owner in (None, "None") else str(owner)


def _kept(name: str, value: Any) -> Changed:
    if not is_unicode(name) or not name or "." in name or "\0" in name:
        return LEFT_OUT, "a name that no column can have, left out"
    content, reason = through_strict_json(value)
    return (LEFT_OUT, "names with NUL, left out") if _has_nul_in_names(content) else (content, reason)


def _kept_of_document(name: str, value: Any) -> Changed:
    return (LEFT_OUT, MARKS_NODES) if name == NODE else _kept(name, value)


def _kept_of_node(name: str, value: Any) -> Changed:
    content, reason = _kept(name, value)
    return content, reason and f"{reason.removesuffix(', left out')}; kept in the node, but not to be asked for"


def _has_nul_in_names(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any("\0" in name for name in value) or any(map(_has_nul_in_names, value.values()))
    return isinstance(value, list) and any(map(_has_nul_in_names, value))
