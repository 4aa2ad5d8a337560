"""A model out of a GGUF file computes what the model computes that went into it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import ConversionError, UnsupportedArchitectureError
from mlx_integrations.runtime.convert.conversion import ConversionProgress, convert_model
from mlx_integrations.runtime.convert.gguf_architectures import gguf_config, natural_dtype
from mlx_integrations.runtime.convert.gguf_file import GGUFFile, read_gguf
from tests.runtime.convert.conftest import decoded, logits_of
from tests.runtime.convert.gguf_writer import write_gguf

MODELS = "llama llama3 mistral qwen2 qwen3 packed phi3 gemma gemma2 gemma3".split()
SETTINGS: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.context_length": 4096,
    "llama.embedding_length": 32,
    "llama.block_count": 2,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10_000.0,
    "tokenizer.ggml.tokens": ["a", "b", "<|eot_id|>"],
    "tokenizer.ggml.eos_token_id": 1,
}
TABLE = {"token_embd.weight": np.zeros((8, 32), np.float32)}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_model_that_was_written(data: Path, tmp_path: Path, name: str) -> None:
    reference = np.load(data / "gguf" / "references.npz")
    convert_model(data / "gguf" / f"{name}.gguf", tmp_path / name, dtype="float32")
    found = logits_of(tmp_path / name, reference[f"{name}_ids"].tolist())[-4:]
    assert np.abs(reference[f"{name}_logits"]).max() > 3  # nothing is right by being small
    assert np.abs(found - reference[f"{name}_logits"]).max() < 1e-4


def test_a_chat_goes_on_as_it_would_have_before(
    data: Path, tmp_path: Path, answer: Callable[..., str], pytorch_reference: dict[str, Any]
) -> None:
    seen: list[ConversionProgress] = []
    made = convert_model(data / "gguf" / "chat.gguf", tmp_path / "chat", on_progress=seen.append)
    assert (made.format, made.kind, made.model_type) == ("gguf", "chat", "llama")
    expected = decoded(made.path, pytorch_reference["answer"])
    assert answer(made.path, pytorch_reference["question"]) == expected
    for phase in ("reading", "writing"):
        steps = [step for step in seen if step.phase == phase]
        assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
        assert steps[-1].done_bytes == steps[-1].total_bytes
    assert made.weight_bytes == seen[-1].total_bytes


def test_a_file_can_be_made_smaller_on_the_way(data: Path, tmp_path: Path, answer: Callable[..., str]) -> None:
    whole = convert_model(data / "gguf" / "chat.gguf", tmp_path / "whole")
    small = convert_model(data / "gguf" / "chat.gguf", tmp_path / "small", quantize_bits=8, group_size=32)
    assert small.weight_bytes < whole.weight_bytes * 0.4
    config = json.loads((small.path / "config.json").read_text(encoding="utf-8"))
    assert config["quantization"] == {"bits": 8, "group_size": 32, "mode": "affine"}
    assert answer(small.path)


@pytest.mark.parametrize(("name", "dtype"), [("llama", "F32"), ("packed", "F16"), ("gemma3", "F32")])
def test_numbers_keep_their_type_and_packed_ones_become_half_precision(data: Path, name: str, dtype: str) -> None:
    assert natural_dtype(read_gguf(data / "gguf" / f"{name}.gguf")) == dtype


def settings_of(
    tmp_path: Path, changes: Mapping[str, Any], tensors: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    file = write_gguf(tmp_path / "model.gguf", {**SETTINGS, **changes}, {**TABLE, **(tensors or {})})
    return gguf_config(read_gguf(file))


def test_settings_go_by_hugging_faces_names(tmp_path: Path) -> None:
    config = settings_of(tmp_path, {"llama.attention.head_count_kv": 2})
    assert {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "rope_scaling": None,
        "vocab_size": 8,
        "tie_word_embeddings": True,
        "eos_token_id": [1, 2],
    }.items() <= config.items()


def test_one_number_for_each_layer_must_be_the_same_for_all(tmp_path: Path) -> None:
    assert settings_of(tmp_path, {"llama.feed_forward_length": [64, 64]})["intermediate_size"] == 64
    with pytest.raises(ConversionError, match=r"llama\.feed_forward_length"):
        settings_of(tmp_path, {"llama.feed_forward_length": [64, 32]})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"llama.rope.scaling.type": "none"}, None),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            {"type": "linear", "rope_type": "linear", "factor": 4.0},
        ),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 1024,
            },
            {"type": "yarn", "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
        ),
    ],
)
def test_longer_texts_are_scaled_as_the_file_says(tmp_path: Path, changes: dict[str, Any], expected: Any) -> None:
    assert settings_of(tmp_path, changes)["rope_scaling"] == expected


def test_unknown_ways_to_rotate_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"rope\.scaling\.type"):
        settings_of(tmp_path, {"llama.rope.scaling.type": "spiral"})
    with pytest.raises(ConversionError, match=r"rope\.dimension_count"):
        settings_of(tmp_path, {"llama.rope.dimension_count": 4})
    with pytest.raises(ConversionError, match="rope_freqs"):
        settings_of(tmp_path, {}, {"rope_freqs.weight": np.array([1, 2, 3, 4], np.float32)})


def test_phi_3_keeps_its_factors(tmp_path: Path) -> None:
    phi3 = {key.replace("llama.", "phi3."): value for key, value in SETTINGS.items() if key.startswith("llama.")}
    long, short = np.array([1.5, 2, 3, 4], np.float32), np.ones(4, np.float32)
    config = settings_of(
        tmp_path,
        {
            **phi3,
            "general.architecture": "phi3",
            "phi3.rope.scaling.original_context_length": 1024,
            "phi3.rope.scaling.type": "longrope",
            "phi3.rope.dimension_count": 6,
        },
        {"rope_factors_long.weight": long, "rope_factors_short.weight": short},
    )
    assert config["rope_scaling"] == {
        "type": "longrope",
        "long_factor": [1.5, 2.0, 3.0, 4.0],
        "short_factor": [1.0, 1.0, 1.0, 1.0],
    }
    assert (config["original_max_position_embeddings"], config["partial_rotary_factor"]) == (1024, 0.75)


@pytest.mark.parametrize(("layers", "expected"), [(46, 16), (26, 8)])
def test_the_largest_gemma_scales_attention_by_its_width(layers: int, expected: int) -> None:
    keys = {
        "embedding_length": 64,
        "block_count": layers,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.key_length": 8,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "context_length": 8192,
    }
    base = read_gguf(Path(__file__).parent / "data" / "gguf" / "gemma2.gguf")
    metadata = {**base.metadata, **{f"gemma2.{key}": value for key, value in keys.items()}}
    config = gguf_config(GGUFFile(path=base.path, metadata=metadata, tensors=base.tensors))
    assert config["query_pre_attn_scalar"] == expected


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"general.architecture": "falcon"}, "falcon"), ({"llama.expert_count": 8}, "8 experts")],
)
def test_other_architectures_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    file = write_gguf(tmp_path / "model.gguf", {**SETTINGS, **changes}, TABLE)
    with pytest.raises(UnsupportedArchitectureError, match=what) as caught:
        convert_model(file, tmp_path / "out")
    assert "`qwen3`" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_tensor_that_the_architecture_does_not_have_is_named(tmp_path: Path) -> None:
    tensors = {**TABLE, "blk.0.attn_sinks.weight": np.zeros((4, 32), np.float32)}
    metadata = {
        **SETTINGS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["a", "b", "ab"],
        "tokenizer.ggml.merges": ["a b"],
    }
    with pytest.raises(ConversionError, match=r"blk\.0\.attn_sinks\.weight"):
        convert_model(write_gguf(tmp_path / "model.gguf", metadata, tensors), tmp_path / "out")


def test_tensors_that_are_missing_are_named(tmp_path: Path) -> None:
    metadata = {
        **SETTINGS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["a", "b", "ab"],
        "tokenizer.ggml.merges": ["a b"],
    }
    with pytest.raises(ConversionError, match=r"(?i)missing .*model\.layers"):
        convert_model(write_gguf(tmp_path / "model.gguf", metadata, TABLE), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "model.gguf"]
