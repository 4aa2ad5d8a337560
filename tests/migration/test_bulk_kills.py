"""Killed at any moment, a migration of many stores goes on: no store is torn, and a kill costs a batch at most.

`MLXI_BULK_KILLS` says how often it is killed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("MLXI_BULK_KILLS", "4"))


@pytest.mark.timeout(3000)
def test_every_store_is_old_or_new_at_any_moment(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.migration.bulk_kills", str(tmp_path / "all"), str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == KILLS
