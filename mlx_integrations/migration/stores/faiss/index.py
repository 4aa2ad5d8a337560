"""Files of FAISS indexes: read without FAISS where they are plain lists of vectors, and written without memory."""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import flush, may_not_read
from mlx_integrations.migration.records import Finding, Metric
from mlx_integrations.migration.stores.faiss.kinds import (
    FLAT,
    METRIC_NUMBERS,
    empty_index,
    factory_of,
    gives_back,
    is_exact,
    least_rows,
    load_faiss,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "IndexFacts",
    "IndexFile",
    "lists_finding",
    "read_index",
    "reconstructed",
    "write_flat",
    "write_trained",
]

# Four letters, dimensions, count, two numbers that mean nothing, is_trained, metric; then the vectors' size in floats.
# https://github.com/facebookresearch/faiss/blob/main/faiss/impl/index_write.cpp
_HEADER: Final = struct.Struct("<4siqqqBiQ")
_UNUSED: Final = 1 << 20
_FLAT_NAMES: Final = {b"IxF2": "euclidean", b"IxFI": "dot"}
_METRICS: Final[dict[int, Metric]] = {0: "dot", 1: "euclidean", 2: "manhattan"}
_FLOAT_BYTES: Final = 4
_TRAINING_ROWS: Final = 65_536
_ADDED_ROWS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """What an index says of itself.

    Attributes:
        count: Its vectors.
        dimensions: Of each.
        metric: How it compares them.
        factory: The words that FAISS would make it from.
        is_exact: Whether vectors come out as they went in.
    """

    count: int
    dimensions: int
    metric: Metric
    factory: str
    is_exact: bool


class IndexFile:
    """An index on the disk, for reading.

    Args:
        path: The file.

    Raises:
        StoreError: It is none, or was cut off while it was written.
        MissingExtraError: It is of a kind that only FAISS reads, and that is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: Any = None
        self._descriptor = -1  # of a plain list, which is read a part at a time
        try:
            self.facts = self._open()
        except FileNotFoundError as error:
            raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error
        except PermissionError as error:
            raise may_not_read(path) from error

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _open(self) -> IndexFacts:
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self._descriptor, _HEADER.size, 0)
        if head[:4] in _FLAT_NAMES:
            return self._open_flat(head)
        faiss = load_faiss()
        index = self._index = read_index(self.path)
        if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
            raise StoreError(
                f"`{self.path}` has numbers of its own for its vectors, which LangChain's FAISS does not use.",
                store=str(self.path.parent),
            )
        factory = factory_of(index)
        return IndexFacts(
            count=index.ntotal,
            dimensions=index.d,
            metric=_METRICS.get(index.metric_type, "unknown"),
            factory=factory,
            is_exact=is_exact(factory),
        )

    def _open_flat(self, head: bytes) -> IndexFacts:
        size = os.fstat(self._descriptor).st_size
        if len(head) == _HEADER.size:
            name, dimensions, count, *_, floats = _HEADER.unpack(head)
            if floats == dimensions * count and size == _HEADER.size + floats * _FLOAT_BYTES and dimensions > 0:
                metric: Metric = "dot" if name == b"IxFI" else "euclidean"
                return IndexFacts(count=count, dimensions=dimensions, metric=metric, factory=FLAT, is_exact=True)
        raise self._cut_off()

    def vectors(self, rows: Sequence[int]) -> "NDArray[np.float32]":
        """Vectors of some rows, (rows, dimensions) float32.

        Raises:
            StoreError: The index has no such row, or does not give vectors back.
        """
        import numpy as np

        if rows and not 0 <= min(rows) <= max(rows) < self.facts.count:
            raise StoreError(f"`{self.path}` has no vector {max(rows)}.", store=str(self.path.parent))
        if self._index is not None:
            return reconstructed(self._index, rows, self.path, self.facts.factory)
        made = np.empty((len(rows), self.facts.dimensions), "<f4")
        start = 0
        while start < len(rows):
            stop = start + 1
            while stop < len(rows) and rows[stop] == rows[stop - 1] + 1:
                stop += 1
            made[start:stop] = self._read(rows[start], stop - start)
            start = stop
        return made

    def findings(self) -> Iterator[Finding]:
        """What should be known before another index takes its place."""
        return lists_finding(self._index)

    def _read(self, first: int, count: int) -> "NDArray[np.float32]":
        """Vectors that follow each other. A map of the file would end the process when somebody shortens the file."""
        import numpy as np

        row_bytes = self.facts.dimensions * _FLOAT_BYTES
        content = os.pread(self._descriptor, count * row_bytes, _HEADER.size + first * row_bytes)
        if len(content) < count * row_bytes:
            raise self._cut_off()
        return np.frombuffer(content, "<f4").reshape(count, self.facts.dimensions)

    def _cut_off(self) -> StoreError:
        return StoreError(
            f"`{self.path}` was cut off while it was written.",
            store=str(self.path.parent),
            hint="Save the store once more with its own library, or restore the file from a copy.",
        )


def read_index(path: Path) -> Any:
    """An index, in memory; lists that it has in another file are not opened for writing.

    Raises:
        StoreError: It cannot be read.
    """
    faiss = load_faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:  # whatever its C++ code throws
        raise StoreError(
            f"`{path}` is no index of FAISS that can be read, or was cut off while it was written.",
            store=str(path.parent),
            hint="`faiss.read_index` says why; indexes of binary vectors are none of those that can be migrated.",
        ) from error


def reconstructed(index: Any, rows: Sequence[int], path: Path, factory: str) -> "NDArray[np.float32]":
    """Vectors of some rows of an index in memory, (rows, dimensions) float32.

    Raises:
        StoreError: The index does not give vectors back.
    """
    import numpy as np

    made = np.empty((len(rows), index.d), np.float32)
    try:
        if rows and not gives_back(index):
            raise RuntimeError("does not give vectors back")
        if (lists := load_faiss().try_extract_index_ivf(index)) is not None and rows:
            lists.make_direct_map()
        for place, row in enumerate(rows):
            made[place] = index.reconstruct(int(row))
    except RuntimeError as error:
        message = f"`{path}`, an index of the kind `{factory}`, does not give its vectors back."
        hint = "Have another kind of index built: `mlxi migrate run --restart --index Flat`."
        raise StoreError(message, store=str(path.parent), hint=hint) from error
    return made


def lists_finding(index: Any) -> Iterator[Finding]:
    """That an index has its lists in another file, which the new one has not.

    Args:
        index: In memory; `None` for a plain list, which has none.
    """
    lists = None if index is None else load_faiss().try_extract_index_ivf(index)
    if lists is None:
        return
    kept = load_faiss().downcast_InvertedLists(lists.invlists)
    if isinstance(kept, load_faiss().OnDiskInvertedLists):
        message = "Its lists are in a file of their own. The new index has them in its own file; that one stays."
        yield Finding(code="lists-elsewhere", message=message, count=1, examples=(str(kept.filename),))


def write_flat(path: Path, dimensions: int, metric: Metric, parts: "Iterable[NDArray[np.float32]]") -> int:
    """Write vectors as an index of the kind `Flat`, without holding them in memory; on the disk when it returns.

    Returns:
        How many there were.
    """
    import numpy as np

    name = b"IxFI" if metric == "dot" else b"IxF2"
    count = 0
    with path.open("wb") as file:
        file.write(bytes(_HEADER.size))
        for vectors in parts:
            file.write(np.ascontiguousarray(vectors, "<f4").data)
            count += len(vectors)
        file.seek(0)
        number = METRIC_NUMBERS["dot" if metric == "dot" else "euclidean"]
        file.write(_HEADER.pack(name, dimensions, count, _UNUSED, _UNUSED, 1, number, count * dimensions))
        file.flush()
        flush(file.fileno())
    return count


def write_trained(path: Path, flat: Path, factory: str, metric: Metric, like: Path | None, seed: int = 0) -> None:
    """Write the vectors of a flat index as one of another kind, trained on a sample of them.

    Args:
        path: The file to write.
        flat: The vectors.
        factory: What FAISS makes the index from.
        metric: How it compares.
        like: An index whose settings for searching are taken over.
        seed: Of the sample.
    """
    import numpy as np

    faiss = load_faiss()
    source = IndexFile(flat)
    index = empty_index(factory, source.facts.dimensions, metric)
    if index is None:
        raise StoreError(
            f"FAISS makes no `{factory}` of {source.facts.dimensions} dimensions.",
            store=str(path.parent),
            hint="Name another kind of index, such as `Flat`.",
        )
    count = source.facts.count
    if not index.is_trained:
        wanted = max(_TRAINING_ROWS, least_rows(index))
        chosen = np.random.default_rng(seed).choice(count, min(count, wanted), replace=False)
        try:
            index.train(source.vectors(sorted(int(row) for row in chosen)))
        except RuntimeError as error:
            message = f"FAISS cannot train an index of the kind `{factory}` with {len(chosen)} vectors."
            hint = "Have another kind built: `mlxi migrate run --restart --index Flat`."
            raise StoreError(message, store=str(path.parent), hint=hint) from error
    for first in range(0, count, _ADDED_ROWS):
        index.add(source.vectors(range(first, min(first + _ADDED_ROWS, count))))
    if like is not None:
        _copy_settings(IndexFile(like)._index, index)
    faiss.write_index(index, str(path))
    with path.open("rb") as file:
        flush(file.fileno())


def _copy_settings(old: Any, new: Any) -> None:
    """How thoroughly an index searches is kept in its file, but not in the words that it is made from."""
    faiss = load_faiss()
    if old is None:
        return
    was, now = faiss.try_extract_index_ivf(old), faiss.try_extract_index_ivf(new)
    if was is not None and now is not None:
        now.nprobe = was.nprobe
        _copy_settings(faiss.downcast_index(was.quantizer), faiss.downcast_index(now.quantizer))
    if hasattr(old, "k_factor") and hasattr(new, "k_factor"):
        new.k_factor = old.k_factor
    if hasattr(old, "hnsw") and hasattr(new, "hnsw"):
        new.hnsw.efSearch, new.hnsw.efConstruction = old.hnsw.efSearch, old.hnsw.efConstruction
