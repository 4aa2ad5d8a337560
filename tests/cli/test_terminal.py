"""Downloads and tables as a person sees them: real processes, a real terminal, a Hub on this machine."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import REPOSITORY
from tests.cli.screens import COMMAND, end, environ, spawn
from tests.hub import DEMO_FOLDER, LoopbackHub


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.publish_folder(REPOSITORY, DEMO_FOLDER)
        yield hub


def test_a_bar_that_is_stopped_goes_on_where_it_was(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.bytes_per_second = 2_000_000
    child = spawn(hub, tmp_path, "models", "pull", REPOSITORY)
    child.expect_exact("download  5.7 MB in 9 files")
    child.expect(r"━+─+ +2\d %  1\.\d MB of 5\.7 MB  \d\.\d MB/s  \d s left")
    child.sendintr()
    code, said = end(child)
    assert code == 130
    assert re.search(r"Stopped at \d+ %\. The same command goes on from there\.", said)
    hub.bytes_per_second = None
    child = spawn(hub, tmp_path, "models", "pull", REPOSITORY)
    child.expect(r"download  [34]\.\d MB; [12]\.\d MB of it is here already")
    code, said = end(child)
    assert code == 0
    assert "100 %" in said
    assert "every file is as the Hub promised" in said
    size = sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file())
    assert hub.sent_bytes() < size + 1_500_000, "no byte but those in flight was sent twice"


def test_run_asks_before_it_downloads(hub: LoopbackHub, tmp_path: Path) -> None:
    child = spawn(hub, tmp_path, "run", REPOSITORY, "Who are you?")
    child.expect_exact("Download 5.7 MB? [Y/n]")
    child.sendline("n")
    code, said = end(child)
    assert (code, "mlxi models pull" in said) == (3, True)
    assert hub.downloads("*.safetensors") == []
    child = spawn(hub, tmp_path, "run", REPOSITORY, "Who are you?")
    child.expect_exact("Download 5.7 MB? [Y/n]")
    child.sendline("")
    code, said = end(child)
    assert (code, "I am the mlx-integrations demo model" in said) == (0, True)


def test_rm_asks_before_it_deletes(hub: LoopbackHub, tmp_path: Path) -> None:
    subprocess.run(
        [*COMMAND, "models", "pull", REPOSITORY],
        env=environ(hub, tmp_path),
        capture_output=True,
        timeout=60,
        check=True,
    )
    for answer, code, expected in (("", 0, "Nothing was deleted."), ("y", 0, "5.7 MB freed.")):
        child = spawn(hub, tmp_path, "models", "rm", REPOSITORY)
        child.expect_exact("Delete it and free 5.7 MB? [y/N]")
        child.sendline(answer)
        ended, said = end(child)
        assert (ended, expected in said) == (code, True)


@pytest.mark.parametrize("columns", [30, 50, 80, 200])
def test_no_table_is_wider_than_the_terminal(hub: LoopbackHub, tmp_path: Path, columns: int) -> None:
    child = spawn(hub, tmp_path, "models", "search", columns=columns)
    code, said = end(child)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    assert code == 0
    assert len(lines) > 10
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_colour_where_none_is_wanted(hub: LoopbackHub, tmp_path: Path, variables: dict[str, str]) -> None:
    code, said = end(spawn(hub, tmp_path, "models", "list", columns=80, **variables))
    assert (code, "demo" in said) == (0, True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


def test_a_reader_that_goes_away_is_not_an_accident(hub: LoopbackHub, tmp_path: Path) -> None:
    """As in `mlxi models search | head -n 1`."""
    for argv in (["models", "search"], ["models", "search", "--json"], ["config", "show"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*COMMAND, *argv],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environ(hub, tmp_path),
            timeout=60,
            check=False,
        )
        os.close(writing)
        assert (done.returncode, b"Traceback" in done.stderr) == (1, False)


def test_an_imported_model_is_found_by_its_name(hub: LoopbackHub, tmp_path: Path) -> None:
    variables = environ(hub, tmp_path, HF_HUB_OFFLINE="1")
    command = [*COMMAND, "models", "import", str(DEMO_FOLDER), "--bits", "8", "--name", "mine"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=True)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    assert "Try it: mlxi run mine" in done.stderr
    answer = subprocess.run(
        [*COMMAND, "run", "mine", "Who are you?"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (answer.returncode, "demo model" in answer.stdout) == (0, True)
