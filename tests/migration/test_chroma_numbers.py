"""Numbers of 16 and 17 digits, which Chroma keeps as their neighbours: they stop no migration and no move."""

from pathlib import Path

import chromadb
import pytest

from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.json_numbers import as_read, settled
from mlx_integrations.migration.targets.chroma import ChromaTarget
from mlx_integrations.migration.targets.langchain_faiss import FaissTarget
from tests.migration.stores import OLD_DIMENSIONS, executor, save_faiss, texts, vectors
from tests.migration.test_qdrant_numbers import numbers

COUNT = 1500

pytestmark = pytest.mark.usefixtures("own_data")


def filled(folder: Path) -> Path:
    collection = chromadb.PersistentClient(str(folder)).create_collection("notes", embedding_function=None)
    collection.add(
        ids=[str(number) for number in range(COUNT)],
        embeddings=vectors(COUNT, OLD_DIMENSIONS),
        documents=texts(COUNT),
        metadatas=[{"score": number} for number in numbers(COUNT)],
    )
    return folder


def shown(folder: Path) -> dict[str, float]:
    """What Chroma says of the numbers, by id."""
    found = chromadb.PersistentClient(str(folder)).get_collection("notes", embedding_function=None).get()
    assert found["metadatas"] is not None
    return {own_id: float(str(each["score"])) for own_id, each in zip(found["ids"], found["metadatas"], strict=True)}


def test_a_collection_with_such_numbers_is_migrated(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db")
    before = shown(folder)
    store = ChromaStore(folder)
    assert migrate(store, executor()).in_use == "new"
    assert settled(shown(folder)) == settled(before) == settled(dict(zip(before, numbers(COUNT), strict=True)))
    rollback(store)
    assert shown(folder) == before
    assert migrate(store, executor()).in_use == "new"
    assert gc(store)


def test_documents_with_such_numbers_are_moved_to_chroma_and_that_is_told(tmp_path: Path) -> None:
    metadata = [{"score": number, "page": place} for place, number in enumerate(numbers(60))]
    source = LangChainFaissStore(save_faiss(tmp_path / "store", texts(60), metadata=metadata))
    move = Move(source, ChromaTarget(tmp_path / "db", "notes"))
    (finding,) = move.describe().findings
    assert "`score`" in finding.message and not finding.is_blocking
    assert finding.count == sum(as_read(number) != number for number in numbers(60)) > 0
    assert migrate(move, executor()).in_use == "new"
    assert sorted(map(settled, shown(tmp_path / "db").values())) == sorted(map(settled, numbers(60)))


def test_such_numbers_are_moved_away_as_chroma_shows_them(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db")
    assert migrate(Move(ChromaStore(folder), FaissTarget(tmp_path / "new", "index")), executor()).in_use == "new"
    moved = [row.metadata["score"] for row in LangChainFaissStore(tmp_path / "new").rows()]
    assert sorted(moved) == sorted(shown(folder).values())
