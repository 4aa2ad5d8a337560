"""Whole conversions: what comes out runs, what goes wrong leaves nothing behind."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import (
    ConversionError,
    InsufficientDiskError,
    InvalidRequestError,
    UnsupportedArchitectureError,
    UnsupportedFormatError,
)
from mlx_integrations.runtime.convert.conversion import ConversionProgress, convert_model
from mlx_integrations.runtime.convert.pytorch_files import read_pytorch
from mlx_integrations.runtime.convert.safetensors_files import read_safetensors
from mlx_integrations.runtime.convert.staging import check_disk
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from tests.runtime.conftest import TinyModel
from tests.runtime.convert.conftest import decoded, logits_of
from tests.runtime.convert.torch_writer import write_checkpoint


def copied(source: Path, place: Path) -> Path:
    return Path(shutil.copytree(source, place))


def dtypes_of(folder: Path) -> set[str]:
    return {tensor.dtype for file in folder.glob("*.safetensors") for tensor in read_safetensors(file)}


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "mixture_of_experts", "recurrent"])
def test_safetensors_come_out_as_they_went_in(tiny_model: TinyModel, tmp_path: Path, architecture: str) -> None:
    source = tiny_model(architecture)
    made = convert_model(source, tmp_path / "out")
    assert (made.format, made.kind) == ("safetensors", "chat")
    ids = list(range(5, 25))
    assert np.array_equal(logits_of(source, ids), logits_of(made.path, ids))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_weights_are_those_that_mlx_lm_makes(
    tiny_model: TinyModel, tmp_path: Path, answer: Callable[..., str], bits: int
) -> None:
    source = tiny_model("llama")
    made = convert_model(source, tmp_path / "ours", quantize_bits=bits, group_size=32)
    theirs = tmp_path / "theirs"

    def convert() -> None:
        from mlx_integrations.runtime._mlx import mx  # first: it guards the import of mlx_lm

        from mlx_lm import convert  # isort: skip

        convert(str(source), str(theirs), quantize=True, q_bits=bits, q_group_size=32)
        mx.synchronize()

    get_worker().call(convert).result()
    expected = {tensor.name: tensor for tensor in read_safetensors(theirs / "model.safetensors")}
    for tensor in read_safetensors(made.path / "model.safetensors"):
        other = expected.pop(tensor.name)
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        assert np.array_equal(next(tensor.chunks()), next(other.chunks())), tensor.name
    assert not expected
    ours_config, their_config = (json.loads((path / "config.json").read_text()) for path in (made.path, theirs))
    assert ours_config["quantization"] == their_config["quantization"]
    assert answer(made.path)


def test_nothing_is_printed(tiny_model: TinyModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert_model(tiny_model("llama"), tmp_path / "out", quantize_bits=4)
    assert capfd.readouterr().out == ""


def test_weights_can_be_made_narrower(tiny_model: TinyModel, tmp_path: Path, answer: Callable[..., str]) -> None:
    made = convert_model(tiny_model("llama"), tmp_path / "out", dtype="bfloat16")
    assert dtypes_of(made.path) == {"BF16"}
    assert answer(made.path)


def test_the_tokenizer_goes_along_byte_for_byte_and_code_does_not(tiny_model: TinyModel, tmp_path: Path) -> None:
    source = copied(tiny_model("llama"), tmp_path / "source")
    (source / "modeling_own.py").write_text("raise SystemExit")
    (source / "LICENSE").write_text("free")
    made = convert_model(source, tmp_path / "out")
    names = {file.name for file in made.path.iterdir()}
    assert names == {"LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (made.path / name).read_bytes() == (source / name).read_bytes()


def test_a_pytorch_model_answers_as_it_did_in_transformers(
    data: Path, tmp_path: Path, answer: Callable[..., str], pytorch_reference: dict[str, Any]
) -> None:
    made = convert_model(data / "pytorch", tmp_path / "out")
    assert made.format == "pytorch"
    expected = decoded(made.path, pytorch_reference["answer"])
    assert answer(made.path, pytorch_reference["question"]) == expected


def test_a_pytorch_model_in_parts_is_one_model(data: Path, tmp_path: Path, answer: Callable[..., str]) -> None:
    """Two files that hold the same tensors stand for parts; each tensor is taken from the file the index names."""
    source = copied(data / "pytorch", tmp_path / "source")
    whole = source / "pytorch_model.bin"
    parts = [source / f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    split_checkpoint(whole, parts)
    whole.unlink()
    made = convert_model(source, tmp_path / "out")
    assert answer(made.path) == answer(convert_model(data / "pytorch", tmp_path / "whole").path)
    parts[1].unlink()
    with pytest.raises(ConversionError, match=parts[1].name):
        convert_model(source, tmp_path / "again")


def split_checkpoint(whole: Path, parts: list[Path]) -> None:
    """Two checkpoints of half the tensors each, and their index, without torch."""
    tensors = {
        tensor.name: np.concatenate([chunk.reshape(-1) for chunk in tensor.chunks()])
        .view(np.float32)
        .reshape(tensor.shape)
        for tensor in read_pytorch(whole)
    }
    names = list(tensors)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    for part, half in zip(parts, halves, strict=True):
        write_checkpoint(part, {name: tensors[name] for name in half})
    places = {name: part.name for part, half in zip(parts, halves, strict=True) for name in half}
    index = whole.with_name("pytorch_model.bin.index.json")
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")


def test_one_checkpoint_of_a_folder_can_be_named(data: Path, tmp_path: Path) -> None:
    source = copied(data / "pytorch", tmp_path / "source")
    shutil.copy(source / "pytorch_model.bin", source / "older.bin")
    (source / "pytorch_model.bin").rename(source / "newer.bin")
    (source / "training_args.bin").write_bytes(b"x")
    with pytest.raises(ConversionError, match="2 files") as caught:
        convert_model(source, tmp_path / "out")
    assert "newer.bin" in caught.value.hint
    assert convert_model(source / "newer.bin", tmp_path / "out").kind == "chat"


def test_safetensors_under_the_name_of_a_checkpoint_are_read(tiny_model: TinyModel, tmp_path: Path) -> None:
    source = copied(tiny_model("llama"), tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    made = convert_model(source, tmp_path / "out")
    ids = list(range(5, 25))
    assert np.array_equal(logits_of(tiny_model("llama"), ids), logits_of(made.path, ids))


def test_an_embedding_model_of_pytorch_files_gives_the_same_vectors(
    data: Path, tmp_path: Path, runtime: Runtime
) -> None:
    from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

    made = convert_model(data / "bert", tmp_path / "out")
    assert (made.format, made.kind, made.model_type) == ("pytorch", "embedding", "bert")
    assert (made.path / "2_Dense" / "model.safetensors").is_file()
    reference = json.loads((data / "bert.json").read_text(encoding="utf-8"))
    backend = runtime.embedding(made.path)
    found = EmbeddingResult.join(backend.stream(reference["texts"], EmbeddingOptions())).vectors
    assert np.abs(found - np.array(reference["vectors"])).max() < 1e-5


def test_an_embedding_model_of_safetensors_is_copied_or_cast(data: Path, tmp_path: Path) -> None:
    first = convert_model(data / "bert", tmp_path / "first")
    second = convert_model(first.path, tmp_path / "second")
    narrow = convert_model(first.path, tmp_path / "narrow", dtype="float16")
    assert second.weight_bytes == first.weight_bytes
    assert dtypes_of(narrow.path) == dtypes_of(narrow.path / "2_Dense") == {"F16"}
    with pytest.raises(InvalidRequestError, match="not quantised"):
        convert_model(first.path, tmp_path / "small", quantize_bits=4)


def test_large_models_come_out_in_parts(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]
) -> None:
    monkeypatch.setattr("mlx_integrations.runtime.convert.tensors._MAX_FILE_BYTES", 200_000)
    source = tiny_model("llama")
    made = convert_model(source, tmp_path / "out")
    parts = sorted(file.name for file in made.path.glob("model-*.safetensors"))
    index = json.loads((made.path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert len(parts) > 2 and set(index["weight_map"].values()) == set(parts)
    assert answer(made.path) == answer(source)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"quantize_bits": 5}, "quantize_bits"), ({"group_size": 48}, "group_size"), ({"dtype": "float8"}, "dtype")],
)
def test_impossible_options_are_refused(
    tiny_model: TinyModel, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        convert_model(tiny_model("llama"), tmp_path / "out", **options)
    assert caught.value.field == field


def test_weights_are_not_quantised_twice(tiny_model: TinyModel, tmp_path: Path) -> None:
    once = convert_model(tiny_model("llama"), tmp_path / "once", quantize_bits=4)
    with pytest.raises(InvalidRequestError, match="already"):
        convert_model(once.path, tmp_path / "twice", quantize_bits=8)
    again = convert_model(once.path, tmp_path / "again")
    assert again.weight_bytes == once.weight_bytes


def test_nothing_is_overwritten(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConversionError, match="already"):
        convert_model(tiny_model("llama"), tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def damaged(source: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (source / name).write_bytes(change((source / name).read_bytes()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", lambda raw: raw[:-100]),
        ("model.safetensors", lambda raw: raw[:40]),
        ("model.safetensors", lambda raw: raw.replace(b"q_proj", b"z_proj")),
        ("config.json", lambda raw: raw[:-5]),
        ("config.json", lambda raw: raw.replace(b'"hidden_size": 64', b'"hidden_size": 32')),
    ],
)
def test_damaged_sources_are_named_and_leave_nothing(
    tiny_model: TinyModel, tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    source = copied(tiny_model("llama"), tmp_path / "source")
    damaged(source, name, change)
    with pytest.raises(ConversionError, match="source"):
        convert_model(source, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [source]


def test_sources_that_are_no_models_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConversionError, match="There is no"):
        convert_model(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedFormatError, match="no weights"):
        convert_model(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConversionError, match=r"no config\.json"):
        convert_model(data / "tensors.pt", tmp_path / "out")
    (tmp_path / "x.bin").write_text("hello, this is text")
    with pytest.raises(UnsupportedFormatError, match="neither"):
        convert_model(tmp_path / "x.bin", tmp_path / "out")
    hostile = copied(data / "pytorch", tmp_path / "hostile")
    shutil.copy(data / "hostile.pt", hostile / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"posix\.system"):
        convert_model(hostile, tmp_path / "out")


def test_an_architecture_without_code_is_refused_before_anything_is_read(tiny_model: TinyModel, tmp_path: Path) -> None:
    source = copied(tiny_model("llama"), tmp_path / "source")
    damaged(source, "config.json", lambda raw: raw.replace(b'"llama"', b'"whisper"'))
    with pytest.raises(UnsupportedArchitectureError, match="speech"):
        convert_model(source, tmp_path / "out")


def test_a_full_disk_is_noticed_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9 - 200_000, 200_000))
    with pytest.raises(InsufficientDiskError) as caught:
        convert_model(data / "pytorch", tmp_path / "out")
    # The tensors themselves, and the same again for the result.
    assert caught.value.needed_bytes > 2 * 160_000
    assert not list(tmp_path.iterdir())
    check_disk(tmp_path, 200_000)


class InterruptedTestError(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("phase", ["reading", "writing"])
def test_an_interruption_leaves_nothing_and_can_be_repeated(data: Path, tmp_path: Path, phase: str) -> None:
    def stop(progress: ConversionProgress) -> None:
        if progress.phase == phase and progress.done_bytes > progress.total_bytes / 2:
            raise InterruptedTestError

    with pytest.raises(InterruptedTestError):
        convert_model(data / "pytorch", tmp_path / "out", on_progress=stop)
    assert not list(tmp_path.iterdir())
    assert convert_model(data / "pytorch", tmp_path / "out").kind == "chat"


def test_what_a_killed_process_left_goes_with_the_next_conversion(data: Path, tmp_path: Path) -> None:
    command = (
        "import sys, time; from pathlib import Path\n"
        "from mlx_integrations.runtime.convert.conversion import convert_model\n"
        "def wait(progress):\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "convert_model(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=wait)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(data / "pytorch"), str(tmp_path / "killed")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"writing\n"
    (left,) = tmp_path.iterdir()
    # While it lives, another conversion beside it leaves its folder alone.
    convert_model(data / "pytorch", tmp_path / "other")
    assert left.is_dir()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    convert_model(data / "pytorch", tmp_path / "killed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "other"]


def test_answers_go_on_while_a_model_is_converted(
    tiny_model: TinyModel, data: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    """Each tensor is a command of its own, so that steps of a batch come in between."""
    spoken: list[str] = []

    def speak(progress: ConversionProgress) -> None:
        if progress.phase == "writing" and len(spoken) < 3:
            spoken.append(answer(tiny_model("llama"), max_tokens=5))

    began = time.monotonic()
    convert_model(data / "pytorch", tmp_path / "out", on_progress=speak)
    assert len(spoken) == 3 and len(set(spoken)) == 1
    assert time.monotonic() - began < 60
