"""How the page writes numbers and times, and what all of its sections are made of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from mlx_integrations.migration.report.markup import Content, Markup, tag

__all__ = ["amount", "bytes_of", "coded", "duration", "listed", "moment", "percent", "plural", "section", "table"]

_MINUTE: Final = 60
_HOUR: Final = 3600
_KILO: Final = 1000
_AT_ONCE: Final = 10


def amount(count: float) -> str:
    """Such as `12,000`."""
    return f"{count:,.0f}"


def percent(share: float) -> str:
    """Such as `41 %`; one digit more where all of it would be lost, and never 100 or 0 for what is not quite that."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return f"{min(max(share * 100, 0.1), 99.9):.1f} %"
    return f"{share:.0%}".replace("%", " %")


def bytes_of(size: float) -> str:
    """Such as `34 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """Such as `4 min 10 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"


def moment(at: float) -> str:
    """A time of day, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def plural(count: int, noun: str) -> str:
    """Such as `1 thing` or `2 things`."""
    return f"{amount(count)} {noun}{'' if count == 1 else 's'}"


def coded(sentence: str) -> list[str]:
    """A sentence whose parts in backticks are shown as code."""
    parts = sentence.split("`")
    return [tag("code", part) if place % 2 else part for place, part in enumerate(parts)]


def section(title: str, *contents: Content | None, lead: Content | None = None) -> Markup:
    """A part of the page, with what it says in one sentence."""
    return tag("section", tag("h2", title), tag("p", lead, class_="soft") if lead else None, *contents)


def table(heads: Sequence[str], lines: Sequence[Sequence[Content]], *, numbers: Sequence[int] = ()) -> Markup:
    """A table.

    Args:
        heads: Of its columns; none for a table without.
        lines: Its rows.
        numbers: Columns that are put to the right.
    """

    def cell(name: str, place: int, content: Content) -> Markup:
        return tag(name, content, class_="number" if place in numbers else None, dir="auto")

    head = tag("thead", tag("tr", [cell("th", place, name) for place, name in enumerate(heads)])) if heads else None
    body = tag("tbody", [tag("tr", [cell("td", place, each) for place, each in enumerate(row)]) for row in lines])
    return tag("div", tag("table", head, body), class_="wide")


def listed(
    heads: Sequence[str], lines: Sequence[Sequence[Content]], most: int, *, numbers: Sequence[int] = ()
) -> Markup:
    """A table of the first rows of a list: a few at once, others to be opened, and how many more there are."""
    rest = len(lines) - most
    left_out = tag("p", f"{amount(rest)} more are in the JSON of this report.", class_="soft") if rest > 0 else None
    others = lines[_AT_ONCE:most]
    folded = tag("details", tag("summary", f"{amount(len(others))} more"), table(heads, others, numbers=numbers))
    return tag("div", table(heads, lines[: min(most, _AT_ONCE)], numbers=numbers), folded if others else None, left_out)
