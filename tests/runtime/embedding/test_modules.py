"""What follows the transformer computes what torch and sentence-transformers compute."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.embedding.module_files import (
    ACTIVATIONS,
    POOLING_MODES,
    DenseSpec,
    LayerNormSpec,
    NormalizeSpec,
    PoolingSpec,
)
from tests.runtime.embedding.sentence_models import assemble, on_worker

Array = NDArray[Any]

HIDDEN = np.random.default_rng(7).normal(size=(5, 9, 6)) * 3
LENGTHS = [9, 4, 1, 7, 0]
PROMPTS = [3, 2, 0, 7, 0]  # the whole of the fourth row is prompt

# The formulas of torch.nn's documentation, in double precision.
FORMULAS: dict[str, Callable[[float], float]] = {
    "Identity": lambda x: x,
    "Tanh": math.tanh,
    "Sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "ReLU": lambda x: max(x, 0.0),
    "LeakyReLU": lambda x: max(x, 0.0) + 0.01 * min(x, 0.0),
    "ELU": lambda x: x if x > 0 else math.expm1(x),
    "GELU": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "SiLU": lambda x: x / (1 + math.exp(-x)),
    "Softplus": lambda x: math.log1p(math.exp(x)),
    "Mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
}


def pooled(modes: tuple[str, ...], *, include_prompt: bool = True, hidden: Array = HIDDEN) -> Array:
    def compute() -> Array:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.modules import pool

        mask = mx.array(np.arange(9)[None] < np.array(LENGTHS)[:, None])
        spec = PoolingSpec(modes=modes, hidden_size=6, include_prompt=include_prompt)
        return np.array(pool(mx.array(hidden.astype(np.float32)), mask, spec, mx.array(PROMPTS)))

    return on_worker(compute)


def expected(mode: str, row: Array, length: int, prompt: int) -> Array:
    """One row in double precision, by the definition of the mode."""
    tokens, weights = row[prompt:length], np.arange(prompt + 1, length + 1)[:, None]
    if length == 0 or (len(tokens) == 0 and mode != "cls"):
        return np.zeros(row.shape[1])
    values: Array = {
        "cls": lambda: tokens[0] if len(tokens) else row[0],
        "max": lambda: tokens.max(axis=0),
        "mean": lambda: tokens.mean(axis=0),
        "mean_sqrt_len_tokens": lambda: tokens.sum(axis=0) / math.sqrt(len(tokens)),
        "weightedmean": lambda: (tokens * weights).sum(axis=0) / weights.sum(),
        "lasttoken": lambda: tokens[-1],
    }[mode]()
    return values


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_mode_pools_by_its_definition(mode: str, include_prompt: bool) -> None:
    prompts = [0] * 5 if include_prompt else PROMPTS
    rows = [expected(mode, *row) for row in zip(HIDDEN, LENGTHS, prompts, strict=True)]

    found = pooled((mode,), include_prompt=include_prompt)

    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, rows, rtol=1e-6, atol=1e-6)


def test_several_modes_are_concatenated_in_their_order() -> None:
    found = pooled(("lasttoken", "mean", "cls"))
    assert found.shape == (5, 18) and found.dtype == np.float32
    parts = [pooled((mode,)) for mode in ("lasttoken", "mean", "cls")]
    np.testing.assert_array_equal(found, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_in_the_padding_does_not_matter(mode: str, garbage: float) -> None:
    dirty = np.where((np.arange(9)[None] < np.array(LENGTHS)[:, None])[..., None], HIDDEN, garbage)
    np.testing.assert_array_equal(pooled((mode,), hidden=dirty), pooled((mode,)))


def test_pooling_of_half_precision_is_computed_in_float32() -> None:
    def compute() -> tuple[Array, Array]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.modules import pool

        hidden = mx.full((1, 3000, 2), 1.001, dtype=mx.float16)
        spec = PoolingSpec(modes=("mean",), hidden_size=2)
        return np.array(pool(hidden, mx.ones((1, 3000), dtype=mx.bool_), spec)), np.array(hidden[0, 0])

    mean, value = on_worker(compute)
    np.testing.assert_allclose(mean[0], value, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str) -> None:
    inputs = np.concatenate([np.linspace(-12, 12, 241), [-1e-4, 0.0, 1e-4, 30.0, -30.0]])

    def compute() -> Array:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.modules import ACTIVATION_FUNCTIONS

        return np.array(ACTIVATION_FUNCTIONS[name](mx.array(inputs.astype(np.float32))))

    wanted = [FORMULAS[name](float(np.float32(x))) for x in inputs]
    np.testing.assert_allclose(on_worker(compute), wanted, rtol=2e-6, atol=1e-6)


def test_every_activation_that_may_be_named_exists() -> None:
    def names() -> set[str]:
        from mlx_integrations.runtime.embedding.modules import ACTIVATION_FUNCTIONS

        return set(ACTIVATION_FUNCTIONS)

    assert on_worker(names) == set(ACTIVATIONS) == set(FORMULAS)


def run_module(spec: Any, inputs: Array) -> Array:
    def compute() -> Array:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.modules import load_module

        module = load_module(spec, model_path=Path("model"))
        return np.array(module(mx.array(inputs.astype(np.float32))))

    return on_worker(compute)


@pytest.mark.parametrize(("outer", "residual"), [(4, False), (4, True), (3, True)])
def test_dense_adds_bias_activates_and_adds_its_input(tmp_path: Path, outer: int, residual: bool) -> None:
    draw = np.random.default_rng(outer)
    weight, bias, side = draw.normal(size=(outer, 4)), draw.normal(size=outer), draw.normal(size=(outer, 4))
    tensors = {"linear.weight": weight, "linear.bias": bias}
    if residual and outer != 4:
        tensors["residual.weight"] = side
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "m.safetensors")
    inputs = draw.normal(size=(5, 4))
    wanted = np.tanh(inputs @ weight.T + bias)
    if residual:
        wanted = wanted + (inputs if outer == 4 else inputs @ side.T)

    spec = DenseSpec(
        weights=tmp_path / "m.safetensors",
        in_features=4,
        out_features=outer,
        bias=True,
        activation="Tanh",
        residual=residual,
    )
    np.testing.assert_allclose(run_module(spec, inputs), wanted, atol=2e-6)


def test_layer_norm_has_torchs_epsilon(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    weight, bias, inputs = draw.normal(size=6), draw.normal(size=6), draw.normal(size=(4, 6)) * 1e-3
    tensors = {"norm.weight": weight.astype(np.float32), "norm.bias": bias.astype(np.float32)}
    save_file(tensors, tmp_path / "m.safetensors")
    centred = inputs - inputs.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt(inputs.var(axis=1, keepdims=True) + 1e-5) * weight + bias

    spec = LayerNormSpec(weights=tmp_path / "m.safetensors", dimensions=6)
    np.testing.assert_allclose(run_module(spec, inputs), wanted, atol=2e-6)


def test_normalize_leaves_zeros_alone() -> None:
    found = run_module(NormalizeSpec(), np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]], atol=1e-7)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    tensors = {"linear.weight": np.full((1, 2), 1.0009765625, np.float16)}
    save_file(tensors, tmp_path / "m.safetensors")
    spec = DenseSpec(
        weights=tmp_path / "m.safetensors", in_features=2, out_features=1, bias=False, activation="Identity"
    )
    assert run_module(spec, np.array([[1.0, 1e-4]]))[0, 0] == pytest.approx(1.0009765625 * 1.0001, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("linear.bias"), "lacks the tensor `linear.bias`"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), "has the tensor `extra`"),
        (lambda t: t.update({"linear.weight": np.zeros((24, 31), np.float32)}), r"`linear.weight` of shape \(24, 31\)"),
        (lambda t: t["linear.weight"].__setitem__((0, 0), np.nan), "`linear.weight` with values that are not finite"),
        (lambda t: t["linear.bias"].__setitem__(3, np.inf), "`linear.bias` with values that are not finite"),
    ],
)
def test_wrong_weights_are_refused_with_file_and_tensor(
    tmp_path: Path, change: Callable[[dict[str, Array]], Any], named: str
) -> None:
    folder = assemble("bert-dense", tmp_path / "model")
    file = folder / "2_Dense" / "model.safetensors"
    tensors = {name: value.copy() for name, value in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)

    with pytest.raises(ModelLoadError, match=named) as caught:
        run_module(read_sentence_model(folder).modules[0], np.zeros((1, 32)))
    assert str(file) in str(caught.value)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = assemble("bert-dense", tmp_path / "model")
    spec = read_sentence_model(folder).modules[0]
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        run_module(spec, np.zeros((1, 32)))
