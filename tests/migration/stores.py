"""Stores of a few documents, as their own libraries write them, and quick models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.testing import FakeEmbeddingBackend

OLD_DIMENSIONS, NEW_DIMENSIONS = 24, 16


def texts(count: int) -> list[str]:
    """Texts of which every tenth is the same as an earlier one."""
    return [
        f"The {number // 2 if number % 10 == 9 else number} of spades, page {number % 7}" for number in range(count)
    ]


def metadatas(count: int) -> list[dict[str, Any]]:
    return [{"page": number, "source": f"book-{number % 3}.txt", "tags": ["a", str(number)]} for number in range(count)]


def vectors(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return made


def executor(
    dimensions: int = NEW_DIMENSIONS, *, seed: int = 1, long_texts: LongTexts = "truncate", max_tokens: int = 64
) -> LocalExecutor:
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=dimensions, seed=seed, max_tokens=max_tokens)
    return LocalExecutor(backend, long_texts=long_texts)


def save_faiss(
    folder: Path,
    contents: Sequence[str],
    *,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    ids: Sequence[str] | None = None,
    factory: str = "Flat",
    dimensions: int = OLD_DIMENSIONS,
) -> Path:
    """A folder as `FAISS.save_local` of LangChain writes it."""
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    index = faiss.index_factory(dimensions, factory)
    made = vectors(len(contents), dimensions)
    if not index.is_trained:
        index.train(made)
    store = FAISS(DeterministicFakeEmbedding(size=dimensions), index, InMemoryDocstore(), {})
    pairs = list(zip(contents, made.tolist(), strict=True))
    keys = list(ids or (f"doc-{number:05d}" for number in range(len(contents))))
    if pairs:
        store.add_embeddings(pairs, [dict(each) for each in metadata or metadatas(len(contents))], ids=keys)
    store.save_local(str(folder))
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
