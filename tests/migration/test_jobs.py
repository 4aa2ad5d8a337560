"""Which stores are meant, from a folder or from a manifest, and what is wrong with a manifest."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError, StoreError
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.many.bulk import Outcome
from mlx_integrations.migration.many.jobs import Job, Wanted, jobs_of
from tests.migration.stores import save_faiss, texts
from tests.migration.test_chroma import filled
from tests.migration.test_in_memory import TestInMemory as InMemory

USUAL = Wanted(model="usual")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_faiss(tmp_path / "a" / "index", texts(3))
    save_faiss(tmp_path / "b" / "index", texts(4))
    InMemory().make(tmp_path / "c", documents(2))
    return tmp_path


def listed(folder: Path, text: str, given: dict[str, Any] | None = None) -> list[Job]:
    path = folder / "stores.toml"
    path.write_text(text)
    return jobs_of(path, USUAL, given)[0]


def wrong(folder: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        listed(folder, text)
    return caught.value


def test_a_folder_is_searched(folder: Path) -> None:
    jobs, unseen = jobs_of(folder, USUAL)
    assert [job.label for job in jobs] == ["a/index", "b/index", "c/notes.json"]
    assert unseen == [] and {job.wanted for job in jobs} == {USUAL}
    assert [job.about_rows for job in jobs[:2]] == [3, 4]
    assert jobs[2].about_rows >= 2


def test_a_store_that_is_reached_twice_is_meant_once(folder: Path) -> None:
    (folder / "again").symlink_to(folder / "a")
    assert [job.label for job in jobs_of(folder, USUAL)[0]] == ["a/index", "b/index", "c/notes.json"]


def test_there_has_to_be_something(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing at"):
        jobs_of(tmp_path / "nothing", USUAL)
    with pytest.raises(StoreError, match="nothing at"):
        jobs_of(tmp_path / "nothing.toml", USUAL)


def test_a_manifest_lists_stores_with_what_they_are_to_become(folder: Path) -> None:
    first, second, third = listed(
        folder,
        """
        model = "for-all"
        long_texts = "mean"
        work_dir = "runs"

        [[stores]]
        address = "a/index"

        [[stores]]
        address = "b/index"
        model = "its-own"
        dimensions = 64
        index = "HNSW32"
        long_texts = "error"

        [[stores]]
        address = "postgresql://me@host/db"
        name = "notes"
        work_dir = "/elsewhere"
        """,
    )
    assert first.wanted == Wanted(model="for-all", long_texts="mean", work=(folder / "runs").resolve())
    assert (second.wanted.model, second.wanted.dimensions, second.wanted.index) == ("its-own", 64, "HNSW32")
    assert second.wanted.long_texts == "error"
    assert (third.address, third.name, third.place) == ("postgresql://me@host/db", "notes", None)
    assert third.wanted.work == Path("/elsewhere")
    assert [job.label for job in (first, second, third)] == ["a/index", "b/index", "postgresql://me@host/db: notes"]


def test_addresses_are_relative_to_the_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (job,) = listed(folder, '[[stores]]\naddress = "a/../b/index"\n')
    assert job.address == str((folder / "b" / "index").resolve())


def test_an_address_without_a_name_means_all_that_is_there(tmp_path: Path) -> None:
    import chromadb

    filled(tmp_path / "chroma", documents(2))
    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    client.create_collection("others", embedding_function=None)
    assert [job.name for job in listed(tmp_path, '[[stores]]\naddress = "chroma"\n')] == ["notes", "others"]
    (job,) = listed(tmp_path, '[[stores]]\naddress = "chroma"\nname = "others"\n')
    assert job.label == "chroma: others"


def test_what_is_not_there_is_left_to_whoever_opens_it(folder: Path) -> None:
    (job,) = listed(folder, '[[stores]]\naddress = "gone"\nname = "x"\n')
    assert (job.address, job.name, job.place, job.about_rows) == (str(folder / "gone"), "x", None, 0)


def test_what_is_given_expressly_is_between_a_manifest_and_its_stores(folder: Path) -> None:
    text = 'model = "for-all"\n[[stores]]\naddress = "a/index"\n[[stores]]\naddress = "b/index"\nmodel = "its-own"\n'
    assert [job.wanted.model for job in listed(folder, text, {"model": "given"})] == ["given", "its-own"]


def test_the_size_of_one_model_is_not_that_of_another(folder: Path) -> None:
    text = 'model = "a"\ndimensions = 64\n[[stores]]\naddress = "a/index"\nmodel = "b"\n'
    assert listed(folder, text)[0].wanted.dimensions is None


@pytest.mark.parametrize(
    ("text", "line", "told", "hint"),
    [
        ('modle = "x"\n[[stores]]\naddress = "a"\n', 1, "no `modle`", "`model`"),
        ('[[stores]]\naddress = "a"\n\n[[stores]]\naddres = "b"\n', 5, "no `addres", "`address`"),
        ('[[stores]]\naddress = "a"\nnmae = "b"\n', 3, "no `nmae`", "`name`"),
        ('[[stores]]\naddress = "a"\n[[stores]]\naddress = "b"\ndimensions = "many"\n', 5, "`many`", ""),
        ('dimensions = 0\n[[stores]]\naddress = "a"\n', 1, "at least 1", ""),
        ('[[stores]]\naddress = "a"\nlong_texts = "cut"\n', 3, "`truncate`, `mean` or `error`", ""),
        ('[[stores]]\naddress = ""\n', 2, "text that is not empty", ""),
        ('model = "x"\n[[stores]]\nname = "b"\n', 2, "no `address`", "folder, file or URL"),
        ('[[stores]]\naddress = "a"\n[[stores]]\naddress = "./a"\n', 3, "listed twice", "out"),
        ('[[stores]]\nzzz = 1\naddress = "a"\n', 2, "no `zzz`", "There are"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, line: int, told: str, hint: str) -> None:
    error = wrong(folder, text)
    assert told in error.message and hint in error.hint
    assert str(folder / "stores.toml") in error.message
    assert f"line {line}" in error.message or f" and {line}" in error.message


@pytest.mark.parametrize("text", ["", 'model = "x"\n', "stores = []\n", "stores = 3\n", 'stores = ["a"]\n'])
def test_a_manifest_without_stores_is_none(folder: Path, text: str) -> None:
    assert "lists no stores" in wrong(folder, text).message


@pytest.mark.parametrize("content", [b"[[stores]\n", b"\xff\xfe", b'address = "a'])
def test_what_is_no_toml_is_told(folder: Path, content: bytes) -> None:
    (folder / "stores.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        jobs_of(folder / "stores.toml", USUAL)


_VALUES = st.recursive(
    st.one_of(st.integers(-5, 5), st.booleans(), st.text(st.characters(codec="ascii", categories=["L"]), max_size=6)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
_KEYS = st.sampled_from(["address", "name", "model", "dimensions", "long_texts", "index", "work_dir", "other"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.lists(st.dictionaries(_KEYS, _VALUES, max_size=5), max_size=3))
def test_any_manifest_is_understood_or_refused_with_a_line(
    tmp_path: Path, top: dict[str, Any], stores: list[dict[str, Any]]
) -> None:
    import tomlkit

    path = tmp_path / "stores.toml"
    path.write_text(tomlkit.dumps({**top, "stores": stores}))
    refusal = None
    try:
        jobs, _ = jobs_of(path, USUAL)
    except ConfigurationError as error:
        refusal = error.message
    if refusal is not None:
        assert str(path) in refusal
        assert "line" in refusal or "lists no stores" in refusal
        return
    assert len(jobs) == len(stores)
    for job, entry in zip(jobs, stores, strict=True):
        assert job.name == entry.get("name")
        assert job.wanted.model == entry.get("model", top.get("model", "usual"))
        assert job.wanted.index == entry.get("index", top.get("index", ""))


def test_the_example_is_a_manifest() -> None:
    path = Path(__file__).parent.parent.parent / "config" / "migrate-stores.toml"
    jobs, _ = jobs_of(path, USUAL)
    assert [job.wanted.model for job in jobs] == ["bge-small-en-v1.5"] * 2 + ["nomic-embed-text-v1.5"] + [
        "bge-small-en-v1.5"
    ]
    assert [job.name for job in jobs] == [None, "notes", None, "documents"]


def test_the_command_for_one_store_goes_on_with_it(folder: Path) -> None:
    wanted = Wanted(model="a b", dimensions=64, long_texts="mean", index="HNSW8", work=Path("/w"))
    job = Job(address=str(folder / "my index"), name="x", wanted=wanted)
    assert shlex.split(job.command()) == [
        *("mlxi", "migrate", "run", str(folder / "my index"), "--name", "x", "--work-dir", "/w"),
        *("--model", "a b", "--dimensions", "64", "--long-texts", "mean", "--index", "HNSW8"),
    ]
    assert shlex.split(Job(address="x", name=None, wanted=USUAL).command("gc")) == ["mlxi", "migrate", "gc", "x"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host:5432/db?password=secret", "postgresql://me@host:5432/db"),
        ("postgresql://me:sec@ret@host/db", "postgresql://me@host/db"),
        ("https://secret@qdrant.example:6333", "https://qdrant.example:6333"),
        ("http://key:secret@host", "http://host"),
    ],
)
def test_secrets_are_shown_nowhere(tmp_path: Path, address: str, shown: str) -> None:
    (job,) = listed(tmp_path, f'[[stores]]\naddress = "{address}"\nname = "notes"\n')
    assert job.address == address and job.shown_address == shown
    told = f"{job.label} {job.command()} {Outcome(job=job, state='failed').to_dict()}"
    assert "secret" not in told and "sec@ret" not in told and shown in told


def test_a_damaged_store_is_still_a_job(folder: Path) -> None:
    (folder / "a" / "index" / "index.pkl").unlink()
    shutil.rmtree(folder / "b")
    job, _ = jobs_of(folder, USUAL)[0]
    assert job.place is not None and "index.pkl" in job.place.fault and job.about_rows == 0
