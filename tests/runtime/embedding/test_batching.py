"""Batches hold every row once, stay within their limit and do not waste much on padding."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.runtime.embedding.batching import longest_first, rows_that_fit

LENGTHS = st.lists(st.integers(min_value=1, max_value=600), max_size=200)


def _cut(lengths: list[int], limit: int, cost: int = 64) -> list[list[int]]:
    waiting = [lengths[position] for position in longest_first(lengths)]
    batches = []
    while waiting:
        count = rows_that_fit(waiting, limit, batch_cost_tokens=cost)
        batches.append(waiting[:count])
        waiting = waiting[count:]
    return batches


def _best_cost(lengths: list[int], limit: int, cost: int) -> int:
    """What the best cut of the sorted rows costs, by looking at all of them."""
    rows = sorted(lengths, reverse=True)
    best = [0] * (len(rows) + 1)
    for start in reversed(range(len(rows))):
        fitting = max(1, min(len(rows) - start, limit // rows[start]))
        best[start] = min(cost + count * rows[start] + best[start + count] for count in range(1, fitting + 1))
    return best[0]


@given(LENGTHS)
def test_the_longest_come_first_and_equals_keep_their_order(lengths: list[int]) -> None:
    order = longest_first(lengths)
    assert sorted(order) == list(range(len(lengths)))
    pairs = [(-lengths[position], position) for position in order]
    assert pairs == sorted(pairs)


@given(LENGTHS, st.integers(min_value=1, max_value=4096), st.integers(min_value=0, max_value=2048))
def test_every_row_is_in_one_batch_and_batches_keep_the_limit(lengths: list[int], limit: int, cost: int) -> None:
    batches = _cut(lengths, limit, cost)
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * batch[0] <= limit


@given(LENGTHS, st.integers(min_value=1, max_value=1024))
def test_padding_costs_no_more_than_another_batch(lengths: list[int], cost: int) -> None:
    for batch in _cut(lengths, 2048, cost):
        assert len(batch) * batch[0] - sum(batch) <= cost


@given(st.lists(st.integers(min_value=1, max_value=600), max_size=60), st.integers(min_value=1, max_value=1024))
def test_the_cut_costs_at_most_twice_the_best_one(lengths: list[int], cost: int) -> None:
    batches = _cut(lengths, 2048, cost)
    ours = sum(cost + len(batch) * batch[0] for batch in batches)
    assert ours <= 2 * _best_cost(lengths, 2048, cost)


def test_nothing_waiting_is_no_batch() -> None:
    assert rows_that_fit([], 100, batch_cost_tokens=64) == 0


def test_equal_rows_fill_the_batch() -> None:
    assert rows_that_fit([8] * 100, 400, batch_cost_tokens=0) == 50
