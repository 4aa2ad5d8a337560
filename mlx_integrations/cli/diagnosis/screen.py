"""The report as lines of text. Pure: width in, lines with their style out."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from mlx_integrations.cli.diagnosis.finding import SEVERITY, Status, Told, worst

__all__ = ["WORDS", "Line", "finding_lines", "summary"]

Line = tuple[str, str]
"""Text, and its style."""

WORDS: Final[dict[Status, str]] = {"ok": "OK", "skip": "--", "warn": "WARN", "fail": "FAIL"}
STYLES: Final[dict[Status, str]] = {"ok": "green", "skip": "dim", "warn": "yellow", "fail": "bold red"}
_TITLE: Final = 13
_NARROW_INDENT: Final = 2 + 4 + 2
_INDENT: Final = _NARROW_INDENT + _TITLE + 1
_NARROW: Final = 70


def finding_lines(told: Told, width: int) -> Iterator[list[Line]]:
    """A finding: its status, its name, its text; below it what repairs it.

    Args:
        told: The finding.
        width: Columns. In narrow terminals there is no column for the names.
    """
    finding = told.finding
    style = "dim" if finding.status == "skip" else ""
    badge = (f"  {WORDS[finding.status]:<4}  ", STYLES[finding.status])
    is_narrow = width < _NARROW
    indent = _NARROW_INDENT if is_narrow else _INDENT
    text = f"{told.title}: {finding.text}" if is_narrow else finding.text
    first, *rest = textwrap.wrap(text, max(width - indent, 20), break_long_words=False, break_on_hyphens=False) or [""]
    yield [badge, (first, style)] if is_narrow else [badge, (f"{told.title:<{_TITLE}} ", ""), (first, style)]
    yield from ([(" " * indent + line, style)] for line in rest)
    if finding.repair:
        # Not wrapped: a command that is cut into lines cannot be copied.
        yield [(" " * indent + "→ ", "dim"), (finding.repair, style or "cyan")]


def summary(report: Sequence[Told], seconds: float) -> list[Line]:
    """How many of each there are."""
    counts = {status: sum(told.finding.status == status for told in report) for status in SEVERITY}
    parts = [f"{counts['ok']} OK"]
    parts += [f"{counts['warn']} to look at"] if counts["warn"] else []
    parts += [f"{counts['fail']} to repair"] if counts["fail"] else []
    style = STYLES[worst([told.finding for told in report])]
    return [(f"{', '.join(parts)}, in {seconds:.1f} s.", style)]
