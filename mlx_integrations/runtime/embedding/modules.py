"""What happens to token vectors after the transformer: pooling, Dense, LayerNorm, Normalize. Worker thread only.

The formulas are those of torch and of sentence-transformers 6.2 (sentence_transformer/modules/pooling.py,
base/modules/dense.py there); everything is computed in float32.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime._mlx import mx, nn, tree_flatten
from mlx_integrations.runtime.embedding.module_files import (
    DenseSpec,
    LayerNormSpec,
    ModuleSpec,
    NormalizeSpec,
    PoolingSpec,
)

__all__ = ["ACTIVATION_FUNCTIONS", "Dense", "LayerNorm", "Normalize", "load_module", "pool"]

_TINY_COUNT = 1e-9
_TINY_LENGTH = 1e-12
_LAYER_NORM_EPS = 1e-5

ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "Identity": lambda x: x,
    "Tanh": mx.tanh,
    "Sigmoid": mx.sigmoid,
    "ReLU": nn.relu,
    "LeakyReLU": nn.leaky_relu,
    "ELU": nn.elu,
    "GELU": nn.gelu,
    "SiLU": nn.silu,
    "Softplus": nn.softplus,
    "Mish": nn.mish,
}
"""By the name of torch's class."""


def pool(hidden: Any, mask: Any, spec: PoolingSpec, prompt_tokens: Any = None) -> Any:
    """Make one vector of each row of token vectors.

    A row of which nothing counts, because it is empty or all of it is prompt, becomes zeros in every mode but `cls`,
    which takes its first token if there is one.

    Args:
        hidden: (B, T, D); rows are padded on the right.
        mask: (B, T) bool, true for tokens and false for padding.
        spec: Which modes, and whether the prompt counts.
        prompt_tokens: (B,) int, tokens of each row that belong to the prompt; needed if they do not count.

    Returns:
        (B, modes * D) float32.
    """
    hidden = hidden.astype(mx.float32)
    counted = mask
    if not spec.include_prompt and prompt_tokens is not None:
        counted = mask & (mx.arange(mask.shape[1])[None] >= prompt_tokens[:, None])
    pooled = [_MODES[mode](hidden, counted, mask) for mode in spec.modes]
    return pooled[0] if len(pooled) == 1 else mx.concatenate(pooled, axis=-1)


def _sum(hidden: Any, counted: Any) -> tuple[Any, Any]:
    """Sum of the counted vectors (B, D), and how many there are (B, 1).

    `where`, not a product: what lies in the padding may be anything.
    """
    total = mx.where(counted[..., None], hidden, 0.0).sum(axis=1)
    return total, mx.maximum(counted.sum(axis=1, keepdims=True).astype(mx.float32), _TINY_COUNT)


def _mean(hidden: Any, counted: Any, _: Any) -> Any:
    total, count = _sum(hidden, counted)
    return total / count


def _mean_sqrt_length(hidden: Any, counted: Any, _: Any) -> Any:
    total, count = _sum(hidden, counted)
    return total / mx.sqrt(count)


def _weighted_mean(hidden: Any, counted: Any, _: Any) -> Any:
    """Mean with weights 1, 2, 3, ... by position in the whole row, prompt included."""
    weights = mx.where(counted, mx.arange(1, counted.shape[1] + 1)[None], 0).astype(mx.float32)
    total = (mx.where(counted[..., None], hidden, 0.0) * weights[..., None]).sum(axis=1)
    return total / mx.maximum(weights.sum(axis=1, keepdims=True), _TINY_COUNT)


def _max(hidden: Any, counted: Any, _: Any) -> Any:
    highest = mx.where(counted[..., None], hidden, -mx.inf).max(axis=1)
    return mx.where(counted.any(axis=1, keepdims=True), highest, 0.0)


def _first(hidden: Any, counted: Any, mask: Any) -> Any:
    """The first vector that counts; the row's first if none does."""
    vector = _take(hidden, mx.argmax(counted.astype(mx.int32), axis=1))
    return mx.where(mask.any(axis=1, keepdims=True), vector, 0.0)


def _last(hidden: Any, counted: Any, _: Any) -> Any:
    positions = mx.arange(counted.shape[1])[None]
    vector = _take(hidden, mx.where(counted, positions, 0).max(axis=1))
    return mx.where(counted.any(axis=1, keepdims=True), vector, 0.0)


def _take(hidden: Any, positions: Any) -> Any:
    """The vector at one position (B,) of each row."""
    return mx.take_along_axis(hidden, positions[:, None, None], axis=1).squeeze(1)


_MODES: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


class Dense(nn.Module):
    """A linear layer and an activation; with `residual`, the input is added."""

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.in_features, spec.out_features, bias=spec.bias)
        self._activation = ACTIVATION_FUNCTIONS[spec.activation]
        self._residual = spec.residual
        if spec.residual and spec.in_features != spec.out_features:
            self.residual = nn.Linear(spec.in_features, spec.out_features, bias=False)

    def __call__(self, x: Any) -> Any:
        """(B, in_features) to (B, out_features)."""
        out = self._activation(self.linear(x))
        if self._residual:
            out = out + (self.residual(x) if "residual" in self else x)
        return out


class LayerNorm(nn.Module):
    """Normalisation to mean 0 and variance 1 of each vector."""

    def __init__(self, spec: LayerNormSpec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.dimensions, eps=_LAYER_NORM_EPS)

    def __call__(self, x: Any) -> Any:
        """(B, dimensions) to the same."""
        return self.norm(x)


class Normalize(nn.Module):
    """Scaling of each vector to length 1."""

    def __call__(self, x: Any) -> Any:
        """(B, dimensions) to the same; a vector of zeros stays one."""
        return x / mx.maximum(mx.sqrt((x * x).sum(axis=-1, keepdims=True)), _TINY_LENGTH)


def load_module(spec: ModuleSpec, *, model_path: Path) -> Any:
    """A module with its weights, in float32.

    Raises:
        ModelLoadError: Weights are missing, of another shape, not finite, or more than the module has.
    """
    if isinstance(spec, NormalizeSpec):
        return Normalize()
    module = Dense(spec) if isinstance(spec, DenseSpec) else LayerNorm(spec)
    flat = cast(list[tuple[str, Any]], tree_flatten(module.parameters()))
    wanted = {name: value.shape for name, value in flat}
    found = _read(spec.weights, model_path)
    for name, shape in wanted.items():
        if name not in found:
            raise _error(spec.weights, f"lacks the tensor `{name}`", model_path)
        if found[name].shape != shape:
            raise _error(spec.weights, f"has `{name}` of shape {found[name].shape}, not {shape}", model_path)
        if not mx.isfinite(found[name]).all().item():
            raise _error(spec.weights, f"has `{name}` with values that are not finite numbers", model_path)
    unexpected = sorted(set(found) - set(wanted))
    if unexpected:
        raise _error(spec.weights, f"has the tensor `{unexpected[0]}`, for which there is no place", model_path)
    module.load_weights(list(found.items()), strict=True)
    mx.eval(module.parameters())
    return module


def _read(file: Path, model_path: Path) -> dict[str, Any]:
    try:
        tensors = cast(dict[str, Any], mx.load(str(file)))
    except (RuntimeError, ValueError, OSError) as error:
        raise _error(file, f"cannot be read: {error}", model_path) from error
    return {name: tensor.astype(mx.float32) for name, tensor in tensors.items()}


def _error(file: Path, what: str, model_path: Path) -> ModelLoadError:
    return ModelLoadError(
        f"`{file}` {what}.", model_path=str(model_path), hint="Download the file again; it must belong to this model."
    )
