"""Writes small GGUF files byte by byte, right ones and broken ones, independently of what reads them."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

U32, FLOAT, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
F32, F16 = 0, 1


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | None = None,
    *,
    version: int = 3,
    alignment: int | None = None,
) -> bytes:
    """A file with float32 and float16 tensors."""
    pairs = {**metadata, **({"general.alignment": alignment} if alignment else {})}
    arrays = dict(tensors or {})
    head = b"GGUF" + struct.pack("<IQQ", version, len(arrays), len(pairs))
    for key, value in pairs.items():
        head += _string(key) + _value(value)
    offset, body = 0, b""
    for name, array in arrays.items():
        body += b"\0" * (-len(body) % (alignment or 32))
        offset = len(body)
        kind = {np.dtype(np.float32): F32, np.dtype(np.float16): F16}[array.dtype]
        shape = array.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        body += array.tobytes()
    return head + b"\0" * (-len(head) % (alignment or 32)) + body


def write_gguf(file: Path, *arguments: Any, **options: Any) -> Path:
    """The same as a file."""
    file.write_bytes(gguf_bytes(*arguments, **options))
    return file


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    return struct.pack("<I", ARRAY) + _array(value)


def _array(values: Sequence[Any]) -> bytes:
    kind = STRING if isinstance(values[0], str) else FLOAT if isinstance(values[0], float) else U32
    count = struct.pack("<IQ", kind, len(values))
    if kind == STRING:
        return count + b"".join(_string(value) for value in values)
    return count + struct.pack(f"<{len(values)}{'f' if kind == FLOAT else 'I'}", *values)
