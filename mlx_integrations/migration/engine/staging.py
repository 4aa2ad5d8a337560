"""New vectors on their way into a store: one flat file of float32, the vector of position `p` at its `p`-th place."""

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mlx_integrations.migration.files import flush

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Staging"]

_FLOAT_BYTES: Final = 4


class Staging:
    """The file of one run.

    Args:
        path: The file; made if there is none.
        dimensions: Coordinates of a vector.
    """

    def __init__(self, path: Path, dimensions: int) -> None:
        self.path = path
        self.dimensions = dimensions
        self._row_bytes = dimensions * _FLOAT_BYTES
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        # It has no thread before the first flush.
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="mlxi-flush")
        self._flushing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later run opens it again."""
        self._flusher.shutdown()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def count(self) -> int:
        """Vectors that the file has room for."""
        return os.fstat(self._descriptor).st_size // self._row_bytes

    def write(self, position: int, vectors: "NDArray[np.float32]") -> int:
        """Write vectors to consecutive positions, and begin to flush them to the disk: see `wait_until_flushed`.

        Args:
            position: Of the first one.
            vectors: (vectors, dimensions), float32.

        Returns:
            Their CRC-32.

        Raises:
            OSError: The disk is full, or broken.
        """
        self.wait_until_flushed()
        content = memoryview(_contiguous(vectors).data).cast("B")
        checksum = zlib.crc32(content)
        start = position * self._row_bytes
        while content:
            written = os.pwrite(self._descriptor, content, start)
            content, start = content[written:], start + written
        self._flushing = self._flusher.submit(flush, self._descriptor)
        return checksum

    def wait_until_flushed(self) -> None:
        """Return when everything that was written is on the disk.

        Raises:
            OSError: It is not, and may never be: the disk is full, or broken.
        """
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.result()

    def read(self, positions: Sequence[int]) -> "NDArray[np.float32]":
        """Vectors at any positions, (positions, dimensions), float32.

        Raises:
            EOFError: One of them was never written.
        """
        import numpy as np

        vectors = np.empty((len(positions), self.dimensions), "<f4")
        place = 0
        for first, count in _stretches(positions):
            content = self._bytes(first, count)
            vectors[place : place + count] = np.frombuffer(content, "<f4").reshape(count, self.dimensions)
            place += count
        return vectors

    def is_intact(self, first: int, count: int, checksum: int) -> bool:
        """Whether consecutive vectors are what was written."""
        try:
            return zlib.crc32(self._bytes(first, count)) == checksum
        except EOFError:
            return False

    def _bytes(self, first: int, count: int) -> bytes:
        size, start = count * self._row_bytes, first * self._row_bytes
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(self._descriptor, size, start)
            if not part:
                raise EOFError(f"`{self.path}` has no vector at position {start // self._row_bytes}")
            parts.append(part)
            size, start = size - len(part), start + len(part)
        return b"".join(parts)


def _contiguous(vectors: "NDArray[Any]") -> "NDArray[np.float32]":
    import numpy as np

    return np.ascontiguousarray(vectors, dtype="<f4")


def _stretches(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of consecutive positions, as first and count, so that neighbours are read at once."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][0] + found[-1][1] == position:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((position, 1))
    return found
