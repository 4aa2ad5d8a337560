"""What a migration costs besides embedding: an embedder that takes no time, and a disk that is waited for.

    python -m tests.benchmarks.migration [FOLDER] [ROWS ...]
    python -m tests.benchmarks.migration --store KIND [ROWS] [FOLDER]
    python -m tests.benchmarks.migration --model NAME [ROWS] [BATCH_ROWS ...]

The first measures the engine alone, on a disk that FOLDER is of. The second takes a store of 100,000 rows all the way:
KIND is one of `STORES`, or the contract of another one, such as `tests.migration.test_lancedb:TestLanceDB`. The third
sets a real model beside it, and says what the engine adds. Each count runs in a process of its own, so that memory is
its own as well.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mlx_integrations import assembly
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import migrate, publish
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.engine.passes import DEFAULT_BATCH_ROWS, Progress, embed_rows, embedded_rows
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.migration.files import flush
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.records import Row, StoreInfo, StoreLocation, content_digest
from tests.benchmarks.common import machine

DIMENSIONS = 384
MIB = 1024**2
STORES = {
    "langchain-faiss": "tests.migration.test_langchain_faiss:TestLangChainFaiss",
    "in-memory": "tests.migration.test_in_memory:TestInMemory",
    "llama-index-simple": "tests.migration.test_llama_index_simple:TestLlamaIndexSimple",
    "llama-index-faiss": "tests.migration.test_llama_index_faiss:TestLlamaIndexFaiss",
    "llama-index-faiss-map": "tests.migration.test_llama_index_faiss:TestLlamaIndexFaissMap",
    "chroma": "tests.migration.test_chroma:TestChroma",
    "lancedb": "tests.migration.test_lancedb:TestLanceDB",
    "qdrant": "tests.migration.test_qdrant_local:TestQdrantLocal",
}
_FILLED_ROWS = 4_000
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


class _OfTexts(_Instant):
    """Vectors that are made already, always the same one for the same text."""

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            places = [zlib.crc32(text.encode()) % DEFAULT_BATCH_ROWS for text in texts]
            yield Vectors(vectors=self._vectors[places])


class _Timed:
    """Another executor, and the seconds that were spent in it."""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor
        self.long_texts: LongTexts = executor.long_texts
        self.seconds = 0.0

    def fingerprint(self) -> EmbeddingFingerprint:
        return self._executor.fingerprint()

    def count_long(self, texts: Sequence[str]) -> int:
        return self._executor.count_long(texts)

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            started = time.perf_counter()
            made = next(iter(self._executor.embed([texts])))
            self.seconds += time.perf_counter() - started
            yield made


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


class _Listed(_Generated):
    """Rows that are there already."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(len(rows))
        self._rows = rows

    def rows(self, after: str | None = None) -> Iterator[Row]:
        yield from self._rows[0 if after is None else int(after) + 1 :]


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


def _contract(kind: str) -> Any:
    module, name = STORES.get(kind, kind).split(":")
    __import__(module)
    return getattr(sys.modules[module], name)()


def _fill(kind: str, folder: Path, count: int) -> None:
    """Make a store of so many rows, as many at a time as every store takes."""
    contract = _contract(kind)
    contract.make(folder, documents(min(count, _FILLED_ROWS)))
    for first in range(_FILLED_ROWS, count, _FILLED_ROWS):
        contract.add(folder, documents(min(count - first, _FILLED_ROWS), first=first))


def _contents(store: Store) -> tuple[int, int]:
    """Rows, and the digest of all of them."""
    count = total = 0
    for row in store.rows():
        count, total = count + 1, (total + int.from_bytes(content_digest(row), "big")) % (1 << 128)
    return count, total


def _migrate(kind: str, folder: Path) -> None:
    """Take a store to its new vectors; print the figures."""
    process, most, phases = psutil.Process(), 0, list[float]()

    def watch(progress: Progress) -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)
        phases[:] = [time.perf_counter()]

    store = _contract(kind).open(folder)
    old = _contents(store)
    before = process.memory_info().rss
    started = time.perf_counter()
    migrate(store, _OfTexts(), publishes=False, on_progress=watch)
    built = time.perf_counter()
    publish(store)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert _contents(_contract(kind).open(folder)) == old
    print(  # noqa: T201
        f"{kind}, {old[0]:,} rows: {old[0] / (built - started):,.0f} rows/s to verified "
        f"({old[0] / (phases[0] - started):,.0f} embedded), publishing {ended - built:.2f} s with reading it back; "
        f"{before / MIB:,.0f} MiB before, {most / MIB:,.0f} while embedding, {peak / MIB:,.0f} at most; digest equal",
        flush=True,
    )


def _measure_store(kind: str, count: int, base: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=base) as folder:
        for step in ("--fill", "--migrate"):
            command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.migration", step, kind]
            subprocess.run([*command, str(Path(folder) / "store"), str(count)], check=True)


def _measure_model(name: str, count: int, sizes: Sequence[int]) -> None:
    """What the engine adds to a model: all of its time that was not spent in the model."""
    backend = assembly.embedding_backend(name)
    words = _FILLER.split()
    rows = [
        Row(key=f"{number:09d}", id=str(number), text=f"{number} {' '.join(words[: number % 24 + 1])}")
        for number in range(count)
    ]
    list(backend.stream([row.text or "" for row in rows[:256]]))  # loads it
    for size in sizes:
        executor = _Timed(LocalExecutor(backend))
        with (
            tempfile.TemporaryDirectory() as folder,
            Journal(Path(folder) / "journal") as journal,
            Staging(Path(folder) / "vectors", backend.capabilities.dimensions) as staging,
        ):
            started = time.perf_counter()
            assert embed_rows(_Listed(rows), executor, journal, staging, batch_rows=size)
            whole = time.perf_counter() - started
        added = whole - executor.seconds
        print(  # noqa: T201
            f"{name}, {count:,} rows in batches of {size}: {count / executor.seconds:,.0f} rows/s in the model; the "
            f"engine adds {added / count * 1e6:,.1f} us a row, {added / executor.seconds:.2%}, and would add "
            f"{added / count * 500:.2%} to one of 500 rows/s",
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
    match arguments:
        case ["--one", folder, count]:
            _measure(Path(folder), int(count))
        case ["--fill", kind, folder, count]:
            _fill(kind, Path(folder), int(count))
        case ["--migrate", kind, folder, _]:
            _migrate(kind, Path(folder))
        case ["--store", kind, *rest]:
            _measure_store(kind, int(rest[0]) if rest else 100_000, rest[1] if len(rest) > 1 else None)
        case ["--model", name, *rest]:
            _measure_model(name, int(rest[0]) if rest else 4096, [int(size) for size in rest[1:]] or [64, 256, 1024])
        case _:
            _measure_engine(arguments)


def _measure_engine(arguments: Sequence[str]) -> None:
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
