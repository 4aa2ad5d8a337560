"""The installed command as a process of its own, on a real model with random weights."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import build_model

COMMAND = [sys.executable, "-m", "mlx_integrations", "chat", "--model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("models") / "llama")


def test_an_answer_is_streamed_and_the_process_ends_with_zero(folder: Path) -> None:
    command = [*COMMAND, str(folder), "--max-tokens", "8", "Hello"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_ctrl_c_in_the_middle_of_an_answer_ends_cleanly(folder: Path) -> None:
    command = [*COMMAND, str(folder), "--max-tokens", "4000", "Hello"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")


def test_a_reader_that_goes_away_is_not_an_accident(folder: Path) -> None:
    """As in `mlxi chat ... | head -c 20`."""
    reading, writing = os.pipe()
    command = [*COMMAND, str(folder), "--max-tokens", "4000", "Hello"]
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert os.read(reading, 20)
    os.close(reading)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, b"")


def test_a_folder_that_is_no_model_is_one_line_and_a_hint(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path), "Hello"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("mlxi: ")
    assert second.startswith("hint: ")
