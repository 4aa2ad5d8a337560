"""What a report of a migration takes: seconds and memory, without the time of the model.

    python -m tests.benchmarks.migration_report [FOLDER] [ROWS ...]

Memory is what the process has for itself. Pages of the store's own files, which are mapped, can be dropped at any time.
Each count runs in a process of its own.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.migration.report.measure import measure_migration
from mlx_integrations.migration.report.page import page_of
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.benchmarks.common import machine

OLD_DIMENSIONS, NEW_DIMENSIONS = 1536, 384
MIB = 1024**2
_FILLER = "lorem ipsum dolor sit amet " * 18
_WATCH_SECONDS = 0.01


class _Instant:
    """Vectors that cost nothing and are the same each time; implements `Executor`."""

    long_texts: LongTexts = "truncate"

    def fingerprint(self) -> EmbeddingFingerprint:
        return EmbeddingFingerprint(model="instant", dimensions=NEW_DIMENSIONS)

    def count_long(self, texts: Sequence[str]) -> int:
        return 0

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            made = [_vector(int(text.partition(" ")[0]), NEW_DIMENSIONS) for text in texts]
            yield Vectors(vectors=np.array(made, np.float32).reshape(len(texts), NEW_DIMENSIONS))


def _vector(seed: int, dimensions: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(dimensions, np.float32)


def _make(folder: Path, count: int) -> None:
    """A store of LangChain's FAISS that has got new vectors."""
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding

    index = faiss.IndexFlatL2(OLD_DIMENSIONS)
    for first in range(0, count, 10_000):
        rows = range(first, min(first + 10_000, count))
        index.add(np.array([_vector(row + count, OLD_DIMENSIONS) for row in rows]))
    ids = [f"doc-{row}" for row in range(count)]
    documents = {row_id: Document(page_content=f"{row} {_FILLER}") for row, row_id in enumerate(ids)}
    embeddings = DeterministicFakeEmbedding(size=OLD_DIMENSIONS)
    FAISS(embeddings, index, InMemoryDocstore(documents), dict(enumerate(ids))).save_local(str(folder))
    migrate(LangChainFaissStore(folder), _Instant())


def _measure(folder: Path, count: int) -> None:
    process, most, is_done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_done.wait(_WATCH_SECONDS):
            most = max(most, _own_bytes(process))

    store = LangChainFaissStore(folder)
    store.describe()  # which reads the documents
    before = _own_bytes(process)
    watching = threading.Thread(target=watch)
    watching.start()
    began, worked = time.perf_counter(), time.process_time()
    page = page_of(measure_migration(store))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    is_done.set()
    watching.join()
    print(  # noqa: T201
        f"{count:>9,} rows: {seconds:.1f} s, {cpu_seconds:.1f} s of CPU, {(most - before) / MIB:,.0f} MiB more than "
        f"the {before / MIB:,.0f} MiB of the open store, a page of {len(page) / 1000:.0f} kB",
        flush=True,
    )


def _own_bytes(process: psutil.Process) -> int:
    """Memory without pages of files, which Linux counts as shared."""
    info = process.memory_info()
    return int(info.rss) - int(getattr(info, "shared", 0))


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    if arguments[:1] in (["--make"], ["--measure"]):
        (_make if arguments[0] == "--make" else _measure)(Path(arguments[1]), int(arguments[2]))
        return
    print(machine())  # noqa: T201
    for count in arguments[1:] or ("20000", "100000"):
        with tempfile.TemporaryDirectory(dir=arguments[0] if arguments else None) as folder:
            for step in ("--make", "--measure"):
                command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.migration_report", step]
                subprocess.run([*command, f"{folder}/store", count], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
