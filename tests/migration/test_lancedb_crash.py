"""Killed at any moment, a migration of a table of LanceDB loses nothing either.

With `MLXI_CRASH_POINTS` every verb is tried, otherwise the one that exchanges folders.
"""

import os
from pathlib import Path

import pytest

from tests.migration import test_crash

STORE = "tests.migration.test_lancedb:TestLanceDB"
IS_LONG = "MLXI_CRASH_POINTS" in os.environ


@pytest.mark.parametrize("verb", ["migrate", "publish", "rollback", "gc"] if IS_LONG else ["publish"])
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_LONG:
        monkeypatch.setattr(test_crash, "POINTS", 3)
    test_crash.test_nothing_is_lost_or_torn(tmp_path, STORE, verb)
