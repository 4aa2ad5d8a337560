"""The pickled part of a PyTorch checkpoint, read without PyTorch and without running anything it asks for.

Unpickling calls whatever a file names, which makes a checkpoint a program. Here only what tensors are made of has a
meaning: https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py says how they are written. Anything else
is refused by its name, before it is looked up; and so are instructions of pickle that no tensor needs, some of which
take any amount of memory.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from mlx_integrations.errors import ConversionError
from mlx_integrations.runtime.convert.tensors import BYTES_OF

__all__ = ["PickledTensor", "Storage", "StorageKind", "unpickle"]

_STORAGES: Final = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
# What PyTorch pickles tensors with, and plain values beside them (https://docs.python.org/3/library/pickle.html).
_INSTRUCTIONS: Final = frozenset(
    """PROTO FRAME STOP MARK POP POP_MARK DUP BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID""".split()
)
_MEMORISING: Final = ("BINPUT", "LONG_BINPUT")
_HOSTILE_HINT = (
    "Nothing of the file was run. Take the model's safetensors files; if there are none and you trust the file, load "
    "it with PyTorch and save its tensors with safetensors.torch.save_file."
)


class StorageKind(NamedTuple):
    """What a storage's numbers are: a type's name in safetensors, or `None` if only its tensors say."""

    dtype: str | None


class Storage(NamedTuple):
    """Numbers that tensors share.

    Attributes:
        kind: Their type.
        key: Where they are in the file.
        size_bytes: How many bytes they take.
    """

    kind: StorageKind
    key: str
    size_bytes: int


class PickledTensor(NamedTuple):
    """A view into a storage; `offset` and `strides` count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild(NamedTuple):
    """Stands for one of PyTorch's functions. Like everything here it is a tuple, which a file cannot change."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def unpickle(stream: BinaryIO, file: Path) -> Any:
    """Read one pickle: its values, with `PickledTensor`s where it has tensors. The stream is left behind it.

    Args:
        stream: The pickle, and whatever follows it.
        file: The file it is in, for errors.

    Raises:
        ConversionError: The pickle asks for something that is no part of a tensor, or is damaged.
    """
    try:
        return _TensorUnpickler(io.BytesIO(_checked_bytes(stream, file)), file).load()
    except ConversionError:
        raise
    except (
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ConversionError(
            f"`{file}` cannot be read as tensors: {str(error) or type(error).__name__}.",
            path=str(file),
            hint="Download the file again.",
        ) from error


def _checked_bytes(stream: BinaryIO, file: Path) -> bytes:
    """The bytes of one pickle, if it has no instruction that tensors do not need.

    A number under which a value is remembered is an index into an array: a large one would be a large array.
    """
    start = stream.tell()
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if instruction.name not in _INSTRUCTIONS:
            raise ConversionError(
                f"`{file}` has an instruction (`{instruction.name}`) that no tensor needs.",
                path=str(file),
                hint=_HOSTILE_HINT,
            )
        if instruction.name in _MEMORISING and isinstance(argument, int) and argument > count:
            raise ValueError(f"it remembers a value as number {argument} before there are so many")
    end = stream.tell()
    stream.seek(start)
    return stream.read(end - start)


class _TensorUnpickler(pickle.Unpickler):
    """Gives the names and storages in a checkpoint their meaning, and no others."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        super().__init__(stream, encoding="utf-8")
        self._file = file

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name in the file stands for; only the parts of tensors stand for something."""
        name = f"{module_name}.{global_name}"
        if name == "collections.OrderedDict":
            return OrderedDict
        if name == "torch.Size":
            return tuple
        if name in _REBUILDS:
            return _Rebuild(_REBUILDS[name])
        if module_name == "torch" and global_name in _STORAGES:
            return StorageKind(_STORAGES[global_name])
        if name == "torch.storage.UntypedStorage":
            return StorageKind(None)
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        raise ConversionError(
            f"`{self._file}` asks for `{name}` to be run, which is no part of a tensor.",
            path=str(self._file),
            hint=_HOSTILE_HINT,
        )

    def persistent_load(self, pid: Any, /) -> Storage:
        """A storage, as the file describes it: `("storage", type, key, location, elements, ...)`."""
        kind, name, key, _location, elements, *view = pid
        if kind != "storage" or not isinstance(name, StorageKind) or not isinstance(key, str):
            raise ValueError(f"it refers to a `{kind}`")
        if any(part is not None for part in view):
            raise ValueError(f"storage `{key}` is a view of another one, as PyTorch 0.3 wrote them")
        if not _is_size(elements):
            raise ValueError(f"storage `{key}` has {elements} elements")
        return Storage(name, key, elements * (BYTES_OF[name.dtype] if name.dtype else 1))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> PickledTensor:
    """`torch._utils._rebuild_tensor_v2`: gradients and hooks do not matter."""
    if not isinstance(storage, Storage) or storage.kind.dtype is None:
        raise ValueError("a tensor has no storage of a known type")
    return _checked(PickledTensor(storage, storage.kind.dtype, offset, tuple(shape), tuple(strides)))


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, *_: Any
) -> PickledTensor:
    """`torch._utils._rebuild_tensor_v3`: types that have no storage of their own."""
    if not isinstance(storage, Storage) or dtype not in BYTES_OF:
        raise ValueError("a tensor has no storage, or is of an unknown type")
    return _checked(PickledTensor(storage, dtype, offset, tuple(shape), tuple(strides)))


def _checked(tensor: PickledTensor) -> PickledTensor:
    """Refuse a view that would reach outside its storage."""
    sizes = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or not all(_is_size(size) for size in sizes):
        raise ValueError(f"a tensor has the shape {tensor.shape} with strides {tensor.strides} from {tensor.offset}")
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    end = (tensor.offset + reach + 1) * BYTES_OF[tensor.dtype]
    if prod(tensor.shape) and end > tensor.storage.size_bytes:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage `{tensor.storage.key}`")
    return tensor


def _parameter(tensor: Any, *_: Any) -> PickledTensor:
    if not isinstance(tensor, PickledTensor):
        raise ValueError("a parameter is not a tensor")
    return tensor


_REBUILDS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
}
