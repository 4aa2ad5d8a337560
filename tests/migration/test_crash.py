"""Killed at any moment, a migration loses nothing and repeats at most one batch."""

from pathlib import Path

import pytest

from tests.migration.killing import VERBS, kill_and_look

STORE = "tests.migration.test_langchain_faiss:TestLangChainFaiss"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, verb: str) -> None:
    kill_and_look(STORE, tmp_path, verb, points=5)
