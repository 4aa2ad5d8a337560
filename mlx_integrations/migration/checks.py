"""Compares what was built with what the store holds. Nothing is published before all of it holds."""

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.engine.text_index import TextIndex
from mlx_integrations.migration.executors.protocol import Executor
from mlx_integrations.migration.protocol import Reader
from mlx_integrations.migration.records import Row, content_digest, text_digest

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SAMPLE_ROWS", "Check", "verify_contents", "verify_vectors"]

SAMPLE_ROWS: Final = 300
"""Rows that are embedded a second time: if 1 % of all were wrong, one of them is among so many in 95 of 100 cases."""
LEAST_COSINE: Final = 0.999
"""Of a vector that was made twice: batches of other lengths, and other hardware, stay above."""

_READ_ROWS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was compared.

    Attributes:
        name: For programs.
        is_passed: Whether it holds.
        detail: For people.
    """

    name: str
    is_passed: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "is_passed": self.is_passed, "detail": self.detail}


@dataclass(slots=True)
class _Seen:
    """What one reading of all rows has found."""

    count: int = 0
    digest: int = 0
    unusable: int = 0
    misplaced: int = 0
    dimensions: frozenset[int] = frozenset()


def verify_contents(
    built: Reader, journal: Journal, staging: Staging, *, seed: int = 0
) -> tuple[list[Check], list[Row]]:
    """Read every row and every vector of what was built.

    Args:
        built: What was built, or what is published.
        journal: Says what has to be in it.
        staging: Has the vectors that were made. An index that compresses has others, and is not compared with them.
        seed: Of the sample.

    Returns:
        The checks, and a sample of the rows for `verify_vectors`.
    """
    seen, sample = _Seen(), _Sample(SAMPLE_ROWS, random.Random(seed))
    made = _Made(journal, staging) if built.describe().is_exact else None
    rows = built.rows()
    while batch := list(islice(rows, _READ_ROWS)):
        vectors = built.vectors([row.key for row in batch])
        _look(seen, batch, vectors)
        if made is not None:
            seen.misplaced += made.count_others(batch, vectors)
        for row in batch:
            sample.feed(row)
    count, digest = journal.count(), journal.content_sum()
    checks = [
        Check(name="count", is_passed=seen.count == count, detail=f"{seen.count} of {count} rows"),
        Check(
            name="contents",
            is_passed=seen.digest == digest,
            detail=f"digest {seen.digest:032x}" + ("" if seen.digest == digest else f" instead of {digest:032x}"),
        ),
        Check(
            name="dimensions",
            is_passed=seen.dimensions <= {staging.dimensions},
            detail=", ".join(map(str, sorted(seen.dimensions))) or "no vectors",
        ),
        Check(name="finite", is_passed=not seen.unusable, detail=f"{seen.unusable} vectors that no search can use"),
    ]
    if made is not None:
        right = f"{seen.count - seen.misplaced} of {seen.count} rows have the vector that was made of their text"
        checks.append(Check(name="vectors", is_passed=not seen.misplaced, detail=right))
    return checks, sample.rows


def verify_vectors(built: Reader, sample: Sequence[Row], executor: Executor) -> Check:
    """Embed some rows again and compare with what was built."""
    import numpy as np

    if not sample:
        return Check(name="alignment", is_passed=True, detail="no rows")
    again = next(iter(executor.embed([[row.text or "" for row in sample]])))
    stored = built.vectors([row.key for row in sample])
    if stored.shape != again.vectors.shape or again.refused:
        return Check(name="alignment", is_passed=False, detail="the model makes other vectors of them now")
    old, new = _unit(stored), _unit(again.vectors)
    if built.describe().is_exact:
        cosines = (old * new).sum(axis=1)
        wrong = int((cosines < LEAST_COSINE).sum())
        right = f"{len(sample) - wrong} of {len(sample)} rows are the vectors of their texts"
        return Check(name="alignment", is_passed=wrong == 0, detail=f"{right}; the least cosine is {cosines.min():.6f}")
    # A compressed vector is not what went in, but is still nearest to its own text: of equal ones, to any of them.
    table = old @ new.T
    own = np.take_along_axis(table, np.arange(len(sample))[:, None], axis=1)[:, 0]
    wrong = int((own < np.partition(table, -2, axis=1)[:, -2]).sum()) if len(sample) > 1 else 0
    detail = f"{wrong} of {len(sample)} compressed vectors are nearer to other texts"
    return Check(name="alignment", is_passed=wrong <= len(sample) // 10, detail=detail)


def _look(seen: _Seen, batch: Sequence[Row], vectors: "NDArray[np.float32]") -> None:
    import numpy as np

    seen.count += len(batch)
    seen.digest = (seen.digest + sum(int.from_bytes(content_digest(row), "big") for row in batch)) % (1 << 128)
    seen.unusable += int((~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)).sum())
    seen.dimensions |= {vectors.shape[1]}


class _Made:
    """The vectors that were made, by the texts of which they were made."""

    def __init__(self, journal: Journal, staging: Staging) -> None:
        self._journal = journal
        self._staging = staging
        self._texts = TextIndex(journal.texts())

    def count_others(self, rows: Sequence[Row], vectors: "NDArray[np.float32]") -> int:
        """How many rows do not have the vector of their text. Stores may shorten vectors, and round them a little."""
        import numpy as np

        if vectors.shape[1] != self._staging.dimensions:
            return len(rows)
        digests = [text_digest(row.text or "") for row in rows]
        places = self._places(set(digests))
        known = [index for index, digest in enumerate(digests) if digest in places]
        made = self._staging.read([places[digests[index]] for index in known])
        with np.errstate(invalid="ignore"):  # one that is not finite is like no other
            cosines = (_unit(vectors[known]) * _unit(made)).sum(axis=1)
            return len(rows) - int((cosines >= LEAST_COSINE).sum())

    def _places(self, digests: Set[bytes]) -> dict[bytes, int]:
        places: dict[bytes, int] = {}
        for digest, position in self._texts.find(list(digests)):
            if digest not in places and (there := self._journal.text_at(position)) is not None and there[0] == digest:
                places[digest] = position
        return places


class _Sample:
    """Some rows of a stream, each as likely as any other."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self.rows: list[Row] = []
        self._size = size
        self._chance = chance
        self._seen = 0

    def feed(self, row: Row) -> None:
        self._seen += 1
        if len(self.rows) < self._size:
            self.rows.append(row)
        elif (place := self._chance.randrange(self._seen)) < self._size:
            self.rows[place] = row


def _unit(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
