"""Where texts are that were embedded before, in 8 bytes of memory a text.

A database index over digests is written all over the place: at a million rows it took more time than everything else
together. Here digests are kept as sorted runs, and made anew from the journal when a run goes on.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TextIndex"]

_KEY_BYTES: Final = 4
_POSITION_BITS: Final = 32
_RUN_TEXTS: Final = 1 << 19
"""Runs of this size are not merged any more: merging takes as much memory again for a moment."""


class TextIndex:
    """Finds the positions that a text may be at, by the first 4 bytes of its digest: most often one, or none.

    Args:
        known: Digests and positions to begin with.
    """

    def __init__(self, known: Iterable[tuple[bytes, int]] = ()) -> None:
        self._runs: list[NDArray[np.uint64]] = []
        pairs = iter(known)
        while part := list(islice(pairs, _RUN_TEXTS)):
            self.add(part)

    def add(self, pairs: Sequence[tuple[bytes, int]]) -> None:
        """Take in digests and their positions."""
        import numpy as np

        if not pairs:
            return
        positions = np.fromiter((position for _, position in pairs), np.uint64, len(pairs))
        words = _keys([digest for digest, _ in pairs]) << np.uint64(_POSITION_BITS) | positions
        words.sort()
        self._runs.append(words)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]) < 2 * _RUN_TEXTS:
            last, before = self._runs.pop(), self._runs.pop()
            merged = np.concatenate([before, last])
            merged.sort(kind="stable")  # which merges runs that are sorted already
            self._runs.append(merged)

    def find(self, digests: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Digests with positions that they may be at; the caller looks whether they are."""
        import numpy as np

        first = _keys(digests) << np.uint64(_POSITION_BITS)
        last = first | np.uint64((1 << _POSITION_BITS) - 1)
        for run in self._runs:
            begins, ends = np.searchsorted(run, first, "left"), np.searchsorted(run, last, "right")
            for place in np.flatnonzero(ends > begins):
                for word in run[begins[place] : ends[place]]:
                    yield digests[int(place)], int(word) & ((1 << _POSITION_BITS) - 1)


def _keys(digests: Sequence[bytes]) -> "NDArray[np.uint64]":
    """The beginnings of digests, as numbers."""
    import numpy as np

    return np.frombuffer(b"".join([digest[:_KEY_BYTES] for digest in digests]), ">u4").astype(np.uint64)
