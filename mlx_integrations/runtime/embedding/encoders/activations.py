"""Activation functions by the names that transformers gives them.

On the CPU backend MLX computes `exp`, `erf` and `tanh` one number at a time, at 12 to 28 ns each, while its additions
and multiplications use vector instructions (0.2 ns). There the functions below are polynomials; elsewhere MLX's own.
"""

from collections.abc import Callable
from typing import Any

from mlx_integrations.runtime._mlx import mx, nn

__all__ = ["ACTIVATIONS", "LOG2_E", "exp2", "prefers_polynomials"]

LOG2_E = 1.4426950408889634

# 2 ** f for f in [-0.5, 0.5], relative error below 8e-8; lowest power first.
_EXP2 = (
    1.0000000716561355,
    0.693146967060505,
    0.2402211971658766,
    0.05550713276928494,
    0.009675541729159909,
    0.001327647199730796,
)
_ROUNDING = 1.5 * 2**23  # added to a float32, it leaves the nearest whole number in the lowest bits
_SMALLEST_EXPONENT = -126.0
_LARGEST_EXPONENT = 127.0

# The normal distribution's (cdf(x) - 0.5) / x as a quotient of polynomials in x * x, for |x| up to the bound, where
# cdf(x) is 1 in float32. Fitted with the error in x * cdf(x) weighed evenly; the quotient is off by 2e-8 at most, and
# gelu in float32 by 2.4e-7 * max(1, |x|) (torch: 3.7e-7). Lowest power first; the divisor's highest factor is 1.
_CDF_BOUND = 5.4802003
_CDF_ABOVE = (
    333731.22370403924,
    29397.638222096626,
    3983.2629974959004,
    152.96448651618024,
    5.463182405544216,
    0.018584683437565166,
)
_CDF_BELOW = (836540.7400393321, 213109.8314164731, 24593.00027575562, 1641.6349775320277, 65.75935196971243, 1.0)


def prefers_polynomials(x: Any) -> bool:
    """Whether an array will be computed where polynomials are faster: in float32 on the CPU backend."""
    return bool(x.dtype == mx.float32 and mx.default_device().type == mx.DeviceType.cpu)


def exp2(x: Any) -> Any:
    """2 ** x for float32 x up to 127, relative error below 2e-7; everything below -126 counts as -126."""
    x = mx.maximum(x, _SMALLEST_EXPONENT)
    whole = x + _ROUNDING
    power = _polynomial(x - (whole - _ROUNDING), _EXP2)
    # The whole part goes straight into the exponent's bits.
    shifted = mx.left_shift(whole.view(mx.int32), mx.array(23, dtype=mx.int32))
    return (power.view(mx.int32) + shifted).view(mx.float32)


def _polynomial(x: Any, factors: tuple[float, ...]) -> Any:
    """Horner's rule; `factors` begin with the lowest power."""
    *lower, highest = factors
    value = x * highest if highest != 1.0 else x
    for factor in lower[:0:-1]:
        value = (value + factor) * x
    return value + lower[0]


def _sigmoid(x: Any) -> Any:
    if not prefers_polynomials(x):
        return mx.sigmoid(x)
    return 1.0 / (1.0 + exp2(mx.minimum(x * -LOG2_E, _LARGEST_EXPONENT)))


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


def _gelu(x: Any) -> Any:
    if not prefers_polynomials(x):
        return nn.gelu(x)
    inner = mx.clip(x, -_CDF_BOUND, _CDF_BOUND)
    square = inner * inner
    return x * (inner * _polynomial(square, _CDF_ABOVE) / _polynomial(square, _CDF_BELOW) + 0.5)


def _gelu_tanh(x: Any) -> Any:
    """0.5 x (1 + tanh(z)) = x sigmoid(2 z) with z = sqrt(2 / pi) (x + 0.044715 x^3)."""
    return x * _sigmoid(x * (1.5957691216057308 + 0.07135481282956026 * x * x))


def _quick_gelu(x: Any) -> Any:
    return x * _sigmoid(1.702 * x)


def _relu(x: Any) -> Any:
    return mx.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": _relu,
    "silu": _silu,
    "swish": _silu,
    "sigmoid": _sigmoid,
    "tanh": mx.tanh,
}
