"""Importing the package is cheap and does nothing; its public names are exactly the listed ones."""

import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mlx_integrations

FRAMEWORKS = ["langchain", "langchain_core", "llama_index", "mlx", "mlx_lm", "transformers", "torch", "numpy"]
HEAVY = [*FRAMEWORKS, "pydantic", "pydantic_settings", "typer", "rich", "huggingface_hub"]


def _in_a_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_the_listed_ones() -> None:
    assert sorted(mlx_integrations.__all__) == dir(mlx_integrations)
    assert set(mlx_integrations.__all__) == {"Runtime", "Settings", "__version__", "errors", "get_runtime"}


@pytest.mark.parametrize("name", mlx_integrations.__all__)
def test_every_public_name_resolves_in_a_new_interpreter(name: str) -> None:
    _in_a_new_interpreter(f"import mlx_integrations as m; assert m.{name} is m.{name}")


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `Runtimes`"):
        _ = mlx_integrations.Runtimes


@pytest.mark.parametrize(
    "package", ["langchain", "llama_index", "manager", "registry", "settings", "memory_estimate", "cloud"]
)
def test_no_public_name_is_that_of_a_file_beside_it(package: str) -> None:
    """Importing the file would put it in the place of what the name is for."""
    room = pkgutil.resolve_name(f"mlx_integrations.{package}")
    files = {path.stem for path in Path(room.__file__).parent.glob("*.py")}
    assert files & set(room.__all__) == set()


@pytest.mark.parametrize("module", ["mlx_integrations", "mlx_integrations.errors", "mlx_integrations.protocols"])
def test_importing_the_package_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert _in_a_new_interpreter(code) == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "mlx_integrations.settings",
        "mlx_integrations.assembly",
        "mlx_integrations.sidecar",
        "mlx_integrations.testing",
    ],
)
def test_importing_a_room_of_the_ground_floor_loads_no_framework(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    assert _in_a_new_interpreter(code) == "[]"


def test_importing_the_package_has_no_side_effects() -> None:
    code = """
import os, resource, signal, socket, threading
before = (dict(os.environ), threading.active_count(), signal.getsignal(signal.SIGINT), os.getcwd(),
          resource.getrlimit(resource.RLIMIT_NOFILE))
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.__init__ = refuse
import mlx_integrations, mlx_integrations.settings, mlx_integrations.errors, mlx_integrations.cli.main
after = (dict(os.environ), threading.active_count(), signal.getsignal(signal.SIGINT), os.getcwd(),
         resource.getrlimit(resource.RLIMIT_NOFILE))
assert before == after, (before, after)
"""
    _in_a_new_interpreter(code)


def test_import_time_is_reported(record_property: Callable[[str, object], None]) -> None:
    """Measured for the record; a shared machine is too noisy for a limit."""
    code = "import time; t = time.perf_counter(); import mlx_integrations; print((time.perf_counter() - t) * 1000)"
    milliseconds = min(float(_in_a_new_interpreter(code)) for _ in range(3))
    record_property("import_milliseconds", milliseconds)
    assert milliseconds > 0
