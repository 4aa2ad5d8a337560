"""Weights: whatever is wrong with a checkpoint is named, and every form that is right loads the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.folder import WeightFile
from tests.runtime.embedding.encoder_models import ENCODERS, NAMES, Checkpoint, Hidden, compute, load, references
from tests.runtime.embedding.sentence_models import on_worker

QUERY = "encoder.layer.1.attention.self.query.weight"


def last_stage(folder: Path, name: str = "bert", *, cpu_float32: bool = True) -> Hidden:
    expected = references(name)
    return compute(folder, expected["ids"], expected["mask"], cpu_float32=cpu_float32)[-1]


def assert_loads(folder: Path, name: str = "bert", tolerance: float = 1e-5) -> None:
    expected = references(name)
    found = last_stage(folder, name)
    np.testing.assert_allclose(
        found[expected["mask"]], expected["stages"][-1][expected["mask"]], atol=tolerance, rtol=0
    )


def refused(folder: Path) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        last_stage(folder)
    assert caught.value.model_path == str(folder)
    assert caught.value.hint
    return caught.value


def needed(checkpoint: Checkpoint) -> list[str]:
    """The tensors of an encoder; some come with a pooler as well."""
    return sorted(name for name in checkpoint.tensors if not name.startswith("pooler."))


PREFIXES = [
    ("bert", "bert."),
    ("bert", "0.auto_model."),
    ("bert", "model."),
    ("bert", "0.auto_model.bert."),
    ("roberta", "roberta."),
    ("xlm_roberta", "0.auto_model."),
    ("camembert", "roberta."),
    ("camembert", "camembert."),
    ("mpnet", "mpnet."),
    ("distilbert", "distilbert."),
    ("modernbert", "model."),
    ("nomic", "bert."),
]


@pytest.mark.parametrize(("name", "prefix"), PREFIXES)
def test_the_usual_prefixes_are_known(name: str, prefix: str, tmp_path: Path) -> None:
    assert_loads(Checkpoint.of(name).rename(lambda tensor: prefix + tensor).write(tmp_path / "m"), name)


UNUSED = [
    ("bert", ["embeddings.position_ids", "pooler.dense.weight", "cls.predictions.bias", "cls.seq_relationship.weight"]),
    ("roberta", ["roberta.embeddings.position_ids", "roberta.pooler.dense.bias", "lm_head.decoder.weight"]),
    ("mpnet", ["pooler.dense.weight", "lm_head.bias"]),
    ("distilbert", ["vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.weight"]),
    ("modernbert", ["head.dense.weight", "decoder.bias"]),
    ("nomic", ["cls.predictions.bias", "encoder.layers.0.attn.rotary_emb.inv_freq"]),
]


@pytest.mark.parametrize(("name", "unused"), UNUSED)
def test_what_an_embedding_does_not_need_is_left_out(name: str, unused: list[str], tmp_path: Path) -> None:
    checkpoint = Checkpoint.of(name)
    checkpoint.tensors |= {tensor: np.full((2, 3), np.nan, np.float32) for tensor in unused}
    assert_loads(checkpoint.write(tmp_path / "m"), name)


def test_the_first_names_of_norms_are_known(tmp_path: Path) -> None:
    def older(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    assert_loads(Checkpoint.of("bert").rename(older).write(tmp_path / "m"))


def test_the_names_inside_of_transformers_5_are_known_for_nomic(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("nomic")
    inside = {"attn.out_proj": "self_attn.o_proj", "fc11": "up_proj", "fc12": "gate_proj", "fc2": "down_proj"}
    inside |= {"norm1": "post_attention_layernorm", "norm2": "post_mlp_layernorm", "emb_ln": "embeddings.LayerNorm"}

    def later(name: str) -> str:
        name = name.removeprefix("encoder.")
        for old, new in inside.items():
            name = name.replace(old, new)
        return name

    for name in [name for name in checkpoint.tensors if "Wqkv" in name]:
        parts = np.split(checkpoint.tensors.pop(name), 3)
        checkpoint.tensors |= {
            name.replace("attn.Wqkv", f"self_attn.{kind}_proj"): np.ascontiguousarray(part)
            for kind, part in zip("qkv", parts, strict=True)
        }
    assert_loads(checkpoint.rename(later).write(tmp_path / "m"), "nomic")


@pytest.mark.parametrize("name", NAMES)
def test_each_missing_tensor_is_named_as_the_checkpoint_would(name: str, tmp_path: Path) -> None:
    for missing in needed(Checkpoint.of(name)):
        checkpoint = Checkpoint.of(name)
        checkpoint.tensors.pop(missing)
        with pytest.raises(ModelLoadError, match=rf"lacks the tensor `{missing}`\."):
            compute(checkpoint.write(tmp_path / "m"), np.array([[2, 3]], np.int32))


def test_a_model_without_one_layer_names_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.config["num_hidden_layers"] = 3
    message = str(refused(checkpoint.write(tmp_path / "m")))
    assert "lacks 16 tensors" in message and "`encoder.layer.2." in message and "and 11 more" in message


@pytest.mark.parametrize(
    "extra", ["classifier.weight", "encoder.layer.2.output.dense.weight", "encoder.layer.0.attention.self.query.other"]
)
def test_an_unexpected_tensor_is_named(extra: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors[extra] = np.ones((2, 32), np.float32)
    assert f"has the tensor `{extra}` that a `bert` has no place for" in str(refused(checkpoint.write(tmp_path / "m")))


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors["bert." + QUERY] = checkpoint.tensors[QUERY] + 1
    assert QUERY in str(refused(checkpoint.write(tmp_path / "m")))


@pytest.mark.parametrize("shape", [(31, 32), (32,), (32, 32, 1), (0, 32), (1024, 1)])
def test_a_misshapen_tensor_is_named_with_both_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors[QUERY] = np.ones(shape, np.float32)
    assert f"`{QUERY}`" in (message := str(refused(checkpoint.write(tmp_path / "m"))))
    assert f"of shape {shape} instead of (32, 32)" in message


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.bool_, np.uint32])
def test_a_tensor_that_is_no_fraction_is_named(kind: Any, tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors[QUERY] = np.ones((32, 32), kind)
    message = str(refused(checkpoint.write(tmp_path / "m")))
    assert f"`{QUERY}`" in message and "which is not supported" in message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cpu_float32", [True, False])
def test_a_single_number_that_is_not_finite_is_found(
    name: str, value: float, cpu_float32: bool, tmp_path: Path
) -> None:
    checkpoint = Checkpoint.of(name)
    tensor = needed(checkpoint)[-1]
    checkpoint.tensors[tensor].flat[-1] = value
    folder = checkpoint.write(tmp_path / "m")
    with pytest.raises(ModelLoadError, match=rf"the tensor `{tensor}` with values that are not finite"):
        compute(folder, np.array([[2, 3]], np.int32), cpu_float32=cpu_float32)


def test_a_file_with_a_type_that_mlx_does_not_have_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors[QUERY] = checkpoint.tensors[QUERY].astype(np.float64)
    folder = checkpoint.write(tmp_path / "m")
    assert "model.safetensors` cannot be read" in str(refused(folder))


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    def run() -> None:
        from mlx_integrations.runtime.embedding.encoders import make_encoder
        from mlx_integrations.runtime.embedding.weights import load_encoder_weights

        encoder = make_encoder(Checkpoint.of("bert").config, path=tmp_path)
        files = [WeightFile(path=tmp_path / "pytorch_model.bin", stored_bytes=1, float32_bytes=1)]
        load_encoder_weights(encoder, files, config={}, cpu_float32=True)

    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin") as caught:
        on_worker(run)
    assert "save_pretrained" in caught.value.hint


def test_a_folder_with_pickled_weights_only_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = Checkpoint.of("bert").write(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refused(folder)
    assert ".bin" in error.message and error.hint == f"Convert it: mlxi models import {folder}"


def shard(checkpoint: Checkpoint, folder: Path) -> dict[str, str]:
    """Write a checkpoint as three files with an index, and return which tensor is in which."""
    checkpoint.write(folder)
    (folder / "model.safetensors").unlink()
    places = {
        name: f"model-0000{number % 3 + 1}-of-00003.safetensors" for number, name in enumerate(checkpoint.tensors)
    }
    for file in set(places.values()):
        save_file({name: checkpoint.tensors[name] for name in places if places[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return places


def test_a_checkpoint_in_several_files_loads(tmp_path: Path) -> None:
    shard(Checkpoint.of("bert"), tmp_path / "m")
    assert_loads(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    assert_loads(tmp_path / "m")


def test_files_that_the_index_does_not_name_are_left_alone(tmp_path: Path) -> None:
    shard(Checkpoint.of("bert"), tmp_path / "m")
    save_file({QUERY: np.zeros((32, 32), np.float32)}, tmp_path / "m" / "model_extra.safetensors")
    assert_loads(tmp_path / "m")


def test_one_whole_file_goes_before_all_others(tmp_path: Path) -> None:
    shard(Checkpoint.of("mpnet"), tmp_path / "m")
    Checkpoint.of("bert").write(tmp_path / "m")
    assert_loads(tmp_path / "m")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shard(Checkpoint.of("bert"), tmp_path / "m")
    (tmp_path / "m" / "model-00002-of-00003.safetensors").unlink()
    assert "the file `model-00002-of-00003.safetensors`" in str(refused(tmp_path / "m"))


def test_a_tensor_in_two_files_is_named(tmp_path: Path) -> None:
    shard(Checkpoint.of("bert"), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    save_file({QUERY: np.zeros((32, 32), np.float32)}, tmp_path / "m" / "model_extra.safetensors")
    message = str(refused(tmp_path / "m"))
    assert QUERY in message and "model_extra.safetensors" in message


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": {}}}'])
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    shard(Checkpoint.of("bert"), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    assert "model.safetensors.index.json" in str(refused(tmp_path / "m"))


@pytest.mark.parametrize("cpu_float32", [True, False])
def test_half_precision_is_widened_only_when_asked(cpu_float32: bool, tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors = {name: tensor.astype(np.float16) for name, tensor in checkpoint.tensors.items()}
    folder = checkpoint.write(tmp_path / "m")

    def run() -> set[str]:
        from mlx_integrations.runtime._mlx import tree_flatten

        parameters: Any = tree_flatten(load(folder, cpu_float32=cpu_float32).parameters())
        return {str(value.dtype) for _, value in parameters}

    assert on_worker(run) == {"mlx.core.float32" if cpu_float32 else "mlx.core.float16"}
    widened = Checkpoint.of("bert")
    widened.tensors = {name: tensor.astype(np.float32) for name, tensor in checkpoint.tensors.items()}
    exact = last_stage(widened.write(tmp_path / "wide"))
    mask = references("bert")["mask"]
    found = last_stage(folder, cpu_float32=cpu_float32)
    np.testing.assert_allclose(found[mask], exact[mask], atol=1e-6 if cpu_float32 else 0.02, rtol=0)


Packing = dict[str, Any]


def quantized(
    name: str, folder: Path, choose: Callable[[str], Packing | None], *, scale_type: str = "float32"
) -> tuple[Path, Path]:
    """Write a checkpoint quantised by MLX, and beside it the same one with the weights that this stands for.

    Args:
        name: The checkpoint.
        folder: Where both are written.
        choose: How to quantise the weights of a module; `None` for not at all.
        scale_type: Type of all weights before they are quantised.
    """
    checkpoint = Checkpoint.of(name)

    def run() -> tuple[dict[str, Any], dict[str, Any]]:
        from mlx_integrations.runtime._mlx import mx

        packed: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        for tensor, array in checkpoint.tensors.items():
            module = tensor.removesuffix(".weight")
            value = mx.array(array).astype(getattr(mx, scale_type))
            options = choose(module) if value.ndim == 2 else None
            if options is None:
                packed[tensor] = value
                plain[tensor] = value.astype(mx.float32)
                continue
            weight, scales, *biases = mx.quantize(value, **options)
            packed |= {tensor: weight, f"{module}.scales": scales}
            if biases:
                packed[f"{module}.biases"] = biases[0]
            # Computed in the type of the scales, which is float32 here or has one byte.
            parts: list[Any] = [part.astype(mx.float32) if biases else part for part in (scales, *biases)]
            plain[tensor] = mx.dequantize(weight, *parts, **options).astype(mx.float32)
        for target, tensors in (("packed", packed), ("plain", plain)):
            mx.save_safetensors(str(folder / target / "model.safetensors"), tensors, metadata={"format": "mlx"})
        return packed, plain

    described = {"group_size": 32, "bits": 4, "mode": "affine"}
    config = checkpoint.config | {"quantization": described, "quantization_config": described}
    for target, values in (("packed", config), ("plain", checkpoint.config)):
        (folder / target).mkdir()
        (folder / target / "config.json").write_text(json.dumps(values), encoding="utf-8")
    on_worker(run)
    return folder / "packed", folder / "plain"


def everything(**packing: Any) -> Callable[[str], Packing | None]:
    return lambda module: packing


def mixed(module: str) -> Packing | None:
    """Other bits for single layers, and some left as they are, as mlx-lm's recipes do."""
    if module.endswith("output.dense"):
        return None
    return {"group_size": 32, "bits": 8 if "layer.0" in module or "embeddings" in module else 4}


PACKINGS = {
    "4-bit": everything(group_size=32, bits=4),
    "8-bit": everything(group_size=32, bits=8),
    "6-bit": everything(group_size=32, bits=6),
    "mixed": mixed,
    "mxfp4": everything(mode="mxfp4"),
    "mxfp8": everything(mode="mxfp8"),
    "nvfp4": everything(mode="nvfp4"),
}


def divisible(name: str, choose: Callable[[str], Packing | None]) -> Callable[[str], Packing | None]:
    """Leave out the tables and layers whose rows do not divide into groups, as MLX does."""
    columns = {key.removesuffix(".weight"): tensor.shape[-1] for key, tensor in Checkpoint.of(name).tensors.items()}

    def chosen(module: str) -> Packing | None:
        return choose(module) if columns[module] % 32 == 0 else None

    return chosen


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("cpu_float32", [True, False])
def test_quantised_weights_stand_for_the_weights_they_came_from(
    packing: str, cpu_float32: bool, tmp_path: Path
) -> None:
    packed, plain = quantized("bert", tmp_path, divisible("bert", PACKINGS[packing]))
    mask = references("bert")["mask"]
    exact = last_stage(plain)
    found = last_stage(packed, cpu_float32=cpu_float32)
    # MLX looks words up in bfloat16 where scales have one byte.
    tolerance = 2e-6 if cpu_float32 else 0.02 if "fp" in packing else 1e-4
    np.testing.assert_allclose(found[mask], exact[mask], atol=tolerance, rtol=0)
    assert np.abs(exact - references("bert")["stages"][-1])[mask].max() > 1e-3


@pytest.mark.parametrize("name", ["roberta", "mpnet", "distilbert", "modernbert", "nomic", "nomic_plain"])
@pytest.mark.parametrize("cpu_float32", [True, False])
def test_quantised_weights_of_every_architecture_load(name: str, cpu_float32: bool, tmp_path: Path) -> None:
    packed, plain = quantized(name, tmp_path, divisible(name, everything(group_size=32, bits=8)), scale_type="bfloat16")
    mask = references(name)["mask"]
    found = last_stage(packed, name, cpu_float32=cpu_float32)
    np.testing.assert_allclose(found[mask], last_stage(plain, name)[mask], atol=2e-6 if cpu_float32 else 0.15, rtol=0)


def test_quantised_layers_stay_quantised_where_they_are_fast(tmp_path: Path) -> None:
    packed, _ = quantized("bert", tmp_path, divisible("bert", PACKINGS["4-bit"]))

    def run() -> tuple[str, str, int]:
        encoder = load(packed, cpu_float32=False)
        layer = encoder.layers[0]
        return type(layer.up).__name__, type(encoder.embeddings.word_embeddings).__name__, layer.attention.query.bits

    assert on_worker(run) == ("QuantizedLinear", "QuantizedEmbedding", 4)


def test_quantised_weights_with_prefixes_and_a_quantised_pooler_load(tmp_path: Path) -> None:
    packed, plain = quantized("bert", tmp_path, divisible("bert", PACKINGS["8-bit"]))
    checkpoint = Checkpoint.of("bert")
    checkpoint.tensors = load_file(packed / "model.safetensors")
    checkpoint.config = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    words = "encoder.layer.0.attention.self.query"
    for kind in ("weight", "scales", "biases"):
        checkpoint.tensors[f"pooler.dense.{kind}"] = checkpoint.tensors[f"{words}.{kind}"]
    found = last_stage(checkpoint.rename(lambda name: "bert." + name).write(tmp_path / "m"))
    np.testing.assert_allclose(found, last_stage(plain), atol=2e-6, rtol=0)


@pytest.fixture
def packed_checkpoint(tmp_path: Path) -> Checkpoint:
    packed, _ = quantized("bert", tmp_path, divisible("bert", PACKINGS["4-bit"]))
    config = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(packed / "model.safetensors")
    shutil.rmtree(tmp_path / "plain")
    return Checkpoint(config, tensors)


SCALES, BIASES = QUERY.replace("weight", "scales"), QUERY.replace("weight", "biases")


def test_quantised_tensors_without_a_word_in_the_configuration_are_refused(
    packed_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    del packed_checkpoint.config["quantization"], packed_checkpoint.config["quantization_config"]
    message = str(refused(packed_checkpoint.write(tmp_path / "m")))
    assert "no `quantization`" in message and ".scales`" in message


def test_another_method_of_quantising_is_named(packed_checkpoint: Checkpoint, tmp_path: Path) -> None:
    del packed_checkpoint.config["quantization"]
    packed_checkpoint.config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    assert "quantised by `gptq`" in str(refused(packed_checkpoint.write(tmp_path / "m")))


@pytest.mark.parametrize("cpu_float32", [True, False])
@pytest.mark.parametrize("name", [SCALES, BIASES])
def test_scales_that_are_not_finite_are_found(
    name: str, cpu_float32: bool, packed_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    packed_checkpoint.tensors[name][3, 0] = np.inf
    folder = packed_checkpoint.write(tmp_path / "m")
    with pytest.raises(ModelLoadError, match="not finite") as caught:
        last_stage(folder, cpu_float32=cpu_float32)
    # Widened, scales and biases have become part of the weights.
    assert (QUERY if cpu_float32 else name) in str(caught.value)


@pytest.mark.parametrize("cpu_float32", [True, False])
def test_a_scale_of_one_byte_that_stands_for_nan_is_found(cpu_float32: bool, tmp_path: Path) -> None:
    packed, _ = quantized("bert", tmp_path, divisible("bert", PACKINGS["mxfp8"]))
    tensors = load_file(packed / "model.safetensors")
    tensors[SCALES][0, 0] = 255
    save_file(tensors, packed / "model.safetensors")
    with pytest.raises(ModelLoadError, match="not finite"):
        last_stage(packed, cpu_float32=cpu_float32)


@pytest.mark.parametrize("cpu_float32", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (QUERY, np.zeros((32, 7), np.uint32)),
        (QUERY, np.zeros((32, 32), np.float32)),
        (SCALES, np.zeros((32, 5), np.float32)),
        (SCALES, np.zeros((32, 0), np.float32)),
        (SCALES, np.zeros(32, np.float32)),
        (SCALES, np.zeros((32, 2), np.float32)),
        ("embeddings.LayerNorm.scales", np.zeros((1, 1), np.float32)),
        ("elsewhere.scales", np.zeros((1, 1), np.float32)),
    ],
)
def test_quantised_tensors_that_do_not_fit_are_named(
    name: str, value: Any, cpu_float32: bool, packed_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    packed_checkpoint.tensors[name] = value
    folder = packed_checkpoint.write(tmp_path / "m")
    with pytest.raises(ModelLoadError, match="does not fit its shape") as caught:
        last_stage(folder, cpu_float32=cpu_float32)
    assert name.rpartition(".")[0] + ".weight" in str(caught.value)


@pytest.mark.parametrize("cpu_float32", [True, False])
@pytest.mark.parametrize(("name", "shape"), [(SCALES, (31, 1)), (BIASES, (31, 1)), (BIASES, (32, 2)), (QUERY, (31, 4))])
def test_quantised_tensors_of_different_heights_are_refused(
    name: str, shape: tuple[int, ...], cpu_float32: bool, packed_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    kind = packed_checkpoint.tensors[name].dtype
    packed_checkpoint.tensors[name] = np.zeros(shape, kind)
    folder = packed_checkpoint.write(tmp_path / "m")
    with pytest.raises(ModelLoadError, match=QUERY.removesuffix(".weight")):
        last_stage(folder, cpu_float32=cpu_float32)


def test_the_committed_checkpoints_are_small() -> None:
    for name in NAMES:
        assert sum(file.stat().st_size for file in (ENCODERS / name).iterdir()) < 180_000
