"""Safetensors files: which tensors they hold, and their numbers, read from the file as mapped."""

import json
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import ConversionError
from mlx_integrations.runtime.convert.tensors import BYTES_OF, Bits, Tensor

__all__ = ["is_safetensors", "read_safetensors"]

_CHUNK_BYTES = 32 * 1024**2
_LENGTH_BYTES = 8


def is_safetensors(file: Path) -> bool:
    """Whether a file is one by its first bytes, whatever its name: a length, then JSON."""
    with file.open("rb") as stream:
        return stream.read(_LENGTH_BYTES + 1)[_LENGTH_BYTES:] == b"{"


def read_safetensors(file: Path) -> list[Tensor]:
    """The tensors of a file, not read yet (https://github.com/huggingface/safetensors#format).

    Raises:
        ConversionError: It is damaged.
    """
    size = file.stat().st_size
    data: NDArray[np.uint8] = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
    start = _LENGTH_BYTES + int.from_bytes(bytes(data[:_LENGTH_BYTES]), "little")
    if size < _LENGTH_BYTES or start > size:
        raise _damaged(file, "its header is longer than the file")
    try:
        header: dict[str, Any] = json.loads(bytes(data[_LENGTH_BYTES:start]))
        return [_tensor(name, entry, data[start:]) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(file, str(error)) from error


def _tensor(name: str, entry: Any, data: NDArray[np.uint8]) -> Tensor:
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if prod(shape) * BYTES_OF[dtype] != end - begin or not 0 <= begin <= end <= data.size:
        raise ValueError(f"tensor `{name}` is not where its header says")
    return Tensor(name=name, dtype=dtype, shape=shape, chunks=partial(_chunks, data[begin:end]))


def _chunks(data: NDArray[np.uint8]) -> Iterator[Bits]:
    for start in range(0, data.size, _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def _damaged(file: Path, reason: str) -> ConversionError:
    return ConversionError(
        f"`{file}` is not a whole safetensors file: {reason}.", path=str(file), hint="Download the file again."
    )
