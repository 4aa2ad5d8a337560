"""What a migration costs besides embedding: an embedder that takes no time, and a disk that is waited for.

    python -m tests.benchmarks.migration [FOLDER] [ROWS ...]

FOLDER says which disk is measured. Each count runs in a process of its own, so that memory is its own as well.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.engine import DEFAULT_BATCH_ROWS, Progress, embed_rows, embedded_rows
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.migration.files import flush
from mlx_integrations.migration.journal import Journal
from mlx_integrations.migration.records import Row, StoreInfo, StoreLocation, content_digest
from mlx_integrations.migration.staging import Staging
from tests.benchmarks.common import machine

DIMENSIONS = 384
MIB = 1024**2
_FILLER = "lorem ipsum dolor sit amet " * 18


class _Instant:
    """Vectors that are made already; implements `Executor`."""

    long_texts: LongTexts = "truncate"

    def __init__(self) -> None:
        self._vectors = np.random.default_rng(0).normal(size=(DEFAULT_BATCH_ROWS, DIMENSIONS)).astype(np.float32)

    def fingerprint(self) -> EmbeddingFingerprint:
        return EmbeddingFingerprint(model="instant", dimensions=DIMENSIONS)

    def count_long(self, texts: Sequence[str]) -> int:
        return 0

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            yield Vectors(vectors=self._vectors[: len(texts)])


class _Generated:
    """Rows that are made as they are read, of about 500 letters; implements `Reader`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.location = StoreLocation(kind="generated", address="nowhere")

    def describe(self) -> StoreInfo:
        return StoreInfo(location=self.location, count=self._count, dimensions=(1536,), metric="cosine")

    def rows(self, after: str | None = None) -> Iterator[Row]:
        for number in range(0 if after is None else int(after) + 1, self._count):
            text = f"{number} {_FILLER}"
            metadata = {"source": f"file-{number % 97}.txt", "page": number % 13}
            yield Row(key=f"{number:09d}", id=f"doc-{number}", text=text, metadata=metadata)

    def vectors(self, keys: Sequence[str]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        raise NotImplementedError

    def state(self) -> str:
        return "at rest"

    def close(self) -> None: ...


def _measure(folder: Path, count: int) -> None:
    """Embed and read back; print the figures."""
    process, most = psutil.Process(), 0

    def watch(progress: Progress) -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)

    reader, executor = _Generated(count), _Instant()
    before = process.memory_info().rss
    with Journal(folder / "journal") as journal, Staging(folder / "vectors", DIMENSIONS) as staging:
        started = time.perf_counter()
        assert embed_rows(reader, executor, journal, staging, on_progress=watch)
        embedded = time.perf_counter()
        assert sum(len(part.rows) for part in embedded_rows(reader, journal, staging)) == count
        ended = time.perf_counter()
        most = max(most, process.memory_info().rss)
    size = (folder / "journal").stat().st_size
    print(  # noqa: T201
        f"{count:>9,} rows: {count / (embedded - started):,.0f} rows/s embedded and committed, "
        f"{count / (ended - embedded):,.0f} rows/s read back, {most / MIB:,.0f} MiB at most "
        f"({before / MIB:,.0f} before), {size / count:,.0f} bytes of journal a row",
        flush=True,
    )


def _flush_seconds(folder: Path) -> float:
    """What one flush of one batch takes on this disk: the middle of some."""
    content, taken = os.urandom(DEFAULT_BATCH_ROWS * DIMENSIONS * 4), []
    with (folder / "flushed").open("wb") as file:
        for _ in range(15):
            file.write(content)
            file.flush()
            started = time.perf_counter()
            flush(file.fileno())
            taken.append(time.perf_counter() - started)
    (folder / "flushed").unlink()
    return sorted(taken)[len(taken) // 2]


def _digest_seconds() -> float:
    rows = list(_Generated(20_000).rows())
    started = time.perf_counter()
    for row in rows:
        content_digest(row)
    return (time.perf_counter() - started) / len(rows)


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    if arguments[:1] == ["--one"]:
        _measure(Path(arguments[1]), int(arguments[2]))
        return
    base = arguments[0] if arguments else None
    print(machine())  # noqa: T201
    print(f"digest of a row: {_digest_seconds() * 1e6:.1f} us")  # noqa: T201
    with tempfile.TemporaryDirectory(dir=base) as folder:
        took = _flush_seconds(Path(folder))
        print(f"a flush of {DEFAULT_BATCH_ROWS} vectors of {DIMENSIONS}: {took * 1000:.1f} ms")  # noqa: T201
    for count in arguments[1:] or ("50000", "200000", "1000000"):
        with tempfile.TemporaryDirectory(dir=base) as folder:
            command = [sys.executable, "-m", "tests.benchmarks.migration", "--one", folder, count]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
