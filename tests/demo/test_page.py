"""How the tour looks in a terminal, and in a file."""

import io

import pytest
from rich.console import Console

from mlx_integrations.demo.page import Page

LONG = "A line that is longer than the terminal is wide, and so goes on below."


def _page(*, width: int = 40, is_terminal: bool = True) -> tuple[Page, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=None, highlight=False)
    return Page(console, pauses=False), file


def test_a_long_line_goes_on_beside_its_speaker() -> None:
    page, file = _page()
    page.line("you", LONG)
    assert file.getvalue().splitlines() == [
        "    you  A line that is longer than the",
        "         terminal is wide, and so goes",
        "         on below.",
    ]


def test_a_file_gets_every_line_in_one_piece() -> None:
    page, file = _page(is_terminal=False)
    page.heading("Title", "some_code(that, is, long, too)")
    page.line("you", LONG)
    assert page.stream("model", LONG) == LONG
    assert file.getvalue() == f"\nTitle  some_code(that, is, long, too)\n    you  {LONG}\n  model  {LONG}\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_of_a_long_text_the_beginning_is_shown(is_terminal: bool) -> None:
    page, file = _page(is_terminal=is_terminal)
    page.line("found", LONG * 5, max_lines=2)
    assert file.getvalue().rstrip().endswith(" ...")
    assert file.getvalue().count("\n") == (2 if is_terminal else 1)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_streamed_words_stay_whole(size: int) -> None:
    page, file = _page()
    assert page.stream("model", [LONG[at : at + size] for at in range(0, len(LONG), size)]) == LONG
    lines = file.getvalue().splitlines()
    assert [line.strip() for line in lines] == [
        "model  A line that is longer than the",
        "terminal is wide, and so goes",
        "on below.",
    ]
    assert all(len(line.rstrip()) <= 40 and line[0] == " " for line in lines)


def test_code_that_does_not_fit_goes_below_its_heading() -> None:
    page, file = _page()
    page.heading("1. Title", "short(code)")
    page.heading("2. Title", "code[that](is, longer, than, a, line)")
    assert file.getvalue() == "\n1. Title  short(code)\n\n2. Title\n   code[that](is, longer, than, a, line)\n"
