"""Fills a new table of LanceDB with the rows of another one, their new vectors, and the same indexes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.lancedb import RECORD
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.stores.lancedb.indexes import (
    NO_INDEX,
    Index,
    index_for,
    index_of_vectors,
    indexes_of,
    make_index,
)
from mlx_integrations.migration.stores.lancedb.table import (
    EMBEDDING_FUNCTIONS,
    READ_ROWS,
    LanceTable,
    embedding_functions,
    filled,
)
from mlx_integrations.sidecar import encode

if TYPE_CHECKING:  # a type only: importing this module stays fast
    from numpy.typing import NDArray

__all__ = ["RUN", "build_table"]

RUN: Final = b"mlxi_run"
"""Among the metadata of the column of vectors, beside the record: the id of the run that made them."""
_ROOM: Final = (
    "Look whether the disk has room and the folder can be written to, and run it again: nothing is embedded a second "
    "time. The table is as it was."
)


def build_table(folder: Path, name: str, old: LanceTable, run: Run, rows: Iterator[Embedded]) -> None:
    """Overwrite a table that has the old one's history.

    Args:
        folder: The database.
        name: The table.
        old: The old one; everything of it but the vectors is taken over.
        run: Says which vectors they are, and which index they get.
        rows: The new vectors.

    Raises:
        StoreError: LanceDB cannot hold what it held before, the disk is full, or there is no such index.
    """
    kind = index_for(index_of_vectors(old), run.index)
    made = _filled(folder, name, old, run, rows)
    column = old.columns.vector
    found = index_of_vectors(old)
    for index in indexes_of(old):
        if index.can_be_made and (index.column != column or (index != found and not run.index)):
            make_index(made, old, index)
    if kind != NO_INDEX:
        new = Index(name=f"{column}_idx", kind="", column=column, is_of_vectors=True, metric=run.metric)
        make_index(made, old, found or new, kind=kind, metric=run.metric)


def _filled(folder: Path, name: str, old: LanceTable, run: Run, rows: Iterator[Embedded]) -> Any:
    """Overwrite a table that has the old one's history with the old one's rows and the new vectors."""
    schema = _schema(old, run)
    made = filled(folder, name, schema, _batches(old, schema, rows), old.store, hint=_ROOM, mode="overwrite")
    if not made.schema.equals(schema, check_metadata=True):
        raise StoreError(f"LanceDB does not keep the columns of `{old.store}` as they are.", store=old.store)
    return made


def _schema(old: LanceTable, run: Run) -> Any:
    """The old columns, with another size of vectors and the record of their model."""
    import pyarrow as pa

    field, at = old.field, old.schema.get_field_index(old.columns.vector)
    record = {RECORD: encode(run.fingerprint).encode(), RUN: run.id.encode()}
    made = field.with_type(pa.list_(field.type.value_field, run.fingerprint.dimensions))
    schema = old.schema.set(at, made.with_metadata({**(field.metadata or {}), **record}))
    metadata = dict(old.schema.metadata or {})
    if EMBEDDING_FUNCTIONS in metadata:
        others = [each for each in embedding_functions(old.schema) if not old.makes_vectors(each)]
        del metadata[EMBEDDING_FUNCTIONS]
        if others:
            metadata[EMBEDDING_FUNCTIONS] = json.dumps(others).encode()
    return schema.with_metadata(metadata or None)


def _batches(old: LanceTable, schema: Any, rows: Iterator[Embedded]) -> Iterator[Any]:
    """All rows with the new vectors. A row without one has none, or is left out if the column does not allow that."""
    import numpy as np
    import pyarrow as pa

    vector = schema.field(old.columns.vector)
    size, kind = vector.type.list_size, vector.type.value_type.to_pandas_dtype()
    others = [field.name for field in schema if field.name != old.columns.vector]
    waiting: dict[int, NDArray[np.float32]] = {}
    ids, last = old.all_row_ids(), -1
    for first in range(0, len(ids), READ_ROWS):
        wanted = ids[first : first + READ_ROWS].tolist()
        while last < wanted[-1] and (given := next(rows, None)) is not None:
            waiting.update(zip((int(row.key) for row in given.rows), given.vectors, strict=True))
            last = int(given.rows[-1].key)
        if not vector.nullable:
            wanted = [each for each in wanted if each in waiting]
        found = [waiting.pop(each, None) for each in wanted]
        if not wanted:
            continue
        part = old.part(wanted, others)
        values = np.stack([np.zeros(size, kind) if each is None else each.astype(kind) for each in found])
        mask = pa.array([each is None for each in found], pa.bool_()) if vector.nullable else None
        made = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=vector.type, mask=mask)
        arrays = [made if field.name == vector.name else part.column(field.name) for field in schema]
        yield from pa.Table.from_arrays(arrays, schema=schema).to_batches()
