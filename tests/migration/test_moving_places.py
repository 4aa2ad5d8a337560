"""Places that new stores are moved to: what is in the way is told before anything is embedded, and nobody sees more."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.targets.chroma import ChromaTarget
from mlx_integrations.migration.targets.opening import open_target
from mlx_integrations.migration.targets.place import FolderPlace
from tests.migration.pgvector_tables import asked
from tests.migration.places import (
    NAME,
    LangChainChroma,
    LangChainFaiss,
    LangChainInMemory,
    LangChainPgvector,
    LlamaIndexSimple,
    chroma_at,
)
from tests.migration.stores import contents_of, executor, save_faiss, texts

NOBODY = 65534
NAMED = ("chroma", "lancedb", "qdrant")
OF_LANGCHAIN = ("chroma", "lancedb", "langchain-faiss", "langchain-in-memory", "qdrant")

pytestmark = pytest.mark.usefixtures("own_data")


@pytest.fixture
def source(tmp_path: Path) -> LangChainFaissStore:
    return LangChainFaissStore(save_faiss(tmp_path / "source" / "store", texts(6)))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder into which other users may look, as those of pytest's are for one."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of an administrator, if tests have them."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def to(source: LangChainFaissStore, place: Path, kind: str) -> Move:
    return Move(source, open_target(place, kind, NAME if kind in NAMED else None))


def refused(move: Move) -> StoreError:
    """What both verbs say before anything is embedded."""
    with pytest.raises(StoreError, match="Nothing can be made at") as planned:
        plan_migration(move, executor())
    with pytest.raises(StoreError, match="Nothing can be made at") as run:
        migrate(move, executor())
    assert str(planned.value) == str(run.value) and planned.value.hint
    assert not gc(move) or status(move) is None
    return run.value


# What is in the way


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
@pytest.mark.parametrize("below", ["new", "a/b/new"])
def test_nothing_is_made_below_a_file(tmp_path: Path, source: LangChainFaissStore, kind: str, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    error = refused(to(source, tmp_path / "file" / below, kind))
    assert f"`{tmp_path}/file` is no folder" in str(error)


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
def test_nothing_is_made_where_nobody_may_write(shared: Path, kind: str) -> None:
    closed = shared / "closed"
    closed.mkdir(mode=0o555)
    hidden = shared / "hidden"
    hidden.mkdir(mode=0o000)
    with as_nobody():
        for place, above in ((closed / "new", closed), (closed / "a" / "new", closed), (hidden / "new", hidden)):
            target = open_target(place, kind, NAME if kind in NAMED else None)
            with pytest.raises(StoreError, match=f"`{above}` is no folder that can be read and written to") as caught:
                target.check()
            assert "--to" in caught.value.hint
    hidden.chmod(0o700)
    assert list(closed.iterdir()) == list(hidden.iterdir()) == []


@pytest.mark.parametrize("kind", [kind for kind in OF_LANGCHAIN if kind not in ("lancedb", "langchain-in-memory")])
def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_empty_one(shared: Path, kind: str) -> None:
    shared.chmod(0o777)
    (shared / "hidden").mkdir(mode=0o300)
    if not os.geteuid():
        os.chown(shared / "hidden", NOBODY - 1, -1)
    with as_nobody():
        if os.geteuid() != NOBODY:
            (shared / "hidden").chmod(0o000)
        with pytest.raises(StoreError, match="cannot be looked into"):
            open_target(shared / "hidden", kind, NAME if kind in NAMED else None).check()
    (shared / "hidden").chmod(0o700)


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
@pytest.mark.parametrize("name", ["x" * 240, "x" * 300 + "/new"])
def test_a_name_that_no_file_can_have_is_told_before_anything_is_embedded(
    tmp_path: Path, source: LangChainFaissStore, kind: str, name: str
) -> None:
    if kind == "lancedb" and "/" not in name:
        name = "x" * 300  # nothing is made beside the folder of its database
    assert "no file can have the name" in str(refused(to(source, tmp_path / name, kind)))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


class _Empty(FolderPlace):
    def _is_taken(self) -> bool:
        return False


def test_where_a_disk_begins_nothing_can_be_given_its_name() -> None:
    location = open_target("/dev", "langchain-faiss").location
    expected = "is where a disk begins" if os.access("/", os.W_OK) else "no folder that can be read and written to"
    with pytest.raises(StoreError, match=expected):
        _Empty(location, Path("/dev")).check(None)


def test_runs_that_are_kept_in_a_database_are_not_taken_for_what_made_it(tmp_path: Path) -> None:
    LangChainChroma().fill(tmp_path, documents(2))
    LangChainInMemory().fill(tmp_path / "store", documents(3))
    move = Move(InMemoryDump(tmp_path / "store" / "store.json"), ChromaTarget(tmp_path / "store", "more"))
    assert migrate(move, executor()).in_use == "new"
    assert rollback(move).in_use == "nothing"
    assert migrate(move, executor()).in_use == "new"
    assert gc(move)


@pytest.mark.parametrize("name", ["two\nlines", "bell\x07"])
def test_a_folder_that_lancedb_cannot_open_is_told_before_anything_is_embedded(
    tmp_path: Path, source: LangChainFaissStore, name: str
) -> None:
    move = to(source, tmp_path / name, "lancedb")
    with pytest.raises(StoreError, match="line breaks or other controls"):
        migrate(move, executor())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
@pytest.mark.parametrize("name", ["-[a-z]*? #%41 né", ".hidden.mlxi-0123456789ab.part"])
def test_any_other_name_can_be_given(tmp_path: Path, source: LangChainFaissStore, kind: str, name: str) -> None:
    move = to(source, tmp_path / name, kind)
    assert migrate(move, executor()).in_use == "new"
    assert rollback(move).in_use == "nothing"
    assert migrate(move, executor()).in_use == "new" and gc(move)
    assert open_store(tmp_path / name, NAME if kind in NAMED else None).describe().count == 6
    assert sorted({path.name.partition(f"{name}.mlxi-embedding")[0] for path in tmp_path.iterdir()} - {""}) == sorted(
        [name, "source"]
    )


# What comes between


@pytest.mark.parametrize("kind", [kind for kind in OF_LANGCHAIN if kind != "langchain-in-memory"])
@pytest.mark.parametrize(("mode", "others"), [(0o700, 0), (0o775, 0o055)])
def test_an_empty_folder_gives_its_rights_and_is_there_again(
    tmp_path: Path, source: LangChainFaissStore, kind: str, mode: int, others: int
) -> None:
    place = tmp_path / "new"
    place.mkdir()
    place.chmod(mode)
    move = to(source, place, kind)
    assert migrate(move, executor()).in_use == "new"
    assert others_of(place) == (mode & 0o077 if kind == "lancedb" else others)
    for _ in range(2):
        assert rollback(move).in_use == "nothing"
        assert not [path for path in place.iterdir() if ".mlxi-" not in path.name]
    assert gc(move)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "source"]
    assert list(place.iterdir()) == [] and stat.S_IMODE(place.stat().st_mode) & 0o700 == 0o700


def test_a_private_store_gets_no_readers_from_an_empty_folder_that_is_back_as_it_was(
    tmp_path: Path, source: LangChainFaissStore
) -> None:
    source.location.path.chmod(0o700)
    place = tmp_path / "new"
    place.mkdir()
    place.chmod(0o2755)
    for _ in range(2):
        move = to(source, place, "langchain-faiss")
        assert migrate(move, executor()).in_use == "new"
        assert stat.S_IMODE(place.stat().st_mode) == 0o2700
        rollback(move)
        assert stat.S_IMODE(place.stat().st_mode) == 0o2755


def test_an_empty_folder_is_back_as_it_was_where_taking_away_was_cut_off(
    tmp_path: Path, source: LangChainFaissStore
) -> None:
    place = tmp_path / "new"
    place.mkdir()
    place.chmod(0o710)
    move = to(source, place, "langchain-faiss")
    migrate(move, executor())
    with Workspace.locked(move.location) as workspace:
        workspace.journal.set_phase("rolling back")
        place.rename(tmp_path / f"new.mlxi-{workspace.run.id}")
    place.mkdir(mode=0o700)
    assert rollback(move).in_use == "nothing"
    assert stat.S_IMODE(place.stat().st_mode) == 0o710


def test_a_record_that_was_being_written_is_deleted(tmp_path: Path, source: LangChainFaissStore) -> None:
    move = to(source, tmp_path / "new.json", "langchain-in-memory")
    migrate(move, executor(), publishes=False)
    with Workspace.locked(move.location) as workspace:
        record = f"new.json.mlxi-embedding.json.mlxi-{workspace.run.id}"
    for name in (record, f".{record}.{'0' * 32}", ".new.json.mlxi-embedding.json.others"):
        (tmp_path / name).touch()
    assert gc(move)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.json.mlxi-embedding.json.others", "source"]


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
def test_nothing_stays_where_nothing_was(tmp_path: Path, source: LangChainFaissStore, kind: str) -> None:
    move = to(source, tmp_path / "new", kind)
    for _ in range(2):
        assert migrate(move, executor()).in_use == "new"
        assert rollback(move).in_use == "nothing"
        assert gc(move)
        assert [path.name for path in tmp_path.rglob("*") if path.parent != tmp_path / "source" / "store"] == [
            "source",
            "store",
        ]


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
def test_what_was_built_and_is_deleted_can_be_built_again(
    tmp_path: Path, source: LangChainFaissStore, kind: str
) -> None:
    import shutil

    move = to(source, tmp_path / "there" / "new", kind)
    migrate(move, executor(), publishes=False)
    shutil.rmtree(tmp_path / "there")
    for _ in range(2):
        with pytest.raises(StoreError, match="Nothing was built") as caught:
            publish(move)
        assert "--restart" in caught.value.hint
    assert rollback(move).in_use == "nothing"
    assert migrate(move, executor(), restart=True).in_use == "new"
    assert gc(move)


def test_what_was_built_in_a_database_and_is_deleted_can_be_built_again(
    tmp_path: Path, source: LangChainFaissStore
) -> None:
    LangChainChroma().fill(tmp_path, documents(2))
    pgvector = LangChainPgvector()
    for target in (ChromaTarget(tmp_path / "store", "more"), pgvector.target(tmp_path)):
        move = Move(source, target)
        migrate(move, executor(), publishes=False)
        if isinstance(target, ChromaTarget):
            with chroma_at(tmp_path / "store") as client:
                (built,) = (each.name for each in client.list_collections() if each.name != NAME)
                client.delete_collection(built)
        else:
            (built,) = asked(pgvector.at(tmp_path), "SELECT relname FROM pg_class WHERE relname LIKE '%\\_move'")[0]
            with psycopg.connect(pgvector.at(tmp_path), autocommit=True) as connection:
                connection.execute(f'DROP TABLE "{built}"')
        with pytest.raises(StoreError, match="Nothing was built"):
            publish(move)
        assert rollback(move).in_use == "nothing"
        assert migrate(move, executor(), restart=True).in_use == "new"
        assert gc(move)


class _Late(FolderPlace):
    """Somebody makes a store of the same name in the moment between the last look and the rename."""

    def _is_taken(self) -> bool:
        is_taken = super()._is_taken()
        if not is_taken and list(self.folder.parent.glob("*.mlxi-????????????")):
            save_faiss(self.folder, texts(3))
        return is_taken


def test_a_place_that_is_taken_in_the_last_moment_stays_what_it_is(tmp_path: Path, source: LangChainFaissStore) -> None:
    move = to(source, tmp_path / "new", "langchain-faiss")
    migrate(move, executor(), publishes=False)
    late = to(source, tmp_path / "new", "langchain-faiss")
    late.target._place = _Late(late.target.location, tmp_path / "new")  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="something at"):
        publish(late)
    assert LangChainFaissStore(tmp_path / "new").describe().count == 3
    assert rollback(move).in_use == "nothing"
    assert gc(move)
    assert LangChainFaissStore(tmp_path / "new").describe().count == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "source"]


# Who may read it


def others_of(place: Path) -> int:
    """What others may do with a file or a folder."""
    return stat.S_IMODE(place.stat().st_mode) & 0o077


@pytest.mark.parametrize("kind", OF_LANGCHAIN)
@pytest.mark.parametrize(("folder", "file", "others"), [(0o700, 0o644, 0), (0o755, 0o600, 0), (0o755, 0o644, 0o055)])
def test_who_may_not_read_a_store_may_not_read_what_is_made_of_it(
    tmp_path: Path, source: LangChainFaissStore, kind: str, folder: int, file: int, others: int
) -> None:
    before = os.umask(0o022)
    try:
        source.location.path.chmod(folder)
        (source.location.path / "index.pkl").chmod(file)
        place = tmp_path / ("new.json" if kind == "langchain-in-memory" else "new")
        move = to(source, place, kind)
        seen: list[int] = []
        migrate(move, executor(), publishes=False)
        built = [path for path in tmp_path.rglob("*") if path.suffix != ".part" and ".mlxi-" in path.name]
        seen += [others_of(path) for path in built if path.parent == tmp_path]
        assert migrate(move, executor()).in_use == "new" and gc(move)
    finally:
        os.umask(before)
    expected = others & (0o044 if kind == "langchain-in-memory" else 0o055)
    made = place / f"{NAME}.lance" if kind == "lancedb" else place
    assert others_of(made) == expected
    assert set(seen) <= {expected}


def test_nodes_stay_with_those_who_may_read_them(tmp_path: Path) -> None:
    LlamaIndexSimple().fill(tmp_path, documents(3))
    (tmp_path / "store" / "docstore.json").chmod(0o600)
    move = Move(LlamaIndexSimple().source(tmp_path), open_target(tmp_path / "new", "llama-index-simple"))
    assert migrate(move, executor()).in_use == "new"
    assert others_of(tmp_path / "new") == 0


def test_an_administrator_is_not_needed_to_read_what_is_made(tmp_path: Path) -> None:
    LangChainFaiss().fill(tmp_path, documents(3))
    move = Move(LangChainFaiss().source(tmp_path), open_target(tmp_path / "new", "langchain-faiss"))
    assert migrate(move, executor()).in_use == "new" and gc(move)
    assert contents_of(tmp_path / "new").keys() == {"index.faiss", "index.pkl", "mlxi-embedding.json"}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) & 0o700 == 0o700
