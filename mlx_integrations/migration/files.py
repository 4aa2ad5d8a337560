"""Files that are written whole or not at all, and stay written when the power goes."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError

__all__ = [
    "WHEN_FULL",
    "copy_whole",
    "flush",
    "flush_folder",
    "is_same_file",
    "may_not_read",
    "take_over_rights",
    "write_whole",
]

WHEN_FULL: Final = "Make room, or the folder writable, and run it again: it goes on where it stopped. Nothing is lost."
"""The hint of whatever cannot write."""


def flush(descriptor: int) -> None:
    """Return when what was written to a file is on the disk."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
        return
    import fcntl

    # macOS: fsync alone leaves data in the drive's own memory.
    fcntl.fcntl(descriptor, getattr(fcntl, "F_FULLFSYNC", 51))


def flush_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a small file; the target is the old one or the new one at any moment."""
    write_whole(target, source.read_bytes())


def write_whole(target: Path, content: bytes) -> None:
    """Write a small file; it is the old one or the new one at any moment."""
    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        flush(file.fileno())
    part.replace(target)


def is_same_file(first: Path, second: Path) -> bool:
    """Whether two names are of one file; a name of no file is never the same as another."""
    try:
        return first.samefile(second)
    except FileNotFoundError:
        return False


def may_not_read(path: Path) -> StoreError:
    """The error of a file that is there for others only."""
    return StoreError(
        f"`{path}` may not be read by you.",
        store=str(path.parent),
        hint="Run it as the owner of that file, or have yourself given the right to read it.",
    )


def take_over_rights(made: Path, like: Path, *, at_most: int = ~0) -> None:
    """Let whoever may read or write a file or a folder do so with what takes its place, and nobody else.

    Args:
        made: What takes its place.
        like: Whose rights it gets.
        at_most: Bits of a mode; what is not among them nobody may do.
    """
    facts = like.stat()
    mode = stat.S_IMODE(facts.st_mode) & at_most
    with contextlib.suppress(OSError):  # only an administrator can give files to others
        os.chown(made, facts.st_uid, -1)
    try:
        os.chown(made, -1, facts.st_gid)
    except OSError:  # its rights are not meant for another group
        mode &= ~stat.S_IRWXG
    made.chmod(mode)
