"""The folder of a table of LanceDB: its versions, second names for its files, and the exchange of two folders.

Lance never changes a file that it has written. Each commit adds a manifest to `_versions`, and the one with the highest
number says which of the other files the table consists of: https://lancedb.github.io/lance/format/
So files with a second name, in another folder, stay what they are, whatever becomes of the table.
"""

import contextlib
import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import flush, flush_folder, take_over_rights, write_whole

__all__ = [
    "bytes_below",
    "exchange",
    "files_below",
    "flush_below",
    "give_rights",
    "is_of_first_format",
    "is_writable",
    "latest_version",
    "link_missing",
    "state_of",
    "versions",
    "write_json",
]

_VERSIONS: Final = "_versions"
_SUFFIX: Final = ".manifest"
_COUNTED_DOWN: Final = 2**63  # names of the second kind are 2**64 - 1 - version, so that the latest is listed first
_LAST_OF_FIRST: Final = b"\x00\x00\x02\x00LANC"  # how files of the first format end
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_RENAME_SWAP: Final = 2


def versions(table: Path) -> dict[int, Path]:
    """The manifests of a table's folder, by version; none if it is the folder of something else."""
    found = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in (table / _VERSIONS).iterdir():
            if path.suffix == _SUFFIX and path.stem.isdecimal():
                number = int(path.stem)
                found[2**64 - 1 - number if number >= _COUNTED_DOWN else number] = path
    return found


def latest_version(table: Path) -> int:
    """The version that is in use; 0 if there is none."""
    return max(versions(table), default=0)


def state_of(table: Path) -> str:
    """A short text that changes with each commit to a table."""
    found = versions(table)
    if not found:
        return "missing"
    latest = max(found)
    try:
        facts = found[latest].stat()
    except FileNotFoundError:  # deleted meanwhile, as only those are that a later one has followed
        return state_of(table)
    return f"{latest}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder, relative to it; manifests come last, as what they name has to be there before."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    yield from sorted(found, key=lambda path: (_VERSIONS in path.parts, path))


def bytes_below(folder: Path) -> int:
    """What the files below a folder take, without those that another program cleans up, or deletes, meanwhile."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for path in files_below(folder):
            with contextlib.suppress(FileNotFoundError):
                total += (folder / path).stat().st_size
    return total


def is_of_first_format(table: Path) -> bool:
    """Whether a table has files that LanceDB wrote before the middle of 2024, and reads only from their beginning."""
    with contextlib.suppress(FileNotFoundError):  # it is being deleted
        for path in (table / "data").glob(f"*{table.suffix}"):
            with path.open("rb") as file:
                file.seek(-min(len(_LAST_OF_FIRST), os.fstat(file.fileno()).st_size), os.SEEK_END)
                if file.read() == _LAST_OF_FIRST:
                    return True
    return False


def is_writable(table: Path) -> bool:
    """Whether a table can be exchanged, and its files can be given second names, which takes the right to write."""
    places = (table.parent, table, *versions(table).values())
    return all(os.access(place, os.W_OK) for place in places if place.exists())


def give_rights(table: Path, folder: Path, file: Path) -> None:
    """Let whoever may read or write a table do so with what was made for it.

    Args:
        table: What was made; what has a second name in it stays as it is.
        folder: Whose rights its folders get.
        file: Whose rights its files get.
    """
    for path in (table, *table.rglob("*")):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # somebody else's, who sees to its rights
            if path.is_dir() or path.stat().st_nlink == 1:
                take_over_rights(path, folder if path.is_dir() else file)


def link_missing(source: Path, target: Path) -> None:
    """Give the files of one table a second name in the folder of another, unless it has such a file.

    Raises:
        StoreError: The file system has no second names.
    """
    for path in files_below(source):
        place = target / path
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        # What is no part of the format's unchanging files is copied; it is small.
        link = shutil.copy2 if path.suffix == ".json" else os.link
        try:
            link(source / path, place)
        except FileNotFoundError:
            continue  # what another program was about to write, and has given its name now
        except OSError as error:
            hint = "Move the database to a file system that has hard links, such as APFS or ext4."
            if not os.access(source / path, os.W_OK):
                hint = "Migrate as the user to whom it belongs."
            raise StoreError(
                f"`{source / path}` cannot be given a second name: {error.strerror}.", store=str(source), hint=hint
            ) from error
    flush_below(target, folders_only=True)


def flush_below(folder: Path, *, folders_only: bool = False) -> None:
    """Return when what is below a folder is on the disk: LanceDB itself does not wait for that."""
    if not folders_only:
        for path in files_below(folder):
            descriptor = os.open(folder / path, os.O_RDONLY)
            try:
                flush(descriptor)
            finally:
                os.close(descriptor)
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        flush_folder(place)


def exchange(first: Path, second: Path) -> None:
    """Let two folders have each other's name, in one step: at any moment there is one of each.

    Raises:
        StoreError: The file system, or the operating system, cannot.
    """
    library: Any = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":  # man renamex_np
        failed = library.renamex_np(*names, _RENAME_SWAP)
    elif hasattr(library, "renameat2"):  # man renameat2; since glibc 2.28
        failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    else:
        raise _cannot_exchange(first, "the system's library has no `renameat2`")
    if failed:
        raise _cannot_exchange(first, os.strerror(ctypes.get_errno()))
    for folder in {first.parent, second.parent}:
        flush_folder(folder)


def _cannot_exchange(folder: Path, reason: str) -> StoreError:
    return StoreError(
        f"`{folder}` cannot be exchanged with another folder: {reason}.",
        store=str(folder),
        hint="Move the database to a disk whose file system can, such as APFS, ext4, XFS or Btrfs.",
    )


def write_json(path: Path, content: Any) -> None:
    """Write a small file, whole or not at all."""
    write_whole(path, json.dumps(content).encode())
    flush_folder(path.parent)
