"""`mlxi migrate --to`: a store's documents on their way to a new one, and back."""

import datetime
from pathlib import Path

import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.migration.contract import documents
from tests.cli.test_migrate import Shell
from tests.migration.places import LangChainChroma, LangChainFaiss, LangChainInMemory
from tests.migration.stores import contents_of


@pytest.fixture
def mlxi(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_the_whole_way_to_another_store(mlxi: Shell, tmp_path: Path) -> None:
    contents = documents(30)
    contents[3].metadata["when"] = datetime.date(2026, 1, 2)
    LangChainFaiss().fill(tmp_path, contents)
    before, address = contents_of(tmp_path), str(tmp_path / "store")
    there = tmp_path / "there"
    there.mkdir()
    move = (address, "--to", str(there / "store"), "--to-kind", "chroma", "--to-name", "notes")
    assert mlxi("plan", *move) == 0
    assert f"{address} to {there / 'store'}, collection notes" in mlxi.out
    assert "index HNSW\n" in mlxi.out
    assert "blocks     `when`: values of `date`, left out. (1, such as doc-00003)" in mlxi.out
    assert "new store  at most" in mlxi.out
    assert mlxi("run", *move) == ExitCode.FAILED
    assert "--accept" in mlxi.err
    assert mlxi("run", *move, "--as-json", "when", "--no-publish") == 0
    assert "in use    nothing" in mlxi.out
    assert not (there / "store").exists()
    assert mlxi("verify", *move) == 0
    assert mlxi("publish", *move, "--as-json", "when") == 0
    assert mlxi("rollback", *move) == 0
    assert mlxi("run", *move, "--accept", "--json") == 0
    assert (mlxi.json["in_use"], mlxi.json["accepted"][0]["examples"]) == ("new", ["doc-00003"])
    assert mlxi("status", *move) == 0
    assert "accepted  `when`: values of `date`, left out. (1, such as doc-00003)" in mlxi.out
    assert mlxi("report", *move, "--json") == 0
    assert mlxi("gc", *move) == ExitCode.WRONG_USAGE
    assert "cannot be taken back" in mlxi.err
    assert mlxi("gc", *move, "--yes") == 0
    assert {name: content for name, content in contents_of(tmp_path).items() if not name.startswith("there/")} == before
    assert len(LangChainChroma().read(there)) == 30
    assert mlxi("run", *move, "--accept") == ExitCode.FAILED
    assert "something at" in mlxi.err


def test_the_kind_is_told_from_the_place_where_it_can_be(mlxi: Shell, tmp_path: Path) -> None:
    LangChainFaiss().fill(tmp_path, documents(5))
    address = str(tmp_path / "store")
    assert mlxi("run", address, "--to", str(tmp_path / "store.json"), "--json") == 0
    assert mlxi("gc", address, "--to", str(tmp_path / "store.json"), "--yes") == 0
    assert LangChainInMemory().read(tmp_path) == LangChainFaiss().read(tmp_path)
    assert mlxi("run", address, "--to", str(tmp_path / "elsewhere")) == ExitCode.FAILED
    assert "--to-kind" in mlxi.err


def test_a_place_is_the_same_by_every_name(mlxi: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LangChainFaiss().fill(tmp_path, documents(5))
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("below")
    monkeypatch.chdir(tmp_path / "below")
    assert mlxi("run", "../store", "--to", "../below/notes.json") == 0
    monkeypatch.chdir(tmp_path)
    for name in ("below/notes.json", "link/notes.json", str(tmp_path / "below" / "notes.json")):
        assert mlxi("status", "store", "--to", name, "--json") == 0
        assert mlxi.json["in_use"] == "new"


def test_options_of_a_place_need_one(mlxi: Shell, tmp_path: Path) -> None:
    LangChainFaiss().fill(tmp_path, documents(2))
    for option in ("--to-kind", "--to-name", "--as-json"):
        assert mlxi("plan", str(tmp_path / "store"), option, "x") == ExitCode.WRONG_USAGE
        assert f"{option} is for new stores" in mlxi.err
