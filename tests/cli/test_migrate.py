"""`mlxi migrate`: a store's way to another model, and back."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.cli.migrate.bars import RowsDone
from mlx_integrations.cli.migrate.printing import amount
from mlx_integrations.cli.parts import Parts
from mlx_integrations.cli.progress import Meter, ProgressDisplay
from mlx_integrations.errors import StoreError
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import contents_of, save_faiss, texts


class Shell:
    """Runs commands in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.models: list[str] = []
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        def find(name: str) -> FakeEmbeddingBackend:
            self.models.append(name)
            return FakeEmbeddingBackend(model_id=name, dimensions=16, seed=len(name), max_tokens=5)

        parts = Parts(settings=lambda **values: Settings(**values), embedding_backend=find)
        code = main(["migrate", *arguments], parts)
        captured = self._capture.readouterr()
        self.out, self.err = captured.out, captured.err
        return code

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def mlxi(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_faiss(tmp_path / "store", texts(30))


def test_the_whole_way(mlxi: Shell, folder: Path) -> None:
    before, address = contents_of(folder), str(folder)
    assert mlxi("plan", address) == 0
    assert "30 of 30 texts have more than 5 tokens" in mlxi.out
    assert "16 dimensions of `minilm-l6-v2`, index Flat" in mlxi.out
    assert contents_of(folder.parent) == {f"store/{name}": content for name, content in before.items()}
    assert mlxi("status", address) == 0
    assert "No migration" in mlxi.err
    assert mlxi("run", address, "--no-publish") == 0
    assert "in use    the old vectors" in mlxi.out
    assert mlxi("verify", address) == 0
    assert "30 of 30 rows" in mlxi.out
    assert mlxi("publish", address) == 0
    assert "in use    the new vectors" in mlxi.out
    assert mlxi("rollback", address) == 0
    assert {name: content for name, content in contents_of(folder).items() if name in before} == before
    assert mlxi("run", address) == 0
    assert mlxi("status", address, "--json") == 0
    assert (mlxi.json["phase"], mlxi.json["in_use"], mlxi.json["embedded"]) == ("published", "new", 30)
    assert mlxi("gc", address) == ExitCode.WRONG_USAGE
    assert "--yes" in mlxi.err
    assert mlxi("gc", address, "--yes") == 0
    assert sorted(contents_of(folder)) == ["index.faiss", "index.pkl", "mlxi-embedding.json"]
    assert mlxi("gc", address, "--yes") == 0
    assert "nothing to delete" in mlxi.err


def test_models_and_options_are_passed_on(mlxi: Shell, folder: Path) -> None:
    address = str(folder)
    options = ("--model", "other-model", "--dimensions", "8", "--long-texts", "mean", "--index", "HNSW8")
    assert mlxi("plan", address, *options, "--json") == 0
    assert (mlxi.json["index"], mlxi.json["target"]["dimensions"]) == ("HNSW8", 8)
    assert mlxi("run", address, *options, "--json") == 0
    assert (mlxi.json["target"]["model"], mlxi.json["target"]["dimensions"]) == ("other-model", 8)
    assert (mlxi.json["long_texts"], mlxi.json["truncated"]) == ("mean", 0)
    assert mlxi("verify", address, "--json") == 0  # with the model and the options of the run
    assert all(check["is_passed"] for check in mlxi.json)
    assert set(mlxi.models) == {"other-model"}


def test_an_index_that_there_is_not_is_refused_before_anything_is_embedded(mlxi: Shell, folder: Path) -> None:
    assert mlxi("run", str(folder), "--index", "Nothing") == ExitCode.FAILED
    assert "no index of the kind `Nothing`" in mlxi.err
    assert mlxi("status", str(folder), "--json") == 0
    assert mlxi.json is None
    assert mlxi("run", "--bulk", str(folder), "--index", "Nothing") == ExitCode.FAILED
    assert mlxi("run", str(folder), "--index", "HNSW8") == 0  # with no word about how it was begun


def test_a_store_that_was_changed_before_publishing_is_told_by_every_verb(mlxi: Shell, folder: Path) -> None:
    address = str(folder)
    assert mlxi("run", address, "--no-publish") == 0
    save_faiss(folder, texts(33))
    for verb in ("verify", "report", "publish"):
        assert mlxi(verb, address) == ExitCode.FAILED
        assert "was changed" in mlxi.err and "it takes in what has changed" in mlxi.err
    assert mlxi("run", address) == 0
    assert "embedded  33 of 33 rows" in mlxi.out
    assert mlxi("status", "--bulk", address) == 0
    assert "33 of 33" in mlxi.out


def test_a_check_that_fails_is_marked(mlxi: Shell, folder: Path) -> None:
    assert mlxi("run", str(folder), "--no-publish") == 0
    assert "does not hold" not in mlxi.out
    (built,) = folder.glob("index.faiss.mlxi-*")
    content = bytearray(built.read_bytes())
    content[-4:] = content[-8:-4]
    built.write_bytes(content)
    assert mlxi("verify", str(folder)) == ExitCode.FAILED
    assert mlxi("status", str(folder)) == 0
    assert "alignment: does not hold: " in mlxi.out
    assert "dimensions: 16\n" in mlxi.out


def test_a_store_that_has_new_documents_has_nothing_to_be_compared_with(mlxi: Shell, folder: Path) -> None:
    assert mlxi("run", str(folder)) == 0
    save_faiss(folder, texts(31), dimensions=16)
    assert mlxi("verify", str(folder)) == ExitCode.FAILED
    assert "was changed since its new vectors are in use" in mlxi.err and "mlxi migrate status" in mlxi.err
    assert mlxi("status", str(folder)) == 0
    assert "does not hold" not in mlxi.out


@pytest.mark.parametrize("verb", ["verify", "publish", "rollback", "gc", "status"])
def test_a_verb_without_a_run_leaves_nothing_behind(mlxi: Shell, folder: Path, verb: str) -> None:
    assert mlxi(verb, str(folder)) in (0, ExitCode.FAILED)
    assert not (folder.parent / ".mlxi-migrate").exists()


def test_another_model_is_refused_until_it_is_told_to_start_afresh(mlxi: Shell, folder: Path) -> None:
    address = str(folder)
    mlxi("run", address, "--no-publish")
    assert mlxi("run", address, "--model", "another") == ExitCode.FAILED
    assert "--restart" in mlxi.err
    assert mlxi("run", address, "--model", "another", "--restart") == 0


def test_what_is_no_store_is_told(mlxi: Shell, tmp_path: Path) -> None:
    for address, told in ((tmp_path, "no vector store"), (tmp_path / "nothing", "nothing at")):
        assert mlxi("plan", str(address)) == ExitCode.FAILED
        assert told in mlxi.err
        assert mlxi.models == []


def test_an_index_of_another_name_is_suggested(mlxi: Shell, folder: Path) -> None:
    for ending in ("faiss", "pkl"):
        (folder / f"index.{ending}").rename(folder / f"notes.{ending}")
    assert mlxi("plan", str(folder)) == ExitCode.FAILED
    assert "`notes`: say which with `--name`" in mlxi.err
    assert mlxi("run", str(folder), "--name", "notes", "--json") == 0
    assert mlxi.json["in_use"] == "new"


def test_faults_of_a_store_are_shown_and_block(mlxi: Shell, tmp_path: Path) -> None:
    address = str(save_faiss(tmp_path / "store", ["a", " ", "b"]))
    assert mlxi("plan", address) == 0
    assert "blocks" in mlxi.out and "doc-00001" in mlxi.out
    assert "hint: `run` stops" in mlxi.err and "--accept" in mlxi.err
    assert mlxi("plan", address, "--json") == 0
    assert mlxi.json["is_blocked"] is True
    assert mlxi("run", address) == ExitCode.FAILED
    assert "no text" in mlxi.err


def test_what_was_accepted_is_shown_with_examples(mlxi: Shell, tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    contents = {str(number): "" if number < 12 else "text" for number in range(15)}
    entries = {name: {"id": name, "vector": [1.0], "text": text, "metadata": {}} for name, text in contents.items()}
    path.write_text(json.dumps(entries))
    assert mlxi("run", str(path)) == ExitCode.FAILED
    for verb in (("run", "--accept"), ("status",)):
        assert mlxi(*verb, str(path)) == 0
        assert "accepted      There is no text for them, and so nothing to embed. (12, such as 0, 1, 2" in mlxi.out
        assert "not embedded  12\n              0: its text is empty" in mlxi.out
        assert "              and 2 more\n" in mlxi.out
    assert mlxi("report", str(path)) == 0
    assert "accepted    There is no text for them, and so nothing to embed. (12, such as 0, 1, 2" in mlxi.out
    assert "no vector   7: its text is empty\n            and 2 more" in mlxi.out


def test_a_disk_that_is_full_is_told(mlxi: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10, used=0, free=10))
    assert mlxi("plan", str(folder)) == 0
    assert "blocks    There is not enough room on the disk." in mlxi.out


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_counts_rows() -> None:
    stream, moments = Terminal(), iter([0.0, 2.0, 4.0])
    meter = Meter(amount, " rows")
    with ProgressDisplay(stream, width=lambda: 120, clock=lambda: next(moments), meter=meter) as display:
        for done in (1024, 3072):
            display.update(RowsDone(done_bytes=done, total_bytes=10_240))
    assert "30 %  3,072 of 10,240  1,024 rows/s  7 s left" in stream.getvalue()


def test_rows_that_are_counted_anew_have_no_speed() -> None:
    meter = Meter(amount, " rows")
    for done, now in ((4096, 0.0), (1024, 2.0)):
        meter.feed(RowsDone(done_bytes=done, total_bytes=10_240), now)
    assert meter.parts() == [" 10 %", "1,024 of 10,240"]


def test_a_bar_of_what_was_not_begun_leaves_no_trace() -> None:
    def fail(display: ProgressDisplay) -> None:
        display.update(RowsDone(done_bytes=0, total_bytes=100))
        raise StoreError("It has faults.", store="x")

    stream = Terminal()
    with pytest.raises(StoreError), ProgressDisplay(stream, width=lambda: 60, meter=Meter(amount, " rows")) as display:
        fail(display)
    _, drawn, erased, after = stream.getvalue().split("\r")
    assert "0 of 100" in drawn and erased == " " * len(drawn) and after == ""


def test_ctrl_c_leaves_a_run_to_go_on_with(
    mlxi: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: ProgressDisplay, progress: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressDisplay, "update", interrupted)
        assert mlxi("run", str(folder)) == ExitCode.INTERRUPTED
    assert "goes on from here" in mlxi.err
    assert mlxi("run", str(folder), "--json") == 0
    assert mlxi.json["in_use"] == "new"


def test_ids_of_a_store_do_nothing_to_a_terminal(mlxi: Shell, tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    entries: dict[str, dict[str, Any]] = {
        name: {"id": name, "vector": [1.0, 2.0], "metadata": {}} for name in ("half \ud800 \x1b[2J", "whole")
    }
    entries["whole"]["text"] = "A text."
    path.write_text(json.dumps(entries))
    assert mlxi("plan", str(path)) == 0
    assert "half \\ud800 \\u001b[2J" in mlxi.out
    assert mlxi("plan", str(path), "--json") == 0
    assert mlxi.json["info"]["findings"][0]["examples"] == ["half \ud800 \x1b[2J"]
    assert mlxi("run", str(path), "--accept", "--json") == 0
    assert mlxi.json["unembedded"] == 1
    assert mlxi("status", str(path)) == 0
    assert "\x1b" not in mlxi.out + mlxi.err
    mlxi.out.encode()
