"""The arithmetic that encoders share: activations and attention against double precision."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.embedding.sentence_models import on_worker

Numbers = NDArray[np.float64]

POINTS = np.concatenate(
    [np.linspace(-20, 20, 40_001), np.linspace(-1e-3, 1e-3, 2001), [-3e38, -1e30, -1e4, -127.5, 127.5, 1e4, 1e12]]
).astype(np.float32)


def _sigmoid(x: Numbers) -> Numbers:
    found: Numbers = 1.0 / (1.0 + np.exp(-np.clip(x, -700, 700)))
    return found


def _gelu(x: Numbers) -> Numbers:
    cumulated: Numbers = np.array([math.erfc(-value / math.sqrt(2.0)) for value in x])
    return x * (0.5 * cumulated)


def _gelu_tanh(x: Numbers) -> Numbers:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


EXACT: dict[str, Callable[[Numbers], Numbers]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
}


def activate(name: str, points: NDArray[np.float32]) -> NDArray[np.float32]:
    def run() -> NDArray[np.float32]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.encoders.activations import ACTIVATIONS

        return np.array(ACTIVATIONS[name](mx.array(points)))

    return on_worker(run)


@pytest.mark.parametrize("name", EXACT)
def test_activations_are_right_to_the_last_bits_of_float32(name: str) -> None:
    found = activate(name, POINTS).astype(np.float64)
    exact = EXACT[name](POINTS.astype(np.float64))
    # Like torch's, the factor of x is right to its last bits, of which 1 is the largest value.
    errors = np.abs(found - exact) / np.maximum(1.0, np.abs(POINTS.astype(np.float64)))
    assert errors.max() < 4e-7, f"{name}({POINTS[errors.argmax()]})"


def test_large_negative_numbers_are_not_let_through() -> None:
    points = np.array([-6, -10, -100, -1e4, -1e30], np.float32)
    assert np.abs(activate("gelu", points)).max() < 1e-7


def test_powers_of_two_have_a_small_relative_error() -> None:
    points = np.linspace(-126, 127, 100_001).astype(np.float32)

    def run() -> NDArray[np.float32]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.encoders.activations import exp2

        assert float(exp2(mx.array([-1e30, -mx.inf])).max()) <= 2.0**-125
        return np.array(exp2(mx.array(points)))

    relative = on_worker(run).astype(np.float64) / 2.0 ** points.astype(np.float64) - 1.0
    assert np.abs(relative).max() < 2.5e-7


def attend(queries: Any, keys: Any, values: Any, bias: Any, scale: float) -> NDArray[np.float32]:
    def run() -> NDArray[np.float32]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.encoders import layers

        arrays = (mx.array(array) for array in (queries, keys, values, bias))
        return np.array(layers.attend(*arrays, scale=scale))

    return on_worker(run)


# (rows, heads, queries, keys, head), and the shape of the bias: more than 1,000,000 scores are computed in slices.
SHAPES = [
    ((3, 2, 5, 5, 4), (3, 1, 1, 5)),
    ((1, 1, 1, 1, 2), (1, 1, 1, 1)),
    ((2, 2, 3, 9, 4), (2, 1, 3, 9)),
    ((40, 4, 90, 90, 8), (40, 1, 1, 90)),
    ((40, 4, 90, 90, 8), (1, 4, 90, 90)),
    ((2, 3, 700, 700, 8), (2, 3, 700, 700)),
    ((2, 3, 700, 700, 8), (1, 1, 1, 700)),
    ((1, 2, 900, 800, 8), (1, 1, 900, 800)),
]


@pytest.mark.parametrize(("shape", "bias_shape"), SHAPES)
def test_attention_is_softmax_over_the_scores(shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
    rows, heads, tokens, seen, size = shape
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(rows, heads, tokens, size)).astype(np.float32)
    keys, values = generator.normal(size=(2, rows, heads, seen, size)).astype(np.float32)
    bias = generator.normal(size=bias_shape).astype(np.float32)
    bias[..., -1:] += -1e38 if seen > 1 else 0.0
    scores = queries.astype(np.float64) @ keys.swapaxes(-1, -2).astype(np.float64) * 0.3 + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    exact = weights / weights.sum(axis=-1, keepdims=True) @ values
    np.testing.assert_allclose(attend(queries, keys, values, bias, 0.3), exact, atol=5e-6, rtol=0)


def test_scores_far_apart_and_keys_that_nobody_may_see_give_numbers() -> None:
    queries = np.array([1e4, -1e4, 0.0], np.float32).reshape(1, 1, 3, 1)
    keys = np.array([1e4, 1.0, -1e4], np.float32).reshape(1, 1, 3, 1)
    values = np.array([1.0, 2.0, 4.0], np.float32).reshape(1, 1, 3, 1)
    found = attend(queries, keys, values, np.zeros((1, 1, 1, 3), np.float32), 1.0)
    np.testing.assert_allclose(found.ravel(), [1.0, 4.0, 7 / 3], rtol=1e-6)

    def run() -> NDArray[np.float32]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.encoders import layers

        bias = layers.padding_bias(mx.zeros((1, 3), dtype=mx.bool_), mx.float32)
        return np.array(layers.attend(mx.array(queries), mx.array(keys), mx.array(values), bias, scale=1.0))

    assert np.isfinite(on_worker(run)).all()
