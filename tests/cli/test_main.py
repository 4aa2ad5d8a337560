"""How the command starts, fails and ends."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_integrations import __version__
from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatRequest


def test_the_version_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlxi {__version__}\n"


@pytest.mark.parametrize("argv", [["nonsense"], ["chat", "--max-tokens", "0", "x"]])
def test_wrong_usage_is_two_and_goes_to_stderr(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "mlxi" in captured.err


def test_an_error_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    def no_backend(model: str) -> FakeChatBackend:
        raise ModelNotFoundError(f"There is no model `{model}`.", model=model, suggestions=["demo"])

    assert main(["chat", "--model", "demmo", "hi"], Parts(chat_backend=no_backend)) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mlxi: There is no model `demmo`.\nhint: Did you mean `demo`?\n"


def test_wrong_settings_are_answered_like_any_error(capsys: pytest.CaptureFixture[str]) -> None:
    def settings() -> Settings:
        return Settings(runtim={})

    assert main(["chat", "hi"], Parts(settings=settings)) == 1
    assert "hint: Did you mean `runtime`?" in capsys.readouterr().err


def test_an_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(request: ChatRequest) -> str:
        raise KeyboardInterrupt

    parts = Parts(chat_backend=lambda model: FakeChatBackend([interrupted]))
    assert main(["chat", "--model", "fake", "hi"], parts) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_module_runs_like_the_command() -> None:
    command = [sys.executable, "-m", "mlx_integrations", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"mlxi {__version__}\n"


def test_ctrl_c_ends_a_waiting_command_cleanly(tmp_path: Path) -> None:
    """A real process with a real terminal, waiting for its question."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "mlx_integrations", "chat"]
    process = subprocess.Popen(command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(child)
    assert process.stderr is not None
    assert process.stderr.readline() == "Type your question, then Ctrl-D:\n"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    os.close(parent)
    assert (process.returncode, "Traceback" in rest) == (130, False)
