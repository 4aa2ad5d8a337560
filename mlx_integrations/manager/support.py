"""Whether a model can be run here, judged before its weights are read or even downloaded. Pure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from mlx_integrations.registry.entry import Quantization
from mlx_integrations.types import Support

__all__ = ["DescribeSupport", "judge", "model_type_of", "quantization_of"]

DescribeSupport = Callable[[Mapping[str, Any], Sequence[str]], Support]
"""From config.json and the names of a model's files to whether there is code for it; the runtime's."""

_OTHER_FORMATS = {
    ".gguf": "GGUF",
    ".bin": "PyTorch",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".onnx": "ONNX",
    ".mlpackage": "Core ML",
    ".mlmodel": "Core ML",
}
_CONVERTIBLE = ("GGUF", "PyTorch")


def judge(config: Mapping[str, Any] | None, files: Sequence[str], describe: DescribeSupport | None) -> Support:
    """Whether a model can be run.

    Args:
        config: config.json; `None` if there is none that can be read.
        files: Names of the model's files.
        describe: Knows the architectures; without it every architecture passes.
    """
    formats = {
        _OTHER_FORMATS[suffix] for file in files for suffix in PurePosixPath(file).suffixes if suffix in _OTHER_FORMATS
    }
    if not any(file.endswith(".safetensors") for file in files):
        return Support(kind=None, is_supported=False, reason=_without_weights(formats))
    if config is None:
        return Support(kind=None, is_supported=False, reason="It has no config.json.")
    return Support(kind=None, is_supported=True) if describe is None else describe(config, files)


def model_type_of(config: Mapping[str, Any] | None) -> str | None:
    """The architecture's name."""
    value = (config or {}).get("model_type")
    return value if isinstance(value, str) and value else None


def quantization_of(config: Mapping[str, Any] | None) -> Quantization | None:
    """How weights are stored, as MLX writes it into `quantization` and other tools into `quantization_config`."""
    config = config or {}
    found = config.get("quantization") or config.get("quantization_config")
    bits = found.get("bits") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(bits, int):
        return None
    group_size = found.get("group_size")
    mode = found.get("mode") or found.get("quant_method") or "affine"
    return Quantization(
        bits=bits,
        group_size=group_size if isinstance(group_size, int) else None,
        mode=mode if isinstance(mode, str) else None,
    )


def _without_weights(formats: set[str]) -> str:
    convertible = [name for name in _CONVERTIBLE if name in formats]
    if convertible:
        return f"It has {' and '.join(convertible)} files, not safetensors: `mlxi models import` can convert them."
    if formats:
        return f"It has {' and '.join(sorted(formats))} files, which cannot be run here; look for an MLX version of it."
    return "It has no safetensors files."
