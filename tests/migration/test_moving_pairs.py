"""Documents moved from every kind of store to every other, and read there by the framework that they belong to.

`MLXI_MOVES=all` tries every pair; otherwise those in which each kind is read once, and each written once.
"""

import os
from pathlib import Path

import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import gc, migrate, rollback, status
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import ChoosesIndex, KeepsOld, Placed, Source, Store, Target
from tests.migration.places import PAIRS, LangChainFaiss, LangChainInMemory, LangChainQdrantServer, Pair
from tests.migration.stores import contents_of, executor
from tests.qdrant_server import serving

FEW = (
    "LangChainFaiss-LangChainChroma",
    "LangChainChroma-LangChainInMemory",
    "LangChainInMemory-LangChainQdrant",
    "LangChainQdrant-LangChainPgvector",
    "LangChainPgvector-LangChainLanceDB",
    "LangChainLanceDB-LangChainFaiss",
    "LlamaIndexSimple-LlamaIndexChroma",
    "LlamaIndexChroma-LlamaIndexQdrant",
    "LlamaIndexQdrant-LlamaIndexLanceDB",
    "LlamaIndexLanceDB-LlamaIndexSimple",
    "LlamaIndexFaiss-LlamaIndexSimple",
    "LlamaIndexFaissMap-LlamaIndexChroma",
)
CHOSEN = [pair for pair in PAIRS if os.environ.get("MLXI_MOVES") == "all" or str(pair) in FEW]

pytestmark = pytest.mark.usefixtures("own_data")


def source_files(folder: Path) -> dict[str, bytes]:
    """The files of a source, without those of the run beside it."""
    return {name: content for name, content in contents_of(folder).items() if not name.startswith(".mlxi-migrate/")}


def is_left_over(name: str) -> bool:
    return ".mlxi-" in name.removesuffix(".mlxi-embedding.json")


@pytest.mark.parametrize("pair", CHOSEN, ids=str)
def test_documents_arrive_whole_and_are_found(tmp_path: Path, pair: Pair) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    pair.source.fill(here, documents(30))
    old = pair.source.read(here)
    before = source_files(here)

    def move() -> Move:
        return Move(pair.source.source(here), pair.target.target(there))

    assert all(isinstance(move(), each) for each in (Store, ChoosesIndex, KeepsOld, Placed))
    assert isinstance(move().source, Source) and isinstance(move().target, Target)
    plan = plan_migration(move(), executor(), probe=False)
    assert [finding for finding in plan.info.findings if finding.is_blocking] == []
    assert not plan.is_blocked and plan.place_bytes > 30 * 16 * 4
    built = migrate(move(), executor(), batch_rows=8, publishes=False)
    assert (built.phase, built.in_use, source_files(here)) == ("verified", "nothing", before)
    assert not pair.target.is_there(there)
    done = migrate(move(), executor(), batch_rows=8)
    assert (done.phase, done.in_use, done.embedded, done.unembedded) == ("published", "new", 30, 0)
    assert [check.name for check in done.checks if not check.is_passed] == []
    assert pair.target.read(there) == old
    wanted = [f"doc-{number:05d}" for number in (3, 17, 28)]
    assert pair.target.search(there, [old[own_id][0] for own_id in wanted]) == wanted
    assert rollback(move()).in_use == "nothing"
    assert not pair.target.is_there(there)
    assert migrate(move(), executor()).in_use == "new"
    assert gc(move())
    assert status(move()) is None
    assert pair.target.read(there) == old
    assert (source_files(here), pair.source.read(here)) == (before, old)
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there"}
    assert not [path for folder in (here, there) for path in folder.rglob("*") if is_left_over(path.name)]
    with pytest.raises(StoreError, match="something at"):
        migrate(move(), executor())
    with pytest.raises(StoreError, match="something at"):
        plan_migration(move(), executor())
    assert pair.target.read(there) == old


@pytest.mark.parametrize(("is_source", "is_target"), [(True, False), (False, True)])
def test_documents_arrive_on_a_server_and_come_back(tmp_path: Path, is_source: bool, is_target: bool) -> None:
    with serving() as first, serving() as second:
        source = LangChainQdrantServer(first.url) if is_source else LangChainFaiss()
        target = LangChainQdrantServer(second.url) if is_target else LangChainInMemory()
        test_documents_arrive_whole_and_are_found(tmp_path, Pair(source=source, target=target))
