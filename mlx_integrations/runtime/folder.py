"""What a model folder says about itself, read without MLX: configuration, window, weights on disk, end tokens.

Everything a load could trip over is found here first, so that the error names the file and the way out.
"""

import json
import shlex
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_integrations.errors import ModelLoadError

__all__ = ["ModelFolder", "WeightFile", "read_folder"]

_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
_WINDOW_KEYS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "seq_length", "n_positions", "n_ctx")
_NO_LIMIT_TOKENS = 1_000_000_000  # transformers writes 1e30 for "unknown"
_FALLBACK_WINDOW_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One safetensors file: its size, and the bytes its tensors take once loaded as stored or as float32."""

    path: Path
    stored_bytes: int
    float32_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A folder that looks like a model.

    Attributes:
        path: The folder, resolved.
        config: config.json, as it stands.
        generation_config: generation_config.json, or empty.
        model_type: The architecture's name.
        context_window: Tokens of prompt and answer together.
        weights: Its safetensors files.
    """

    path: Path
    config: dict[str, Any]
    generation_config: dict[str, Any] = field(default_factory=dict)
    model_type: str
    context_window: int
    weights: tuple[WeightFile, ...]

    def end_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer, as config.json and generation_config.json name them."""
        found: list[int] = []
        for source in (self.generation_config, self.config, self.config.get("text_config") or {}):
            value = source.get("eos_token_id")
            found += [value] if isinstance(value, int) else value if isinstance(value, list) else []
        return tuple(dict.fromkeys(found))

    def weight_bytes(self, *, as_float32: bool) -> int:
        """Bytes of memory the weights take, as stored or widened to float32."""
        return sum(file.float32_bytes if as_float32 else file.stored_bytes for file in self.weights)


def read_folder(path: Path) -> ModelFolder:
    """Read and check a model folder; touches headers only, not the weights themselves.

    Raises:
        ModelLoadError: The folder, its config.json or its weights are missing or damaged.
    """
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise ModelLoadError(f"`{path}` is not a folder.", model_path=str(path), hint="Give the folder of a model.")
    config = _read_json(folder / "config.json", folder, required=True)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ModelLoadError(
            f"`{folder / 'config.json'}` names no `model_type`.",
            model_path=str(folder),
            hint="Use a folder in the Hugging Face format, as `mlx_lm.convert` writes it.",
        )
    return ModelFolder(
        path=folder,
        config=config,
        generation_config=_read_json(folder / "generation_config.json", folder, required=False),
        model_type=model_type,
        context_window=_context_window(config),
        weights=_weight_files(folder, _quantization_bits(config)),
    )


def _read_json(file: Path, folder: Path, *, required: bool) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return {}
        raise ModelLoadError(
            f"`{folder}` has no {file.name}.",
            model_path=str(folder),
            hint="Give the folder that holds config.json, tokenizer.json and *.safetensors.",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"`{file}` cannot be read: {error}.", model_path=str(folder), hint="Download the file again."
        ) from error
    if not isinstance(value, dict):
        raise ModelLoadError(
            f"`{file}` does not hold a JSON object.", model_path=str(folder), hint="Download the file again."
        )
    return value


def _context_window(config: dict[str, Any]) -> int:
    for part in (config.get("text_config"), config):
        if not isinstance(part, dict):
            continue
        for key in _WINDOW_KEYS:
            tokens = part.get(key)
            if isinstance(tokens, int) and 0 < tokens < _NO_LIMIT_TOKENS:
                return tokens
    return _FALLBACK_WINDOW_TOKENS


def _quantization_bits(config: dict[str, Any]) -> int | None:
    quantization = config.get("quantization") or config.get("quantization_config")
    bits = quantization.get("bits") if isinstance(quantization, dict) else None
    return bits if isinstance(bits, int) and bits > 0 else None


def _weight_files(folder: Path, bits: int | None) -> tuple[WeightFile, ...]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        others = sorted({file.suffix for file in folder.iterdir() if file.suffix in {".bin", ".pt", ".gguf", ".onnx"}})
        found = f" (it has {', '.join(others)} files)" if others else ""
        raise ModelLoadError(
            f"`{folder}` has no model*.safetensors{found}.",
            model_path=str(folder),
            hint=f"Convert it: mlxi models import {shlex.quote(str(folder))}"
            if {".bin", ".pt", ".gguf"} & set(others)
            else "Download the model again, whole.",
        )
    return tuple(_weight_file(file, folder, bits) for file in files)


def _weight_file(file: Path, folder: Path, bits: int | None) -> WeightFile:
    header, data_bytes = _safetensors_header(file, folder)
    float32_bytes = 0
    end = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, stop = tensor["data_offsets"]
        end = max(end, stop)
        elements = 1
        for size in tensor["shape"]:
            elements *= size
        if tensor["dtype"] == "U32" and bits:
            float32_bytes += elements * 32 // bits * 4
        elif tensor["dtype"].startswith(("F", "BF")):
            float32_bytes += elements * 4
        else:
            float32_bytes += stop - start
    if end != data_bytes:
        raise _damaged(file, folder, f"its header promises {end:,} bytes of tensors, it holds {data_bytes:,}")
    return WeightFile(path=file, stored_bytes=data_bytes, float32_bytes=float32_bytes)


def _safetensors_header(file: Path, folder: Path) -> tuple[dict[str, Any], int]:
    """The header and the number of bytes after it (https://github.com/huggingface/safetensors#format)."""
    try:
        total_bytes = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            if len(prefix) < 8:
                raise _damaged(file, folder, "it is shorter than a header")
            (header_bytes,) = struct.unpack("<Q", prefix)
            if header_bytes > min(_MAX_HEADER_BYTES, total_bytes - 8):
                raise _damaged(file, folder, "its header is longer than the file")
            header = json.loads(stream.read(header_bytes))
        for name, tensor in header.items():
            if name != "__metadata__":
                tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    except OSError as error:
        raise _damaged(file, folder, str(error)) from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise _damaged(file, folder, "its header is not valid") from error
    return header, total_bytes - 8 - header_bytes


def _damaged(file: Path, folder: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(
        f"`{file}` is not a whole safetensors file: {reason}.",
        model_path=str(folder),
        hint="Delete the file and download it again.",
    )
