"""The wizard as people go through it: a real terminal, a Hub on this machine, real downloads and real models."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.conftest import REPOSITORY
from tests.cli.screens import end, plain, run, spawn
from tests.hub import DEMO_FOLDER, LoopbackHub

GATED, BROKEN, VAST = "test-org/gated", "test-org/broken", "test-org/vast"
VAST_FILES = ("added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json", "vocab.json")
MODELS = f"""
[[models]]
id = "tiny"
name = "Tiny"
kind = "chat"
repo_id = "{REPOSITORY}"
weight_bytes = 5_600_000
"""
CONFIG = """# Written by hand.
offline = false

[models]
context_tokens = 4096  # short conversations
"""
AS_THEY_WERE = "Your settings are as they were"


class VastFile(bytes):
    """A file of two terabytes, as far as anybody is told."""

    def __len__(self) -> int:
        return 2 * 10**12


@pytest.fixture(scope="module")
def published() -> Iterator[LoopbackHub]:
    files = {path.name: path.read_bytes() for path in DEMO_FOLDER.rglob("*") if path.is_file()}
    config = {**json.loads(files["config.json"]), "hidden_size": 96}
    with LoopbackHub() as hub:
        hub.publish(REPOSITORY, files)
        hub.publish(GATED, files, access="gated")
        hub.publish(BROKEN, {**files, "config.json": json.dumps(config).encode()})
        hub.publish(VAST, {**files, **{name: VastFile(b"{}") for name in VAST_FILES}})
        yield hub


@pytest.fixture
def hub(published: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    """The Hub, at full speed, and one short name for what is on it."""
    published.bytes_per_second = None
    published.requests.clear()
    (tmp_path / "mlxi").mkdir()
    (tmp_path / "mlxi" / "models.toml").write_text(MODELS)
    return published


def start(hub: LoopbackHub, home: Path, *argv: str, **options: Any) -> Any:
    return spawn(hub, home, "setup", *argv, XDG_CONFIG_HOME=str(home), **options)


def answer(child: Any, question: str, text: str = "") -> None:
    child.expect_exact(question)
    child.sendline(text)


def config(home: Path) -> str | None:
    """What the configuration file holds; `None` if there is none."""
    path = home / "mlxi" / "config.toml"
    return path.read_text() if path.exists() else None


def test_from_nothing_to_an_answer(hub: LoopbackHub, tmp_path: Path) -> None:
    child = start(hub, tmp_path)
    child.expect(r"models may +use|of which models")
    answer(child, "Chat model [", "tiny")
    child.expect_exact("download  5.7 MB in 9 files")
    answer(child, "Embedding model [1]:")
    child.expect_exact("OPENAI_API_KEY")
    answer(child, "Enter goes on")
    answer(child, "Download 5.7 MB?")
    child.expect_exact("every file is as the Hub promised")
    child.expect_exact("Trying tiny: twenty tokens")
    child.expect(r"\d+ tokens, \d+ a second; \d+\.\d s with loading")
    child.expect_exact("Trying minilm-l6-v2: one vector")
    child.expect_exact("A vector of 384 dimensions")
    child.expect_exact('+default = "tiny"')
    assert config(tmp_path) is None, "nothing is written before the last answer"
    answer(child, "Write this?")
    code, said = end(child)
    assert (code, "Ready. Next:" in said) == (0, True)
    assert config(tmp_path) == '[models]\ndefault = "tiny"\n\n[embedding]\ndefault = "minilm-l6-v2"\n'
    talk = run(hub, tmp_path, "chat", "Who are you?", XDG_CONFIG_HOME=str(tmp_path))
    assert "I am the mlx-integrations demo model" in talk.stdout


STEPS = (
    ("Chat model [", "tiny"),
    ("Embedding model [", "s"),
    ("Enter goes on", ""),
    ("Download 5.7 MB?", ""),
    ("Write this?", ""),
)


@pytest.mark.parametrize(("passed", "way"), [(0, "q"), (1, "ctrl-d"), (2, "ctrl-c"), (3, "q"), (4, "n")])
def test_every_step_can_be_left(hub: LoopbackHub, tmp_path: Path, passed: int, way: str) -> None:
    child = start(hub, tmp_path)
    for question, text in STEPS[:passed]:
        answer(child, question, text)
    child.expect_exact(STEPS[passed][0])
    if way == "ctrl-c":
        child.sendintr()
    elif way == "ctrl-d":
        child.sendeof()
    else:
        child.sendline(way)
    code, said = end(child)
    assert (code, AS_THEY_WERE in plain(said)) == (130 if way == "ctrl-c" else 0, True)
    assert config(tmp_path) is None
    assert bool(hub.downloads("*.safetensors")) == (passed > 3)


def test_a_download_that_is_interrupted_goes_on_in_the_next_run(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.bytes_per_second = 2_000_000
    child = start(hub, tmp_path, "--model", "tiny")
    answer(child, "Embedding model [", "s")
    answer(child, "Enter goes on")
    answer(child, "Download 5.7 MB?")
    child.expect(r"━+─+ +2\d %  1\.\d MB of 5\.7 MB  \d\.\d MB/s  \d s left")
    child.sendintr()
    code, said = end(child)
    assert code == 130
    assert re.search(r"Stopped at \d+ %\.", said)
    assert f"Left. {AS_THEY_WERE}; `mlxi setup` goes on with what is there." in plain(said)
    assert config(tmp_path) is None
    hub.bytes_per_second = None
    child = start(hub, tmp_path)
    child.expect(r"Downloads that were interrupted.*> (\d).*tiny.*of it are here")
    answer(child, f"Chat model [{child.match[1]}]:")
    child.expect(r"download  [34]\.\d MB; [12]\.\d MB of it is here already")
    answer(child, "Embedding model [", "s")
    answer(child, "Enter goes on")
    child.expect(r"Download [34]\.\d MB\?")
    child.sendline("")
    answer(child, "Write this?")
    assert end(child)[0] == 0
    size = sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file())
    assert hub.sent_bytes() < size + 1_500_000, "no byte but those in flight was sent twice"


def test_without_questions_it_does_what_it_is_told_and_keeps_the_rest_of_the_file(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    (tmp_path / "mlxi" / "config.toml").write_text(CONFIG)
    done = run(hub, tmp_path, "setup", "--yes", "--model", "tiny", XDG_CONFIG_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not re.search(r"\[[yY]/[nN]\]|\]: ", done.stderr), "no question"
    assert re.search(r"\d+ tokens, \d+ a second", done.stderr)
    assert config(tmp_path) == CONFIG + 'default = "tiny"\n'
    again = run(hub, tmp_path, "setup", "--yes", "--model", "tiny", XDG_CONFIG_HOME=str(tmp_path))
    assert (again.returncode, "says so already" in again.stderr) == (0, True)
    assert len(hub.downloads("*.safetensors")) == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [((), "mlxi setup --yes --model NAME"), (("--yes",), "Name the model"), (("--model", "tiny"), "--yes")],
    ids=" ".join,
)
def test_without_a_terminal_it_refuses_before_it_does_anything(
    hub: LoopbackHub, tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    done = run(hub, tmp_path, "setup", *argv, XDG_CONFIG_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert (config(tmp_path), hub.requests) == (None, [])


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("tony", 3, "hint: Did you mean"),
        (GATED, 1, "hint: Accept them at"),
        (VAST, 4, "hint: Choose a smaller model"),
        (BROKEN, 1, "does not run here"),
        (REPOSITORY, 6, "hint: "),
    ],
    ids=["misspelt", "gated", "no room", "wrong weights", "wrong bytes"],
)
def test_without_questions_a_failure_is_a_sentence_a_hint_and_a_code(
    hub: LoopbackHub, tmp_path: Path, model: str, code: int, said: str
) -> None:
    if code == 6:
        hub.corrupt(f"/{REPOSITORY}/*.safetensors", times=2)
    done = run(hub, tmp_path, "setup", "--yes", "--model", model, XDG_CONFIG_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert f"{AS_THEY_WERE}." in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert config(tmp_path) is None


def test_offline_it_takes_what_is_here_and_nothing_else(hub: LoopbackHub, tmp_path: Path) -> None:
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    refused = run(hub, tmp_path, "setup", "--yes", "--offline", "--model", "tiny", **variables)
    assert (refused.returncode, f"{AS_THEY_WERE}." in refused.stderr) == (5, True)
    done = run(hub, tmp_path, "setup", "--yes", "--offline", "--model", "demo", **variables)
    assert (done.returncode, hub.requests) == (0, [])
    child = start(hub, tmp_path, "--offline")
    child.expect_exact("The network is switched off")
    answer(child, "Chat model [", "q")
    assert ("To download" in plain(end(child)[1]), hub.requests) == (False, [])


def test_there_is_a_way_on_after_every_failure(hub: LoopbackHub, tmp_path: Path) -> None:
    child = start(hub, tmp_path)
    answer(child, "Chat model [", "tony")
    child.expect_exact("Did you mean")
    answer(child, "Chat model [", GATED)
    child.expect_exact("Accept them at")
    answer(child, "Chat model [", VAST)
    answer(child, "Embedding model [", "s")
    answer(child, "Enter goes on")
    child.expect(r"The downloads need \d+\.0 TB")
    child.expect_exact("What now?")
    answer(child, "[a]:", "c")
    answer(child, "Chat model [", BROKEN)
    answer(child, "Embedding model [", "s")
    answer(child, "Download 5.7 MB?")
    child.expect_exact(f"`{BROKEN}` does not run here")
    answer(child, "[a]:", "c")
    hub.corrupt(f"/{REPOSITORY}/*.safetensors", times=2)
    answer(child, "Chat model [", "tiny")
    answer(child, "Embedding model [", "s")
    answer(child, "Download 5.7 MB?")
    child.expect_exact("What now?")
    answer(child, "[a]:", "a")
    child.expect(r"Download 5\.\d MB\?")
    child.sendline("y")
    answer(child, "Write this?")
    code, said = end(child)
    assert (code, "Ready. Next:" in said) == (0, True)
    assert config(tmp_path) == '[models]\ndefault = "tiny"\n'


def test_a_model_that_takes_its_process_down_does_not_take_the_wizard_with_it(hub: LoopbackHub, tmp_path: Path) -> None:
    """As the system does when memory runs out."""
    child = start(hub, tmp_path, "--model", "demo")
    answer(child, "Embedding model [", "s")
    answer(child, "Enter goes on")
    child.expect_exact("Trying demo")
    trials: list[psutil.Process] = []
    while not trials:
        trials = psutil.Process(child.pid).children()
    trials[0].kill()
    child.expect_exact("`demo` does not run here: the process was ended by SIGKILL")
    child.expect(r"Most likely it takes more memory than there\s+is")
    answer(child, "[a]:", "q")
    code, said = end(child)
    assert (code, AS_THEY_WERE in said) == (0, True)


def test_where_mlx_cannot_be_imported_nothing_is_asked(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "broken" / "mlx").mkdir(parents=True)
    (tmp_path / "broken" / "mlx" / "__init__.py").touch()
    (tmp_path / "broken" / "mlx" / "core.py").write_text("raise ImportError('libmlx.so: no such file')")
    done = run(hub, tmp_path, "setup", "--yes", "--model", "tiny", PYTHONPATH=str(tmp_path / "broken"))
    assert done.returncode == 1
    assert "mlxi: MLX cannot be imported: libmlx.so: no such file." in done.stderr
    assert "hint: Install it with: pip install" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize(
    ("columns", "variables"),
    [(40, {"NO_COLOR": "1"}), (80, {"TERM": "dumb"})],
    ids=["narrow, without colour", "dumb"],
)
def test_it_is_readable_in_any_terminal(
    hub: LoopbackHub, tmp_path: Path, columns: int, variables: dict[str, str]
) -> None:
    child = start(hub, tmp_path, columns=columns, **variables)
    said = ""
    for question, text in STEPS[:3]:
        child.expect_exact(question)
        said += child.before + question
        child.sendline(text)
    child.expect(r"Download\s+5.7 MB\?")
    said += child.before
    child.sendline("")
    child.expect(r"every\s+file\s+is\s+as\s+the\s+Hub\s+promised")
    bar = child.before
    child.sendintr()
    assert end(child)[0] == 130
    lines = [line for line in plain(said).splitlines() if "export OPENAI_API_KEY" not in line]
    assert [line for line in lines if len(line) > columns] == [], "all but what is to be copied"
    assert all(len(part) <= columns for line in plain(bar).splitlines() for part in line.split("\r") if "%" in part)
    if "TERM" in variables:
        assert "\x1b" not in said + bar
    if "NO_COLOR" in variables:
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said + bar)
    assert "━" in bar
