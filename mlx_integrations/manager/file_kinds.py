"""What a file is, told from its bytes and not from its name. Reads its beginning, or the directory of an archive."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

__all__ = ["FileKind", "LookedAt", "look_at"]

FileKind = Literal["safetensors", "gguf", "pytorch", "onnx", "coreml", "other"]

_PEEK_BYTES = 512
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# PyTorch's magic number as protocol 2 pickles it (`MAGIC_NUMBER` in torch/serialization.py): before version 1.6.
_LEGACY_PYTORCH = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_GGUF_HEADER_BYTES = 24
# Beginnings of files that people have by mistake, or of other programs' models.
_OTHERS: Final = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file it stands for",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as TensorFlow and Keras write weights",
    b"\x93NUMPY": "an array of NumPy",
    b"PAR1": "a Parquet table",
    b"\x1f\x8b": "a compressed archive (gzip)",
    b"\xfd7zXZ": "a compressed archive (xz)",
    b"7z\xbc\xaf": "a compressed archive (7z)",
}
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
# Fields of ONNX's `ModelProto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3): version, graph, and all.
_ONNX_VERSION, _ONNX_GRAPH = 1, 7
_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
# Fields of Core ML's `Model` (https://apple.github.io/coremltools/mlmodel/Format/Model.html): version, description and
# whether it can be updated; from 200 on, which kind of model it is.
_COREML_FIELDS = frozenset({1, 2, 10})
_COREML_KINDS = range(200, 3001)
_MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What was found.

    Attributes:
        kind: The format.
        what: The same in words, for people; for `other` what it is instead.
        damage: What is wrong with it; empty if nothing was seen. Only what a look at the beginning shows.
        metadata: What a safetensors file says about itself.
    """

    kind: FileKind
    what: str
    damage: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def look_at(file: Path) -> LookedAt:
    """Tell what a file is.

    Raises:
        OSError: It cannot be read.
    """
    size = file.stat().st_size
    if size == 0:
        return LookedAt(kind="other", what="an empty file")
    with file.open("rb") as stream:
        first = stream.read(_PEEK_BYTES)
        if first.startswith(b"GGUF"):
            return _gguf(first)
        if first.startswith(b"PK\x03\x04"):
            return _archive(file)
        if first[:1] == b"\x80" and _LEGACY_PYTORCH in first[:32]:
            return LookedAt(kind="pytorch", what="a PyTorch checkpoint of the older kind")
        if first[8:9] == b"{":
            return _safetensors(stream, size)
        other = _other(first)
        return LookedAt(kind="other", what=other) if other else _protobuf(stream, size)


def _other(first: bytes) -> str:
    if first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle, but not a PyTorch checkpoint"
    if first.lstrip().lower().startswith(_PAGES):
        return "a web page, not a model"
    return next((what for beginning, what in _OTHERS.items() if first.startswith(beginning)), "")


def _gguf(first: bytes) -> LookedAt:
    if len(first) < _GGUF_HEADER_BYTES:
        return LookedAt(kind="gguf", what="a GGUF file", damage="it ends in its header")
    version, tensors = (int.from_bytes(first[start:end], "little") for start, end in ((4, 8), (8, 16)))
    if version not in (2, 3):
        return LookedAt(kind="gguf", what="a GGUF file", damage=f"it is version {version}, not 2 or 3")
    return LookedAt(kind="gguf", what=f"a GGUF file (version {version}, {tensors} tensors)")


def _safetensors(stream: BinaryIO, size: int) -> LookedAt:
    stream.seek(0)
    header_bytes = int.from_bytes(stream.read(8), "little")
    what = "a safetensors file"
    if header_bytes > min(size - 8, _MAX_HEADER_BYTES):
        damage = "its header is longer than the file"
        return LookedAt(kind="safetensors", what=what, damage=damage)
    try:
        header = json.loads(stream.read(header_bytes))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = 8 + header_bytes + max(ends, default=0)
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return LookedAt(kind="safetensors", what=what, damage="its header is not valid")
    damage = "" if end == size else f"it has {size:,} bytes, its header promises {end:,}"
    metadata = header.get("__metadata__")
    return LookedAt(
        kind="safetensors", what=what, damage=damage, metadata=metadata if isinstance(metadata, dict) else {}
    )


def _archive(file: Path) -> LookedAt:
    try:
        if not zipfile.is_zipfile(file):
            return LookedAt(kind="pytorch", what="the beginning of a PyTorch checkpoint", damage="its end is missing")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return LookedAt(kind="other", what="a damaged zip archive")
    inside = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in inside:
        is_program = "constants.pkl" in inside
        damage = "it is a program (TorchScript), not weights" if is_program else ""
        return LookedAt(kind="pytorch", what="a PyTorch checkpoint", damage=damage)
    if any(name.endswith((".mlmodel", ".mlpackage/Manifest.json")) for name in names):
        return LookedAt(kind="coreml", what="a zipped Core ML model")
    if names and all(name.endswith(".npy") for name in names):
        return LookedAt(kind="other", what="arrays of NumPy (.npz), as the first examples for MLX had weights")
    return LookedAt(kind="other", what="a zip archive")


def _protobuf(stream: BinaryIO, size: int) -> LookedAt:
    """ONNX and Core ML have no magic number: what tells them is which fields they have."""
    unknown = LookedAt(kind="other", what="a file of an unknown format")
    fields = _fields(stream, size)
    if not fields or fields[0] != _ONNX_VERSION:
        return unknown
    found = set(fields)
    if _ONNX_GRAPH in found and found <= _ONNX_FIELDS:
        return LookedAt(kind="onnx", what="an ONNX model")
    if any(number in _COREML_KINDS for number in found) and all(
        number in _COREML_FIELDS or number in _COREML_KINDS for number in found
    ):
        return LookedAt(kind="coreml", what="a Core ML model")
    return unknown


def _fields(stream: BinaryIO, size: int) -> list[int]:
    """Numbers of a protobuf message's fields, in order; none if it is not one. A last field may be cut off."""
    stream.seek(0)
    found: list[int] = []
    while stream.tell() < size and len(found) < _MAX_FIELDS:
        tag = _varint(stream)
        if tag is None:
            return []
        number, wire = tag >> 3, tag & 7
        skipped = {1: 8, 5: 4}.get(wire, 0)
        if wire in (0, 2):
            value = _varint(stream)
            if value is None:
                return []
            skipped = value if wire == 2 else 0
        elif not skipped:
            return []
        if number == 0:
            return []
        found.append(number)
        stream.seek(min(stream.tell() + skipped, size))
    return found


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
