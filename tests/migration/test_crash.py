"""Killed at any moment, a migration loses nothing and repeats at most one batch.

`MLXI_CRASH_POINTS` says at how many operations of each verb it dies, 0 for every one; `MLXI_CRASH_MOMENTS` at how many
random moments.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STORES = ["tests.migration.test_langchain_faiss:TestLangChainFaiss"]
POINTS, MOMENTS = (
    int(os.environ.get(f"MLXI_CRASH_{name}", default)) for name, default in (("POINTS", 5), ("MOMENTS", 1))
)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("verb", ["migrate", "publish", "rollback", "gc"])
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_torn(tmp_path: Path, store: str, verb: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.migration.crash", store, str(tmp_path / verb), verb]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run([*command, str(POINTS), str(MOMENTS)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["operations"] > 10
    assert report["kills"] == min(POINTS or report["operations"], report["operations"]) + MOMENTS
