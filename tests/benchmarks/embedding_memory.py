"""Memory while ten thousand and a million short texts are embedded one after another, with a tiny encoder."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mlx_integrations.runtime.engine import Runtime
from tests.benchmarks.common import machine
from tests.runtime.embedding.sentence_models import assemble

MIB = 1024**2


def _texts(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"text number {number}"


def _run(runtime: Runtime, folder: Path, count: int) -> None:
    process = psutil.Process()
    started, most, done = time.perf_counter(), 0, 0
    for chunk in runtime.embedding(folder).stream(_texts(count)):
        done += len(chunk.vectors)
        most = max(most, process.memory_info().rss)
    assert done == count
    seconds = time.perf_counter() - started
    print(f"{count:>9,} texts: {most / MIB:,.0f} MiB at most, {count / seconds:,.0f} texts/s", flush=True)  # noqa: T201


def main() -> None:
    """Print the figures."""
    print(machine())  # noqa: T201
    runtime = Runtime()
    with tempfile.TemporaryDirectory() as root:
        folder = assemble("bert-mean-normalize", Path(root) / "tiny")
        for count in (1_000, 10_000, 100_000, 1_000_000):
            _run(runtime, folder, count)
        runtime.close()


if __name__ == "__main__":
    main()
