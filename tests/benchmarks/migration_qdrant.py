"""What a migration of a Qdrant takes besides embedding, with a model that takes no time.

    python -m tests.benchmarks.migration_qdrant [ROWS]

A folder of the local mode, and a server that speaks Qdrant's protocol: that one is written in Python and holds its
vectors in memory, so that its figures say what this side does, and nothing of how fast a real one is.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.engine.passes import Progress
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.records import content_digest
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.stores.qdrant.folder import write_json, write_points
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
from mlx_integrations.migration.stores.qdrant.point import Point
from mlx_integrations.migration.stores.qdrant.server import QdrantServer
from tests.benchmarks.common import machine
from tests.benchmarks.migration import DIMENSIONS, MIB, _Generated

OLD_DIMENSIONS = 768


class _Instant:
    """Vectors that are made already, chosen by the number with which a text begins; implements `Executor`."""

    long_texts: LongTexts = "truncate"

    def __init__(self) -> None:
        self._vectors = np.random.default_rng(0).normal(size=(1024, DIMENSIONS)).astype(np.float32)

    def fingerprint(self) -> EmbeddingFingerprint:
        return EmbeddingFingerprint(model="instant", dimensions=DIMENSIONS)

    def count_long(self, texts: Sequence[str]) -> int:
        return 0

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            yield Vectors(vectors=self._vectors[[int(text.partition(" ")[0]) % 1024 for text in texts]])


def _points(count: int) -> Iterator[tuple[int, list[float], dict[str, Any]]]:
    made = np.random.default_rng(1).normal(size=(1024, OLD_DIMENSIONS)).astype(np.float32)
    for number, row in enumerate(_Generated(count).rows()):
        yield number, made[number % 1024].tolist(), {"page_content": row.text, "metadata": dict(row.metadata)}


def _fill_folder(folder: Path, count: int) -> None:
    collection = folder / "collection" / "notes"
    collection.mkdir(parents=True)
    write_points(collection, _points(count), ())
    settings = {"vectors": {"size": OLD_DIMENSIONS, "distance": "Cosine"}}
    write_json(folder / "meta.json", {"collections": {"notes": settings}, "aliases": {}})


def _fill_server(url: str, count: int, name: str) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(url=url, check_compatibility=False, timeout=600)
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config=params)
    points = (Point(id=own, payload=payload, vectors={"": vector}) for own, vector, payload in _points(count))
    QdrantServer(url, None).write(name, points)


def _digest(store: Store) -> int:
    return sum(int.from_bytes(content_digest(row), "big") for row in store.rows()) % (1 << 128)


class _Memory:
    """The most memory that this process takes, looked at ten times a second."""

    def __init__(self) -> None:
        self.most = 0
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._is_done.wait(0.1):
            self.most = max(self.most, process.memory_info().rss)

    def stop(self) -> int:
        self._is_done.set()
        self._thread.join()
        return self.most


def _measure(store: Store, work: Path) -> None:
    """Migrate, and print the figures."""
    before, rss = _digest(store), psutil.Process().memory_info().rss
    memory = _Memory()
    embedded = 0.0

    def watch(progress: Progress) -> None:
        nonlocal embedded
        embedded = progress.seconds

    def timed(action: Callable[[], Any]) -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began

    whole = timed(lambda: migrate(store, _Instant(), work=work, publishes=False, on_progress=watch))
    put, back = timed(lambda: publish(store, work=work)), timed(lambda: rollback(store, work=work))
    migrate(store, _Instant(), work=work)
    is_equal = _digest(store) == before
    count = store.describe().count
    gc(store, work=work)
    print(  # noqa: T201
        f"{store.location.kind}: {count:,} rows: {count / embedded:,.0f} rows/s embedded and committed; "
        f"{whole:.1f} s until verified ({count / whole:,.0f} rows/s); publish {put:.2f} s, rollback {back:.2f} s; "
        f"{memory.stop() / MIB:,.0f} MiB at most ({rss / MIB:,.0f} before); digest equal: {is_equal}",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    """Print the figures."""
    if arguments[:1] == ["--one"]:
        _, place, work = arguments
        _measure(QdrantServerStore(place) if "://" in place else QdrantLocalStore(place), Path(work))
        return
    count = int(arguments[0]) if arguments else 100_000
    print(machine())  # noqa: T201
    one = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.migration_qdrant", "--one"]
    with tempfile.TemporaryDirectory() as folder:
        _fill_folder(Path(folder) / "db", count)
        subprocess.run([*one, str(Path(folder) / "db"), str(Path(folder) / "work")], check=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.qdrant_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server,
    ):
        assert server.stdin is not None and server.stdout is not None
        url = server.stdout.readline().decode().strip()
        _fill_server(url, count, "notes")
        subprocess.run([*one, url, folder], check=True)
        server.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1:])
