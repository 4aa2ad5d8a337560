"""Every store under a folder is found, whatever else lies there. `MLXI_SCAN_TREES` says how many trees are tried."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.contract import StoreContract, documents
from mlx_integrations.migration.finding import scan as scanning
from mlx_integrations.migration.finding.glimpse import glimpse
from mlx_integrations.migration.finding.places import Place
from mlx_integrations.migration.finding.scan import UNREADABLE, Found, look_at, scan
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.stores import contents_of, executor, save_faiss, texts
from tests.migration.test_chroma import TestChroma as Chroma
from tests.migration.test_in_memory import TestInMemory as InMemory
from tests.migration.test_lancedb import TestLanceDB as LanceDB
from tests.migration.test_langchain_faiss import TestLangChainFaiss as LangChainFaiss
from tests.migration.test_llama_index_faiss import TestLlamaIndexFaiss as LlamaIndexFaiss
from tests.migration.test_llama_index_faiss import TestLlamaIndexFaissMap as LlamaIndexFaissMap
from tests.migration.test_llama_index_simple import TestLlamaIndexSimple as LlamaIndexSimple
from tests.migration.test_qdrant_local import TestQdrantLocal as QdrantLocal

KINDS: list[tuple[StoreContract, str]] = [
    (LangChainFaiss(), "langchain-faiss"),
    (InMemory(), "langchain-in-memory"),
    (LlamaIndexSimple(), "llama-index-simple"),
    (LlamaIndexFaiss(), "llama-index-faiss"),
    (LlamaIndexFaissMap(), "llama-index-faiss"),
    (Chroma(), "chroma"),
    (QdrantLocal(), "qdrant"),
    (LanceDB(), "lancedb"),
]


def names(found: list[Found], root: Path) -> set[str]:
    """Where stores were found, and which."""
    return {
        f"{Path(one.location.address).relative_to(root.resolve())}:{one.location.name or ''}"
        for one in found
        if one.is_store
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of every kind, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    for number, (contract, kind) in enumerate(KINDS):
        contract.make(folder / "projects" / f"{number}-{kind}", documents(6))
    return folder / "projects"


@pytest.fixture
def projects(made: Path, tmp_path: Path) -> Path:
    """The same, for one test."""
    return Path(shutil.copytree(made, tmp_path / "projects"))


def test_every_kind_is_found_and_described(made: Path) -> None:
    before = contents_of(made)
    found = scan(made)
    assert [one.location.kind for one in found] == [kind for _, kind in KINDS]
    for one in found:
        assert (one.count, one.dimensions, one.fault, one.health) == (6, (24,), "", ())
        assert one.metric != "unknown" and one.bytes and one.uncounted == ()
    assert contents_of(made) == before


@pytest.mark.parametrize("read_bytes", [1 << 40, 0])
def test_the_folder_can_be_named_as_it_is_from_here(
    made: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    whole = scan(made)
    monkeypatch.setattr(scanning, "_READ_BYTES", read_bytes)
    before = scan(made)
    for place, named in ((made, "."), (made.parent, made.name), (made / "7-lancedb", "../../projects")):
        monkeypatch.chdir(place)
        assert scan(named) == before
    assert [one.location for one in before] == [one.location for one in whole]


def test_it_says_the_same_as_the_stores_themselves(made: Path) -> None:
    for one in scan(made):
        info = open_store(one.location.address, one.location.name).describe()
        assert (one.location, one.count, one.dimensions) == (info.location, info.count, info.dimensions)
        assert (one.metric, one.index, one.bytes, one.findings) == (info.metric, info.index, info.bytes, info.findings)


def test_a_large_store_is_looked_at_by_its_header(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan(projects)
    monkeypatch.setattr(scanning, "_READ_BYTES", 0)
    for one, other in zip(scan(projects), whole, strict=True):
        assert (one.location, one.dimensions, one.metric) == (other.location, other.dimensions, other.metric)
        if one.location.kind == "lancedb":  # it is asked, as it has counted its rows
            assert one == other
            continue
        assert one.uncounted and "missing texts" in one.uncounted
        assert one.count == 6 or (one.count is None and 3 <= one.about <= 12 and "rows" in one.uncounted)
    assert scan(projects, whole=True) == whole


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF2,Flat", "SQ8"])
def test_the_header_of_an_index_says_what_it_is(tmp_path: Path, factory: str) -> None:
    save_faiss(tmp_path / "store", texts(40), factory=factory)
    seen = glimpse(Place(kind="langchain-faiss", path=tmp_path / "store"))
    assert seen is not None and (seen.count, seen.dimensions) == (40, (24,))
    assert seen.index[:2] == factory[:2]


def test_a_record_tells_the_model(projects: Path) -> None:
    for one in scan(projects):
        store = open_store(one.location.address, one.location.name)
        migrate(store, executor())
    for one in scan(projects):
        assert one.fingerprint is not None and one.fingerprint.model == "new-model"
        assert one.likely_model is None and one.phase == "published"
        assert one.health == ("migration: published",)


def test_several_indexes_of_one_folder_are_found(tmp_path: Path) -> None:
    for name in ("index", "notes", "wiki"):
        made = save_faiss(tmp_path / name, texts(5))
        (tmp_path / "all").mkdir(exist_ok=True)
        for ending in ("faiss", "pkl"):
            (made / f"index.{ending}").rename(tmp_path / "all" / f"{name}.{ending}")
    assert names(scan(tmp_path), tmp_path) == {"all:", "all:notes", "all:wiki"}


def test_every_collection_is_found_and_none_of_a_migration(tmp_path: Path) -> None:
    contract = Chroma()
    contract.make(tmp_path / "chroma", documents(4))
    import chromadb

    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    client.create_collection("another", embedding_function=None)
    client.create_collection("notes.mlxi-0123456789ab", embedding_function=None)
    known = {one.location.name for one in scan(tmp_path)}
    assert known == {"another", "notes"}


def test_vector_stores_of_any_name_are_found_and_empty_ones_are_none(tmp_path: Path) -> None:
    LlamaIndexSimple().make(tmp_path / "storage", documents(4))
    usual = tmp_path / "storage" / "default__vector_store.json"
    shutil.copy(usual, usual.with_name("notes__vector_store.json"))
    assert (usual.parent / "image__vector_store.json").is_file()  # LlamaIndex writes it in any case
    found = scan(tmp_path)
    assert names(found, tmp_path) == {"storage:", "storage:notes"}
    assert all(one.findings == () for one in found)
    shutil.copy(usual, usual.with_name("image__vector_store.json"))
    image = next(one for one in scan(tmp_path) if not one.is_store)
    assert "images" in image.fault
    with pytest.raises(StoreError, match="images"):
        open_store(tmp_path / "storage", "image")


def test_a_store_of_another_name_has_its_own_record(tmp_path: Path) -> None:
    LlamaIndexSimple().make(tmp_path / "storage", documents(4))
    usual = tmp_path / "storage" / "default__vector_store.json"
    shutil.copy(usual, usual.with_name("notes__vector_store.json"))
    before = usual.read_bytes()
    migrate(open_store(tmp_path / "storage", "notes"), executor())
    assert usual.read_bytes() == before
    found = {one.location.name: one for one in scan(tmp_path)}
    assert found[None].dimensions == (24,) and found[None].fingerprint is None
    assert found["notes"].dimensions == (16,) and found["notes"].fingerprint is not None
    assert all(one.findings == () for one in found.values())


def test_json_of_other_programs_is_no_store(tmp_path: Path) -> None:
    contents = {
        "list.json": "[1, 2]",
        "empty.json": "{}",
        "package.json": json.dumps({"name": "x", "dependencies": {"a": "1"}}),
        "hero.json": json.dumps({"hero": {"vector": [1, 2, 3], "size": 4}}),
        "words.json": json.dumps({"a": {"text": "b", "vector": "no list"}}),
        "cut.json": '{"a": {"text',
        "none": "",
        "README": "{ this is a text }",
        "huge.json": '{"a": {"b": "' + "x" * 2_000_000 + '"}}',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    assert scan(tmp_path) == []


def test_a_dump_is_known_by_its_beginning_whatever_its_name(tmp_path: Path) -> None:
    entry = {"id": "a", "vector": [0.1, 0.2], "text": "x" * 2_000_000, "metadata": {}}
    for name in ("notes", "notes.db", "notes.json"):
        (tmp_path / name).write_text(json.dumps({"a": entry}, indent=2))
    (tmp_path / "notes.csv").write_text(json.dumps({"a": entry}))
    assert {Path(one.location.address).name for one in scan(tmp_path)} == {"notes", "notes.db", "notes.json"}


def test_faults_of_stores_are_shown(tmp_path: Path) -> None:
    save_faiss(tmp_path / "texts", ["a", " ", "b"])
    cut = save_faiss(tmp_path / "cut", texts(5)) / "index.faiss"
    cut.write_bytes(cut.read_bytes()[:-3])
    (save_faiss(tmp_path / "half", texts(5)) / "index.pkl").unlink()
    LlamaIndexSimple().make(tmp_path / "storage", documents(4))
    (tmp_path / "storage" / "docstore.json").unlink()
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"no database at all" * 100)
    found = {Path(one.location.address).name: one for one in scan(tmp_path)}
    assert found["texts"].health == ("without text: 1",)
    assert "cut off" in found["cut"].fault
    assert "`index.pkl`" in found["half"].fault
    assert "docstore.json" in found["storage"].fault
    assert "no database" in found["chroma"].fault
    assert all(found[name].health == ("not readable",) for name in ("cut", "half", "storage", "chroma"))


def test_what_a_migration_left_is_shown(tmp_path: Path) -> None:
    store = open_store(save_faiss(tmp_path / "store", texts(200)))
    migrate(store, executor(), batch_rows=50, should_stop=lambda: True)
    (found,) = scan(tmp_path)
    assert (found.phase, found.embedded, found.health) == ("embedding", 50, ("migration: embedding 25%",))
    migrate(store, executor(), publishes=False)
    assert scan(tmp_path)[0].health == ("migration: verified",)
    (tmp_path / ".mlxi-migrate" / "store" / "journal.sqlite").write_bytes(b"something else")
    assert scan(tmp_path)[0].health[0].startswith("unreadable migration")


def test_folders_that_hold_no_projects_are_left_out(tmp_path: Path) -> None:
    for folder in (".git", "node_modules", ".mlxi-migrate", "__pycache__", "venv/lib", "deep/er"):
        save_faiss(tmp_path / folder / "store", texts(3))
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    assert names(scan(tmp_path), tmp_path) == {"deep/er/store:"}


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save_faiss(tmp_path / "elsewhere" / "store", texts(3))
    save_faiss(root / "a" / "store", texts(3))
    (root / "a" / "again").symlink_to(root)
    (root / "a" / "up").symlink_to("/")
    (root / "twice").symlink_to(root / "a")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "nowhere").symlink_to(tmp_path / "nothing")
    (root / "self").symlink_to(root / "self")
    found = scan(root)
    assert {one.location.address for one in found} == {
        str((root / "a" / "store").resolve()),
        str((tmp_path / "elsewhere" / "store").resolve()),
    }


def test_what_is_too_deep_is_said(tmp_path: Path) -> None:
    save_faiss(tmp_path / "a" / "b" / "c" / "store", texts(3))
    assert [one.is_store for one in scan(tmp_path, depth=4)] == [True]
    (left,) = scan(tmp_path, depth=2)
    assert left.location.kind == UNREADABLE and "1 folders are deeper than 2" in left.fault


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of somebody who is no administrator, for whom permissions count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        is_root = os.geteuid() == 0
        yield folder
        if is_root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            path.chmod(0o755)


def test_a_folder_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    with as_nobody() as folder:
        save_faiss(folder / "a" / "store", texts(3))
        (folder / "closed" / "inside").mkdir(parents=True)
        (folder / "closed").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        found = scan(folder)
    assert [(one.location.kind, one.is_store) for one in found] == [("langchain-faiss", True), (UNREADABLE, False)]
    assert "Permission denied" in found[1].fault and found[1].health == ("not looked into",)


def test_a_table_that_cannot_be_looked_into_hides_no_other_store(tmp_path: Path) -> None:
    with as_nobody() as folder:
        (folder / "tables" / "closed.lance" / "_versions").mkdir(parents=True)
        save_faiss(folder / "tables", texts(3))
        save_faiss(folder / "z" / "store", texts(3))
        (folder / "tables" / "closed.lance").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        found = scan(folder)
    assert [(one.location.kind, one.is_store) for one in found] == [
        ("langchain-faiss", True),
        ("lancedb", False),
        ("langchain-faiss", True),
    ]
    assert "Permission denied" in found[1].fault


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing at"):
        scan(tmp_path / "nothing")
    assert scan(tmp_path) == []


def test_a_store_itself_is_found(tmp_path: Path) -> None:
    save_faiss(tmp_path / "store", texts(3))
    InMemory().make(tmp_path / "notes", documents(3))
    assert names(scan(tmp_path / "store"), tmp_path) == {"store:"}
    (dump,) = scan(tmp_path / "notes" / "notes.json")
    assert (dump.location.kind, dump.count) == ("langchain-in-memory", 3)


def test_it_can_be_printed_as_json(made: Path) -> None:
    written = json.loads(json.dumps([one.to_dict() for one in scan(made)], default=str))
    assert [one["kind"] for one in written] == [kind for _, kind in KINDS]
    assert all(one["count"] == 6 and one["health"] == [] for one in written)


def test_a_place_that_became_something_else_is_told(tmp_path: Path) -> None:
    found = look_at(Place(kind="langchain-faiss", path=tmp_path, read_bytes=1))
    assert not found.is_store and found.hint


MARKS = (
    "index.faiss index.pkl notes.faiss default__vector_store.json notes__vector_store.json docstore.json "
    "index_store.json id_map.json chroma.sqlite3 meta.json dump.json notes.db x.txt .git node_modules collection "
    "t.lance _versions pyvenv.cfg".split()
)
TREES_TRIED = int(os.environ.get("MLXI_SCAN_TREES", "25"))
BYTES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"{}",
            b'{"a": {"id": "a", "vector": [1, 2], "text": "t", "metadata": {}}}',
            b'{"a": {"vector": [1, 2], "text"',
            b'{"embedding_dict": {"a": [1, 2]}}',
            b'{"embedding_dict": {}, "x": 1}',
            b'{"collections": {"a": {}, "b": {"vectors": {"x": {}, "y": {}}}}, "aliases": {}}',
            b'{"collections": 3, "aliases": []}',
            b"IxF2" + bytes(60),
            b"IxMp" + bytes(60),
            b"IwFl" + b"\xff" * 60,
            b"SQLite format 3\0" + bytes(100),
        ]
    ),
)
TREES = st.recursive(
    st.dictionaries(st.sampled_from(MARKS), BYTES, max_size=6),
    lambda inner: st.dictionaries(st.sampled_from(MARKS), st.one_of(BYTES, inner), max_size=5),
    max_leaves=12,
)


def plant(folder: Path, tree: dict[str, object], chance: random.Random) -> None:
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            plant(folder / name, content, chance)
        else:
            assert isinstance(content, bytes)
            (folder / name).write_bytes(content)
    if chance.random() < 0.3:
        (folder / "link").symlink_to(chance.choice([folder, folder.parent, Path("/"), folder / "nothing"]))


@settings(max_examples=TREES_TRIED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, seed=st.integers(0, 1000))
def test_no_tree_of_files_ends_a_scan(tree: dict[str, object], seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        plant(root, tree, random.Random(seed))
        save_faiss(root / "good", texts(3))
        before = contents_of(root)
        found = scan(root)
        assert contents_of(root) == before
        good = [one for one in found if one.location.address == str((root / "good").resolve())]
        assert [one.count for one in good] == [3]
        assert len({one.location for one in found}) == len(found)
        assert all(one.fault or one.count is not None or one.uncounted for one in found)
        json.dumps([one.to_dict() for one in found], default=str)
