"""How a GGUF model rotates positions, in Hugging Face's words."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import ConversionError
from mlx_integrations.runtime.convert.gguf_blocks import unpacked_rows
from mlx_integrations.runtime.convert.gguf_file import GGUFFile
from mlx_integrations.runtime.convert.gguf_values import GGUFValues, tidy

__all__ = ["llama3_factors", "rope_settings"]

_DEFAULT_THETA = 10_000.0  # llama.cpp's, for files that leave it out
# What every Llama since 3.1 has; a file keeps only the factors that come of it.
_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_SAME = 1e-4


def rope_settings(file: GGUFFile, values: GGUFValues) -> dict[str, Any]:
    """`rope_theta`, `rope_scaling` and what goes with them in config.json.

    Raises:
        ConversionError: Positions are scaled in a way that is not known.
    """
    head_size = values.size(
        "attention.key_length", default=values.size("embedding_length") // values.size("attention.head_count")
    )
    theta = values.number("rope.freq_base", default=_DEFAULT_THETA)
    settings: dict[str, Any] = {"rope_theta": theta, "rope_scaling": _scaling(file, values)}
    rotated = values.size("rope.dimension_count", default=head_size)
    if values.architecture == "phi3":
        settings |= _phi3(file, values, rotated / head_size)
    elif rotated != head_size:
        raise values.error("rope.dimension_count", rotated)
    if "rope_freqs.weight" in file.tensors:
        settings["rope_scaling"] = _llama3(file, theta, head_size)
    return settings


def _scaling(file: GGUFFile, values: GGUFValues) -> dict[str, Any] | None:
    kind = values.get("rope.scaling.type") or "none"
    if kind == "none":
        return None
    if kind == "linear":
        return {"type": "linear", "rope_type": "linear", "factor": values.number("rope.scaling.factor")}
    if kind == "yarn":
        return {
            "type": "yarn",
            "rope_type": "yarn",
            "factor": values.number("rope.scaling.factor"),
            "original_max_position_embeddings": values.size("rope.scaling.original_context_length"),
        }
    if kind == "longrope" and values.architecture == "phi3":
        return None  # its factors are tensors
    raise values.error("rope.scaling.type", kind)


def _phi3(file: GGUFFile, values: GGUFValues, share: float) -> dict[str, Any]:
    """Phi-3's long models have a factor for every frequency, one list for short texts and one for long ones."""
    settings: dict[str, Any] = {"partial_rotary_factor": share}
    if "rope_factors_long.weight" in file.tensors:
        settings["rope_scaling"] = {
            "type": "longrope",
            "long_factor": [tidy(factor) for factor in _numbers(file, "rope_factors_long.weight").tolist()],
            "short_factor": [tidy(factor) for factor in _numbers(file, "rope_factors_short.weight").tolist()],
        }
        settings["original_max_position_embeddings"] = values.size("rope.scaling.original_context_length")
    return settings


def _llama3(file: GGUFFile, theta: float, head_size: int) -> dict[str, Any]:
    """The settings behind Llama 3's factors: how much the slow frequencies are slowed down, the rest as always."""
    factors = _numbers(file, "rope_freqs.weight")
    most = float(factors.max())
    expected = llama3_factors(theta, head_size, most)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=_SAME):
        raise ConversionError(
            f"`{file.path}` rotates positions by factors (`rope_freqs.weight`) that are not those of a Llama 3.",
            path=str(file.path),
            hint="Pull the model in MLX's format instead.",
        )
    return {"rope_type": "llama3", "type": "llama3", "factor": tidy(most), **_LLAMA3}


def llama3_factors(theta: float, head_size: int, factor: float) -> NDArray[np.float64]:
    """What each frequency is divided by, (head_size / 2,).

    Source: `_compute_llama3_parameters` in transformers/modeling_rope_utils.py.
    """
    low, high, window = (
        _LLAMA3["low_freq_factor"],
        _LLAMA3["high_freq_factor"],
        _LLAMA3["original_max_position_embeddings"],
    )
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_size, 2) / head_size)
    smooth = np.clip((window / wavelengths - low) / (high - low), 0.0, 1.0)
    factors: NDArray[np.float64] = 1 / ((1 - smooth) / factor + smooth)
    return factors


def _numbers(file: GGUFFile, name: str) -> NDArray[np.float32]:
    if name not in file.tensors:
        raise ConversionError(
            f"`{file.path}` lacks the tensor `{name}`.", path=str(file.path), hint="Download the file again."
        )
    tensor = file.tensors[name]
    return np.concatenate([chunk.reshape(-1) for chunk in unpacked_rows(tensor.rows, tensor.type_id)])
