"""Killed at any moment, a migration of a table of LanceDB loses nothing either.

With `MLXI_CRASH_POINTS` every verb is tried, otherwise the one that exchanges folders.
"""

from pathlib import Path

import pytest

from tests.migration.killing import IS_LONG, VERBS, kill_and_look

STORE = "tests.migration.test_lancedb:TestLanceDB"


@pytest.mark.parametrize("verb", VERBS if IS_LONG else ["publish"])
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, verb: str) -> None:
    kill_and_look(STORE, tmp_path, verb, points=3)
