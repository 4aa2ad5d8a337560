"""Which texts are computed together: sorted by length, cut by what the batch costs once padded. Pure functions."""

from collections.abc import Sequence
from itertools import takewhile

__all__ = ["longest_first", "rows_that_fit"]

_SMALL_BATCH_TOKENS = 256  # below this, padding costs less than one more pass through the layers


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Positions in the order in which they are computed; equal lengths keep theirs."""
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])


def rows_that_fit(lengths: Sequence[int], limit_tokens: int) -> int:
    """How many of the first rows make one batch.

    Args:
        lengths: Tokens of the waiting rows, longest first.
        limit_tokens: Tokens of the batch at most, padding included; a first row that is longer goes alone.

    Returns:
        At least 1, unless there are no rows. Rows less than half as long as the first one are left for the next batch
        if this one is worth its while: they would be padding mostly.
    """
    if not lengths:
        return 0
    longest = lengths[0]
    count = max(1, min(len(lengths), limit_tokens // max(longest, 1)))
    worthwhile = -(-_SMALL_BATCH_TOKENS // max(longest, 1))
    long_enough = sum(1 for _ in takewhile(lambda length: length * 2 >= longest, lengths[:count]))
    return min(count, max(long_enough, worthwhile))
