"""Batches hold every row once, stay within their limit and do not waste much on padding."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.runtime.embedding.batching import longest_first, rows_that_fit

LENGTHS = st.lists(st.integers(min_value=1, max_value=600), max_size=200)


def _cut(lengths: list[int], limit: int) -> list[list[int]]:
    waiting = [lengths[position] for position in longest_first(lengths)]
    batches = []
    while waiting:
        count = rows_that_fit(waiting, limit)
        batches.append(waiting[:count])
        waiting = waiting[count:]
    return batches


@given(LENGTHS)
def test_the_longest_come_first_and_equals_keep_their_order(lengths: list[int]) -> None:
    order = longest_first(lengths)
    assert sorted(order) == list(range(len(lengths)))
    pairs = [(-lengths[position], position) for position in order]
    assert pairs == sorted(pairs)


@given(LENGTHS, st.integers(min_value=1, max_value=4096))
def test_every_row_is_in_one_batch_and_batches_keep_the_limit(lengths: list[int], limit: int) -> None:
    batches = _cut(lengths, limit)
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * batch[0] <= limit


@given(LENGTHS)
def test_no_more_than_half_of_a_large_batch_is_padding(lengths: list[int]) -> None:
    for batch in _cut(lengths, 2048):
        padded = len(batch) * batch[0]
        assert padded <= 2 * sum(batch) or padded < 256 + 2 * batch[0]


def test_nothing_waiting_is_no_batch() -> None:
    assert rows_that_fit([], 100) == 0


def test_short_rows_wait_for_a_batch_of_their_own_when_this_one_is_worth_its_while() -> None:
    assert rows_that_fit([256, 250, 8, 8, 8], 4096) == 2
    assert rows_that_fit([40, 8, 8], 4096) == 3
