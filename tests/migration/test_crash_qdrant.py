"""Killed at any moment, a migration of a Qdrant loses nothing either: in a folder, and on a server.

With `MLXI_CRASH_POINTS` every verb is tried on every kind, otherwise those in which they differ from other stores.
"""

from pathlib import Path

import pytest

from tests.migration.killing import IS_LONG, VERBS, kill_and_look
from tests.migration.qdrant_stores import URL_VARIABLE
from tests.qdrant_server import serving

FOLDER, ALIAS, SERVER, SERVER_ALIAS = (
    f"tests.migration.{name}"
    for name in (
        "qdrant_stores:FolderContract",
        "qdrant_stores:FolderAliasContract",
        "qdrant_stores:ServerContract",
        "qdrant_stores:ServerAliasContract",
    )
)
CASES = [(FOLDER, "publish"), (SERVER, "publish")]
if IS_LONG:
    CASES = [(store, verb) for store in (FOLDER, ALIAS, SERVER, SERVER_ALIAS) for verb in VERBS]


@pytest.mark.parametrize(("store", "verb"), CASES)
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, store: str, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with serving() as server:
        monkeypatch.setenv(URL_VARIABLE, server.url)
        kill_and_look(store, tmp_path, verb, points=2)
