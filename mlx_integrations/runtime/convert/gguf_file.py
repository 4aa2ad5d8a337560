"""GGUF files as they are: metadata, and where each tensor lies. Nothing is interpreted here.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file is mapped, not read: what nobody asks for
stays on the disk.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.gguf_blocks import BLOCKS, UNREAD_TYPES

__all__ = ["GGUFFile", "GGUFTensor", "read_gguf"]

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING, _ARRAY = 8, 9
# Type numbers of metadata, in the letters of `struct`.
_SCALARS: Final = {
    kind: struct.Struct(f"<{letter}")
    for kind, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_DOWNLOAD_AGAIN = "Download the file again."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GGUFTensor:
    """A tensor in a file.

    Attributes:
        name: Its name there.
        type_id: How its numbers are packed; a key of `BLOCKS`.
        shape: Its dimensions, rows first (the file has them the other way round).
        rows: (rows, bytes of a row) of its packed numbers; a row is the last dimension.
    """

    name: str
    type_id: int
    shape: tuple[int, ...]
    rows: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GGUFFile:
    """A GGUF file, or all parts of one that was split.

    Attributes:
        path: The file; the first one of several.
        metadata: What it says about the model. Arrays are lists or numpy arrays.
        tensors: By name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read a file's metadata and map its tensors; of a split one, all its parts.

    Raises:
        ConversionError: A file is damaged or a part is missing.
        UnsupportedFormatError: It is big-endian, of the first version, or packed in a way that is not known.
    """
    parts = [_Reader(file).read() for file in _parts(path)]
    tensors: dict[str, GGUFTensor] = {}
    for part in parts:
        tensors |= part.tensors
    return GGUFFile(path=parts[0].path, metadata=parts[0].metadata, tensors=tensors)


def _parts(path: Path) -> list[Path]:
    found = _PART.search(path.name)
    if found is None:
        return [path]
    count = int(found[2])
    names = [f"{path.name[: found.start()]}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise ConversionError(
            f"`{path}` is one of {count} parts, and `{missing[0]}` is missing.",
            path=str(path),
            hint="Put all parts into one folder.",
        )
    return [path.parent / name for name in names]


class _Reader:
    """Reads one file from its start to its data."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        self._bytes = self._data.data
        self._position = 0

    def read(self) -> GGUFFile:
        """Metadata and tensors."""
        if bytes(self._take(4, "its first bytes")) != _MAGIC:
            raise self._damaged("it does not begin with `GGUF`")
        self._check_version()
        tensor_count, pair_count = self._number(_U64), self._number(_U64)
        metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            key = self._string("a key")
            metadata[key] = self._value(self._number(_U32), key)
        infos = [self._info() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._damaged(f"`general.alignment` is {alignment}")
        start = -(-self._position // alignment) * alignment
        tensors = {name: self._tensor(name, shape, kind, start + offset) for name, shape, kind, offset in infos}
        return GGUFFile(path=self._path, metadata=metadata, tensors=tensors)

    def _check_version(self) -> None:
        version = self._number(_U32)
        if version in _VERSIONS:
            return
        is_big = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        what = "is big-endian" if is_big else f"is GGUF version {version}"
        raise UnsupportedFormatError(
            f"`{self._path}` {what}; versions 2 and 3 in little-endian order are read.",
            path=str(self._path),
            format_name="gguf",
            hint="Take a newer file of the same model; those of today are version 3.",
        )

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset of a tensor."""
        name = self._string("a tensor's name")
        count = self._number(_U32)
        if count > _MAX_DIMENSIONS:
            raise self._damaged(f"tensor `{name}` has {count} dimensions")
        shape = tuple(self._number(_U64) for _ in range(count))[::-1]
        if 0 in shape:
            raise self._damaged(f"tensor `{name}` has the shape {shape}")
        return name, shape, self._number(_U32), self._number(_U64)

    def _tensor(self, name: str, shape: tuple[int, ...], type_id: int, start: int) -> GGUFTensor:
        block = BLOCKS.get(type_id)
        if block is None:
            kind = UNREAD_TYPES.get(type_id, f"number {type_id}")
            raise UnsupportedFormatError(
                f"`{self._path}` has its tensor `{name}` quantised as {kind}, which is not read.",
                path=str(self._path),
                format_name="gguf",
                hint="Take a file of the same model in one of these: "
                + ", ".join(known.name for known in BLOCKS.values())
                + ".",
            )
        columns = shape[-1] if shape else 1
        if columns % block.elements:
            raise self._damaged(f"tensor `{name}` has rows of {columns}, not a multiple of {block.elements}")
        row_bytes = columns // block.elements * block.size_bytes
        rows = prod(shape[:-1])
        end = start + rows * row_bytes
        if end > self._data.size:
            raise self._damaged(f"it ends {end - self._data.size:,} bytes before its tensor `{name}` does")
        packed = self._data[start:end].reshape(rows, row_bytes)
        return GGUFTensor(name=name, type_id=type_id, shape=shape, rows=packed)

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._string(f"`{key}`")
        if kind == _ARRAY:
            inner, count = self._number(_U32), self._number(_U64)
            if inner == _STRING:
                return [self._string(f"`{key}`") for _ in range(count)]
            if inner not in _SCALARS:
                raise self._damaged(f"`{key}` is an array of type {inner}, which is not known")
            scalar = _SCALARS[inner]
            return np.frombuffer(self._take(count * scalar.size, f"`{key}`"), scalar.format)
        if kind not in _SCALARS:
            raise self._damaged(f"`{key}` is of type {kind}, which is not known")
        return self._number(_SCALARS[kind])

    def _string(self, what: str) -> str:
        size = self._number(_U64)
        # Some vocabularies have tokens that are no whole characters.
        return bytes(self._take(size, what)).decode("utf-8", errors="replace")

    def _number(self, kind: struct.Struct) -> Any:
        return kind.unpack(self._take(kind.size, "its header"))[0]

    def _take(self, size: int, what: str) -> memoryview:
        end = self._position + size
        if end > len(self._bytes):
            raise self._damaged(f"it ends in {what}")
        taken = self._bytes[self._position : end]
        self._position = end
        return taken

    def _damaged(self, reason: str) -> ConversionError:
        return ConversionError(
            f"`{self._path}` is not a whole GGUF file: {reason}.", path=str(self._path), hint=_DOWNLOAD_AGAIN
        )
