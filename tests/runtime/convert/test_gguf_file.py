"""GGUF files as bytes: what is read, and what is wrong with broken ones."""

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.gguf_blocks import unpacked_rows
from mlx_integrations.runtime.convert.gguf_file import read_gguf
from tests.runtime.convert.gguf_writer import gguf_bytes, write_gguf

EXAMPLES = int(os.environ.get("MLXI_FUZZ_EXAMPLES", "300"))
METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "a.number": 7,
    "a.float": 0.5,
    "a.flag": True,
    "words": ["x", "ÿ", ""],
}
TENSORS: dict[str, np.ndarray] = {
    "one": np.arange(6, dtype=np.float32).reshape(2, 3),
    "two": np.arange(5, dtype=np.float16),
}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 8, 128])
def test_metadata_and_tensors_are_read(tmp_path: Path, version: int, alignment: int | None) -> None:
    file = read_gguf(write_gguf(tmp_path / "x.gguf", METADATA, TENSORS, version=version, alignment=alignment))
    assert {key: file.metadata[key] for key in METADATA} == METADATA
    assert file.tensors["one"].shape == (2, 3)
    for name, expected in TENSORS.items():
        tensor = file.tensors[name]
        found = np.concatenate(list(unpacked_rows(tensor.rows, tensor.type_id)))
        assert np.array_equal(found.reshape(expected.shape), expected.astype(np.float32))


def test_a_model_in_parts_is_read_whole(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "m-00001-of-00002.gguf", METADATA, {"one": TENSORS["one"]})
    write_gguf(tmp_path / "m-00002-of-00002.gguf", {"split.no": 1}, {"two": TENSORS["two"]})
    assert set(read_gguf(first).tensors) == {"one", "two"}
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ConversionError, match=r"m-00002-of-00002\.gguf"):
        read_gguf(first)


def test_every_cut_is_noticed_before_anything_is_converted(tmp_path: Path) -> None:
    whole = gguf_bytes(METADATA, TENSORS)
    file = tmp_path / "cut.gguf"
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(ConversionError, match=r"cut\.gguf"):
            read_gguf(file)


def test_changed_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    whole = bytearray(gguf_bytes(METADATA, TENSORS))
    file = tmp_path / "changed.gguf"
    rng = np.random.default_rng(3)
    for _ in range(EXAMPLES):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole) - 60, 3):
            changed[place] = rng.integers(0, 256)
        file.write_bytes(changed)
        with contextlib.suppress(ConversionError, UnsupportedFormatError):
            read_gguf(file)


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"GGUF" + struct.pack(">I", 3), "big-endian"), (b"GGUF" + struct.pack("<I", 1), "version 1")],
)
def test_kinds_that_are_not_read_are_named(tmp_path: Path, head: bytes, what: str) -> None:
    (tmp_path / "x.gguf").write_bytes(head + b"\0" * 64)
    with pytest.raises(UnsupportedFormatError, match=what):
        read_gguf(tmp_path / "x.gguf")


def test_a_way_to_pack_that_is_not_read_is_named_with_those_that_are(tmp_path: Path) -> None:
    whole = gguf_bytes({"general.architecture": "llama"}, {"one": np.zeros((1, 256), np.float32)})
    place = whole.index(b"one") + 3 + 4 + 16
    (tmp_path / "x.gguf").write_bytes(whole[:place] + struct.pack("<I", 18) + whole[place + 4 :])
    with pytest.raises(UnsupportedFormatError, match="IQ3_XXS") as caught:
        read_gguf(tmp_path / "x.gguf")
    assert "Q4_K" in caught.value.hint
