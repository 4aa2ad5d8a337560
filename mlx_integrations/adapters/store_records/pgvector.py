"""The record of vectors in PostgreSQL: part of a comment on their column, or of the metadata of their collection.

A comment goes with the table through renames, dumps and restores, and needs no right to be read. Where several
collections share one table, each has metadata of its own.
"""

import json
from collections.abc import Mapping
from typing import Any

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import decode, encode

__all__ = [
    "comment_query",
    "comment_statement",
    "comment_with",
    "literal",
    "metadata_with",
    "quoted",
    "record_in_comment",
    "record_in_metadata",
]

_KEY = "mlxi_embedding"
_MARK = f"{_KEY}: "


def quoted(*names: str) -> str:
    """An identifier of SQL, of as many parts as there are names."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str | None) -> str:
    """A string of SQL, or NULL, for statements that take no parameters."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def comment_query(table: str, column: str) -> str:
    """What asks for the comment on a column.

    Args:
        table: As `quoted` writes it.
        column: Its name.
    """
    return (
        f"SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = {literal(table)}::regclass "
        f"AND attname = {literal(column)} AND NOT attisdropped"
    )


def comment_statement(table: str, column: str, comment: str | None) -> str:
    """What writes the comment on a column.

    Args:
        table: As `quoted` writes it.
        column: Its name.
        comment: The new one; none deletes the old one.
    """
    return f"COMMENT ON COLUMN {table}.{quoted(column)} IS {literal(comment)}"


def record_in_comment(comment: str | None, where: str) -> EmbeddingFingerprint | None:
    """The record in a column's comment, if there is one.

    Args:
        comment: Of the column.
        where: What messages call the table.

    Raises:
        SidecarError: The record is damaged.
    """
    lines = [line for line in (comment or "").split("\n") if line.startswith(_MARK)]
    return decode(lines[-1].removeprefix(_MARK), f"the comment on the vectors of {where}") if lines else None


def comment_with(comment: str | None, fingerprint: EmbeddingFingerprint | None) -> str | None:
    """A column's comment with another record, or with none; what else it says stays."""
    lines = [line for line in (comment or "").split("\n") if not line.startswith(_MARK)]
    if fingerprint is not None:
        lines = [*filter(None, ["\n".join(lines)]), _MARK + encode(fingerprint)]
    return "\n".join(lines) or None


def record_in_metadata(metadata: Mapping[str, Any] | None, where: str) -> EmbeddingFingerprint | None:
    """The record in a collection's metadata, if there is one.

    Args:
        metadata: Of the collection.
        where: What messages call it.

    Raises:
        SidecarError: The record is damaged.
    """
    record = (metadata or {}).get(_KEY)
    return None if record is None else decode(json.dumps(record), f"the metadata of {where}")


def metadata_with(
    metadata: Mapping[str, Any] | None, fingerprint: EmbeddingFingerprint | None
) -> dict[str, Any] | None:
    """A collection's metadata with another record, or with none; what else they say stays."""
    kept = {key: value for key, value in (metadata or {}).items() if key != _KEY}
    if fingerprint is not None:
        kept[_KEY] = json.loads(encode(fingerprint))
    return kept or (None if metadata is None else {})
