"""What the command line costs in processor time: its help, and the list of many models on disk.

Run it with `python -m tests.benchmarks.command_line`.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.hub import DEMO_FOLDER

RUNS = 20
MODELS = 50


def measure(argv: Sequence[str], variables: Mapping[str, str]) -> tuple[float, float]:
    """The processor time (user and system) and the time on the clock of one run, in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mlx_integrations", *argv]
    subprocess.run(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, time.perf_counter() - began


def fill(cache: Path, count: int) -> None:
    """As many models as a cache of the Hugging Face Hub: whole ones, with weights that can be read."""
    for number in range(count):
        blobs = cache / f"models--test-org--model-{number}" / "blobs"
        snapshot = blobs.parent / "snapshots" / f"{number:040x}"
        (blobs.parent / "refs").mkdir(parents=True)
        (blobs.parent / "refs" / "main").write_text(snapshot.name)
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        for at, path in enumerate(path for path in DEMO_FOLDER.rglob("*") if path.is_file()):
            (blobs / f"{at:064x}").write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(Path("../..") / "blobs" / f"{at:064x}")


def main() -> None:
    """Measure both, and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), MODELS)
        variables = {"HF_HUB_CACHE": folder, "HF_HUB_OFFLINE": "1"}
        listed = subprocess.run(
            [sys.executable, "-m", "mlx_integrations", "models", "list", "--json"],
            env={**os.environ, **variables},
            capture_output=True,
            check=True,
        )
        assert sum(one["is_usable"] for one in json.loads(listed.stdout) if one["source"] == "hub") == MODELS
        for argv in (["--help"], ["models", "list"]):
            taken = [measure(argv, variables) for _ in range(RUNS)]
            processor, clock = (statistics.median(column) for column in zip(*taken, strict=True))
            sys.stdout.write(
                f"mlxi {' '.join(argv)}: {processor:.3f} s of processor time, {clock:.3f} s on the clock\n"
            )


if __name__ == "__main__":
    main()
