"""Writes checkpoints as torch does, without torch: a zip with a pickle that names torch's functions."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_checkpoint(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A checkpoint of float32 tensors, each with a storage of its own."""
    body = b"}"
    for index, (name, values) in enumerate(tensors.items()):
        body += _text(name) + _tensor(str(index), values) + b"s"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("part/data.pkl", b"\x80\x02" + body + b".")
        for index, values in enumerate(tensors.values()):
            archive.writestr(f"part/data/{index}", values.tobytes())


def _tensor(key: str, values: np.ndarray) -> bytes:
    storage = (
        b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + _int(values.size) + b"tQ"
    )
    strides = tuple(stride // values.itemsize for stride in values.strides)
    arguments = storage + _int(0) + _ints(values.shape) + _ints(strides) + b"\x89}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _ints(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_int(value) for value in values) + b"t"


def _int(value: int) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded
