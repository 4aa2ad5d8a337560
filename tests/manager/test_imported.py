"""What converted models are called, and where they go."""

from pathlib import Path

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.manager.imported import imported_model_path, imported_models_dir, imported_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/models/Llama-3.2-3B", "Llama-3.2-3B"),
        ("/models/Llama-3.2-3B.Q4_0.gguf", "Llama-3.2-3B.Q4_0"),
        ("/models/big-00001-of-00003.gguf", "big"),
        ("/models/Llama-3.2-3B/pytorch_model.bin", "Llama-3.2-3B"),
        ("/models/Llama-3.2-3B/model-00001-of-00002.safetensors", "Llama-3.2-3B"),
        ("/models/mine/model.safetensors", "mine"),
        (f"/hub/models--org--Some-Name/snapshots/{COMMIT}", "Some-Name"),
        (f"/hub/models--org--Some-Name/snapshots/{COMMIT}/pytorch_model.bin", "Some-Name"),
        (f"/elsewhere/{COMMIT}", COMMIT),
    ],
)
def test_models_are_called_as_people_know_them(source: str, name: str) -> None:
    assert imported_name(Path(source)) == name


def test_a_name_may_have_folders_but_not_lead_out() -> None:
    assert imported_model_path("mine/llama-3.2") == imported_models_dir() / "mine" / "llama-3.2"
    for name in ("", "..", "../x", "/etc", "~x", "a/../../b", ".hidden"):
        with pytest.raises(ConfigurationError, match="name of a model"):
            imported_model_path(name)
