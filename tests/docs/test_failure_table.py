"""The table of failures in the documentation says what the router does."""

import re
from pathlib import Path

import pytest

from mlx_integrations.router.failures import REACTIONS, FailureKind, Reaction

_PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "routing.md"
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_ROWS = {match[1]: match.groups()[2:] for match in _ROW.finditer(_PAGE.read_text(encoding="utf-8"))}
_AGAIN = {(0, 0): "no", (0, 1): "once, if elsewhere", (1, 0): "once, if here", (1, 1): "once"}


def _left_alone(reaction: Reaction) -> str:
    if reaction.until_present:
        return "until it is there"
    if reaction.opens and reaction.open_seconds is not None:
        minutes = reaction.open_seconds / 60
        return f"{minutes:.0f} minutes" if minutes >= 1 else f"as long as it asks, or {reaction.open_seconds:.0f} s"
    if reaction.opens:
        return "at once"
    return "at the third in a row" if reaction.weight else "no"


def test_every_failure_is_in_the_table() -> None:
    assert list(_ROWS) == list(REACTIONS)


@pytest.mark.parametrize("kind", REACTIONS)
def test_a_row_says_what_follows(kind: FailureKind) -> None:
    reaction = REACTIONS[kind]
    another = "if you want" if kind == "content_policy" else "yes" if reaction.asks_another else "no"
    again = _AGAIN[reaction.local_retries, reaction.remote_retries]
    assert _ROWS[kind] == (again, another, _left_alone(reaction))
