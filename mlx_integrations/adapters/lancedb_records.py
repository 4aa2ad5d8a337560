"""The record of a table of LanceDB: part of the metadata of its column of vectors, whichever framework fills the table.

So it goes with the vectors: into every later version of the table, back with an earlier one, and away when somebody
overwrites them. Tables are asked through their own attributes, so that LanceDB does not have to be installed.
"""

from collections.abc import Mapping
from typing import Any

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import decode, encode

__all__ = ["RECORD", "dimensions_of", "has_record", "read_record", "record_in", "table_name", "write_record"]

RECORD = b"mlxi_embedding"
"""Among the metadata of the column, the record."""


def table_name(table: Any) -> str:
    """What messages call it."""
    return f"the LanceDB table `{table.name}`"


def read_record(table: Any, column: str) -> EmbeddingFingerprint | None:
    """Its record, if it has one.

    Args:
        table: A handle; it shows the version that it was opened at.
        column: Of the vectors.

    Raises:
        SidecarError: The record is damaged.
    """
    return record_in(_metadata(table, column), table_name(table))


def record_in(metadata: Mapping[bytes, bytes], table: str) -> EmbeddingFingerprint | None:
    """The record in the metadata of a column, if there is one.

    Args:
        metadata: Of the column.
        table: What messages call it.

    Raises:
        SidecarError: The record is damaged.
    """
    text = metadata.get(RECORD)
    return None if text is None else decode(text.decode("utf-8", "replace"), f"the metadata of {table}")


def write_record(table: Any, column: str, fingerprint: EmbeddingFingerprint) -> None:
    """Write its record; what else the column's metadata say stays."""
    kept = {key.decode(): value.decode() for key, value in _metadata(table, column).items()}
    table.replace_field_metadata(column, {**kept, RECORD.decode(): encode(fingerprint)})


def has_record(table: Any, column: str) -> bool:
    """Whether there is a record, damaged or not."""
    return RECORD in _metadata(table, column)


def dimensions_of(table: Any, column: str) -> int | None:
    """Coordinates of its vectors; `None` if the column is of something else."""
    at = table.schema.get_field_index(column)
    size = getattr(table.schema.field(at).type, "list_size", None) if at >= 0 else None
    return None if size is None else int(size)


def _metadata(table: Any, column: str) -> dict[bytes, bytes]:
    at = table.schema.get_field_index(column)
    return dict(table.schema.field(at).metadata or {}) if at >= 0 else {}
