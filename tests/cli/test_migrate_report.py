"""`mlxi migrate report`, and what `verify` writes."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.cli.test_migrate import Shell
from tests.migration.stores import contents_of, save_faiss, texts


@pytest.fixture
def mlxi(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_faiss(tmp_path / "store", texts(80))


def words_of(page: Path) -> str:
    return " ".join("".join(ET.fromstring(page.read_text(encoding="utf-8")).itertext()).split())


def test_a_report_is_told_in_a_few_lines(mlxi: Shell, folder: Path) -> None:
    mlxi("run", str(folder))
    before = contents_of(folder)
    assert mlxi("report", str(folder)) == 0
    assert "in use      the new vectors" in mlxi.out
    assert "rows        80 have a new vector" in mlxi.out
    assert "checks      6 of 6 hold" in mlxi.out
    assert re.search(
        r"thresholds  [\d.]+ becomes [\d.]+; [\d.]+ becomes [\d.]+ \(similarity_search_with_score\)", mlxi.out
    )
    assert "80 rows (100 %) are longer than the model reads" in mlxi.out
    assert contents_of(folder) == before


def test_it_is_a_page_and_json_too(mlxi: Shell, folder: Path, tmp_path: Path) -> None:
    mlxi("run", str(folder), "--no-publish")
    page = tmp_path / "report.html"
    assert mlxi("report", str(folder), "--output", str(page), "--rows", "7", "--documents", "20", "--json") == 0
    assert str(page) in mlxi.err
    assert mlxi.json["overlap"]["documents"] == 20
    assert len(mlxi.json["truncated"]) == 80
    assert "The old vectors are in use." in words_of(page)
    assert "73 more are in the JSON of this report." in words_of(page)
    assert mlxi("report", str(folder), "--output", str(page)) == 0
    assert mlxi.out == ""


def test_verifying_can_write_it(mlxi: Shell, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    mlxi("run", str(folder))
    assert mlxi("verify", str(folder), "--report", str(page), "--json") == 0
    assert [check["name"] for check in mlxi.json][:2] == ["count", "contents"]
    assert "The new vectors are in use." in words_of(page)


def test_what_fails_is_in_it(mlxi: Shell, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    mlxi("run", str(folder), "--no-publish")
    (built,) = (path for path in folder.glob("index.faiss.mlxi-*"))
    content = bytearray(built.read_bytes())
    content[-64:] = bytes(64)  # the last vector, of 16 numbers
    built.write_bytes(content)
    assert mlxi("verify", str(folder), "--report", str(page)) == ExitCode.FAILED
    assert "A check failed" in words_of(page)
    assert "These checks failed: finite" in words_of(page)


def test_the_model_is_missed_but_not_needed(mlxi: Shell, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlxi("run", str(folder))

    def gone(name: str) -> FakeEmbeddingBackend:
        raise ModelNotFoundError(f"There is no model `{name}`.", model=name)

    parts = Parts(settings=lambda **values: Settings(**values), embedding_backend=gone)
    assert main(["migrate", "report", str(folder), "--json"], parts) == 0
    told = capsys.readouterr()
    made = json.loads(told.out)
    assert "is not asked: There is no model" in told.err
    assert made["known_items"] is None
    assert made["overlap"]["documents"] == 79  # two of the texts are the same
    assert "no-questions" in [note["code"] for note in made["notes"]]


def test_there_is_none_before_a_migration(mlxi: Shell, folder: Path, tmp_path: Path) -> None:
    assert mlxi("report", str(folder)) == ExitCode.FAILED
    assert "mlxi migrate run" in mlxi.err
    mlxi("run", str(folder))
    assert mlxi("report", str(folder), "--output", str(tmp_path / "nowhere" / "report.html")) == ExitCode.FAILED
    assert "No such file" in mlxi.err


def test_json_is_strict(mlxi: Shell, folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    mlxi("run", str(folder))
    mlxi("report", str(folder), "--json")
    assert json.loads(mlxi.out, parse_constant=refuse)["format"] == 1
