"""A command line in this process, on a Hub and a cache of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.manager import ModelManager
from mlx_integrations.registry import ModelEntry, ModelRegistry
from mlx_integrations.runtime.architectures import describe_support
from mlx_integrations.settings import Settings
from mlx_integrations.types import Machine
from tests.hub import DEMO_FOLDER, LoopbackHub, go_online
from tests.manager.conftest import FakeClock

GIB = 1024**3
REPOSITORY = "test-org/tiny-4bit"
MACHINE = Machine(
    backend="metal", device_name="Apple M3", memory_bytes=16 * GIB, usable_bytes=11 * GIB, cores=8, system="macOS 15.1"
)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "intermediate_size": 8192,
}
ENTRIES = (
    ModelEntry(
        id="tiny",
        name="Tiny",
        kind="chat",
        repo_id=REPOSITORY,
        publisher="Test Org",
        license="Apache-2.0",
        parameters=1_400_000,
        weight_bytes=5_600_000,
        architecture=LLAMA,
        context_window=1024,
        best_for=("chat",),
        tools=True,
        is_recommended=True,
    ),
    ModelEntry(
        id="middle",
        name="Middle 3B",
        kind="chat",
        repo_id="test-org/middle-4bit",
        parameters=3_200_000_000,
        weight_bytes=1_800_000_000,
        context_window=131_072,
        architecture=LLAMA,
        best_for=("chat", "code"),
    ),
    ModelEntry(
        id="giant",
        name="Giant 70B",
        kind="chat",
        repo_id="test-org/giant-4bit",
        parameters=70_000_000_000,
        weight_bytes=40_000_000_000,
        architecture=LLAMA,
        best_for=("chat",),
    ),
    ModelEntry(id="old", name="Old", kind="chat", best_for=("chat",), weight_bytes=1, deprecated="Tiny is better."),
)


@dataclass(kw_only=True)
class Shell:
    """Runs commands and keeps what they say."""

    hub: LoopbackHub
    folder: Path
    capsys: pytest.CaptureFixture[str]
    parts: Parts
    out: str = ""
    err: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *argv: str) -> int:
        """Run a command; returns its exit code."""
        self.capsys.readouterr()
        code = main(argv, self.parts)
        self.out, self.err = self.capsys.readouterr()
        return code


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Commands that reach a Hub with one small model on it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with LoopbackHub() as hub:
        go_online(monkeypatch, hub)
        hub.publish_folder(REPOSITORY, DEMO_FOLDER)
        yield Shell(hub=hub, folder=tmp_path, capsys=capsys, parts=parts_of(hub, tmp_path))


def parts_of(hub: LoopbackHub, folder: Path, machine: Machine = MACHINE) -> Parts:
    """What commands are made of here: a real manager and registry, a machine of paper."""
    registry = ModelRegistry(entries=ENTRIES)

    def manager() -> ModelManager:
        return ModelManager(
            cache_dir=folder / "cache",
            registry=registry,
            endpoint=hub.endpoint,
            describe_support=describe_support,
            clock=FakeClock().clock,
        )

    def settings(**values: Any) -> Settings:
        return Settings(**values)

    return Parts(
        settings=settings,
        model_manager=manager,
        model_registry=lambda: registry,
        machine=lambda: machine,
        state_folder=lambda: folder / "state",
    )
