"""Models are found wherever they are, with what they are, how large, and why they cannot be used."""

import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.manager import InstalledModel, ModelManager
from mlx_integrations.manager.folders import discover
from mlx_integrations.registry.entry import Quantization
from tests.hub import LoopbackHub
from tests.manager.conftest import CONFIG, MB, model_files, supports

REPO_ID = "test-org/tiny"
MODELS = 50
LIST_SECONDS = 1.0


def safetensors(size: int = 64, names: tuple[str, ...] = ("weight",)) -> bytes:
    """A whole safetensors file with tensors of `size` bytes."""
    header = {
        name: {"dtype": "U8", "shape": [size], "data_offsets": [number * size, (number + 1) * size]}
        for number, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + os.urandom(size * len(names))


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


WHOLE = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": safetensors()}


def by_name(manager: ModelManager) -> dict[str, InstalledModel]:
    return {model.name: model for model in manager.list()}


def test_a_machine_without_any_cache_has_the_models_that_come_in_packages(cache: Path) -> None:
    models = ModelManager(cache_dir=cache, describe_support=supports).list()
    assert [(model.name, model.source) for model in models] == [("demo", "packaged"), ("minilm-l6-v2", "packaged")]
    assert not cache.exists()
    demo, minilm = models
    assert demo.is_usable and demo.kind == "chat" and demo.model_type == "llama" and demo.size_bytes > MB
    assert minilm.repo_id == "sentence-transformers/all-MiniLM-L6-v2" and minilm.size_bytes > 80 * MB


def test_every_question_can_be_asked_of_a_cache_that_is_not_there(cache: Path) -> None:
    manager = ModelManager(cache_dir=cache)
    assert manager.partials() == [] and manager.prune() == 0
    assert manager.updates() == []
    for ask in (manager.path, manager.size_bytes, manager.verify, manager.plan_removal):
        with pytest.raises(ModelNotFoundError):
            ask("test-org/tiny")
    assert not cache.exists()


def test_a_model_of_the_cache_is_listed_with_what_it_is(hub: LoopbackHub, manager: ModelManager) -> None:
    commit = hub.publish(REPO_ID, model_files())
    path = manager.pull(REPO_ID).path
    model = by_name(manager)[REPO_ID]
    assert (model.path, model.repo_id, model.revision, model.source) == (path, REPO_ID, commit, "hub")
    assert (model.model_type, model.kind) == ("llama", "chat")
    assert model.quantization == Quantization(bits=4, group_size=64, mode="affine")
    assert model.is_complete and model.is_usable and model.reason == "" and model.last_used is not None
    assert model.size_bytes == sum(file.size_bytes for file in manager.plan(REPO_ID).files)
    assert manager.size_bytes(REPO_ID) == model.size_bytes


def test_older_revisions_have_names_of_their_own_that_are_found(hub: LoopbackHub, manager: ModelManager) -> None:
    old = hub.publish(REPO_ID, model_files())
    manager.pull(REPO_ID)
    hub.publish(REPO_ID, model_files(MB))
    hub.publish(REPO_ID, {**model_files(), "tokenizer.json": b'{"v": 1}'}, branch="v1")
    manager.pull(REPO_ID)
    manager.pull(manager.plan(REPO_ID, revision="v1"))
    names = {name for name in by_name(manager) if name.startswith(REPO_ID)}
    assert names == {REPO_ID, f"{REPO_ID}@{old}", f"{REPO_ID}@v1"}
    for name, model in by_name(manager).items():
        assert manager.path(name) == model.path == manager.find(name).path


def test_a_model_with_missing_files_says_which_and_what_fetches_them(hub: LoopbackHub, manager: ModelManager) -> None:
    hub.publish(REPO_ID, model_files())
    manager.pull(REPO_ID).path.joinpath("model.safetensors").resolve().unlink()
    model = by_name(manager)[REPO_ID]
    assert not model.is_complete and not model.is_usable
    assert "`model.safetensors`" in model.reason and f"mlxi models pull {REPO_ID}" in model.reason
    manager.pull(REPO_ID)
    assert by_name(manager)[REPO_ID].is_usable


def test_a_download_that_never_ended_is_listed_with_what_arrived(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.cut("*.safetensors", after_bytes=MB)
    hub.cut("*.safetensors", after_bytes=0, times=20)
    with pytest.raises(Exception, match="connection"):
        make().pull(REPO_ID)
    model = by_name(make())[REPO_ID]
    assert not model.is_complete and model.size_bytes >= MB
    assert "was interrupted" in model.reason and "goes on" in model.reason


def test_what_huggingface_hub_downloaded_counts_as_whole_when_weights_and_configuration_are_there(
    hub: LoopbackHub, manager: ModelManager
) -> None:
    from huggingface_hub import snapshot_download

    hub.publish(REPO_ID, model_files())
    options: dict[str, Any] = {"cache_dir": manager.cache_dir, "endpoint": hub.endpoint}
    snapshot_download(REPO_ID, allow_patterns=["*.json"], **options)
    assert "`model.safetensors`" in by_name(manager)[REPO_ID].reason
    snapshot_download(REPO_ID, allow_patterns=["*.json", "*.safetensors"], **options)
    assert by_name(manager)[REPO_ID].is_usable
    asked = len(hub.downloads("*.safetensors"))
    assert manager.pull(REPO_ID).transferred_bytes == len(b"# Tiny")
    assert len(hub.downloads("*.safetensors")) == asked


def test_lm_studios_models_are_found_and_gguf_says_what_to_do(manager: ModelManager) -> None:
    studio = Path("~/.lmstudio/models").expanduser()
    write(studio / "mlx-community" / "Tiny-4bit", WHOLE)
    write(studio / "bartowski" / "Tiny-GGUF", {"Tiny-Q4_0.gguf": b"GGUF"})
    older = Path("~/.cache/lm-studio/models").expanduser()
    write(older / "someone" / "Older", WHOLE)
    models = by_name(manager)
    tiny = models["mlx-community/Tiny-4bit"]
    assert tiny.source == "folder" and tiny.is_usable and tiny.repo_id == "mlx-community/Tiny-4bit"
    assert manager.path("mlx-community/Tiny-4bit") == tiny.path
    assert models["someone/Older"].is_usable
    gguf = models["bartowski/Tiny-GGUF"]
    assert not gguf.is_usable and "GGUF" in gguf.reason and "mlxi models import" in gguf.reason


def test_other_folders_are_searched_three_levels_down(make: Callable[..., ModelManager], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write(folder / "one", WHOLE)
    write(folder / "a" / "two", {**WHOLE, "1_Pooling/config.json": b"{}"})
    write(folder / "a" / "b" / "three", WHOLE)
    write(folder / "a" / "b" / "c" / "too-deep", WHOLE)
    write(folder / ".hidden", WHOLE)
    (folder / "a" / "back-up").symlink_to(folder)
    names = [model.name for model in make(folders=[folder]).list() if model.source == "folder"]
    assert names == ["a/b/three", "a/two", "one"]
    assert make(folders=[folder]).path("a/b/three") == folder / "a" / "b" / "three"


def test_a_folder_that_is_a_model_itself_is_found_by_its_path(
    make: Callable[..., ModelManager], tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", WHOLE)
    (model,) = [model for model in make(folders=[folder, tmp_path / "absent"]).list() if model.source == "folder"]
    assert model.name == str(folder) and make().path(model.name) == folder


def test_two_models_of_one_name_keep_apart(hub: LoopbackHub, make: Callable[..., ModelManager], tmp_path: Path) -> None:
    hub.publish(REPO_ID, model_files())
    cached = make().pull(REPO_ID).path
    copy = write(tmp_path / "models" / REPO_ID, WHOLE)
    models = by_name(make(folders=[tmp_path / "models"]))
    assert models[REPO_ID].path == cached
    assert models[str(copy)].source == "folder"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**WHOLE, "config.json": b'{"model_type": "whisper"}'}, "no code for `whisper`"),
        ({"config.json": CONFIG, "tokenizer.json": b"{}", "pytorch_model.bin": b"x"}, "PyTorch files, not safetensors"),
        ({"config.json": CONFIG, "tokenizer.json": b"{}", "model.onnx": b"x"}, "ONNX files, which cannot"),
        ({"config.json": CONFIG, "tokenizer.json": b"{}"}, "no safetensors"),
        ({"config.json": b"not json", "model.safetensors": safetensors()}, "missing|config.json"),
        ({"config.json": CONFIG, "model.safetensors": safetensors()}, "`tokenizer.json`"),
        (
            {
                "config.json": CONFIG,
                "tokenizer.json": b"{}",
                "model-00001-of-00002.safetensors": safetensors(),
                "model.safetensors.index.json": json.dumps(
                    {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
                ).encode(),
            },
            r"`model-00002-of-00002\.safetensors`",
        ),
    ],
)
def test_a_model_that_cannot_be_used_says_why(
    make: Callable[..., ModelManager], tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    import re

    write(tmp_path / "models" / "broken", files)
    model = by_name(make(folders=[tmp_path / "models"]))["broken"]
    assert not model.is_usable
    assert re.search(reason, model.reason)


@pytest.mark.parametrize(
    ("config", "quantization"),
    [
        ({"quantization": {"bits": 8, "group_size": 32}}, Quantization(bits=8, group_size=32, mode="affine")),
        (
            {"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}},
            Quantization(bits=4, group_size=32, mode="mxfp4"),
        ),
        (
            {"quantization_config": {"bits": 4, "quant_method": "gptq", "group_size": 128}},
            Quantization(bits=4, group_size=128, mode="gptq"),
        ),
        ({}, None),
        ({"quantization": "4bit"}, None),
        ({"quantization": {"bits": None}}, None),
    ],
)
def test_quantisation_is_read_from_the_configuration(config: dict[str, Any], quantization: Quantization | None) -> None:
    from mlx_integrations.manager.support import quantization_of

    assert quantization_of(config) == quantization


def test_a_file_with_two_names_counts_once(make: Callable[..., ModelManager], tmp_path: Path) -> None:
    folder = write(tmp_path / "models" / "one", WHOLE)
    os.link(folder / "model.safetensors", folder / "copy.safetensors")
    (folder / "link.safetensors").symlink_to("model.safetensors")
    assert by_name(make(folders=[tmp_path / "models"]))["one"].size_bytes == sum(map(len, WHOLE.values()))


def test_a_search_ends_in_a_huge_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_integrations.manager import folders

    monkeypatch.setattr(folders, "_MAX_FOLDERS", 10)
    for number in range(30):
        write(tmp_path / f"m{number:02}", WHOLE)
    assert len(list(discover(tmp_path))) < 15


def test_fifty_cached_models_are_listed_in_less_than_a_second(
    cache: Path, record_property: Callable[[str, object], None]
) -> None:
    from mlx_integrations.runtime.architectures import describe_support

    for number in range(MODELS):
        repository = cache / f"models--org--Model-{number:02}"
        commit = f"{number:040x}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        for name in (*WHOLE, "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "README.md"):
            blob = write(repository / "blobs", {f"{name}-id": WHOLE.get(name, b"{}")}) / f"{name}-id"
            pointer = repository / "snapshots" / commit / name
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    manager = ModelManager(cache_dir=cache, describe_support=describe_support)
    began = time.perf_counter()
    models = manager.list()
    seconds = time.perf_counter() - began
    record_property("seconds", seconds)
    assert sum(model.is_usable and model.source == "hub" for model in models) == MODELS
    assert seconds < LIST_SECONDS
