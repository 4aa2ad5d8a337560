"""A model's format is told from its bytes, whatever its name, and what to do with it is said."""

import contextlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlx_integrations.errors import ConversionError, ModelNotFoundError, UnsupportedFormatError
from mlx_integrations.manager.formats import DetectedFormat, detect_format
from mlx_integrations.runtime.convert.pytorch_files import read_pytorch
from mlx_integrations.runtime.convert.safetensors_files import read_safetensors
from tests.runtime.convert.gguf_writer import write_gguf

CONVERT = Path(__file__).parent.parent / "runtime" / "convert" / "data"
WEIGHTS = {"w": np.zeros((4, 4), np.float32)}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


ONNX = field(1, 8) + field(2, b"pytorch") + field(7, b"graph" * 50) + field(8, field(2, 17))
COREML = field(1, 5) + field(2, b"description") + field(500, b"network" * 30)


def config(folder: Path, **values: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **values}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def safetensors(file: Path, **metadata: str) -> Path:
    save_file(WEIGHTS, file, metadata=metadata or None)
    return file


def onnx(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(ONNX)
    return file


def mlpackage(folder: Path) -> Path:
    (folder / "Data").mkdir(parents=True)
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {}, "rootModelIdentifier": "A-B"}
    (folder / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def names(found: DetectedFormat) -> list[str]:
    return [file.name for file in found.files]


def test_an_mlx_model_is_one_that_says_so_and_can_be_used(tmp_path: Path) -> None:
    quantised = config(tmp_path / "q", quantization={"bits": 4, "group_size": 64})
    safetensors(quantised / "model.safetensors")
    marked = config(tmp_path / "m")
    safetensors(marked / "model.safetensors", format="mlx")
    for folder in (quantised, marked):
        found = detect_format(folder)
        assert (found.name, names(found), found.damage) == ("mlx", ["model.safetensors"], "")
        assert f'ChatMLX(model="{folder}")' in found.advice
    assert detect_format(quantised).details == ("Its weights are quantised to 4 bits in groups of 64.",)


def test_safetensors_are_used_as_they_are_or_made_smaller(tmp_path: Path) -> None:
    folder = config(tmp_path / "my model")
    safetensors(folder / "model.safetensors", format="pt")
    found = detect_format(folder)
    assert found.name == "safetensors" and found.is_convertible
    assert f"mlxi models import '{folder}' --bits 4" in found.advice
    (folder / "modules.json").write_text("[]")
    assert "MLXEmbeddings" in detect_format(folder).advice and "--bits" not in detect_format(folder).advice


def test_weights_without_a_configuration_are_not_a_model(tmp_path: Path) -> None:
    found = detect_format(safetensors(tmp_path / "model.safetensors"))
    assert found.name == "safetensors" and "config.json" in found.advice


@pytest.mark.parametrize("name", ["tensors.pt", "tensors-legacy.pt", "hostile.pt"])
def test_pytorch_is_told_in_both_of_its_formats(tmp_path: Path, name: str) -> None:
    folder = config(tmp_path / "m")
    shutil.copy(CONVERT / name, folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes((CONVERT / "tensors.pt").read_bytes())
    found = detect_format(folder)
    assert (found.name, names(found)) == ("pytorch", ["pytorch_model.bin"])
    assert found.advice == f"Convert it: mlxi models import {folder}"


def test_a_program_of_pytorch_is_not_weights(tmp_path: Path) -> None:
    found = detect_format(CONVERT / "program.pt")
    assert found.name == "pytorch" and "TorchScript" in found.damage and not found.is_convertible


def test_gguf_is_told_alone_and_in_a_folder_of_several(tmp_path: Path) -> None:
    one = write_gguf(tmp_path / "m.Q8_0.gguf", {"general.architecture": "llama"}, {"t": np.zeros(4, np.float32)})
    assert detect_format(one).advice == f"Convert it: mlxi models import {one}"
    shutil.copy(one, tmp_path / "m.Q4_0.gguf")
    found = detect_format(tmp_path)
    assert (found.name, len(found.files)) == ("gguf", 2)
    assert "one of its files" in found.advice and str(tmp_path / "m.Q4_0.gguf") in found.advice


@pytest.mark.parametrize("name", ["model.onnx", "model.bin", "weights"])
def test_onnx_is_told_whatever_its_name(tmp_path: Path, name: str) -> None:
    file = onnx(tmp_path / name)
    found = detect_format(file)
    assert (found.name, found.is_convertible) == ("onnx", False)
    assert "ONNX Runtime" in found.advice
    with pytest.raises(UnsupportedFormatError, match="an ONNX model") as caught:
        found.check_convertible()
    assert caught.value.format_name == "onnx" and caught.value.hint == found.advice


@pytest.mark.parametrize(
    "make",
    [
        lambda place: (place / "m.mlmodel").write_bytes(COREML),
        lambda place: mlpackage(place / "m.mlpackage"),
        lambda place: ((place / "m.mlmodelc").mkdir(), (place / "m.mlmodelc" / "coremldata.bin").write_bytes(b"x")),
    ],
)
def test_core_ml_is_told_in_all_its_shapes(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    make(folder)
    (inner,) = folder.iterdir()
    for place in (folder, inner):
        found = detect_format(place)
        assert (found.name, names(found)) == ("coreml", [inner.name])
        assert "Core ML" in found.advice
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("m.mlpackage/Manifest.json", "{}")
    assert detect_format(tmp_path / "z.zip").name == "coreml"


def test_what_to_pull_instead_comes_from_the_files_and_the_registry(tmp_path: Path) -> None:
    folder = config(tmp_path / "m", _name_or_path="meta-llama/Llama-3.2-3B-Instruct")
    onnx(folder / "model.onnx")
    found = detect_format(folder)
    assert found.base_model == "meta-llama/Llama-3.2-3B-Instruct"
    assert "mlxi models pull llama-3.2-3b" in found.advice
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model:\n- some-org/Unheard-Of\n---\n# Model\n")
    assert detect_format(folder).advice.endswith("mlxi models pull some-org/Unheard-Of")
    (folder / "README.md").unlink()
    config(folder, _name_or_path="/home/me/checkpoints/x")
    assert "mlxi models search" in detect_format(folder).advice


def test_of_several_formats_the_best_one_counts_and_the_others_are_named(tmp_path: Path) -> None:
    folder = config(tmp_path / "m")
    onnx(folder / "onnx" / "model.onnx")
    mlpackage(folder / "coreml" / "m.mlpackage")
    assert detect_format(folder).name == "onnx"
    write_gguf(folder / "m.gguf", {"general.architecture": "llama"})
    assert detect_format(folder).name == "gguf"
    shutil.copy(CONVERT / "tensors.pt", folder / "pytorch_model.bin")
    assert detect_format(folder).name == "pytorch"
    safetensors(folder / "model.safetensors")
    found = detect_format(folder)
    assert (found.name, names(found)) == ("safetensors", ["model.safetensors"])
    assert found.details == (
        "It has a PyTorch checkpoint as well, which is not used.",
        "It has GGUF as well, which is not used.",
        "It has an ONNX model as well, which is not used.",
        "It has a Core ML model as well, which is not used.",
    )


def test_a_whole_model_counts_before_a_damaged_one(tmp_path: Path) -> None:
    folder = config(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(safetensors(tmp_path / "x.safetensors").read_bytes()[:-3])
    assert "promises" in detect_format(folder).damage
    shutil.copy(CONVERT / "tensors.pt", folder / "pytorch_model.bin")
    assert (detect_format(folder).name, detect_format(folder).damage) == ("pytorch", "")


def test_names_that_say_something_else_are_pointed_out(tmp_path: Path) -> None:
    folder = config(tmp_path / "m")
    safetensors(folder / "pytorch_model.bin")
    found = detect_format(folder)
    assert found.name == "safetensors"
    assert "`pytorch_model.bin` is a safetensors file, whatever its name says." in found.details


def test_parts_of_a_model_are_not_taken_for_others(tmp_path: Path) -> None:
    folder = config(tmp_path / "m")
    safetensors(folder / "model.safetensors")
    config(folder / "2_Dense")
    shutil.copy(CONVERT / "tensors.pt", folder / "2_Dense" / "pytorch_model.bin")
    assert detect_format(folder).details == ()
    older = tmp_path / "older"
    config(older / "0_Transformer")
    shutil.copy(CONVERT / "tensors.pt", older / "0_Transformer" / "pytorch_model.bin")
    assert detect_format(older).name == "pytorch" and "models import" in detect_format(older).advice


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = config(tmp_path / "m")
    safetensors(folder / "model-00001-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = detect_format(folder)
    assert found.damage == "`model-00002-of-00002.safetensors` is missing"
    with pytest.raises(ConversionError, match="missing"):
        found.check_convertible()


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (b"GGUF\x03\x00", "gguf", "header"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "gguf", "version 1"),
        (struct.pack("<Q", 10**6) + b'{"w"', "safetensors", "longer"),
        (struct.pack("<Q", 9) + b'{"w": nul', "safetensors", "not valid"),
        ((CONVERT / "tensors.pt").read_bytes()[:900], "pytorch", "end is missing"),
    ],
)
def test_cut_files_are_still_recognised_and_called_damaged(
    tmp_path: Path, content: bytes, name: str, word: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    found = detect_format(tmp_path / "x")
    assert found.name == name and word in found.damage
    assert found.advice == "Download it again, whole."


@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (b"", "an empty file", "config.json"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page", "Log in"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "Keras", "safetensors"),
        (b"\x80\x04\x95 just a pickle", "a pickle, but not", "config.json"),
        (b"plain words, no model at all", "unknown format", "config.json"),
        (bytes(range(256)), "unknown format", "config.json"),
        (b"\x08", "unknown format", "config.json"),
    ],
)
def test_what_is_no_model_is_told_for_what_it_is(tmp_path: Path, content: bytes, what: str, advice: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    found = detect_format(tmp_path)
    assert (found.name, found.files) == ("unknown", ())
    assert what in found.details[0] and advice in found.advice
    with pytest.raises(UnsupportedFormatError, match=r"model\.safetensors"):
        found.check_convertible()


def test_numpy_archives_of_the_first_mlx_examples_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=WEIGHTS["w"])
    found = detect_format(tmp_path / "weights.npz")
    assert found.name == "unknown" and "NumPy" in found.details[0] and "safetensors" in found.advice


def test_a_place_with_nothing_is_said_to_have_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no"):
        detect_format(tmp_path / "nowhere")
    found = detect_format(tmp_path)
    assert (found.name, found.details) == ("unknown", ())


def test_random_bytes_never_end_in_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    starts = [b"", b"GGUF", b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"\x08\x07", struct.pack("<Q", 40) + b"{", ONNX[:30]]
    for index in range(700):
        file = tmp_path / "x"
        file.write_bytes(starts[index % len(starts)] + rng.bytes(int(rng.integers(0, 600))))
        assert detect_format(file).advice


def test_changed_archives_never_end_in_an_error(tmp_path: Path) -> None:
    """Above all in the directory at the end, which zipfile believes in ways of its own."""
    whole = (CONVERT / "tensors.pt").read_bytes()
    rng = np.random.default_rng(6)
    for _ in range(400):
        changed = bytearray(whole)
        for place in rng.integers(len(whole) - 400, len(whole), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        (tmp_path / "x.pt").write_bytes(changed)
        assert detect_format(tmp_path / "x.pt").advice
        with contextlib.suppress(ConversionError, UnsupportedFormatError):
            read_pytorch(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80",
        b"\x08\x07\x12" + varint(2**69) + b"x",  # a field that is longer than any file
        struct.pack("<Q", 100_000) + b'{"a":' + b"[" * 99_995,
    ],
    ids=["one byte", "a field without an end", "depth"],
)
def test_a_file_made_to_trip_a_reader_is_only_told_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert detect_format(tmp_path / "x").advice
    with pytest.raises(ConversionError):
        read_safetensors(tmp_path / "x")
