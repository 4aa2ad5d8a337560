"""What holds for every test: no model hub, no tracing, no settings of the person who runs them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_integrations.offline import VARIABLES
from mlx_integrations.runtime.blas import preload_blas

# A test module that imports MLX while tests are collected would otherwise leave all of them with the slow BLAS.
preload_blas()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LANGSMITH_TRACING"] = "false"


@pytest.fixture(autouse=True, scope="session")
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings start from their defaults: an empty user file stands in for the real one."""
    for name in [name for name in os.environ if name.startswith("MLXI_")]:
        del os.environ[name]
    empty: Path = tmp_path_factory.mktemp("config") / "config.toml"
    empty.touch()
    os.environ["MLXI_CONFIG"] = str(empty)


@pytest.fixture(autouse=True)
def _network_as_before() -> Iterator[None]:
    """A test that switches the network off does so for itself."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    yield
    if before == {name: os.environ.get(name) for name in VARIABLES}:
        return
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if (langsmith := sys.modules.get("langsmith")) is not None:
        langsmith.configure(enabled=None)
