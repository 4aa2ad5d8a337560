"""The bytes of a blob that have arrived so far: hashed as they are written, and made a blob when all are there."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["PartFile", "blob_digest", "new_digest"]

_READ_BYTES: Final = 1024 * 1024
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def new_digest(blob_id: str, size_bytes: int) -> "hashlib._Hash":
    """The hash that a blob's id is made with: SHA-256, or SHA-1 the way git names a blob of a known size."""
    if len(blob_id) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


def blob_digest(file: Path, blob_id: str, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """What a file's id would be, by the kind of another id."""
    with file.open("rb") as stream:
        digest = new_digest(blob_id, os.fstat(stream.fileno()).st_size)
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


class PartFile:
    """A blob in the making. Whoever uses it holds the blob's lock.

    Args:
        path: Where its bytes are kept; what is there already is gone on with.
        blob_id: The digest that all of it must have.
        size_bytes: The size that all of it must have.
    """

    def __init__(self, path: Path, *, blob_id: str, size_bytes: int) -> None:
        self.path = path
        self.blob_id = blob_id
        self.size_bytes = size_bytes
        self.arrived_bytes = 0
        self._digest = new_digest(blob_id, size_bytes)
        self._descriptor = -1

    def __enter__(self) -> "PartFile":
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o644)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes are there as there should be."""
        return self.arrived_bytes == self.size_bytes

    @property
    def digest(self) -> str:
        """The digest of what is there."""
        return self._digest.hexdigest()

    def read_back(self, on_bytes: Callable[[int], None]) -> None:
        """Hash what an earlier download left; a file that is too long is started again."""
        if os.fstat(self._descriptor).st_size > self.size_bytes:
            self.restart()
            return
        while chunk := os.read(self._descriptor, _READ_BYTES):
            self._digest.update(chunk)
            self.arrived_bytes += len(chunk)
            on_bytes(self.arrived_bytes)

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end. They are with the system when this returns: a killed process loses none of them."""
        view = memoryview(chunk)
        while view:
            written = os.write(self._descriptor, view)
            self._digest.update(view[:written])
            self.arrived_bytes += written
            view = view[written:]

    def restart(self) -> None:
        """Begin with nothing."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._digest = new_digest(self.blob_id, self.size_bytes)
        self.arrived_bytes = 0

    def become(self, blob: Path) -> None:
        """Take the blob's place, on the disk for good."""
        os.fsync(self._descriptor)
        self._close()
        self.path.replace(blob)
        _sync_folder(blob.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
