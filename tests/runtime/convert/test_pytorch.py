"""PyTorch checkpoints are read without PyTorch, and nothing that they ask for is run."""

import collections
import contextlib
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.pytorch_files import read_pytorch
from mlx_integrations.runtime.convert.tensors import Tensor

EXAMPLES = int(os.environ.get("MLXI_FUZZ_EXAMPLES", "300"))
DTYPES = {"bf16": "BF16", "bool": "BOOL"} | {
    name: name.upper() for name in ("f64", "f16", "i64", "i32", "i16", "i8", "u8")
}


def bits_of(tensor: Tensor) -> bytes:
    return b"".join(np.ascontiguousarray(chunk).tobytes() for chunk in tensor.chunks())


@pytest.mark.parametrize("name", ["tensors.pt", "tensors-legacy.pt", "tensors-wrapped.pt"])
def test_every_kind_of_tensor_is_read_as_torch_saved_it(data: Path, name: str) -> None:
    expected = np.load(data / "tensors.npz")
    found = {tensor.name: tensor for tensor in read_pytorch(data / name)}
    assert set(found) == set(expected.files)
    for key, tensor in found.items():
        assert tensor.shape == expected[key].shape, key
        assert tensor.dtype == DTYPES.get(key, "F32"), key
        assert bits_of(tensor) == expected[key].tobytes(), key


def test_types_without_a_storage_of_their_own_are_read(data: Path) -> None:
    found = {tensor.name: tensor for tensor in read_pytorch(data / "tensors-new.pt")}
    assert {name: tensor.dtype for name, tensor in found.items()} == {"u16": "U16", "f8": "F8_E4M3"}
    assert bits_of(found["u16"]) == np.arange(3, dtype=np.uint16).tobytes()
    assert len(bits_of(found["f8"])) == 24


@pytest.mark.parametrize("name", ["hostile.pt", "hostile-legacy.pt"])
def test_what_a_file_asks_to_run_is_named_and_not_run(data: Path, name: str) -> None:
    sign = Path("/tmp/mlxi-was-run")
    sign.unlink(missing_ok=True)
    with pytest.raises(ConversionError, match=r"`posix\.system`") as caught:
        read_pytorch(data / name)
    assert "Nothing of the file was run" in caught.value.hint
    assert not sign.exists()


class Calls:
    """Asks for any function to be called when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def checkpoint(file: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(64))
    return file


@pytest.mark.parametrize("function", [eval, exec, os.system, getattr, io.open, pickle.loads, __import__, bytearray])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_no_function_but_those_of_tensors_is_found(tmp_path: Path, function: Any, protocol: int) -> None:
    file = checkpoint(tmp_path / "x.pt", pickle.dumps({"w": Calls(function, "1")}, protocol=protocol))
    with pytest.raises(ConversionError, match="asks for"):
        read_pytorch(file)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # an array of two billion entries
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x40.",  # so many bytes
        b"\x80\x02\x8b\x00\x00\x00\x10.",  # an integer of 268 million bytes
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02(ccollections\nOrderedDict\no.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_instructions_that_no_tensor_needs_are_refused(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(ConversionError, match=r"x\.pt"):
        read_pytorch(checkpoint(tmp_path / "x.pt", pickled))


def test_compressed_archives_are_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(0, (4,), (1,)))
    with pytest.raises(ConversionError, match="compressed"):
        read_pytorch(tmp_path / "x.pt")


def test_names_with_dots_do_not_lead_out_of_what_is_allowed(tmp_path: Path) -> None:
    """Protocol 4 looks names with dots up step by step."""
    for name in ("OrderedDict.__init__.__globals__", "OrderedDict.fromkeys"):
        pickled = b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        with pytest.raises(ConversionError, match="OrderedDict"):
            read_pytorch(checkpoint(tmp_path / "x.pt", pickled))


def test_the_stand_ins_cannot_be_changed_by_a_file(tmp_path: Path, data: Path) -> None:
    """BUILD sets attributes of an object; what stands for PyTorch's functions must come out as before."""
    hostile = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x08functionU\x01xsb."
    dictionary = b"\x80\x02ctorch\nFloatStorage\n}U\x05dtypeU\x03F16sb."
    slots = b"\x80\x02ccollections\nOrderedDict\n(N}U\x05itemsU\x01xst\x62."
    for pickled in (hostile, dictionary, slots):
        with pytest.raises(ConversionError):
            read_pytorch(checkpoint(tmp_path / "x.pt", pickled))
    assert collections.OrderedDict(a=1).items()
    assert len(read_pytorch(data / "tensors.pt")) == 17


def tensor_pickle(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], elements: int = 16) -> bytes:
    """`{"w": tensor}` as torch writes it, with any numbers."""

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(pickle.dumps(value, protocol=2)[2:-1] for value in values) + b"t"

    number = pickle.dumps(elements, protocol=2)[2:-1]
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number + b"tQ"
    start = pickle.dumps(offset, protocol=2)[2:-1]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + start + ints(shape) + ints(strides) + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s."


def test_the_hand_made_checkpoint_is_a_right_one(tmp_path: Path) -> None:
    (tensor,) = read_pytorch(checkpoint(tmp_path / "x.pt", tensor_pickle(0, (4, 4), (4, 1))))
    assert (tensor.name, tensor.shape, bits_of(tensor)) == ("w", (4, 4), bytes(64))


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "elements"),
    [
        (0, (5, 4), (4, 1), 16),
        (1, (4, 4), (4, 1), 16),
        (-1, (4, 4), (4, 1), 16),
        (0, (2,), (-1,), 16),
        (0, (2,), (10**12,), 16),
        (0, (4, 4), (4,), 16),
        (0, (4, -4), (4, 1), 16),
        (0, (16,), (1,), -16),
    ],
)
def test_views_outside_their_storage_are_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], elements: int
) -> None:
    with pytest.raises(ConversionError, match=r"x\.pt"):
        read_pytorch(checkpoint(tmp_path / "x.pt", tensor_pickle(offset, shape, strides, elements)))


def test_a_storage_that_is_shorter_than_promised_is_named(tmp_path: Path) -> None:
    (tensor,) = read_pytorch(checkpoint(tmp_path / "x.pt", tensor_pickle(0, (17,), (1,), elements=17)))
    with pytest.raises(ConversionError, match="storage `0` has 64 bytes instead of 68"):
        bits_of(tensor)


@pytest.mark.parametrize("name", ["tensors.pt", "tensors-legacy.pt"])
def test_every_cut_is_noticed(data: Path, tmp_path: Path, name: str) -> None:
    whole = (data / name).read_bytes()
    file = tmp_path / "cut.pt"
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        with pytest.raises((ConversionError, UnsupportedFormatError), match=r"cut\.pt"):
            [bits_of(tensor) for tensor in read_pytorch(file)]


@pytest.mark.parametrize("name", ["tensors.pt", "tensors-legacy.pt"])
def test_changed_bytes_never_end_in_another_error(data: Path, tmp_path: Path, name: str) -> None:
    """A changed pickle asks for other things in other ways; it is read, or refused as what it is."""
    whole = (data / name).read_bytes()
    start = whole.index(b"\x80\x02")
    end = whole.index(b"PK\x07\x08") if name == "tensors.pt" else len(whole)
    file = tmp_path / "changed.pt"
    rng = np.random.default_rng(13)
    for _ in range(EXAMPLES):
        changed = bytearray(whole)
        for place in rng.integers(start, end, rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        file.write_bytes(changed)
        with contextlib.suppress(ConversionError, UnsupportedFormatError):
            for tensor in read_pytorch(file):
                assert tensor.stored_bytes > 10**7 or len(bits_of(tensor)) == tensor.stored_bytes


def test_programs_and_other_files_are_refused_by_what_they_are(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="TorchScript"):
        read_pytorch(data / "program.pt")
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UnsupportedFormatError, match="not a PyTorch checkpoint"):
        read_pytorch(tmp_path / "list.pt")
    shutil.make_archive(str(tmp_path / "other"), "zip", data / "bert")
    with pytest.raises(UnsupportedFormatError, match=r"no data\.pkl"):
        read_pytorch(tmp_path / "other.zip")
    with pytest.raises(ConversionError, match="no tensors by name"):
        read_pytorch(checkpoint(tmp_path / "empty.pt", pickle.dumps({"epoch": 3}, protocol=2)))


def test_a_state_that_holds_itself_is_read(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConversionError, match="no tensors"):
        read_pytorch(checkpoint(tmp_path / "x.pt", pickle.dumps({"a": loop}, protocol=2)))
