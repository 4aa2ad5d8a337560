"""The store of the documentation, and a package that brings it to the command line."""

import inspect
import re
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.contract import Document, StoreContract, documents, executor
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import ChoosesIndex, Store
from mlx_integrations.migration.stores import opening
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.faiss.llama_index import LlamaIndexFaissStore
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-store.md"
_EXAMPLE, _USE, _TESTS = re.findall(r"```python[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
_NAMES: dict[str, Any] = {"__name__": __name__}
exec(_EXAMPLE + _TESTS, _NAMES)
_CHOOSE: tuple[type[ChoosesIndex], ...] = (
    LangChainFaissStore,
    LlamaIndexFaissStore,
    LanceDBStore,
    PgvectorStore,
    QdrantLocalStore,
    QdrantServerStore,
    Move,
)


class TestTheStoreOfThePage(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        _NAMES["TestJsonLines"].make(self, folder, contents)

    def open(self, folder: Path) -> Store:
        store: Store = _NAMES["TestJsonLines"].open(self, folder)
        return store

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        _NAMES["TestJsonLines"].add(self, folder, contents)


def test_it_is_short() -> None:
    assert sum(bool(line.strip()) for line in _EXAMPLE.splitlines()) < 100


def test_the_index_of_a_store_that_does_not_choose_is_the_one_that_is_wanted(tmp_path: Path) -> None:
    contract = TestTheStoreOfThePage()
    contract.make(tmp_path / "store", documents(3))
    store = contract.open(tmp_path / "store")
    assert not isinstance(store, ChoosesIndex)
    assert plan_migration(store, executor(), index="tree", probe=False).index == "tree"


@pytest.mark.parametrize("kind", _CHOOSE, ids=lambda kind: kind.__name__)
def test_stores_that_choose_are_asked_in_one_way(kind: type[ChoosesIndex]) -> None:
    assert inspect.signature(kind.index_for) == inspect.signature(ChoosesIndex.index_for)


def open_store(address: str, name: str | None) -> Any:
    """As a package would name it in its entry points."""
    return _NAMES["JsonLines"](address) if address.endswith(".jsonl") else [] if address.endswith(".list") else None


def test_a_package_brings_its_store_to_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = EntryPoint(name="json-lines", group=opening.ENTRY_POINTS, value=f"{__name__}:open_store")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[open_store.__module__])
    monkeypatch.setattr(opening, "entry_points", lambda group: EntryPoints([entry]).select(group=group))
    file = tmp_path / "notes.jsonl"
    file.touch()
    assert opening.open_store(file).location.kind == "json-lines"
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match="no vector store"):
        opening.open_store(tmp_path / "other")
    with pytest.raises(StoreError, match="lacks a method"):
        opening.open_store(tmp_path / "a.list")


def test_a_package_that_is_broken_keeps_nobody_from_his_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = EntryPoint(name="broken", group=opening.ENTRY_POINTS, value="a_package_that_is_not_there:open_store")
    monkeypatch.setattr(opening, "entry_points", lambda group: EntryPoints([entry]).select(group=group))
    path = tmp_path / "store.json"
    path.write_text("{}")
    assert opening.open_store(path).location.kind == "langchain-in-memory"
