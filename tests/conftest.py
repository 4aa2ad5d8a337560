"""What holds for every test: no model hub, no tracing, no settings of the person who runs them."""

import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from mlx_integrations.offline import VARIABLES
from mlx_integrations.runtime.blas import preload_blas

# Tests run side by side: two programs whose BLAS takes every core would mostly wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What runs in a terminal of a test has the width of that one, not of the terminal that tests are run in.
for _size in ("COLUMNS", "LINES"):
    os.environ.pop(_size, None)

pytest.register_assert_rewrite("mlx_integrations.migration.contract")
# A test module that imports MLX while tests are collected would otherwise leave all of them with the slow BLAS.
preload_blas()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LANGSMITH_TRACING"] = "false"
_NETWORK = {name: os.environ.get(name) for name in VARIABLES}
# A shell that starts a command in the background has it ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings start from their defaults: an empty user file stands in for the real one."""
    for name in [name for name in os.environ if name.startswith("MLXI_")]:
        del os.environ[name]
    empty: Path = tmp_path_factory.mktemp("config") / "config.toml"
    empty.touch()
    os.environ["MLXI_CONFIG"] = str(empty)
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test, or a fixture of its module, switches off for the whole process is on again for the next one."""
    _restore_network()
    _restore_logging()


def _restore_network() -> None:
    if {name: os.environ.get(name) for name in VARIABLES} == _NETWORK:
        return
    for name, value in _NETWORK.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if (langsmith := sys.modules.get("langsmith")) is not None:
        langsmith.configure(enabled=None)


def _restore_logging() -> None:
    """Libraries that configure logging silence every logger that was there before."""
    logging.disable(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("mlx_integrations") and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)
