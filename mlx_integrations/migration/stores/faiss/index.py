"""Files of FAISS indexes: read without FAISS where they are plain lists of vectors, and written without memory."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import MissingExtraError, StoreError
from mlx_integrations.migration.files import flush
from mlx_integrations.migration.records import Metric

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FLAT",
    "IndexFacts",
    "IndexFile",
    "choose_factory",
    "empty_index",
    "factory_of",
    "is_plain_list",
    "load_faiss",
    "write_flat",
    "write_trained",
]

FLAT: Final = "Flat"
"""What FAISS calls an index that is a plain list."""

# Four letters, dimensions, count, two numbers that mean nothing, is_trained, metric; then the vectors' size in floats.
# https://github.com/facebookresearch/faiss/blob/main/faiss/impl/index_write.cpp
_HEADER: Final = struct.Struct("<4siqqqBiQ")
_UNUSED: Final = 1 << 20
_FLAT_NAMES: Final = {b"IxF2": "euclidean", b"IxFI": "dot"}
_METRICS: Final[dict[int, Metric]] = {0: "dot", 1: "euclidean", 2: "manhattan"}
_METRIC_NUMBERS: Final = {"dot": 0, "euclidean": 1, "manhattan": 2}
_FLOAT_BYTES: Final = 4
_EXACT: Final = ("Flat", "HNSW")
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
        self._flat: NDArray[np.float32] | None = None
        try:
            self.facts = self._open()
        except FileNotFoundError as error:
            raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error

    def _open(self) -> IndexFacts:
        with self.path.open("rb") as file:
            head = file.read(_HEADER.size)
        if head[:4] in _FLAT_NAMES:
            return self._open_flat(head)
        faiss = load_faiss()
        try:
            self._index = faiss.read_index(str(self.path))
        except RuntimeError as error:  # whatever its C++ code throws
            raise StoreError(
                f"`{self.path}` is no index of FAISS, or was cut off while it was written.", store=str(self.path.parent)
            ) from error
        index = self._index
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
        import numpy as np

        size = self.path.stat().st_size
        if len(head) == _HEADER.size:
            name, dimensions, count, *_, floats = _HEADER.unpack(head)
            if floats == dimensions * count and size == _HEADER.size + floats * _FLOAT_BYTES and dimensions > 0:
                if count:
                    shape = (count, dimensions)
                    self._flat = np.memmap(self.path, "<f4", "r", offset=_HEADER.size, shape=shape)
                else:
                    self._flat = np.empty((0, dimensions), np.float32)
                metric: Metric = "dot" if name == b"IxFI" else "euclidean"
                return IndexFacts(count=count, dimensions=dimensions, metric=metric, factory=FLAT, is_exact=True)
        raise StoreError(f"`{self.path}` was cut off while it was written.", store=str(self.path.parent))

    def vectors(self, rows: Sequence[int]) -> "NDArray[np.float32]":
        """Vectors of some rows, (rows, dimensions) float32.

        Raises:
            StoreError: The index has no such row, or does not give vectors back.
        """
        import numpy as np

        if rows and not 0 <= min(rows) <= max(rows) < self.facts.count:
            raise StoreError(f"`{self.path}` has no vector {max(rows)}.", store=str(self.path.parent))
        if self._flat is not None:
            return np.array(self._flat[list(rows)], np.float32)
        made = np.empty((len(rows), self.facts.dimensions), np.float32)
        try:
            if (lists := load_faiss().try_extract_index_ivf(self._index)) is not None and rows:
                lists.make_direct_map()
            for place, row in enumerate(rows):
                made[place] = self._index.reconstruct(row)
        except RuntimeError as error:
            message = f"`{self.path}`, an index of the kind `{self.facts.factory}`, does not give its vectors back."
            raise StoreError(message, store=str(self.path.parent)) from error
        return made


def is_exact(factory: str) -> bool:
    """Whether an index that FAISS makes from these words gives vectors back as they were."""
    parts = factory.split(",")
    if parts[-1] == FLAT:
        return all(part.startswith(("IVF", "HNSW")) for part in parts[:-1])
    return len(parts) == 1 and parts[0].startswith("HNSW")


def empty_index(factory: str, dimensions: int, metric: Metric) -> Any:
    """An empty index of FAISS; `None` where it cannot make one of so many dimensions."""
    faiss = load_faiss()
    try:
        return faiss.index_factory(dimensions, factory, _METRIC_NUMBERS.get(metric, 1))
    except RuntimeError:
        return None


def is_plain_list(factory: str, metric: Metric) -> bool:
    """Whether `write_flat` writes all that there is to an index."""
    return factory == FLAT and metric != "manhattan"


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
        number = _METRIC_NUMBERS["dot" if metric == "dot" else "euclidean"]
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
        chosen = np.random.default_rng(seed).choice(count, min(count, _TRAINING_ROWS), replace=False)
        index.train(source.vectors(sorted(int(row) for row in chosen)))
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
    if hasattr(old, "hnsw") and hasattr(new, "hnsw"):
        new.hnsw.efSearch, new.hnsw.efConstruction = old.hnsw.efSearch, old.hnsw.efConstruction


def factory_of(index: Any) -> str:
    """What FAISS would make an index from; the name of its class where nothing is known to make it."""
    from faiss.contrib.factory_tools import reverse_index_factory

    try:
        return str(reverse_index_factory(index))  # type: ignore[no-untyped-call]
    except (NotImplementedError, ValueError, AssertionError):
        return type(index).__name__


def load_faiss() -> Any:
    """The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("This kind of index needs `faiss`.", extra="faiss") from error
    return faiss


def choose_factory(wanted: str, current: str, dimensions: int, metric: Metric, store: str) -> str:
    """What to make the new index from: what is wanted, or the kind there is, or `Flat` where FAISS makes none of it.

    Args:
        wanted: Another kind; empty for the one there is.
        current: The kind there is.
        dimensions: Of the new vectors.
        metric: How they are compared.
        store: The store, for messages.

    Raises:
        StoreError: Another kind is wanted, and FAISS makes none; or it compares in a way that is not kept.
    """
    if metric not in _METRIC_NUMBERS:
        message = f"The index of `{store}` compares vectors in a way of FAISS that is not known here, and not kept."
        raise StoreError(message, store=store, hint="Those by inner product, L2 and L1 can be migrated.")
    factory = wanted or current
    if factory == FLAT or empty_index(factory, dimensions, metric) is not None:
        return factory
    if wanted:
        message = f"FAISS makes no index of the kind `{wanted}` of {dimensions} dimensions."
        raise StoreError(message, store=store, hint="Name another kind, such as `Flat`.")
    return FLAT
