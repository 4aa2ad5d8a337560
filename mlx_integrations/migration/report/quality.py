"""How new vectors compare with old ones: measures over arrays, which know of no store.

Nearness is what all of them work with, greater for what is nearer: cosine, dot product, or minus a distance. Vectors
come in blocks, so that a store of any size takes the memory of one block. Two rows of the same text are one: which of
them a search finds first means nothing, so texts have names, and what is found are names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlx_integrations.migration.records import Metric, text_digest

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "NearnessCounts",
    "Neighbours",
    "Search",
    "chance_overlap",
    "interpolated",
    "mean_reciprocal_rank",
    "name_of",
    "nearness",
    "overlap",
    "ranks",
    "share_within",
]

_BINS: Final = 1 << 15
_NAME_BYTES: Final = 8
_TYPICAL: Final = 95  # percentile of lengths that stands for the longest, so that one odd vector coarsens nothing


def name_of(text: str) -> int:
    """A number of 64 bits that is the same for equal texts, and in practice for no others."""
    return int.from_bytes(text_digest(text)[:_NAME_BYTES], "big")


def nearness(queries: "NDArray[np.float32]", vectors: "NDArray[np.float32]", metric: Metric) -> "NDArray[np.float32]":
    """How near each vector is to each query.

    Args:
        queries: (queries, dimensions).
        vectors: (vectors, dimensions).
        metric: `cosine` and `unknown` give the cosine, `dot` the dot product, `euclidean` minus the square of the
            distance, `manhattan` minus the distance.

    Returns:
        (queries, vectors), greater is nearer. A zero vector has the cosine 0 to everything.
    """
    import numpy as np

    if metric == "manhattan":
        found = np.empty((len(queries), len(vectors)), np.float32)
        for place, query in enumerate(queries):
            np.negative(np.abs(vectors - query).sum(axis=1), out=found[place])
        return found
    if metric == "dot":
        return queries @ vectors.T
    if metric == "euclidean":
        squares = (queries**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1)[None, :]
        distances: NDArray[np.float32] = np.minimum(2 * (queries @ vectors.T) - squares, 0)
        return distances
    return _unit(queries) @ _unit(vectors).T


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """What a search has found.

    Attributes:
        names: (queries, k) of texts, the nearest first.
        nearness: (queries, k), `-inf` where there were fewer than k texts.
    """

    names: "NDArray[np.uint64]"
    nearness: "NDArray[np.float32]"


class Search:
    """The nearest texts of some queries, found in one reading of all vectors.

    Args:
        queries: (queries, dimensions).
        metric: How vectors are compared.
        k: How many texts to find for each query.
        own: (queries,) names of the queries' own texts, which are not to be found; `None` if there are none.
        counts: Takes in the nearness of every pair, if it is to be counted.
    """

    def __init__(
        self,
        queries: "NDArray[np.float32]",
        metric: Metric,
        k: int,
        *,
        own: "NDArray[np.uint64] | None" = None,
        counts: "NearnessCounts | None" = None,
    ) -> None:
        import numpy as np

        self._queries = queries
        self._metric: Metric = metric
        self._k = k
        self._own = own
        self._counts = counts
        self._names = np.zeros((len(queries), k), np.uint64)
        self._best = np.full((len(queries), k), -np.inf, np.float32)

    def feed(self, names: "NDArray[np.uint64]", vectors: "NDArray[np.float32]") -> None:
        """Take in vectors.

        Args:
            names: (vectors,) of their texts.
            vectors: (vectors, dimensions).
        """
        import numpy as np

        if not len(names) or not len(self._queries):
            return
        found = nearness(self._queries, vectors, self._metric)
        if self._own is not None:
            found[self._own[:, None] == names[None, :]] = -np.inf
        if self._counts is not None:
            self._counts.feed(found)
        names, found = _of_each_text(names, found)
        better = np.flatnonzero(found.max(axis=1) > self._best[:, -1])
        if len(better):
            self._merge(better, names, found[better])

    def found(self) -> Neighbours:
        """The nearest texts of all that was taken in."""
        return Neighbours(names=self._names, nearness=self._best)

    def _merge(self, queries: "NDArray[np.intp]", names: "NDArray[np.uint64]", found: "NDArray[np.float32]") -> None:
        import numpy as np

        if found.shape[1] > self._k:
            nearest = np.argpartition(-found, self._k - 1, axis=1)[:, : self._k]
            found = np.take_along_axis(found, nearest, axis=1)
            candidates = names[nearest]
        else:
            candidates = np.broadcast_to(names, found.shape)
        both = np.concatenate([self._names[queries], candidates], axis=1)
        best = np.concatenate([self._best[queries], found], axis=1)
        order = np.lexsort((-best, both), axis=1)  # a text that comes twice is there at its nearest first
        both, best = np.take_along_axis(both, order, axis=1), np.take_along_axis(best, order, axis=1)
        best[:, 1:][both[:, 1:] == both[:, :-1]] = -np.inf
        order = np.argsort(-best, axis=1, kind="stable")[:, : self._k]
        self._names[queries] = np.take_along_axis(both, order, axis=1)
        self._best[queries] = np.take_along_axis(best, order, axis=1)


class NearnessCounts:
    """How many pairs are how near: enough to say which nearness a share of them exceeds.

    Args:
        least: The smallest nearness that is told apart.
        most: The greatest one.
    """

    def __init__(self, least: float, most: float) -> None:
        import numpy as np

        self._least = least
        self._width = max(most - least, 1e-12) / _BINS
        self._counts = np.zeros(_BINS, np.int64)

    @classmethod
    def for_queries(cls, queries: "NDArray[np.float32]", metric: Metric) -> "NearnessCounts":
        """Counts for what vectors like some queries can be to each other."""
        import numpy as np

        if metric not in ("dot", "euclidean", "manhattan"):
            return cls(-1.0, 1.0)
        lengths = np.linalg.norm(queries, ord=1 if metric == "manhattan" else 2, axis=1)
        length = float(np.percentile(lengths, _TYPICAL)) if len(queries) else 1.0
        if metric == "dot":
            return cls(-4 * length**2, 4 * length**2)
        return cls(-((2 * length) ** 2) if metric == "euclidean" else -2 * length, 0.0)

    @property
    def resolution(self) -> float:
        """Values nearer to each other than this are counted as one."""
        return self._width

    @property
    def total(self) -> int:
        """Pairs that were counted."""
        return int(self._counts.sum())

    def feed(self, found: "NDArray[np.float32]") -> None:
        """Count the nearness of pairs; values that are not finite are none."""
        import numpy as np

        places = (found[np.isfinite(found)] - self._least) / self._width
        places = np.clip(places, 0, _BINS - 1).astype(np.int32)
        self._counts += np.bincount(places, minlength=_BINS)

    def exceeded_by(self, shares: Sequence[float]) -> list[float]:
        """For each share of all pairs, from 0 to 1: the nearness that so many of them have or exceed."""
        import numpy as np

        nearer = np.cumsum(self._counts[::-1])
        places = np.searchsorted(nearer, np.maximum(np.asarray(shares) * nearer[-1], 1), side="left")
        # The middle of a bin, counted from the top.
        values = self._least + self._width * (_BINS - 0.5 - np.minimum(places, _BINS - 1))
        return [float(value) for value in values]


def overlap(old: Neighbours, new: Neighbours, k: int) -> "NDArray[np.float64]":
    """For each query, the share of its k nearest texts that both sides agree on, from 0 to 1."""
    import numpy as np

    there = np.isfinite(old.nearness[:, :k])[:, :, None] & np.isfinite(new.nearness[:, :k])[:, None, :]
    same = (old.names[:, :k, None] == new.names[:, None, :k]) & there
    sizes = [np.isfinite(side.nearness[:, :k]).sum(axis=1) for side in (old, new)]
    shares: NDArray[np.float64] = same.sum(axis=(1, 2)) / np.maximum(np.maximum(*sizes), 1)
    return shares


def chance_overlap(k: int, others: int) -> float:
    """The overlap of two searches that have nothing in common.

    Args:
        k: How many texts each finds.
        others: How many texts there are besides the query's own.
    """
    return min(k, others) / others if others else 0.0


def ranks(found: Neighbours, wanted: "NDArray[np.uint64]") -> "NDArray[np.intp]":
    """Where each query found the text that it wanted: 1 for the first place, 0 if it did not."""
    import numpy as np

    hits = (found.names == wanted[:, None]) & np.isfinite(found.nearness)
    places: NDArray[np.intp] = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    return places


def share_within(places: "NDArray[np.intp]", k: int) -> float:
    """The share of queries that found what they wanted among the first k; 0 for no queries."""
    return float(((places > 0) & (places <= k)).mean()) if len(places) else 0.0


def mean_reciprocal_rank(places: "NDArray[np.intp]", k: int) -> float:
    """The mean of 1 over the place, where places after k count as nothing; 0 for no queries."""
    import numpy as np

    if not len(places):
        return 0.0
    return float(np.where((places > 0) & (places <= k), 1 / np.maximum(places, 1), 0.0).mean())


def interpolated(value: float, froms: Sequence[float], tos: Sequence[float]) -> float:
    """Where a value on one scale is on another: straight lines between known points, the last ones beyond them.

    Args:
        value: On the first scale.
        froms: Known points of the first scale, all rising or all falling.
        tos: What they are on the other.
    """
    import numpy as np

    if froms[0] > froms[-1]:
        froms, tos = froms[::-1], tos[::-1]
    return float(np.interp(value, froms, tos))


def _of_each_text(
    names: "NDArray[np.uint64]", found: "NDArray[np.float32]"
) -> "tuple[NDArray[np.uint64], NDArray[np.float32]]":
    """One column for each text: the nearest of its rows."""
    import numpy as np

    order = np.argsort(names, kind="stable")
    ordered = names[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(begins) == len(names):
        return names, found
    nearest: NDArray[np.float32] = np.maximum.reduceat(found[:, order], begins, axis=1)
    return ordered[begins], nearest


def _unit(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
