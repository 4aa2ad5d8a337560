"""What holds for every test: no model hub, no tracing, no settings of the person who runs them."""

import os
from pathlib import Path

import pytest

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
