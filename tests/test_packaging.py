"""The wheel holds what the code reads at run time, is small, and installs the command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from mlx_integrations import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlx_integrations"
MAX_WHEEL_BYTES = 10_000_000
DATA_SUFFIXES = {".json", ".safetensors", ".jinja", ".md", ".toml", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    return Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))))


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    expected = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.suffix in DATA_SUFFIXES | {".py"}}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= names
    assert {name.partition("/")[0] for name in names} == {
        "mlx_integrations",
        f"mlx_integrations-{__version__}.dist-info",
    }


def test_the_demo_model_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    model = {name.rpartition("/")[2] for name in names if name.startswith("mlx_integrations/demo/model/")}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= model


def test_the_documentation_is_in_the_wheel_and_is_found_there(wheel: Path, tmp_path: Path) -> None:
    """The tour asks questions about it; the checkout is out of reach of this process."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    expected = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*") if path.is_file()}
    code = "from mlx_integrations.demo.retrieval import docs_folder; print(docs_folder())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == expected


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_the_wheel_declares_the_command_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"mlx_integrations-{__version__}.dist-info"
        assert "mlxi = mlx_integrations.cli.main:run" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
