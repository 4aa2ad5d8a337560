"""The locks that keep two downloads of the same bytes apart; huggingface_hub takes the same ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_locked", "try_lock"]


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock if it is free; says whether it is held. The system frees it when the process dies, however it does.

    Raises:
        OSError: The lock cannot be made, because the folder cannot be written to.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock: FileLock | SoftFileLock = FileLock(path, timeout=0, mode=0o664)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:  # a network file system without locks; huggingface_hub does the same there
        lock = SoftFileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
    try:
        yield True
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock now."""
    if not path.exists():
        return False
    try:
        with try_lock(path) as is_held:
            return not is_held
    except OSError:  # a cache that cannot be written to is not being downloaded into
        return False
