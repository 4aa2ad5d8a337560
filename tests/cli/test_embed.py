"""`mlxi embed`: texts in, vectors out."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult


@pytest.fixture
def backend() -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(dimensions=8)


def _parts(backend: FakeEmbeddingBackend, model: str = "minilm-l6-v2") -> Parts:
    def find(name: str) -> FakeEmbeddingBackend:
        assert name == model
        return backend

    return Parts(settings=lambda **values: Settings(**values), embedding_backend=find)


def test_each_text_becomes_a_line(backend: FakeEmbeddingBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "a text", "Zoë"], _parts(backend)) == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["text"] for record in records] == ["a text", "Zoë"]
    expected = EmbeddingResult.join(backend.stream(["a text", "Zoë"])).vectors
    assert np.array_equal(np.array([record["embedding"] for record in records], np.float32), expected)
    assert captured.err == ""


def test_lines_of_stdin_are_texts_and_become_an_array(
    backend: FakeEmbeddingBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo words\n"))
    options = ["--side", "query", "--dimensions", "4", "--model", "mine", "--output", str(tmp_path / "v.npy")]
    assert main(["embed", *options], _parts(backend, "mine")) == 0
    expected = EmbeddingResult.join(
        backend.stream(["one", "", "two words"], EmbeddingOptions(side="query", dimensions=4))
    )
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected.vectors)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 vectors of 4 dimensions" in captured.err


def test_wrong_usage_is_told(backend: FakeEmbeddingBackend) -> None:
    assert main(["embed", "x", "--output", "v.csv"], _parts(backend)) == ExitCode.WRONG_USAGE
    assert main(["embed", "x", "--side", "left"], _parts(backend)) == ExitCode.WRONG_USAGE
    assert main(["embed", "x", "--dimensions", "9"], _parts(backend)) == ExitCode.FAILED


def test_texts_that_were_cut_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeEmbeddingBackend(dimensions=4)
    long = "word " * (backend.capabilities.max_tokens + 1)
    assert main(["embed", long, "short"], _parts(backend)) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert f"1 texts were longer than {backend.capabilities.max_tokens} tokens" in captured.err
