"""Estimates of memory against what MLX says a model took; docs/benchmarks.md has more models and longer prompts."""

from tests.benchmarks.memory_estimate import measure


def test_an_estimate_is_within_a_tenth_of_what_a_model_takes() -> None:
    rows = measure("llama, 29 M weights", [300, 1200])
    for row in rows:
        assert row["estimate"] == row["weights"] + row["cache"] + row["margin"]
        assert abs(row["estimate"] / row["peak"] - 1) < 0.1, row
    assert rows[0]["peak"] < rows[1]["peak"]
