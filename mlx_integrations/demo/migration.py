"""The tour's vector store that gets another model: killed on the way, taken up again, and taken back.

    passages -> vectors of a stand-in for a cloud model -> FAISS -> `migrate`, killed -> `migrate` -> FAISS

Run as a program, this file is the process that is killed: it migrates a store in small batches and prints how many rows
are done after each.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from mlx_integrations.demo.page import Page
from mlx_integrations.demo.retrieval import index_passages

if TYPE_CHECKING:
    from mlx_integrations.migration.executors.local import LocalExecutor

__all__ = ["Migrated", "PretendCloudEmbeddings", "show_migration"]

CLOUD_DIMENSIONS: Final = 1536
QUESTION: Final = "Is the package free?"
_BATCH_ROWS: Final = 16
_KILLED_AFTER: Final = 2  # batches
_WORD: Final = re.compile(r"\w+")


class PretendCloudEmbeddings(Embeddings):
    """Stands in for a cloud model: words counted in 1,536 drawers, the same in every process. Asks nobody."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """How often words of each drawer occur, and 1 in the first one, so that no vector is zero."""
        vector = [0.0] * CLOUD_DIMENSIONS
        vector[0] = 1.0
        for word in _WORD.findall(text.lower()):
            vector[zlib.crc32(word.encode()) % CLOUD_DIMENSIONS] += 1.0
        length = sum(value * value for value in vector) ** 0.5
        return [value / length for value in vector]


@dataclass(frozen=True)
class Migrated:
    """What became of the store.

    Attributes:
        rows: Passages in it.
        dimensions: Of its vectors: before, while the new ones are in use, and after they were taken back.
        kept: Rows that were done when the first process was killed.
        was_untouched: Whether every byte of the store was the same after that.
        checks: Names of what was compared before the new vectors were used, and whether it held.
        found: The passage nearest to the question, by the new vectors.
        is_restored: Whether every byte of the store was the same again in the end.
    """

    rows: int
    dimensions: tuple[int, int, int]
    kept: int
    was_untouched: bool
    checks: tuple[tuple[str, bool], ...]
    found: str
    is_restored: bool


def show_migration(page: Page, passages: Sequence[Document], model: str) -> Migrated:
    """Fill a store, migrate it, kill that, go on, ask it, and take it back.

    Args:
        page: Where to show it.
        passages: What the store holds.
        model: The embedding model that it gets.

    Raises:
        MissingExtraError: FAISS is not installed.
        ModelNotFoundError: The embedding model is not.
    """
    from mlx_integrations.migration.api import migrate, rollback, status
    from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore

    with tempfile.TemporaryDirectory(prefix="mlxi-tour-") as parent:
        folder = Path(parent, "store")
        executor = _executor(model)
        executor.fingerprint()  # says what is missing before anything is shown
        index_passages(passages, PretendCloudEmbeddings()).save_local(str(folder))  # type: ignore[attr-defined]
        store = LangChainFaissStore(folder)
        before, digest = store.describe().dimensions[0], _digest(folder)
        page.line("store", f"{len(passages)} passages in FAISS; a stand-in for a cloud model made {before} dimensions")

        kill_half_way(folder, model)
        known = status(store)
        kept, was_untouched = 0 if known is None else known.embedded, _digest(folder) == digest
        same = "every byte of the store is as it was" if was_untouched else "the store is damaged"
        page.line("kill", f"after {kept} rows; {same}", style="yellow")

        done = migrate(store, executor, batch_rows=_BATCH_ROWS)
        page.line("again", f"{kept} rows were kept, {done.embedded - kept} embedded now")
        for check in done.checks:
            page.line("check", f"{check.name}: {check.detail}", max_lines=1)
        after = store.describe().dimensions[0]
        page.line("now", f"{after} dimensions of `{done.target.model}`; the old vectors are kept", style="green")
        found = _ask(folder, model)
        page.line("you", QUESTION)
        page.line("found", found, style="green", max_lines=2)

        rollback(store)
        again, is_restored = store.describe().dimensions[0], _digest(folder) == digest
        same = "every byte is as it was" if is_restored else "but not as it was"
        page.line("undo", f"{again} dimensions again, {same}")
        return Migrated(
            rows=len(passages),
            dimensions=(before, after, again),
            kept=kept,
            was_untouched=was_untouched,
            checks=tuple((check.name, check.is_passed) for check in done.checks),
            found=found,
            is_restored=is_restored,
        )


def kill_half_way(folder: Path, model: str) -> None:
    """Migrate a store in another process, and kill that one after a few batches.

    Raises:
        RuntimeError: It ended by itself before that.
    """
    command = [sys.executable, "-m", "mlx_integrations.demo.migration", str(folder), model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None and child.stderr is not None
            told = [line for _ in range(_KILLED_AFTER) if (line := child.stdout.readline())]
            if len(told) < _KILLED_AFTER:
                raise RuntimeError(f"The migration ended before it was killed: {child.stderr.read()}")
        finally:
            child.kill()


def _executor(model: str) -> "LocalExecutor":
    from mlx_integrations.assembly import embedding_backend
    from mlx_integrations.migration.executors.local import LocalExecutor

    return LocalExecutor(embedding_backend(model))


def _ask(folder: Path, model: str) -> str:
    """The passage nearest to the question, by the guard that takes the store's own model only."""
    from mlx_integrations.langchain import MLXEmbeddings, guarded

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from langchain_community.vectorstores import FAISS

    # This process wrote the pickle itself, a moment ago.
    opened = FAISS.load_local(str(folder), MLXEmbeddings(model=model), allow_dangerous_deserialization=True)
    return guarded(opened, path=folder).similarity_search(QUESTION, k=1)[0].page_content


def _digest(folder: Path) -> str:
    """Of the two files that LangChain wrote."""
    return hashlib.sha256(b"".join((folder / f"index.{kind}").read_bytes() for kind in ("faiss", "pkl"))).hexdigest()


def _migrate_and_tell(folder: str, model: str) -> None:
    from mlx_integrations.migration.api import migrate
    from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore

    store = LangChainFaissStore(Path(folder))
    migrate(
        store,
        _executor(model),
        batch_rows=_BATCH_ROWS,
        on_progress=lambda progress: print(progress.done, flush=True),  # noqa: T201 -- the parent reads it
    )


if __name__ == "__main__":
    _migrate_and_tell(*sys.argv[1:])
