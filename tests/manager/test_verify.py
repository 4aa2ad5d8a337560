"""A wrong byte anywhere is found, without the network, and put right from the Hub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.manager import ModelManager, PullProgress
from mlx_integrations.registry import ModelEntry, ModelRegistry
from tests.hub import LoopbackHub
from tests.manager.conftest import MB, model_files
from tests.manager.test_inventory import WHOLE, safetensors, write

REPO_ID = "test-org/tiny"


@pytest.fixture
def pulled(hub: LoopbackHub, manager: ModelManager) -> Path:
    hub.publish(REPO_ID, model_files())
    return manager.pull(REPO_ID).path


def _flip(file: Path, position: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.resolve().write_bytes(content)


def test_a_whole_model_is_intact_and_all_of_it_was_read(pulled: Path, manager: ModelManager, hub: LoopbackHub) -> None:
    asked = len(hub.requests)
    seen: list[PullProgress] = []
    found = manager.verify(REPO_ID, on_progress=seen.append)
    assert found.is_intact and found.method == "checksums" and found.path == pulled
    assert (found.checked_files, found.checked_bytes) == (4, sum(file.stat().st_size for file in pulled.iterdir()))
    assert len(hub.requests) == asked
    assert seen[-1].done_bytes == seen[-1].total_bytes == found.checked_bytes
    assert manager.verify(REPO_ID, online=True).method == "hub"
    assert manager.verify(REPO_ID, online=True).is_intact


@pytest.mark.parametrize(("file", "kind"), [("model.safetensors", "SHA-256"), ("tokenizer.json", "SHA-1")])
@pytest.mark.parametrize("online", [False, True])
def test_one_wrong_bit_is_found_in_large_files_and_small_ones(
    pulled: Path, manager: ModelManager, file: str, kind: str, online: bool
) -> None:
    _flip(pulled / file)
    (problem,) = manager.verify(REPO_ID, online=online).problems
    assert (problem.file, problem.reason) == (file, f"Its {kind} differs.")
    assert problem.expected == (pulled / file).readlink().name != problem.actual


def test_what_is_wrong_is_downloaded_again_and_nothing_else(
    pulled: Path, manager: ModelManager, hub: LoopbackHub
) -> None:
    newer = {**model_files(), "model.safetensors": b"newer"}
    hub.publish(REPO_ID, newer)  # a repair stays with the commit that is here
    _flip(pulled / "model.safetensors")
    (pulled / "tokenizer.json").resolve().write_bytes(b"")
    (pulled / "README.md").unlink()
    found = manager.verify(REPO_ID)
    assert [problem.file for problem in found.problems] == ["README.md", "model.safetensors", "tokenizer.json"]
    assert found.problems[2].reason == "It has another size."
    repaired = manager.repair(found)
    assert repaired.path == pulled
    assert repaired.transferred_bytes == 2 * MB + 2  # README.md only had to be linked again
    assert manager.verify(REPO_ID).is_intact


def test_a_link_into_the_shared_store_is_checked_by_its_own_name(
    pulled: Path, manager: ModelManager, cache: Path
) -> None:
    blob = (pulled / "model.safetensors").resolve()
    shared = cache / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(f"../../blobs/ab/{'ab' * 32}")
    assert manager.verify(REPO_ID).is_intact
    _flip(pulled / "model.safetensors")
    found = manager.verify(REPO_ID)
    assert [problem.expected for problem in found.problems] == [blob.name]
    manager.repair(found)
    assert manager.verify(REPO_ID).is_intact
    assert not blob.is_symlink() and shared.is_file()  # others may look at that one


def test_a_folder_without_digests_is_checked_for_whole_weights(
    make: Callable[..., ModelManager], tmp_path: Path
) -> None:
    folder = write(tmp_path / "models" / "plain", WHOLE)
    manager = make(folders=[tmp_path / "models"])
    assert manager.verify("plain").is_intact and manager.verify("plain").method == "structure"
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for content, reason in (
        (whole[:-1], "should hold 64 bytes"),
        (whole + b"x", "holds 65"),
        (whole[:4], "shorter than its header"),
        (b"\xff" * 100, "shorter than its header"),
        (whole[:8] + b"x" * (len(whole) - 8), "header cannot be read"),
    ):
        weights.write_bytes(content)
        (problem,) = manager.verify("plain").problems
        assert reason in problem.reason
    weights.write_bytes(whole)
    (folder / "tokenizer.json").write_bytes(b"{")
    assert [problem.reason for problem in manager.verify("plain").problems] == ["It is not valid JSON."]
    with pytest.raises(ConfigurationError, match="did not come from the Hub"):
        manager.repair(manager.verify("plain"))
    with pytest.raises(ConfigurationError, match="not known which repository"):
        manager.verify("plain", online=True)


def test_tensors_that_the_index_promises_must_be_in_their_shard(
    make: Callable[..., ModelManager], tmp_path: Path
) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    files = {
        "config.json": WHOLE["config.json"],
        "tokenizer.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-1.safetensors": safetensors(names=("a",)),
    }
    write(tmp_path / "models" / "sharded", files)
    first, second = make(folders=[tmp_path / "models"]).verify("sharded").problems
    assert (first.file, second.file) == ("model-1.safetensors", "model-2.safetensors")
    assert "such as `b`" in first.reason and second.reason == "It is missing."


def test_packaged_models_are_held_to_their_published_digest(manager: ModelManager) -> None:
    assert manager.verify("minilm-l6-v2").method == "checksums"
    assert manager.verify("minilm-l6-v2").is_intact and manager.verify("demo").is_intact


def test_digests_of_the_registry_are_used_for_folders(make: Callable[..., ModelManager]) -> None:
    import hashlib

    write(Path("~/.lmstudio/models/org/name").expanduser(), WHOLE)
    digest = hashlib.sha256(WHOLE["model.safetensors"]).hexdigest()
    for value, is_intact in ((digest, True), ("0" * 64, False)):
        entry = ModelEntry(id="x", name="X", kind="chat", repo_id="org/name", sha256={"model.safetensors": value})
        found = make(registry=ModelRegistry(entries=(entry,))).verify("org/name")
        assert (found.method, found.is_intact) == ("checksums", is_intact)


def test_a_folder_that_carries_a_repositorys_name_is_compared_with_the_hub(
    hub: LoopbackHub, manager: ModelManager
) -> None:
    folder = write(Path("~/.lmstudio/models/org/name").expanduser(), WHOLE)
    hub.publish("org/name", WHOLE)
    assert manager.verify("org/name", online=True).is_intact
    _flip(folder / "model.safetensors")
    assert [problem.file for problem in manager.verify("org/name", online=True).problems] == ["model.safetensors"]
