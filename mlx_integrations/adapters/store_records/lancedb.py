"""The record of a table of LanceDB: part of the metadata of its column of vectors, whichever framework fills the table.

So it goes with the vectors: into every later version of the table, back with an earlier one, and away when somebody
overwrites them. Tables are asked through their own attributes, so that LanceDB does not have to be installed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import decode, encode

__all__ = [
    "RECORD",
    "dimensions_of",
    "has_record",
    "migration_of",
    "read_record",
    "record_in",
    "samples_of",
    "table_name",
    "write_record",
]

RECORD = b"mlxi_embedding"
"""Among the metadata of the column, the record."""


def table_name(name: str) -> str:
    """What messages call a table."""
    return f"the LanceDB table `{name}`"


def read_record(table: Any, column: str) -> EmbeddingFingerprint | None:
    """Its record, if it has one.

    Args:
        table: A handle; it shows the version that it was opened at.
        column: Of the vectors.

    Raises:
        SidecarError: The record is damaged.
    """
    return record_in(_metadata(table, column), table_name(table.name))


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
    table.update_field_metadata({"path": column, "metadata": {RECORD.decode(): encode(fingerprint)}})


def has_record(table: Any, column: str) -> bool:
    """Whether there is a record, damaged or not."""
    return RECORD in _metadata(table, column)


def dimensions_of(table: Any, column: str) -> int | None:
    """Coordinates of its vectors; `None` if the column is of something else."""
    at = table.schema.get_field_index(column)
    size = getattr(table.schema.field(at).type, "list_size", None) if at >= 0 else None
    return None if size is None else int(size)


def samples_of(table: Any, vector: str, text: str, count: int) -> list[tuple[str, Mapping[str, Any], Sequence[float]]]:
    """Texts of some rows, with what the frameworks keep beside them and their vectors.

    Args:
        table: A handle.
        vector: The column of the vectors.
        text: The column of the texts.
        count: How many rows.
    """
    found = table.search().where(f"`{vector}` IS NOT NULL").limit(count).to_list()
    return [(str(row.get(text) or ""), row.get("metadata") or {}, [float(x) for x in row[vector]]) for row in found]


def migration_of(connection: Any, name: str, vector: str, text: str) -> str | None:
    """The command that gives a table the vectors of another model; `None` if its database is not a folder.

    Args:
        connection: To the database.
        name: Of the table.
        vector: The column of the vectors.
        text: The column of the texts.
    """
    folder = str(connection.uri)
    columns = "" if (vector, text) == ("vector", "text") else f":{vector}:{text}"
    return None if "://" in folder else migration_command(folder, f"{name}{columns}")


def _metadata(table: Any, column: str) -> dict[bytes, bytes]:
    at = table.schema.get_field_index(column)
    return dict(table.schema.field(at).metadata or {}) if at >= 0 else {}
