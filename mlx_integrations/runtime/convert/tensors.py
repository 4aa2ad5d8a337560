"""Tensors on their way from one file to another, and the safetensors files they are written to.

A `Tensor` is a name, a shape and a way to read it piece by piece, so that a model is never in memory as a whole.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES_OF", "FLOATS", "Bits", "Tensor", "cast", "float32_bits", "write_tensors"]

BYTES_OF: Final = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one number, by the type's name in safetensors (https://github.com/huggingface/safetensors#format)."""
FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Types that `cast` reads; it writes the last three."""

_MAX_FILE_BYTES = 4 * 1024**3
_CHUNK_ELEMENTS = 4 * 1024**2

Bits = NDArray[Any]
"""The bits of consecutive elements, whatever numpy takes them for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that has not been read yet.

    Attributes:
        name: Its name in the file it goes to.
        dtype: Its type's name in safetensors.
        shape: Its dimensions.
        chunks: Reads it, some elements at a time, in C order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[Bits]]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """What it takes in a file."""
        return self.elements * BYTES_OF[self.dtype]


def cast(tensor: Tensor, dtype: str) -> Tensor:
    """The same tensor in another floating-point type; as it is if it holds no floating-point numbers."""
    if tensor.dtype == dtype or tensor.dtype not in FLOATS:
        return tensor

    def chunks() -> Iterator[Bits]:
        for chunk in tensor.chunks():
            flat = chunk.reshape(-1)
            for start in range(0, flat.size, _CHUNK_ELEMENTS):
                yield float32_bits(_as_float32(flat[start : start + _CHUNK_ELEMENTS], tensor.dtype), dtype)

    return Tensor(name=tensor.name, dtype=dtype, shape=tensor.shape, chunks=chunks)


def _as_float32(bits: Bits, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    own = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]
    return bits.view(own).astype(np.float32)


def float32_bits(values: NDArray[np.float32], dtype: str) -> Bits:
    """Numbers as `F32`, `F16` or `BF16`; bfloat16, which numpy lacks, comes as the bits of uint16."""
    if dtype == "F32":
        return values
    if dtype == "F16":
        with np.errstate(over="ignore"):  # to infinity, as everywhere else
            return values.astype(np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    # To the nearest, ties to even; what rounding would make of NaN is infinity, so it keeps a bit instead.
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def write_tensors(
    folder: Path,
    tensors: Iterable[Tensor],
    *,
    stem: str = "model",
    metadata: Mapping[str, str],
    on_bytes: Callable[[str, int], None],
    max_file_bytes: int | None = None,
) -> list[Path]:
    """Write tensors as safetensors files, one tensor after the other, with an index if there are several files.

    Args:
        folder: Where they go.
        tensors: What is written.
        stem: What the files are called.
        metadata: What their headers say besides.
        on_bytes: Told each tensor's name and the bytes of it that have just been written.
        max_file_bytes: A file is ended before it would be larger, if it has a tensor; 4 GiB otherwise.
    """
    files = _files(list(tensors), max_file_bytes or _MAX_FILE_BYTES)
    names = [f"{stem}-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    if len(files) == 1:
        names = [f"{stem}.safetensors"]
    for name, parts in zip(names, files, strict=True):
        _write_file(folder / name, parts, metadata, on_bytes)
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(tensor.stored_bytes for parts in files for tensor in parts)},
            "weight_map": {tensor.name: name for name, parts in zip(names, files, strict=True) for tensor in parts},
        }
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return [folder / name for name in names]


def _files(tensors: Sequence[Tensor], max_file_bytes: int) -> list[list[Tensor]]:
    """Which tensors go together."""
    files: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if files[-1] and size + tensor.stored_bytes > max_file_bytes:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += tensor.stored_bytes
    # Wider types first keep every tensor aligned.
    return [sorted(parts, key=lambda tensor: -BYTES_OF[tensor.dtype]) for parts in files]


def _write_file(
    file: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str], on_bytes: Callable[[str, int], None]
) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.stored_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("xb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            _write_tensor(stream, tensor, on_bytes)
        stream.flush()
        os.fsync(stream.fileno())


def _write_tensor(stream: BinaryIO, tensor: Tensor, on_bytes: Callable[[str, int], None]) -> None:
    written = 0
    for chunk in tensor.chunks():
        stream.write(np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data)
        written += chunk.nbytes
        on_bytes(tensor.name, chunk.nbytes)
    if written != tensor.stored_bytes:
        raise ValueError(f"`{tensor.name}` gave {written:,} bytes instead of {tensor.stored_bytes:,}")
