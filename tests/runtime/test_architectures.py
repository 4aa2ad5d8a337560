"""What can be run is told without MLX, and as the runtime itself would decide."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.runtime.architectures import DECODER_TYPES, ENCODER_TYPES, OPTIONAL_TYPES, describe_support
from mlx_integrations.runtime.worker import get_worker

WEIGHTS = ["config.json", "tokenizer.json", "model.safetensors"]
SENTENCE = [*WEIGHTS, "modules.json", "1_Pooling/config.json"]
# Files beside mlx-lm's models that hold layers, caches and the like.
NO_MODELS = {
    "__init__", "activations", "base", "bitlinear_layers", "cache", "gated_delta", "mla", "pipeline", "rope_utils",
    "ssm", "switch_layers",
}  # fmt: skip


def test_every_model_of_mlx_lm_is_supported_and_nothing_else_beside_them() -> None:
    spec = importlib.util.find_spec("mlx_lm")
    assert spec is not None and spec.submodule_search_locations
    names = {file.stem for file in Path(spec.submodule_search_locations[0], "models").glob("*.py")}
    assert len(names) > 100
    supported = {name for name in names if describe_support({"model_type": name}, WEIGHTS).is_supported}
    assert names - supported == NO_MODELS


def test_the_runtime_decides_the_same_about_other_names() -> None:
    names = ["mistral", "phi-msft", "kimi_k2", "iquestcoder", "qwen2_5_vl", "lfm2-vl", "nothing", "a.b", "../llama", ""]

    def decide() -> list[bool]:
        from mlx_integrations.runtime._mlx import has_architecture

        return [has_architecture(name) for name in names]

    told = [describe_support({"model_type": name}, WEIGHTS).is_supported for name in names]
    assert told == get_worker().call(decide).result()
    assert sum(told) == 6


def test_our_own_architectures_are_those_that_there_is_code_for() -> None:
    def ours() -> list[set[str]]:
        from mlx_integrations.runtime.embedding import decoders, encoders, optional_engine

        return [set(names) for names in (encoders.ENCODERS, decoders.DECODER_TYPES, optional_engine.OPTIONAL_TYPES)]

    told = [set(names) for names in (ENCODER_TYPES, DECODER_TYPES, OPTIONAL_TYPES)]
    assert told == get_worker().call(ours).result()


@pytest.mark.parametrize(
    ("config", "files", "kind"),
    [
        ({"model_type": "llama"}, WEIGHTS, "chat"),
        ({"model_type": "qwen3"}, WEIGHTS, "chat"),
        ({"model_type": "qwen3"}, SENTENCE, "embedding"),
        ({"model_type": "bert"}, SENTENCE, "embedding"),
        ({"model_type": "bert"}, WEIGHTS, "embedding"),
        ({"model_type": "xlm-roberta"}, ["0_Transformer/model.safetensors", "modules.json"], "embedding"),
        ({"model_type": "llama"}, [], "chat"),
        ({"model_type": "bailing_hybrid", "architectures": ["BailingMoeV3ForCausalLM"]}, WEIGHTS, "chat"),
    ],
)
def test_what_runs_here_is_told_with_its_kind(config: dict[str, Any], files: list[str], kind: str) -> None:
    support = describe_support(config, files)
    assert (support.kind, support.is_supported, support.reason) == (kind, True, "")


def test_models_that_read_images_run_as_far_as_mlx_lm_runs_them() -> None:
    support = describe_support({"model_type": "gemma3", "vision_config": {}}, WEIGHTS)
    assert support.is_supported and "only its part for texts" in support.reason


@pytest.mark.parametrize(
    ("config", "files", "kind", "reason"),
    [
        ({"model_type": "whisper"}, WEIGHTS, None, "speech"),
        ({"model_type": "unheard", "audio_config": {}}, WEIGHTS, "chat", "speech"),
        ({"model_type": "mllama"}, WEIGHTS, None, "images"),
        ({"model_type": "new_vision", "vision_config": {}}, WEIGHTS, "chat", "images"),
        ({"model_type": "clip"}, SENTENCE, "embedding", "images"),
        ({"model_type": "t5"}, WEIGHTS, "chat", "encoder and a decoder"),
        ({"model_type": "t5"}, SENTENCE, "embedding", "encoder and a decoder"),
        ({"model_type": "hyena"}, WEIGHTS, "chat", "no code for models of type `hyena`"),
        ({"model_type": "hyena"}, SENTENCE, "embedding", "no embedding engine"),
        ({"model_type": "llama", "model_file": "own.py"}, WEIGHTS, "chat", "its own code"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, WEIGHTS, "embedding", "ranks"),
        ({}, ["adapter_config.json", "adapters.safetensors"], None, "adapter"),
        ({}, ["model.Q4_0.gguf"], None, "models import"),
        ({}, WEIGHTS, None, r"no config\.json"),
        ({"hidden_size": 4}, WEIGHTS, None, "model_type"),
        ({}, ["model_index.json", "unet/model.safetensors"], None, "images"),
        ({"model_type": "llama"}, ["config.json", "pytorch_model.bin"], "chat", r"\.bin only"),
        ({"model_type": "llama"}, ["consolidated.safetensors"], "chat", "called model"),
        ({"model_type": "llama"}, ["config.json", "model.onnx"], "chat", r"no model\*"),
    ],
)
def test_what_does_not_run_is_told_with_the_reason(
    config: dict[str, Any], files: list[str], kind: str | None, reason: str
) -> None:
    support = describe_support(config, files)
    assert (support.kind, support.is_supported) == (kind, False)
    assert re.search(reason, support.reason), support.reason


def test_an_extra_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    support = describe_support({"model_type": "llama_bidirec"}, SENTENCE)
    assert not support.is_supported and 'pip install "mlx-integrations[mlx-embeddings]"' in support.reason


@pytest.mark.parametrize(
    ("packed", "is_supported"),
    [
        ({"quantization": {"bits": 4, "group_size": 64}}, True),
        ({"quantization": {"bits": 8, "group_size": 32, "mode": "affine"}}, True),
        ({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}}, True),
        ({"quantization": {"bits": 4, "group_size": 16, "mode": "nvfp4"}}, True),
        ({"quantization": {"bits": 7, "group_size": 64}}, False),
        ({"quantization": {"bits": 4, "group_size": 48}}, False),
        ({"quantization": {"bits": 4, "group_size": 64, "mode": "nvfp4"}}, False),
        ({"quantization": {"bits": 4, "group_size": 64, "mode": "trits"}}, False),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, True),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": False}}, True),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": True}}, False),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, False),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, False),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}}, True),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}}, False),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, True),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, False),
        ({"quantization_config": {"quant_method": "fp8"}}, False),
        (
            {"quantization_config": {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [32, 32]}},
            True,
        ),
        ({"text_config": {"quantization_config": {"quant_method": "bitsandbytes"}}}, False),
    ],
)
def test_ways_to_quantise_are_those_that_mlx_lm_reads(packed: dict[str, Any], is_supported: bool) -> None:
    support = describe_support({"model_type": "llama", **packed}, WEIGHTS)
    assert support.is_supported is is_supported
    assert is_supported or "quantised" in support.reason


def test_some_models_unpack_8_bit_floats_themselves_and_embedders_nothing() -> None:
    fp8 = {"quantization_config": {"quant_method": "fp8"}}
    assert describe_support({"model_type": "deepseek_v3", **fp8}, WEIGHTS).is_supported
    awq = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    assert not describe_support({"model_type": "qwen3", **awq}, SENTENCE).is_supported
    packed = {"quantization": {"bits": 4, "group_size": 64}}
    assert describe_support({"model_type": "qwen3", **packed}, SENTENCE).is_supported


def test_it_is_quick_and_imports_neither_mlx_nor_mlx_lm() -> None:
    command = (
        "import sys, time\n"
        "from mlx_integrations.runtime.architectures import describe_support\n"
        "began = time.process_time()\n"
        "describe_support({'model_type': 'mistral'}, ['model.safetensors'])\n"
        "print(time.process_time() - began, *[name for name in sys.modules if name.startswith(('mlx.', 'mlx_lm'))])\n"
    )
    made = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True)
    seconds, *modules = made.stdout.split()
    assert not modules
    assert float(seconds) < 0.02
