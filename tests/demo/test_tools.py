"""The tools of the tour calculate, count and look up, and can do nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.demo.tools import calculator, days_between, evaluate, lookup_price


@pytest.mark.parametrize(
    ("expression", "answer"),
    [("12 * 2.50", "30.0"), ("24.90 + 39.50", "64.4"), ("(1 + 2) * -3", "-9"), ("7 // 2", "3"), ("7 % 4", "3")],
)
def test_the_calculator_calculates(expression: str, answer: str) -> None:
    assert calculator(expression) == answer


@given(st.integers(-999, 999), st.integers(-999, 999), st.sampled_from("+-*"))
def test_the_calculator_agrees_with_python(left: int, right: int, sign: str) -> None:
    expected = {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert evaluate(f"{left} {sign} ({right})") == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "__import__('os')",
        "a",
        "'x' * 9",
        "True",
        "9 ** 9 ** 9",
        "(-8) ** 0.5",
        "1 / 0",
        "1 " * 999,
        "(" * 150,
    ],
)
def test_the_calculator_says_what_it_cannot_do(expression: str) -> None:
    assert calculator(expression).startswith("Error: ")


def test_large_powers_do_not_crash_it() -> None:
    assert calculator("10.0 ** 64 ** 1 * 10.0 ** 64") == str(1e128)
    assert calculator("1e300 * 1e300 ** 1") == "inf"


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [("2026-03-01", "2026-03-15", "14"), ("2024-03-01", "2024-02-28", "2"), ("a", "b", "Error")],
)
def test_days_are_counted_in_either_direction(start: str, end: str, days: str) -> None:
    assert days_between(start, end).startswith(days)


@pytest.mark.parametrize("item", ["notebook", "notebooks", "Notebook ", "NOTEBOOKS"])
def test_a_price_is_found_in_singular_and_plural(item: str) -> None:
    assert lookup_price(item) == "2.50"


def test_an_unknown_item_has_no_price() -> None:
    assert lookup_price("moon") == "Error: no price for moon"
