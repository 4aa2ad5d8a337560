"""The two streams of a command: data goes to stdout, talk to stderr. Colours only where somebody looks at them."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.text import Column, printable, table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ask", "errors", "is_interactive", "print_json", "print_names", "print_table", "say"]

_WIDTH_OF_A_FILE = 10_000


def output() -> "Console":
    """Standard output: data. A file or pipe gets lines as long as they are."""
    return _console(to_stderr=False)


def errors() -> "Console":
    """Standard error: talk."""
    return _console(to_stderr=True)


def is_interactive() -> bool:
    """Whether a person is there to answer: both ways lead to a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say(text: str = "", *, style: str | None = None) -> None:
    """One line of talk."""
    errors().print(printable(text), style=style, markup=False, soft_wrap=True)


def ask(question: str, *, default: bool = False) -> bool:
    """A yes or no from a person; the default where there is none to ask."""
    return typer.confirm(printable(question), default=default, err=True) if is_interactive() else default


def print_json(value: Any) -> None:
    """One JSON document."""
    typer.echo(printable(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def print_names(names: Iterable[str]) -> None:
    """One name a line, for other programs."""
    for name in names:
        typer.echo(name)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits the terminal."""
    console = output()
    heading, *lines = table(
        columns,
        [[printable(cell) for cell in row] for row in rows],
        width=console.width if console.is_terminal else None,
    )
    console.print(heading, style="bold", markup=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _console(*, to_stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width: int | None = None if stream.isatty() else _WIDTH_OF_A_FILE
    height: int | None = None
    if stream.isatty() and os.environ.get("TERM") == "dumb":
        # rich takes every dumb terminal for one of 80 columns, unless it is told both figures.
        size = os.get_terminal_size(stream.fileno())
        width, height = size.columns or None, size.lines or None
    # Made anew each time: tests and callers may have put other streams in place.
    return Console(stderr=to_stderr, highlight=False, width=width, height=height)
