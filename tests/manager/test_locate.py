"""A name of the registry leads to its repository on this machine, and one that is nowhere says how it gets here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations.errors import ConfigurationError, ModelNotFoundError
from mlx_integrations.manager import ModelManager
from mlx_integrations.manager.locate import known_models, locate
from mlx_integrations.registry import ModelEntry, ModelRegistry
from tests.hub import LoopbackHub
from tests.manager.conftest import model_files
from tests.manager.test_inventory import WHOLE, write

ENTRY = ModelEntry(id="tiny-1b", name="Tiny 1B", kind="chat", repo_id="test-org/Tiny-1B-4bit", aliases=("tiny",))
REGISTRY = ModelRegistry(entries=(ENTRY,))


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 300, f"org/{'x' * 300}", "~nobody-of-that-name/model", "a\0b", "half \ud800", "http://["]
)
def test_what_can_be_no_name_is_not_found_like_any_other(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(name, [tmp_path], cache_dir=tmp_path)
    assert caught.value.model == name


@pytest.mark.parametrize("name", ["tiny-1b", "Tiny-1B", "tiny", "test-org/Tiny-1B-4bit", "Tiny-1B-4bit"])
def test_every_name_of_the_registry_leads_to_the_cached_repository(
    hub: LoopbackHub, make: Callable[..., ModelManager], name: str
) -> None:
    hub.publish("test-org/Tiny-1B-4bit", model_files())
    manager = make(registry=REGISTRY)
    pulled = manager.pull(name)
    assert pulled.repo_id == "test-org/Tiny-1B-4bit"
    assert manager.path(name) == manager.find(name).path == locate(name, registry=REGISTRY) == pulled.path
    assert manager.plan(name).entry == ENTRY


def test_the_registrys_commit_is_taken_and_found_under_the_plain_name(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    from huggingface_hub import snapshot_download

    pinned = hub.publish("test-org/Tiny-1B-4bit", model_files())
    newest = hub.publish("test-org/Tiny-1B-4bit", model_files(1000))
    entry = ModelEntry(id="tiny-1b", name="Tiny", kind="chat", repo_id="test-org/Tiny-1B-4bit", revision=pinned)
    manager = make(registry=ModelRegistry(entries=(entry,)))
    pulled = manager.pull("tiny-1b")
    assert pulled.revision == pinned
    assert manager.path("tiny-1b") == manager.path("test-org/Tiny-1B-4bit") == pulled.path
    offline = snapshot_download("test-org/Tiny-1B-4bit", cache_dir=manager.cache_dir, local_files_only=True)
    assert Path(offline) == pulled.path
    (update,) = manager.updates("tiny-1b")
    assert update.latest_revision == newest
    assert manager.pull("test-org/Tiny-1B-4bit").revision == newest
    assert manager.path("test-org/Tiny-1B-4bit").name == newest
    assert manager.path("tiny-1b").name == pinned  # the name means what the registry says it means


def test_a_commit_that_the_repository_no_longer_has_gives_way_to_the_newest(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    newest = hub.publish("test-org/Tiny-1B-4bit", model_files())
    entry = ModelEntry(id="tiny-1b", name="Tiny", kind="chat", repo_id="test-org/Tiny-1B-4bit", revision="0" * 40)
    plan = make(registry=ModelRegistry(entries=(entry,))).plan("tiny-1b")
    assert (plan.revision, plan.reference) == (newest, "main")


def test_a_registry_name_is_found_in_other_folders_too(cache: Path, tmp_path: Path) -> None:
    write(Path("~/.lmstudio/models/test-org/Tiny-1B-4bit").expanduser(), WHOLE)
    assert locate("tiny", registry=REGISTRY) == Path("~/.lmstudio/models/test-org/Tiny-1B-4bit").expanduser()
    folder = write(tmp_path / "models" / "test-org" / "Tiny-1B-4bit", WHOLE)
    assert locate("tiny", [tmp_path / "models"], registry=REGISTRY) == folder
    assert "test-org/Tiny-1B-4bit" in known_models([tmp_path / "models"])


def test_the_registry_of_the_package_is_the_default(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelNotFoundError) as caught:
        locate("llama-3.2-3b")
    assert caught.value.hint == "Download it with: mlxi models pull llama-3.2-3b"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "MLXI_OFFLINE"])
def test_offline_the_hint_says_what_has_to_change_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv(variable, "1")
    for name in ("llama-3.2-3b", "some-org/unheard-of"):
        with pytest.raises(ModelNotFoundError, match=f"models pull {name} .*unset {variable} first"):
            locate(name)
    monkeypatch.setenv(variable, "0")
    with pytest.raises(ModelNotFoundError) as caught:
        locate("llama-3.2-3b")
    assert variable not in str(caught.value)


def test_a_misspelt_registry_name_is_suggested(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("lama-3.2-3b")
    assert "llama-3.2-3b" in caught.value.suggestions
    assert "mlxi models pull llama-3.2-3b" in str(caught.value)


def test_a_name_that_means_nothing_cannot_be_pulled(manager: ModelManager) -> None:
    with pytest.raises(ModelNotFoundError, match="neither in the registry nor a repository"):
        manager.pull("no such model")
    assert manager.pull("demo").transferred_bytes == 0
    with pytest.raises(ConfigurationError, match="not on the Hub"):
        manager.plan("demo")


def test_listing_and_locating_need_no_client_of_the_hub(cache: Path) -> None:
    import subprocess
    import sys

    code = """
import sys
from mlx_integrations.manager import ModelManager
from mlx_integrations.manager.locate import locate
manager = ModelManager()
assert manager.list() and manager.partials() == [] and locate("demo")
heavy = {"huggingface_hub", "httpx2", "mlx", "mlx_lm", "transformers", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hint_for_a_name_that_cannot_be_downloaded_says_what_would_help(make: Callable[..., ModelManager]) -> None:
    own = ModelEntry(id="ours", name="Ours", kind="chat", origin="user")
    packaged = ModelEntry(id="packed", name="Packed", kind="embedding", install_command="pip install packed")
    manager = make(registry=ModelRegistry(entries=(own, packaged, ENTRY)))
    for name, hint in (
        ("ours", "no `repo_id`"),
        ("packed", "pip install packed"),
        ("tiny-1", "`tiny-1b`"),
        ("?", "search"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            manager.plan(name)
        assert hint in caught.value.hint
