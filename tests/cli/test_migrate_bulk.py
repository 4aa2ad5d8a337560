"""`mlxi migrate scan` and `--bulk`: many stores found, shown, migrated, taken back, and told to their projects."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.migration.contract import documents
from tests.cli import bulk_command
from tests.cli.test_migrate import Shell
from tests.migration.stores import contents_of, save_faiss, texts
from tests.migration.test_in_memory import TestInMemory as InMemory
from tests.migration.test_llama_index_simple import TestLlamaIndexSimple as LlamaIndexSimple

CURSOR_UP = re.compile(r"\x1b\[(\d*)A")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLXI_CONFIG", raising=False)


@pytest.fixture
def mlxi(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bulk") / "projects"
    save_faiss(folder / "customer-a" / "data" / "index", texts(40), dimensions=1536)
    InMemory().make(folder / "customer-b", documents(30))
    LlamaIndexSimple().make(folder / "customer-c" / "storage", documents(20))
    for name in ("customer-a", "customer-b", "customer-c"):
        (folder / name / "requirements.txt").write_text("")
    return folder


@pytest.fixture
def projects(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "projects"))


@pytest.fixture
def damaged(projects: Path) -> Path:
    """The same projects, one of them with an index that was cut off."""
    index = save_faiss(projects / "broken", texts(5)) / "index.faiss"
    index.write_bytes(index.read_bytes()[:-7])
    return projects


class Screen:
    """What stands on a terminal after all that was written to it: text, colours, and lines that are written again."""

    def __init__(self, written: str) -> None:
        self._lines: list[list[str]] = [[]]
        row = column = at = 0
        text = COLOURS.sub("", written)
        while at < len(text):
            if up := CURSOR_UP.match(text, at):
                row, at = row - int(up[1] or 1), up.end()
                continue
            if text[at] == "\r":
                column = 0
            elif text[at] == "\n":
                row += 1
                self._lines += [[] for _ in range(row + 1 - len(self._lines))]
            else:
                line = self._lines[row]
                line += [" "] * (column + 1 - len(line))
                line[column] = text[at]
                column += 1
            at += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self._lines]


@pytest.fixture
def in_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Screen, str]]:
    """Runs a verb in a terminal of some columns: its exit code, what is on the screen, and all that was written."""

    def run(columns: int, *arguments: str, pause: float = 0.0) -> tuple[int, Screen, str]:
        outer, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
        written: list[bytes] = []

        def listen() -> None:
            with contextlib.suppress(OSError):  # how Linux says that the other end is closed
                while part := os.read(outer, 65_536):
                    written.append(part)

        listener = threading.Thread(target=listen)
        listener.start()
        with os.fdopen(inner, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
            for name in ("stdout", "stderr"):
                patch.setattr(sys, name, terminal)
            patch.setenv("TERM", "xterm-256color")
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(bulk_command, "PAUSE", pause)
            code = main(["migrate", *arguments], bulk_command.PARTS)
        listener.join(timeout=60)
        os.close(outer)
        text = b"".join(written).decode()
        return code, Screen(text), text

    return run


Terminal = Callable[..., tuple[int, Screen, str]]


# Scanning


def test_stores_are_listed_with_what_is_known_of_them(mlxi: Shell, damaged: Path) -> None:
    before = contents_of(damaged)
    assert mlxi("scan", str(damaged)) == 0
    assert contents_of(damaged) == before
    found = mlxi.out
    assert "customer-a/data/index" in found and "1536" in found and "Flat" in found
    assert "langchain-in-memory" in found and "llama-index-simple" in found
    assert "broken" in found and "not readable" in found and "cut off" in found
    assert "3 stores, 90 rows." in mlxi.err


def test_a_scan_is_json_for_programs(mlxi: Shell, damaged: Path) -> None:
    assert mlxi("scan", str(damaged), "--json") == 0
    by_name = {Path(one["address"]).name: one for one in mlxi.json}
    assert by_name["index"]["count"] == 40 and by_name["index"]["dimensions"] == [1536]
    assert by_name["broken"]["fault"] and by_name["broken"]["health"] == ["not readable"]


def test_nothing_found_is_said(mlxi: Shell, tmp_path: Path) -> None:
    assert mlxi("scan", str(tmp_path)) == 0
    assert mlxi.out == "" and "No vector store was found" in mlxi.err
    assert mlxi("scan", str(tmp_path / "nothing")) == ExitCode.FAILED


@pytest.mark.parametrize("columns", [80, 40])
def test_a_scan_fits_the_terminal(damaged: Path, columns: int, in_terminal: Terminal) -> None:
    code, screen, _ = in_terminal(columns, "scan", str(damaged))
    assert code == 0
    assert max(map(len, screen.lines)) <= columns
    text = "\n".join(screen.lines)
    for told in ("rows", "health", "langchain-faiss", "1536", "not readable"):
        assert told in text


# Many stores


def test_the_whole_way_for_many_stores(mlxi: Shell, projects: Path) -> None:
    before, address = contents_of(projects), str(projects)
    assert mlxi("plan", "--bulk", address) == 0
    assert "3 of 3 stores are to be migrated: 90 rows" in mlxi.err
    assert contents_of(projects) == before
    assert mlxi("status", "--bulk", address) == 0
    assert mlxi.out.count("no migration") == 3
    assert mlxi("run", "--bulk", address, "--no-publish") == 0
    assert mlxi.models == ["minilm-l6-v2"] * 2  # once for the plan, once for all stores
    assert mlxi.out.count("built, not in use") == 3
    assert mlxi("verify", "--bulk", address) == 0
    assert mlxi("publish", "--bulk", address) == 0
    assert mlxi("run", "--bulk", address) == 0
    assert mlxi.out.count("was done before") == 3
    assert (projects / "customer-a" / "mlxi.toml").read_text() == '[embedding]\ndefault = "minilm-l6-v2"\n'
    assert mlxi("status", "--bulk", address, "--json") == 0
    assert [one["result"]["phase"] for one in mlxi.json["stores"]] == ["published"] * 3
    assert mlxi("rollback", "--bulk", address) == 0
    assert "no longer set" in mlxi.err and not list(projects.rglob("mlxi.toml"))
    assert mlxi("gc", "--bulk", address) == ExitCode.WRONG_USAGE
    assert "3 stores" in mlxi.err and "--yes" in mlxi.err
    assert mlxi("gc", "--bulk", address, "--yes") == 0
    assert contents_of(projects) == before


def test_a_fault_is_listed_with_the_command_that_goes_on(mlxi: Shell, damaged: Path) -> None:
    assert mlxi("run", "--bulk", str(damaged), "--model", "other") == ExitCode.FAILED
    assert "cut off" in mlxi.err
    assert f"mlxi migrate run {damaged}/broken --model other" in mlxi.err
    assert len(list(damaged.rglob("mlxi.toml"))) == 3
    assert mlxi("run", "--bulk", str(damaged), "--model", "other", "--json") == ExitCode.FAILED
    assert [one["state"] for one in mlxi.json["stores"]] == ["failed", "was done", "was done", "was done"]
    assert {one["state"] for one in mlxi.json["projects"]} == {"there"}


def test_what_is_left_out_of_each_store_is_told(mlxi: Shell, tmp_path: Path) -> None:
    contents = {"a": "x", "b": ""}
    entries = {name: {"id": name, "vector": [1.0], "text": text, "metadata": {}} for name, text in contents.items()}
    (tmp_path / "gaps.json").write_text(json.dumps(entries))
    InMemory().make(tmp_path / "whole", documents(3))
    address = str(tmp_path)
    assert mlxi("run", "--bulk", address) == ExitCode.FAILED
    for verb in (("run", "--accept"), ("status",)):
        assert mlxi(*verb, "--bulk", address) == 0
        assert "gaps.json: not embedded: 1, such as b: its text is empty" in mlxi.err
        assert "gaps.json: accepted: There is no text for them, and so nothing to embed. (1, such as b)" in mlxi.err
        assert "whole/notes.json: not" not in mlxi.err and "whole/notes.json: acc" not in mlxi.err


def test_a_manifest_says_what_becomes_of_each(mlxi: Shell, projects: Path) -> None:
    manifest = projects / "stores.toml"
    manifest.write_text(
        'model = "for-all"\n[[stores]]\naddress = "customer-a/data/index"\n'
        '[[stores]]\naddress = "customer-b/notes.json"\nmodel = "its-own"\ndimensions = 8\n'
    )
    assert mlxi("run", "--bulk", str(manifest)) == 0
    assert mlxi("scan", str(projects), "--json") == 0
    assert [one["dimensions"] for one in mlxi.json] == [[16], [8], [24]]
    assert 'default = "its-own"\ndimensions = 8\n' in (projects / "customer-b" / "mlxi.toml").read_text()
    manifest.write_text('[[stores]]\nadress = "customer-a"\n')
    assert mlxi("run", "--bulk", str(manifest)) == ExitCode.FAILED
    assert "line 2" in mlxi.err and "Did you mean `address`?" in mlxi.err


def test_another_choice_of_a_project_is_not_replaced_in_silence(mlxi: Shell, projects: Path) -> None:
    config = projects / "customer-a" / "mlxi.toml"
    config.write_text('[embedding]\ndefault = "mine"\n')
    assert mlxi("run", "--bulk", str(projects)) == 0
    assert "says `mine`" in mlxi.err and "mine" in config.read_text()
    assert mlxi("run", "--bulk", str(projects), "--remember") == 0
    assert "minilm-l6-v2" in config.read_text() and str(config) in mlxi.err
    assert mlxi("rollback", "--bulk", str(projects)) == 0
    assert "`mine` again" in mlxi.err and config.read_text() == '[embedding]\ndefault = "mine"\n'


def test_a_project_whose_stores_have_several_models_is_told_nothing(mlxi: Shell, projects: Path) -> None:
    save_faiss(projects / "customer-b" / "index", texts(5))
    (projects / "stores.toml").write_text(
        '[[stores]]\naddress = "customer-b/notes.json"\nmodel = "a"\n'
        '[[stores]]\naddress = "customer-b/index"\nmodel = "b"\n'
    )
    assert mlxi("run", "--bulk", str(projects / "stores.toml")) == 0
    assert "several models" in mlxi.err and not list(projects.rglob("mlxi.toml"))


def test_projects_can_be_left_alone(mlxi: Shell, projects: Path) -> None:
    assert mlxi("run", "--bulk", str(projects), "--no-remember") == 0
    assert not list(projects.rglob("mlxi.toml"))


def test_one_store_is_remembered_where_that_is_asked_for(mlxi: Shell, projects: Path) -> None:
    address, config = str(projects / "customer-a" / "data" / "index"), projects / "customer-a" / "mlxi.toml"
    assert mlxi("run", address) == 0
    assert not config.exists()
    assert mlxi("run", address, "--remember") == 0
    assert config.read_text() == '[embedding]\ndefault = "minilm-l6-v2"\n'
    assert mlxi("rollback", address) == 0
    assert not config.exists()


def test_a_configuration_that_cannot_be_read_is_told_and_does_no_harm(mlxi: Shell, projects: Path) -> None:
    (projects / "customer-a" / "mlxi.toml").write_text("[embedding\n")
    assert mlxi("run", "--bulk", str(projects)) == 0
    assert "could not be written" in mlxi.err


def test_only_those_of_a_name_can_be_meant(mlxi: Shell, projects: Path) -> None:
    usual = projects / "customer-c" / "storage" / "default__vector_store.json"
    shutil.copy(usual, usual.with_name("notes__vector_store.json"))
    assert mlxi("status", "--bulk", str(projects), "--name", "notes", "--json") == 0
    assert [one["name"] for one in mlxi.json["stores"]] == ["notes"]
    assert mlxi("run", "--bulk", str(projects), "--name", "nots") == ExitCode.FAILED
    assert "called `nots`" in mlxi.err and "There are `notes`." in mlxi.err
    assert mlxi("run", "--bulk", str(projects / "customer-a"), "--name", "notes") == ExitCode.FAILED
    assert "leave out `--name`" in mlxi.err


def test_what_makes_no_sense_for_many_is_refused(mlxi: Shell, projects: Path) -> None:
    assert mlxi("run", "--bulk", str(projects), "--to", "elsewhere") == ExitCode.WRONG_USAGE
    assert mlxi("status", "--bulk", str(projects / "nothing")) == ExitCode.FAILED
    (projects / "empty").mkdir()
    assert mlxi("status", "--bulk", str(projects / "empty")) == 0
    assert "No vector store was found" in mlxi.err


@pytest.mark.parametrize("columns", [80, 40])
def test_each_store_has_a_bar_and_all_have_one(damaged: Path, columns: int, in_terminal: Terminal) -> None:
    code, screen, written = in_terminal(columns, "run", "--bulk", str(damaged), pause=0.12)
    assert code == ExitCode.FAILED
    ends = screen.lines
    done = next(at for at, line in enumerate(ends) if line.startswith("4 of 4 stores"))
    assert [("failed" in line, "done" in line) for line in ends[done - 4 : done]] == [(True, False)] + [
        (False, True)
    ] * 3
    assert "100 %" in ends[done]
    assert max(map(len, ends[: done + 1])) <= columns
    table = [line for line in ends[done + 1 :] if line.startswith(("store ", "broken", "customer"))]
    assert len(table) == 5 and max(map(len, table)) <= columns
    if columns == 80:
        assert "1536 → 16" in "\n".join(table) and "rows/s" in written


@pytest.mark.parametrize("columns", [80, 50])
def test_one_store_has_a_bar_before_its_first_rows_are_embedded(
    projects: Path, columns: int, in_terminal: Terminal
) -> None:
    address = str(projects / "customer-b" / "notes.json")
    code, screen, written = in_terminal(columns, "run", address)
    assert code == 0 and "0 %  0 of 30" in written
    assert "100 %  30 of 30" in screen.lines[0]
    assert max(map(len, screen.lines)) <= columns
    assert " ".join(line.strip() for line in screen.lines).count("the least cosine is 1.000000") == 1
    _, _, written = in_terminal(columns, "run", address)  # it is done
    assert "\r" not in written.replace("\r\n", "")
    broken = save_faiss(projects / "gaps", ["a", " "])
    code, screen, _ = in_terminal(columns, "run", str(broken))
    assert code == ExitCode.FAILED
    assert screen.lines[0].startswith("mlxi: ") and "has faults" in screen.lines[0]


def test_without_a_terminal_there_are_lines(mlxi: Shell, projects: Path) -> None:
    assert mlxi("run", "--bulk", str(projects), "--json") == 0
    assert [one["state"] for one in mlxi.json["stores"]] == ["done"] * 3
    assert "\x1b" not in mlxi.err and "\r" not in mlxi.err
    assert "customer-b/notes.json: 30 rows  done" in mlxi.err


def test_ctrl_c_leaves_the_last_state_and_the_way_on(projects: Path, in_terminal: Terminal) -> None:
    environment = {**os.environ, "TERM": "xterm-256color", "MLXI_TEST_PAUSE": "2"}
    root = str(Path(__file__).parent.parent.parent)
    command = ["-W", "ignore", "-m", "tests.cli.bulk_command", "run", "--bulk", str(projects)]
    child: Any = pexpect.spawn(
        sys.executable, command, env=environment, cwd=root, encoding="utf-8", timeout=60, dimensions=(40, 80)
    )
    child.expect("0 of 3 stores")
    child.sendintr()
    child.expect("The same command goes on")
    child.expect(pexpect.EOF)
    child.wait()  # `close` hangs up on a process that has said all and is not yet gone
    child.close()
    assert child.exitstatus == ExitCode.INTERRUPTED
    code, screen, _ = in_terminal(80, "run", "--bulk", str(projects))
    assert code == 0 and "3 of 3 stores" in "\n".join(screen.lines)
