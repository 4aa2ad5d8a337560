"""A folder that appears whole or not at all: written beside its place, and renamed when it is done.

A process that was killed leaves its folder behind; the next one to write beside it takes it away. A lock on the folder
itself tells whether anybody still works in it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_integrations.errors import ConversionError, InsufficientDiskError

__all__ = ["check_disk", "staged"]

_SUFFIX = ".mlxi-import"


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder to write in; it becomes `target` if the block ends without an error, and is removed otherwise.

    Raises:
        ConversionError: Something is there already, or the place cannot be written to.
        InsufficientDiskError: The disk became full.
    """
    _check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        folder, lock = _new_folder(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield folder
        _check_free(target)
        folder.chmod(0o755)  # mkdtemp's folders are for their owner only
        folder.rename(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_folder(target: Path) -> tuple[Path, int]:
    """A folder beside the target, and the lock on it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # another process may have swept it away before the lock was held
            return folder, lock
        os.close(lock)


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what would not fit.

    Raises:
        InsufficientDiskError: The disk of `folder` has less room.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise InsufficientDiskError(
            f"The conversion needs {needed_bytes / 1e9:.1f} GB in `{folder}`, {free / 1e9:.1f} GB are free.",
            needed_bytes=needed_bytes,
            free_bytes=free,
            hint="Make room, choose a folder on another disk, or convert to fewer bits.",
        )


def _check_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ConversionError(
            f"`{target}` is there already; nothing is overwritten.",
            path=str(target),
            hint="Choose another name, or remove it first.",
        )


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f".*{_SUFFIX}"):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # somebody is writing it
        finally:
            os.close(lock)


def _unwritable(target: Path, error: OSError) -> ConversionError | InsufficientDiskError:
    if error.errno == errno.ENOSPC:
        return InsufficientDiskError(
            f"The disk of `{target.parent}` is full; nothing was left behind.",
            needed_bytes=0,
            free_bytes=shutil.disk_usage(target.parent).free,
            hint="Make room and run the same again.",
        )
    return ConversionError(
        f"`{target}` cannot be written: {error}.", path=str(target), hint="Choose a folder that you may write to."
    )
