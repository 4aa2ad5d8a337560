"""Numbers and times as people read them, and tables that fit the terminal. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

__all__ = ["Column", "ago", "disk", "duration", "fitted", "memory", "printable", "table"]

_GAP: Final = 2
_MINIMUM_CELL: Final = 8
_UNITS: Final = (("year", 365), ("month", 30), ("week", 7), ("day", 1))


# Control characters but tabs and ends of lines, marks that turn the direction of what follows, halves of characters.
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that does nothing to a terminal but stand there, whoever has written it; also right within JSON."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def disk(size_bytes: float) -> str:
    """Bytes of files, in powers of ten as the Hub and file managers count them: `1.8 GB`."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB"))


def memory(size_bytes: float) -> str:
    """Bytes of memory, in powers of two as memory is sold: `1.7 GiB`."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(seconds: float) -> str:
    """`8 s`, `2 min 05 s`, `1 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def ago(when: datetime | None, now: datetime) -> str:
    """How long ago something was: `today`, `3 days ago`."""
    if when is None:
        return ""
    days = (now.date() - when.date()).days
    if days < 2:
        return "yesterday" if days == 1 else "today"
    unit, length = next((unit, length) for unit, length in _UNITS if days >= length * (1 if unit == "year" else 2))
    count = days // length
    return f"{count} {unit}{'s' if count > 1 else ''} ago"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        is_number: Whether cells stand to the right.
        rank: Which columns go first where the terminal is narrow: the highest; 0 stays.
    """

    title: str
    is_number: bool = False
    rank: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Lines of a table, headings first.

    Args:
        columns: The columns.
        rows: A cell for each column.
        width: Of the terminal. Columns are left out until the rest fits; then the first one is cut, as its beginning
            says most. `None`: everything is shown.
    """
    from rich.cells import cell_len, set_cell_size

    lines = [[column.title for column in columns], *rows]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    shown = list(range(len(columns)))
    while width is not None and sum(widths[at] + _GAP for at in shown) - _GAP > width:
        dropped = max(shown, key=lambda at: (columns[at].rank, at))
        if columns[dropped].rank == 0:
            widest = max(shown, key=lambda at: widths[at])
            excess = sum(widths[at] + _GAP for at in shown) - _GAP - width
            widths[widest] = max(widths[widest] - excess, _MINIMUM_CELL)
            break
        shown.remove(dropped)

    def cell(text: str, at: int) -> str:
        if cell_len(text) > widths[at]:
            return set_cell_size(text, widths[at] - 1) + "…"
        blanks = " " * (widths[at] - cell_len(text))
        return blanks + text if columns[at].is_number else text + blanks

    return [(" " * _GAP).join(cell(line[at], at) for at in shown).rstrip() for line in lines]


def fitted(text: str, width: int, *, keeps_end: bool = False) -> str:
    """A text that is exactly so many columns wide: cut, or filled up with blanks.

    Args:
        text: The text.
        width: Columns.
        keeps_end: Whether its end says most, as that of a path does.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text + " " * (width - cell_len(text))
    if not keeps_end:
        return set_cell_size(text, width - 1) + "…"
    start = next(at for at in range(len(text) + 1) if cell_len(text[at:]) < width)
    return fitted("…" + text[start:], width)


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    """A value in the largest unit that leaves at least 1, to three figures."""
    step = 0
    while step < len(units) - 1 and abs(value) >= base * 0.9995:
        value /= base
        step += 1
    return f"{value:.0f} {units[step]}" if step == 0 or value >= 99.95 else f"{value:.1f} {units[step]}"
