"""Runs one of the programs that kill migrations, and looks at what it reports.

`MLXI_CRASH_POINTS` says at how many operations of each verb it dies, 0 for every one; `MLXI_CRASH_MOMENTS` at how many
random moments.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["IS_LONG", "VERBS", "kill_and_look"]

VERBS = ("migrate", "publish", "rollback", "gc")
# Read here, as each test begins without the variables of this package.
_POINTS, _MOMENTS = os.environ.get("MLXI_CRASH_POINTS"), int(os.environ.get("MLXI_CRASH_MOMENTS", 1))
IS_LONG = _POINTS is not None
"""Whether somebody asks for more than what every run of the tests does."""


def kill_and_look(subject: str, folder: Path, verb: str, *, points: int, program: str = "crash") -> None:
    """Kill a verb at some of its operations and at a random moment; nothing may be lost or torn.

    Args:
        subject: What is migrated, in the program's own words.
        folder: An empty one.
        verb: One of `VERBS`.
        points: At how many operations, unless the environment says.
        program: A module of `tests.migration`.
    """
    points = points if _POINTS is None else int(_POINTS)
    command = [sys.executable, "-W", "ignore", "-m", f"tests.migration.{program}", subject, str(folder / verb), verb]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run([*command, str(points), str(_MOMENTS)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(subject, verb, {**report, "failures": len(report["failures"])})  # noqa: T201 -- for whoever asks for all
    assert report["failures"] == []
    assert report["operations"] > 10
    assert report["kills"] == min(points or report["points"], report["points"]) + _MOMENTS
