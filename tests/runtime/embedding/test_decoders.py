"""Embedders on mlx-lm's layers equal transformers' models, whatever the batch and the form of the configuration."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlx_integrations.errors import ModelLoadError, UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.folder import read_folder
from tests.runtime.embedding.sentence_models import DECODERS, assemble, edit, embed, on_worker, reference, scaled

Array = NDArray[Any]
LEGACY_ROPE: dict[str, dict[str, Any]] = {
    "gemma3-two-dense": {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "sliding_window_pattern": 2},
    "llama-weightedmean": {
        "rope_theta": 500.0,
        "rope_scaling": {
            "type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "mistral-lasttoken": {"rope_theta": 10_000.0, "rope_scaling": None},
    "qwen2-both-ways": {"rope_theta": 10_000.0, "rope_scaling": None},
    "qwen3-lasttoken": {"rope_theta": 1_000_000.0, "rope_scaling": None},
}


def check(folder: Path, name: str, batch_size: int = 1) -> None:
    """Hold a folder's vectors of plain texts against the reference of a model."""
    expected = reference(name)
    found = embed(read_sentence_model(folder), expected.texts, batch_size=batch_size)
    np.testing.assert_allclose(scaled(found), scaled(expected.vectors["plain"]), atol=1e-6)


@pytest.mark.parametrize("name", DECODERS)
def test_older_configurations_give_the_same_vectors(name: str, tmp_path: Path) -> None:
    folder = assemble(name, tmp_path / "model")
    edit(folder / "config.json", "rope_parameters", "layer_types", **LEGACY_ROPE[name])
    check(folder, name)


@pytest.mark.parametrize("name", ["llama-weightedmean", "qwen3-lasttoken"])
def test_the_base_of_the_positions_is_not_left_to_a_default(name: str, tmp_path: Path) -> None:
    folder = assemble(name, tmp_path / "model")
    edit(folder / "config.json", "rope_parameters")
    with pytest.raises(AssertionError):
        check(folder, name)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("batch_size", [4, 100])
def test_padding_changes_nothing(name: str, batch_size: int, tmp_path: Path) -> None:
    check(assemble(name, tmp_path / "model"), name, batch_size)


@pytest.mark.parametrize("prefix", ["model.", "0.auto_model.", "model.model."])
def test_checkpoints_of_the_whole_writer_load(prefix: str, tmp_path: Path) -> None:
    folder = assemble("qwen3-lasttoken", tmp_path / "model")
    tensors = {f"{prefix}{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    tensors["lm_head.weight"] = np.zeros((340, 32), np.float32)
    tensors[f"{prefix}layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
    save_file(tensors, folder / "model.safetensors")
    check(folder, "qwen3-lasttoken")


def test_weights_in_several_files_load(tmp_path: Path) -> None:
    folder = assemble("mistral-lasttoken", tmp_path / "model")
    tensors = sorted(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    save_file(dict(tensors[::2]), folder / "model-00001-of-00002.safetensors")
    save_file(dict(tensors[1::2]), folder / "model-00002-of-00002.safetensors")
    check(folder, "mistral-lasttoken")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("layers.1.mlp.up_proj.weight"), "layers.1.mlp.up_proj.weight"),
        (lambda t: t.update({"layers.2.mlp.up_proj.weight": np.zeros((40, 32), np.float32)}), "layers.2.mlp.up_proj"),
        (lambda t: t.update({"norm.weight": np.zeros(31, np.float32)}), "norm.weight"),
        (lambda t: t["layers.0.self_attn.q_norm.weight"].__setitem__(0, np.nan), "layers.0.self_attn.q_norm.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Array]], Any], named: str, tmp_path: Path
) -> None:
    folder = assemble("qwen3-lasttoken", tmp_path / "model")
    tensors = {name: value.copy() for name, value in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelLoadError, match=named):
        embed(read_sentence_model(folder), ["fox"])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_checkpoints_load_and_say_the_same(name: str, bits: int, tmp_path: Path) -> None:
    folder = assemble(name, tmp_path / "model")
    expected = reference(name)

    def quantise() -> None:
        from mlx_integrations.runtime._mlx import mx

        tensors: Any = mx.load(str(folder / "model.safetensors"))
        written: dict[str, Any] = {}
        for key, tensor in tensors.items():
            if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
                module = "model." + key.removesuffix(".weight")
                parts = mx.quantize(tensor, group_size=32, bits=bits)
                written |= dict(
                    zip([f"{module}.{part}" for part in ("weight", "scales", "biases")], parts, strict=True)
                )
            else:
                written[f"model.{key}"] = tensor
        mx.save_safetensors(str(folder / "model.safetensors"), written)

    on_worker(quantise)
    edit(folder / "config.json", quantization={"group_size": 32, "bits": bits})

    found = scaled(embed(read_sentence_model(folder), expected.texts, batch_size=4))

    cosines = (found * scaled(expected.vectors["plain"])).sum(axis=1)
    assert cosines.min() > (0.999 if bits == 8 else 0.8)


@pytest.mark.parametrize("name", DECODERS)
def test_every_layer_is_a_stage_and_rows_without_tokens_stay_finite(name: str, tmp_path: Path) -> None:
    folder = read_folder(assemble(name, tmp_path / "model"))

    def compute() -> list[Array]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.decoders import make_decoder

        decoder = make_decoder(folder.config, path=folder.path)
        ids, mask = np.ones((3, 12), np.int32), np.arange(12)[None] < np.array([[12], [3], [0]])
        return [np.array(stage) for stage in decoder.stages(mx.array(ids), mx.array(mask))]

    stages = on_worker(compute)

    assert [stage.shape for stage in stages] == [(3, 12, 32)] * (1 + folder.config["num_hidden_layers"])
    assert all(np.isfinite(stage).all() for stage in stages)


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("llama-weightedmean", {"hidden_act": "gelu"}, "`hidden_act` = `gelu`"),
        ("mistral-lasttoken", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "`rope_type` = `yarn`"),
        ("qwen2-both-ways", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "`dynamic`"),
        ("qwen2-both-ways", {"head_dim": 16}, "`head_dim` = `16`"),
        ("qwen3-lasttoken", {"attention_bias": True}, "`attention_bias` = `True`"),
        ("llama-weightedmean", {"partial_rotary_factor": 0.5}, "`partial_rotary_factor` = `0.5`"),
        ("gemma3-two-dense", {"attn_logit_softcapping": 50.0}, "`attn_logit_softcapping` = `50.0`"),
        ("gemma3-two-dense", {"hidden_activation": "gelu"}, "`hidden_activation` = `gelu`"),
        (
            "gemma3-two-dense",
            {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
            "irregular pattern of `layer_types`",
        ),
        ("gemma3-two-dense", {"layer_types": ["full_attention"]}, "`layer_types`"),
        ("qwen3-lasttoken", {"model_type": "qwen3_moe"}, "`qwen3_moe`"),
    ],
)
def test_what_the_layers_cannot_do_is_refused_by_name(
    name: str, changed: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = assemble(name, tmp_path / "model")
    rope_off = [] if "rope_parameters" in changed or "rope_scaling" not in changed else ["rope_parameters"]
    edit(folder / "config.json", *rope_off, **changed)
    with pytest.raises(UnsupportedArchitectureError) as caught:
        embed(read_sentence_model(folder), ["fox"])
    assert named in str(caught.value) and caught.value.hint


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("name", DECODERS)
def test_a_configuration_that_lacks_something_is_refused(name: str, key: str, tmp_path: Path) -> None:
    folder = read_folder(assemble(name, tmp_path / "model"))
    config = {other: value for other, value in folder.config.items() if other != key}

    def build() -> None:
        from mlx_integrations.runtime.embedding.decoders import make_decoder

        make_decoder(config, path=folder.path)

    with pytest.raises(ModelLoadError, match=key) as caught:
        on_worker(build)
    assert "config.json" in str(caught.value)


def test_mlx_lms_layers_are_called_as_they_expect() -> None:
    def signatures() -> list[list[str]]:
        from mlx_integrations.runtime._mlx import new_backbone

        found = []
        for kind in ("gemma3_text", "llama", "mistral", "qwen2", "qwen3"):
            config = {
                "model_type": kind,
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "intermediate_size": 16,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "rms_norm_eps": 1e-6,
                "vocab_size": 8,
                "max_position_embeddings": 8,
                "rope_theta": 10_000.0,
                "tie_word_embeddings": True,
            }
            backbone = new_backbone(config)
            assert all(hasattr(backbone, part) for part in ("embed_tokens", "layers", "norm"))
            found.append(list(inspect.signature(backbone.layers[0].__call__).parameters))
        return found

    assert on_worker(signatures) == [["x", "mask", "cache"]] * 5
