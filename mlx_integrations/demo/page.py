"""How the tour looks: headings, and lines that say who speaks.

In a terminal, words stay whole and text stays beside its speaker. A file or a pipe gets every line in one piece, so
that it can be searched.
"""

import re
import textwrap
import time
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape

__all__ = ["Page"]

_INDENT = 9
_WIDTH_OF_A_FILE = 100
_PAUSE_SECONDS = 0.8
_WORDS = re.compile(r"\S+\s+")


class Page:
    """What the tour writes on.

    Args:
        console: Where to show it; plain text when it is not a terminal.
        pauses: Whether to wait a moment before each heading, for people who read along.
    """

    def __init__(self, console: Console, *, pauses: bool) -> None:
        self._console = console
        self._pauses = pauses

    def show(self, renderable: RenderableType = "") -> None:
        """Show anything that rich can show."""
        self._console.print(renderable)

    def heading(self, title: str, code: str) -> None:
        """Begin a part: what it shows, and the line of code that does it."""
        if self._pauses:
            time.sleep(_PAUSE_SECONDS)
        width = self._width
        gap = "  " if width is None or len(title) + 2 + len(code) <= width else "\n   "
        self._console.print(f"\n[bold cyan]{title}[/]{gap}[dim]{escape(code)}[/]", soft_wrap=True)

    def line(self, who: str, text: str, style: str | None = None, *, max_lines: int | None = None) -> None:
        """Show what somebody says, or no more of it than fits on `max_lines`."""
        width = self._width
        if width is not None or max_lines is not None:
            columns = (width or _WIDTH_OF_A_FILE) - _INDENT
            lines = textwrap.wrap(
                text, columns, max_lines=max_lines, placeholder=" ...", break_long_words=False, break_on_hyphens=False
            )
            text = ("\n" + " " * _INDENT if width is not None else " ").join(lines)
        self._speaker(who)
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def stream(self, who: str, chunks: Iterable[str]) -> str:
        """Show what somebody says while it comes in, word by word; returns all of it."""
        self._speaker(who)
        said, held, column = "", "", _INDENT
        for chunk in chunks:
            said, held = said + chunk, held + chunk
            while (word := _WORDS.match(held)) is not None:
                held = held[word.end() :]
                column = self._word(word[0], column)
        self._word(held, column)
        self._console.print()
        return said

    def _word(self, word: str, column: int) -> int:
        """Write a word and the blank after it; returns the column that follows."""
        if self._width is not None and column > _INDENT and column + len(word.rstrip()) > self._width:
            self._console.print("\n" + " " * _INDENT, end="")
            column = _INDENT
        self._console.print(word, end="", markup=False, soft_wrap=True)
        return column + len(word)

    @property
    def _width(self) -> int | None:
        return self._console.width if self._console.is_terminal else None

    def _speaker(self, who: str) -> None:
        self._console.print(f"  {who:>5}  ", end="", style="bold")
