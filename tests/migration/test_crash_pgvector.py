"""Killed at any moment, a migration of a table of PostgreSQL loses nothing either; the server goes on."""

from pathlib import Path

import pytest

from tests.migration.killing import IS_LONG, VERBS, kill_and_look
from tests.postgres import server_url

TABLE, COLLECTION, SHARED = (
    f"tests.migration.test_pgvector:{name}" for name in ("TestTable", "TestCollection", "TestSharedTable")
)
CASES = [(TABLE, "publish"), (SHARED, "publish")]
if IS_LONG:
    CASES = [(store, verb) for store in (TABLE, COLLECTION, SHARED) for verb in VERBS]


@pytest.mark.parametrize(("store", "verb"), CASES)
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, store: str, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server_url()  # one for all processes that are killed
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    kill_and_look(store, tmp_path, verb, points=2)
