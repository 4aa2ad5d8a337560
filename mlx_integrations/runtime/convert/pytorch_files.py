"""PyTorch checkpoints (.bin, .pt, .pth): which tensors they hold, and their numbers, read from the file as mapped.

    new     a zip: NAME/data.pkl says which tensors there are, NAME/data/KEY are their numbers, not compressed
    older   (before PyTorch 1.6) pickles one after the other: magic number, protocol, system, tensors, keys; then for
            each key a count of elements (int64) and the numbers

https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py (`_save`, `_legacy_save`).
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.pytorch_pickle import PickledTensor, Storage, unpickle
from mlx_integrations.runtime.convert.tensors import BYTES_OF, Bits, Tensor

__all__ = ["read_pytorch"]

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_WHOLE_STATES = ("state_dict", "model_state_dict")
_CHUNK_BYTES = 32 * 1024**2
_DOWNLOAD_AGAIN = "Download the file again."

Find = Callable[[Storage], NDArray[np.uint8]]


def read_pytorch(file: Path) -> list[Tensor]:
    """The tensors of a checkpoint, not read yet, in the order of the file.

    Raises:
        ConversionError: It is damaged, or asks for something to be run.
        UnsupportedFormatError: It is a program (TorchScript), or of a kind that PyTorch stopped to write long ago.
    """
    data: NDArray[np.uint8] = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
    try:
        is_archive = zipfile.is_zipfile(file)
    except zipfile.BadZipFile as error:  # an archive in several parts
        raise _damaged(file, str(error)) from error
    state, find = _read_zip(file, data) if is_archive else _read_legacy(file, data)
    found = _named_tensors(state, file)
    return [_tensor(name, tensor, find) for name, tensor in found.items()]


def _named_tensors(state: Any, file: Path) -> dict[str, PickledTensor]:
    """The tensors of a state, which a checkpoint of a training may wrap."""
    for key in _WHOLE_STATES:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    # A file may give its dictionary an attribute called `items`.
    named = dict(dict.items(state)) if isinstance(state, dict) else {}
    found = {name: value for name, value in named.items() if isinstance(value, PickledTensor) and isinstance(name, str)}
    if not found:
        raise ConversionError(
            f"`{file}` holds no tensors by name.",
            path=str(file),
            hint="Take the file with the model's weights, usually pytorch_model.bin.",
        )
    return found


def _tensor(name: str, tensor: PickledTensor, find: Find) -> Tensor:
    return Tensor(name=name, dtype=tensor.dtype, shape=tensor.shape, chunks=partial(_chunks, tensor, find))


def _chunks(tensor: PickledTensor, find: Find) -> Iterator[Bits]:
    """The bits of a tensor, some rows at a time: a view with strides need not be in one piece."""
    width = BYTES_OF[tensor.dtype]
    storage = find(tensor.storage)
    unit: Any = np.dtype(f"u{width}")
    numbers = storage[: storage.size // width * width].view(unit)
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, [stride * width for stride in tensor.strides], writeable=False
    )
    if view.ndim == 0 or not view.size:
        yield np.ascontiguousarray(view)
        return
    rows = max(_CHUNK_BYTES // (view.size // len(view) * width), 1)
    for start in range(0, len(view), rows):
        yield np.ascontiguousarray(view[start : start + rows])


def _read_zip(file: Path, data: NDArray[np.uint8]) -> tuple[Any, Find]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            root = _root(entries, file)
            if f"{root}/byteorder" in entries and archive.read(f"{root}/byteorder") != b"little":
                raise UnsupportedFormatError(
                    f"`{file}` was written on a big-endian machine.",
                    path=str(file),
                    format_name="pytorch",
                    hint="Load it with PyTorch and save its tensors with safetensors.torch.save_file.",
                )
            if entries[f"{root}/data.pkl"].compress_type != zipfile.ZIP_STORED:
                raise _damaged(file, "its data.pkl is compressed, which PyTorch never does")
            state = unpickle(io.BytesIO(archive.read(f"{root}/data.pkl")), file)
    except UnsupportedFormatError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(file, str(error)) from error

    def find(storage: Storage) -> NDArray[np.uint8]:
        entry = entries.get(f"{root}/data/{storage.key}")
        if entry is None:
            raise _damaged(file, f"storage `{storage.key}` is missing")
        return _stored(entry, storage, file, data)

    return state, find


def _root(entries: Mapping[str, zipfile.ZipInfo], file: Path) -> str:
    """The folder inside the archive that everything is in."""
    roots = [name.removesuffix("/data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise UnsupportedFormatError(
            f"`{file}` is a zip archive, but not a PyTorch checkpoint: it has no data.pkl.",
            path=str(file),
            format_name="unknown",
            hint="Take the file with the model's weights, usually pytorch_model.bin or *.safetensors.",
        )
    if f"{roots[0]}/constants.pkl" in entries:
        raise UnsupportedFormatError(
            f"`{file}` is a TorchScript program, not weights.",
            path=str(file),
            format_name="pytorch",
            hint="Take the model's safetensors files or its pytorch_model.bin.",
        )
    return roots[0]


def _stored(entry: zipfile.ZipInfo, storage: Storage, file: Path, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where the numbers of a storage lie in the file; PyTorch does not compress them."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _damaged(file, f"storage `{storage.key}` is compressed, which PyTorch never does")
    header = bytes(data[entry.header_offset : entry.header_offset + 30])
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _damaged(file, f"storage `{storage.key}` is not where it should be")
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
    start = entry.header_offset + 30 + name_bytes + extra_bytes
    numbers = data[start : start + entry.file_size]
    if numbers.size < storage.size_bytes:
        raise _damaged(file, f"storage `{storage.key}` has {numbers.size:,} bytes instead of {storage.size_bytes:,}")
    return numbers


def _read_legacy(file: Path, data: NDArray[np.uint8]) -> tuple[Any, Find]:
    with file.open("rb") as stream:
        if unpickle(stream, file) != _MAGIC_NUMBER:
            raise UnsupportedFormatError(
                f"`{file}` is a pickle, but not a PyTorch checkpoint.",
                path=str(file),
                format_name="unknown",
                hint="Take the file with the model's weights, usually pytorch_model.bin or *.safetensors.",
            )
        protocol, system, state, keys = (unpickle(stream, file) for _ in range(4))
        start = stream.tell()
    is_little = isinstance(system, dict) and system.get("little_endian", True) is True
    if protocol != _LEGACY_PROTOCOL or not is_little or not isinstance(keys, list):
        raise _damaged(file, "its header is not one of PyTorch's")
    places: dict[str, tuple[int, int]] = {}

    def find(storage: Storage) -> NDArray[np.uint8]:
        if not places:
            places.update(_legacy_places(file, data, start, keys, _storages(state)))
        if storage.key not in places:
            raise _damaged(file, f"storage `{storage.key}` is missing")
        begin, end = places[storage.key]
        return data[begin:end]

    return state, find


def _storages(state: Any) -> dict[str, Storage]:
    """Every storage that tensors in a state refer to, by key. A hostile state may hold itself."""
    found: dict[str, Storage] = {}
    seen: set[int] = set()
    left = [state]
    while left:
        value = left.pop()
        if isinstance(value, PickledTensor):
            found[value.storage.key] = value.storage
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left += dict.values(value) if isinstance(value, dict) else value
    return found


def _legacy_places(
    file: Path, data: NDArray[np.uint8], start: int, keys: list[Any], storages: Mapping[str, Storage]
) -> dict[str, tuple[int, int]]:
    """Where each storage's numbers begin and end: they follow one another in the order of the keys."""
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage = storages.get(str(key))
        if storage is None:
            raise _damaged(file, f"nothing says what storage `{key}` holds")
        begin, end = start + 8, start + 8 + storage.size_bytes
        if end > data.size:
            raise _damaged(file, f"it ends before storage `{key}` does, {end - data.size:,} bytes early")
        (elements,) = struct.unpack("<q", bytes(data[start:begin]))
        width = BYTES_OF[storage.kind.dtype] if storage.kind.dtype else 1
        if elements * width != storage.size_bytes:
            raise _damaged(file, f"storage `{key}` has {elements:,} elements, its tensors expect another number")
        places[str(key)] = (begin, end)
        start = end
    return places


def _damaged(file: Path, reason: str) -> ConversionError:
    return ConversionError(
        f"`{file}` is not a whole PyTorch checkpoint: {reason}.", path=str(file), hint=_DOWNLOAD_AGAIN
    )
