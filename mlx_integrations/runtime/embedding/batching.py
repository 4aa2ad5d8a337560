"""Which texts are computed together: sorted by length, cut by what the batch costs once padded. Pure functions."""

from collections.abc import Sequence

__all__ = ["longest_first", "rows_that_fit"]


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Positions in the order in which they are computed; equal lengths keep theirs."""
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])


def rows_that_fit(lengths: Sequence[int], limit_tokens: int, *, batch_cost_tokens: int) -> int:
    """How many of the first rows make one batch.

    A batch ends where its padding has cost as much as another batch would: whatever the lengths are, that is at most
    about twice the cost of the best cut.

    Args:
        lengths: Tokens of the waiting rows, longest first.
        limit_tokens: Tokens of the batch at most, padding included; a first row that is longer goes alone.
        batch_cost_tokens: What a batch costs beyond its tokens, as a number of tokens.

    Returns:
        At least 1, unless there are no rows.
    """
    if not lengths:
        return 0
    longest = lengths[0]
    most = max(1, min(len(lengths), limit_tokens // max(longest, 1)))
    padding = 0
    for count, length in enumerate(lengths[:most]):
        padding += longest - length
        if padding > batch_cost_tokens:
            return count
    return most
