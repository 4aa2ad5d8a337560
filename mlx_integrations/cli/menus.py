"""Questions to a person at a terminal: a numbered menu, a line, a yes or no. Works over ssh and in a dumb terminal.

What is asked goes to stderr. Whoever does not want to go on types q, or presses Ctrl-D: that is a `LeftError`.
"""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlx_integrations.cli.console import errors
from mlx_integrations.cli.text import Column, table
from mlx_integrations.errors import MLXIntegrationsError

__all__ = [
    "Choice",
    "LeftError",
    "Section",
    "fact_lines",
    "menu_lines",
    "read_line",
    "read_word",
    "read_yes",
    "show_menu",
    "tell",
    "tell_facts",
    "tell_failure",
]

_LEAVE: Final = ("q", "quit", "exit")
_YES: Final = ("y", "yes")
_NO: Final = ("n", "no")
_NARROWEST: Final = 24
_GAP: Final = 2


class LeftError(Exception):
    """The person does not want to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A line of a menu.

    Attributes:
        cells: What stands in its columns, after the number.
        is_enabled: Whether it has a number and can be taken.
    """

    cells: tuple[str, ...]
    is_enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lines of a menu that belong together, under a heading."""

    title: str
    choices: tuple[Choice, ...]


def menu_lines(
    sections: Sequence[Section], columns: Sequence[Column], *, width: int, default: int | None = None
) -> Iterator[tuple[str, str]]:
    """A menu as lines and their styles, the headings of its columns first. Pure.

    Args:
        sections: What can be taken, and what cannot, in sections; empty ones are left out.
        columns: Of the choices' cells.
        width: Of the terminal.
        default: Which number is taken by pressing Enter; it has a mark.
    """
    rows, styles, number = [], [], 0
    for section in sections:
        for choice in section.choices:
            number += choice.is_enabled
            label = (f"> {number}" if number == default else str(number)) if choice.is_enabled else "-"
            rows.append((label, *choice.cells))
            styles.append("bold" if choice.is_enabled and number == default else "" if choice.is_enabled else "dim")
    label_column = Column(title="", is_number=True)
    heading, *lines = table((label_column, *columns), rows, width=max(width, _NARROWEST))
    drawn = iter(zip(lines, styles, strict=True))
    if rows:
        yield heading, "dim"
    for section in sections:
        if section.choices:
            yield section.title, "cyan"
            yield from (next(drawn) for _ in section.choices)


def show_menu(sections: Sequence[Section], columns: Sequence[Column], *, default: int | None = None) -> None:
    """Print a menu."""
    console = errors()
    for line, style in menu_lines(sections, columns, width=console.width, default=default):
        console.print(line, style=style or None, markup=False, soft_wrap=True)


def tell(text: str = "", *, style: str | None = None) -> None:
    """Talk that is broken between words."""
    errors().print(text, style=style, markup=False)


def tell_failure(error: MLXIntegrationsError | OSError) -> None:
    """Say what went wrong, and what to do about it."""
    if isinstance(error, MLXIntegrationsError):
        tell(error.message, style="red")
        if error.hint:
            tell(error.hint)
    else:
        place = f": {error.filename}" if error.filename else ""
        tell(f"{error.strerror or error}{place}", style="red")
        tell("See what is wrong: mlxi doctor")


def fact_lines(facts: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Names and texts in two columns; a text that is long goes on below itself. Pure.

    In a narrow terminal texts that are long stand below their names.
    """
    beside = 2 + max((len(name) for name, _ in facts), default=0) + _GAP
    is_narrow = width - beside < _NARROWEST and any(beside + len(text) > width for _, text in facts)
    indent = 4 if is_narrow else beside
    for name, text in facts:
        lines = textwrap.wrap(text, max(width - indent, 1), break_long_words=False, break_on_hyphens=False) or [""]
        if is_narrow and name:
            yield f"  {name}"
        elif not is_narrow:
            yield f"  {name}".ljust(indent) + lines.pop(0)
        yield from (" " * indent + line for line in lines)


def tell_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Talk in two columns."""
    console = errors()
    for line in fact_lines(facts, console.width):
        console.print(line, markup=False, soft_wrap=True)


def read_line(prompt: str) -> str:
    """One line that somebody types, without blanks around it.

    Raises:
        LeftError: It was q, or Ctrl-D.
    """
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise LeftError
    text = "".join(character for character in line if character.isprintable()).strip()
    if text.lower() in _LEAVE:
        raise LeftError
    return text


def read_word(question: str, words: Mapping[str, str]) -> str:
    """One of a few words, by its first letter.

    Args:
        question: What is asked.
        words: What each word does; the first is what Enter takes.

    Raises:
        LeftError: It was q, or Ctrl-D.
    """
    default = next(iter(words))
    tell(question)
    tell_facts([*((word[0], meaning) for word, meaning in words.items()), ("q", "leave")])
    while True:
        answer = read_line(f"[{default[0]}]: ").lower()
        found = next((word for word in words if answer in ("", word[0], word)), None)
        if found is not None:
            return found
        tell(f"Type {', '.join(word[0] for word in words)}, or q to leave.", style="yellow")


def read_yes(question: str, *, default: bool = True) -> bool:
    """A yes or a no.

    Raises:
        LeftError: It was q, or Ctrl-D.
    """
    while True:
        answer = read_line(f"{question} [{'Y/n' if default else 'y/N'}]: ").lower()
        if not answer:
            return default
        if answer in (*_YES, *_NO):
            return answer in _YES
        tell("Type y or n, or q to leave.", style="yellow")
