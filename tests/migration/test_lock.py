"""One store has one run at a time, wherever runs are kept and whatever the store is called."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations.errors import MLXIntegrationsError, StoreBusyError
from mlx_integrations.migration.api import gc, migrate, status
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.stores import executor, save_faiss, texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_faiss(tmp_path / "store", texts(30))


def during(folder: Path, work: Path | None, action: Callable[[], object]) -> MLXIntegrationsError | None:
    """Do something in the midst of a migration; the error of it."""
    caught: list[MLXIntegrationsError] = []

    def act() -> bool:
        try:
            action()
        except MLXIntegrationsError as error:
            caught.append(error)
        return True

    migrate(LangChainFaissStore(folder), executor(), work=work, batch_rows=16, should_stop=act)
    return caught[0] if caught else None


@pytest.mark.parametrize("works", [(None, None), (None, "there"), ("here", "there")])
def test_a_second_run_is_refused_wherever_it_is_kept(
    tmp_path: Path, folder: Path, works: tuple[str | None, str | None]
) -> None:
    first, second = (None if name is None else tmp_path / name for name in works)
    error = during(folder, first, lambda: migrate(LangChainFaissStore(folder), executor(), work=second))
    assert isinstance(error, StoreBusyError)
    assert error.is_retryable
    assert "being migrated" in error.message
    assert migrate(LangChainFaissStore(folder), executor(), work=first).in_use == "new"


@pytest.mark.parametrize("name", ["link", "../store", "../link", "../elsewhere/../store"])
def test_a_store_is_the_same_one_by_another_name(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = LangChainFaissStore(tmp_path / name if name == "link" else Path(name))
    error = during(folder, None, lambda: migrate(there, executor(), work=tmp_path / "work"))
    assert isinstance(error, StoreBusyError)


def test_a_link_is_the_store_that_it_leads_to(tmp_path: Path, folder: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "store").symlink_to(folder)
    assert migrate(open_store(links / "store"), executor()).in_use == "new"
    known = status(open_store(folder))
    assert known is not None and known.in_use == "new"
    assert gc(open_store(links / "store"))
    assert {path.name for path in tmp_path.iterdir()} == {"links", "store"}
    assert (links / "store").is_symlink()


def test_another_store_is_not_kept_waiting(tmp_path: Path, folder: Path) -> None:
    other = save_faiss(tmp_path / "other", texts(10))
    assert during(folder, None, lambda: migrate(LangChainFaissStore(other), executor())) is None


def test_without_a_state_folder_runs_of_one_place_still_see_each_other(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))
    with caplog.at_level(logging.WARNING):
        error = during(folder, None, lambda: migrate(LangChainFaissStore(folder), executor()))
    assert isinstance(error, StoreBusyError)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("http://Host:6333/", "http://host:6333", True),
        ("http://host", "http://host:80", True),
        ("postgres://ann@host/db", "postgresql://bob@host:5432/db", True),
        ("postgresql://host/db", "postgresql://host/other", False),
        ("postgresql:///db?host=/tmp/a", "postgresql:///db?host=/tmp/b", False),
        ("http://host:6333", "http://host:6334", False),
    ],
)
def test_a_server_is_the_same_one_by_another_address(tmp_path: Path, first: str, second: str, is_same: bool) -> None:
    here, there = (StoreLocation(kind="any", address=address, name="notes") for address in (first, second))
    with Workspace.locked(here, tmp_path / "here"):
        if is_same:
            with pytest.raises(StoreBusyError), Workspace.locked(there, tmp_path / "there"):
                pass
        else:
            with Workspace.locked(there, tmp_path / "there"):
                pass
    other = StoreLocation(kind="any", address=first, name="others")
    with Workspace.locked(here, tmp_path / "here"), Workspace.locked(other, tmp_path / "there"):
        pass


def test_an_empty_folder_of_runs_is_deleted_but_not_one_that_was_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / ".mlxi-migrate").mkdir()
    (tmp_path / "work").mkdir()
    assert not gc(LangChainFaissStore(folder), work=tmp_path / "work")
    assert (tmp_path / "work").exists()
    assert not gc(LangChainFaissStore(folder))
    assert not (tmp_path / ".mlxi-migrate").exists()
