"""Killed at any moment, a migration of these stores loses nothing either.

With `MLXI_CRASH_POINTS` every verb is tried on every store, otherwise the ones in which they differ from each other.
"""

from pathlib import Path

import pytest

from tests.migration.killing import IS_LONG, VERBS, kill_and_look

CHROMA, *FILES = (
    f"tests.migration.{name}"
    for name in (
        "test_chroma:TestChroma",
        "test_in_memory:TestInMemory",
        "test_llama_index_simple:TestLlamaIndexSimple",
        "test_llama_index_faiss:TestLlamaIndexFaissMap",
    )
)
PLAIN_FAISS = "tests.migration.test_llama_index_faiss:TestLlamaIndexFaiss"  # differs from the map in little
CASES = [*((store, "migrate") for store in FILES), (CHROMA, "migrate"), (CHROMA, "publish")]
if IS_LONG:
    CASES = [(store, verb) for store in (CHROMA, *FILES, PLAIN_FAISS) for verb in VERBS]


@pytest.mark.parametrize(("store", "verb"), CASES)
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, store: str, verb: str) -> None:
    kill_and_look(store, tmp_path, verb, points=2)
