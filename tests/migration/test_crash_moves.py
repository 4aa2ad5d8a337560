"""Killed at any moment, a move leaves its source as it is, and a new store that is whole or not there.

With `MLXI_CRASH_POINTS` every verb is tried on every way in which a new store gets its place, otherwise two of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

IS_LONG = "MLXI_CRASH_POINTS" in os.environ
POINTS, MOMENTS = int(os.environ.get("MLXI_CRASH_POINTS", 2)), int(os.environ.get("MLXI_CRASH_MOMENTS", 1))
PAIRS = (
    "LangChainFaiss-ChromaBeside",
    "LangChainChroma-LangChainInMemory",
    "LangChainInMemory-LangChainFaiss",
    "LlamaIndexChroma-LlamaIndexSimple",
    "LangChainFaiss-LangChainChroma",
)
CASES = (
    [(pair, verb) for pair in PAIRS for verb in ("publish", "rollback", "gc", "migrate")]
    if IS_LONG
    else [(PAIRS[0], "publish"), (PAIRS[2], "migrate")]
)


@pytest.mark.parametrize(("pair", "verb"), CASES)
@pytest.mark.timeout(30000)
def test_nothing_is_torn_and_no_source_is_touched(tmp_path: Path, pair: str, verb: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.migration.crash_moves", pair, str(tmp_path / verb), verb]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run([*command, str(POINTS), str(MOMENTS)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["operations"] > 10
    assert report["kills"] == min(POINTS or report["operations"], report["operations"]) + MOMENTS
