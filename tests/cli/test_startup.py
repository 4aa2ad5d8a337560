"""Help and the Tab key do not wait for what only running a model needs."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations.cli.completion import complete_any_model, complete_installed_model, complete_setting

HEAVY = [
    "httpx",
    "httpx2",
    "huggingface_hub",
    "langchain_core",
    "llama_index",
    "mlx",
    "mlx_lm",
    "numpy",
    "transformers",
]


def _imported(*argv: str, **variables: str) -> list[str]:
    """Which of the heavy packages a command imported."""
    code = f"""
import sys
from mlx_integrations.cli.main import main
code = main({list(argv)!r})
assert code == 0, code
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **variables},
    )
    return [name for name in HEAVY if f"'{name}'" in done.stderr.splitlines()[-1]]


@pytest.mark.parametrize(
    "argv",
    [("--help",), ("chat", "--help"), ("models", "--help"), ("models", "pull", "--help"), ("--version",), ()],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(argv: tuple[str, ...]) -> None:
    assert _imported(*argv) == []


@pytest.mark.parametrize("argv", [("config", "show"), ("models", "search", "-q")], ids=" ".join)
def test_commands_that_run_no_model_import_no_mlx(argv: tuple[str, ...]) -> None:
    assert not {"mlx", "mlx_lm", "transformers"} & set(_imported(*argv))


def test_a_list_of_models_imports_no_mlx_lm(tmp_path: Path) -> None:
    assert not {"mlx_lm", "transformers"} & set(_imported("models", "list", HF_HUB_CACHE=str(tmp_path)))


def test_the_time_of_help_is_reported(record_property: Callable[[str, object], None]) -> None:
    """Measured for the record; a shared machine is too noisy for a limit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mlx_integrations", "--help"], capture_output=True, timeout=60, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    record_property("help_cpu_seconds", seconds)
    assert seconds > 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two models in it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("mlx-community--Qwen3-4B-4bit", "acme--Other"):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (tmp_path / f"models--{name}" / "refs").mkdir()
        (tmp_path / f"models--{name}" / "refs" / "main").write_text("a" * 40)
    return tmp_path


def test_names_are_completed(cache: Path) -> None:
    assert complete_installed_model("mlx-") == ["mlx-community/Qwen3-4B-4bit"]
    assert complete_installed_model("ac") == ["acme/Other"]
    assert "demo" in complete_installed_model("")
    assert complete_setting("models.d") == ["models.default"]
    assert set(complete_installed_model("d")) <= set(complete_any_model("d"))


def test_a_broken_configuration_does_not_break_the_tab_key(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.toml").write_text("[")
    monkeypatch.setenv("MLXI_CONFIG", str(tmp_path / "broken.toml"))
    assert complete_installed_model("ac") == ["acme/Other"]


def test_the_shell_asks_the_command(cache: Path) -> None:
    variables = {"_MLXI_COMPLETE": "complete_bash", "COMP_WORDS": "mlxi chat --model mlx-", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "mlx_integrations"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.stdout.split() == ["mlx-community/Qwen3-4B-4bit"]


def test_both_names_of_the_command_are_installed() -> None:
    for name in ("mlxi", "mlx-integrations"):
        command = Path(sys.executable).with_name(name)
        if name == "mlxi" or command.exists():
            done = subprocess.run([str(command), "--version"], capture_output=True, text=True, timeout=60, check=True)
            assert done.stdout.startswith("mlxi ")
