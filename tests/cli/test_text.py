"""Numbers, times and tables as people read them."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.cli.text import Column, ago, disk, duration, memory, printable, table

NOW = datetime(2026, 11, 21, 12)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_499, "999 kB"),
        (999_950, "1.0 MB"),
        (1_800_000_000, "1.8 GB"),
        (40_000_000_000, "40.0 GB"),
        (123_400_000_000, "123 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_files_are_counted_in_powers_of_ten(size: float, text: str) -> None:
    assert disk(size) == text


@pytest.mark.parametrize(("size", "text"), [(1023, "1023 B"), (1024, "1.0 KiB"), (16 * 1024**3, "16.0 GiB")])
def test_memory_is_counted_in_powers_of_two(size: float, text: str) -> None:
    assert memory(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (4800, "1 h 20 min")]
)
def test_durations_have_two_parts_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "today"),
        (1, "yesterday"),
        (13, "13 days ago"),
        (14, "2 weeks ago"),
        (60, "2 months ago"),
        (400, "1 year ago"),
    ],
)
def test_days_are_counted_in_the_unit_that_says_most(days: int, text: str) -> None:
    assert ago(NOW - timedelta(days=days), NOW) == text


def test_a_time_that_is_unknown_or_to_come_is_no_accident() -> None:
    assert (ago(None, NOW), ago(NOW + timedelta(days=2), NOW)) == ("", "today")


COLUMNS = (Column(title="model"), Column(title="size", is_number=True, rank=1), Column(title="note", rank=2))
ROWS = [("llama-3.2-3b", "1.8 GB", "good"), ("日本語", "940 MB", "")]


def test_a_table_is_aligned_whatever_the_script() -> None:
    assert table(COLUMNS, ROWS) == [
        "model           size  note",
        "llama-3.2-3b  1.8 GB  good",
        "日本語        940 MB",
    ]


def test_a_narrow_terminal_loses_the_least_telling_columns_first() -> None:
    assert table(COLUMNS, ROWS, width=22)[1] == "llama-3.2-3b  1.8 GB"
    assert table(COLUMNS, ROWS, width=15)[1] == "llama-3.2-3b"
    assert table(COLUMNS, ROWS, width=10)[1] == "llama-3.2…"


_CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"]), max_size=30)


@given(st.lists(st.tuples(_CELLS, _CELLS, _CELLS), min_size=1, max_size=5), st.integers(8, 100))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    from rich.cells import cell_len

    assert all(cell_len(line) <= max(width, 8) for line in table(COLUMNS, rows, width=width))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]52;c;cm0=\x07b", "a\\u001b]52;c;cm0=\\u0007b"),
        ("gone\rhere\x9b2J", "gone\\u000dhere\\u009b2J"),
        ("half \ud800", "half \\ud800"),
        ("turned \u202etxt", "turned \\u202etxt"),
        ("kept:\tÜñï 名 🙂\n", "kept:\tÜñï 名 🙂\n"),
    ],
)
def test_no_text_does_anything_to_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.encode()
