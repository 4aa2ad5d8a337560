"""Killed at any moment, a move leaves its source as it is, and a new store that is whole or not there.

With `MLXI_CRASH_POINTS` every verb is tried on every way in which a new store gets its place, otherwise two of them.
"""

from pathlib import Path

import pytest

from tests.migration.killing import IS_LONG, VERBS, kill_and_look

PAIRS = (
    "LangChainFaiss-ChromaBeside",
    "LangChainChroma-LangChainInMemory",
    "LangChainInMemory-LangChainFaiss",
    "LlamaIndexChroma-LlamaIndexSimple",
    "LangChainFaiss-LangChainChroma",
)
CASES = (
    [(pair, verb) for pair in PAIRS for verb in VERBS] if IS_LONG else [(PAIRS[0], "publish"), (PAIRS[2], "migrate")]
)


@pytest.mark.parametrize(("pair", "verb"), CASES)
@pytest.mark.timeout(30000)
def test_nothing_is_torn_and_no_source_is_touched(tmp_path: Path, pair: str, verb: str) -> None:
    kill_and_look(pair, tmp_path, verb, points=2, program="crash_moves")
