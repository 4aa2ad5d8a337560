"""Small files that are read whole and written whole."""

import os
from pathlib import Path
from uuid import uuid4

__all__ = ["read_small_file", "write_whole"]


def read_small_file(path: Path, limit_bytes: int) -> str:
    """The text of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than the limit, or is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"`{path}` is larger than {limit_bytes:,} bytes")
    return content.decode("utf-8")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, never sees a part of it.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
