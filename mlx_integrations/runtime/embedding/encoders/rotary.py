"""Rotary positions, with the frequencies that transformers computes.

At position 8,000 the last bit of a frequency turns a vector by 5e-4. So the tables are made with the same float32 steps
as torch's, which MLX's own kernel does not follow.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.runtime._mlx import mx
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig

__all__ = ["Rotary", "rotary_from", "rotate"]

_SMALLEST_TABLE_TOKENS = 512


class Rotary:
    """Cosines and sines of the positions of one kind of layer. Worker thread only.

    Args:
        size: Coordinates of a head that are rotated, from the first on.
        theta: Base of the frequencies.
        factor: Stretches the positions; see `trained_tokens`.
        trained_tokens: Texts up to here keep their positions, longer ones get a larger base that grows with their
            length ("dynamic NTK"). `None`: all positions are divided by the factor.
    """

    def __init__(self, size: int, theta: float, *, factor: float = 1.0, trained_tokens: int | None = None) -> None:
        self._size = size
        self._theta = theta
        self._factor = factor
        self._trained_tokens = trained_tokens
        frequencies = _frequencies(size, theta)
        self._frequencies = frequencies if trained_tokens else frequencies / np.float32(factor)
        self._tables: tuple[Any, Any] | None = None
        self._table_tokens = 0

    def angles(self, mask: Any) -> tuple[Any, Any]:
        """The cosines and sines for a batch.

        Args:
            mask: (B, T) bool, false where padded.

        Returns:
            Each (B or 1, 1, T, size / 2) float32.
        """
        tokens = mask.shape[1]
        if self._trained_tokens is not None and tokens > self._trained_tokens:
            return self._stretched(mask)
        if self._tables is None or tokens > self._table_tokens:
            self._table_tokens = max(_SMALLEST_TABLE_TOKENS, 1 << (tokens - 1).bit_length())
            angles = np.outer(np.arange(self._table_tokens, dtype=np.float32), self._frequencies)
            self._tables = mx.array(np.cos(angles)), mx.array(np.sin(angles))
        cosines, sines = self._tables
        return cosines[None, None, :tokens], sines[None, None, :tokens]

    def _stretched(self, mask: Any) -> tuple[Any, Any]:
        """For a batch in which a text is longer than those of the training; each row by its own length."""
        trained = float(self._trained_tokens or 1)
        lengths = mask.sum(axis=1, keepdims=True).astype(mx.float32)
        growth = self._factor * lengths / trained - (self._factor - 1.0)
        theta = self._theta * growth ** (self._size / (self._size - 2))
        longer = 1.0 / theta ** mx.array(_exponents(self._size))
        frequencies = mx.where(lengths > trained, longer, mx.array(self._frequencies))
        positions = mx.arange(mask.shape[1], dtype=mx.float32)
        angles = positions[None, None, :, None] * frequencies[:, None, None, :]
        return mx.cos(angles), mx.sin(angles)


def _exponents(size: int) -> NDArray[np.float32]:
    return np.arange(0, size, 2, dtype=np.float32) / np.float32(size)


def _frequencies(size: int, theta: float) -> NDArray[np.float32]:
    # torch rounds the power correctly to float32; numpy's own float32 power does not always.
    powers = np.float64(theta) ** _exponents(size).astype(np.float64)
    return np.float32(1.0) / powers.astype(np.float32)


def rotate(x: Any, cosines: Any, sines: Any) -> Any:
    """Turn each pair of coordinates (i, i + size / 2) by the angle of its position.

    Args:
        x: (B, heads, T, head).
        cosines: (B or 1, 1, T, size / 2) float32.
        sines: The same shape.
    """
    half = cosines.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    parts = [first * cosines - second * sines, second * cosines + first * sines]
    turned = mx.concatenate([part.astype(x.dtype) for part in parts], axis=-1)
    return turned if 2 * half == x.shape[-1] else mx.concatenate([turned, x[..., 2 * half :]], axis=-1)


def rotary_from(parameters: EncoderConfig, size: int, *, theta: float, max_tokens: int) -> Rotary:
    """The positions that a `rope_parameters` of transformers 5 asks for.

    Args:
        parameters: That part of config.json.
        size: Coordinates of a head.
        theta: The base, if it names none.
        max_tokens: The model's `max_position_embeddings`.

    Raises:
        UnsupportedArchitectureError: Positions that are computed in another way.
    """
    parameters.allow_only("partial_rotary_factor", 1, 1.0)
    theta = parameters.number("rope_theta", default=theta)
    kind = parameters.text("rope_type", "type", default="default")
    if kind == "default":
        return Rotary(size, theta)
    if kind not in ("linear", "dynamic"):
        raise parameters.unsupported(f"`rope_type` = `{kind}`")
    factor = parameters.number("factor", default=1.0)
    return Rotary(size, theta, factor=factor, trained_tokens=max_tokens if kind == "dynamic" else None)
