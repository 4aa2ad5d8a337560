"""A Hub on this machine, an empty cache, and a clock that never makes anybody wait."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.manager import ModelManager
from mlx_integrations.manager.pacing import Clock
from mlx_integrations.types import Support
from tests.hub import LoopbackHub, go_online

MB = 1024 * 1024
CONFIG = b'{"model_type": "llama", "quantization": {"group_size": 64, "bits": 4}}'


class FakeClock:
    """Time that passes only while somebody sleeps; remembers for how long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    @property
    def slept_seconds(self) -> float:
        return sum(self.pauses)

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, sleep=self.sleep, random=lambda: 1.0)


def weights(size: int, seed: int = 1) -> bytes:
    """Bytes that are different everywhere, so that a piece in the wrong place is noticed."""
    import random

    return random.Random(seed).randbytes(size)


def model_files(size: int = 2 * MB) -> dict[str, bytes]:
    """A repository as people publish them: what is needed, and copies that are not."""
    return {
        ".gitattributes": b"*.safetensors filter=lfs",
        "README.md": b"# Tiny",
        "config.json": CONFIG,
        "tokenizer.json": b"{}",
        "model.safetensors": weights(size),
        "pytorch_model.bin": weights(1000, seed=2),
        "onnx/model.onnx": weights(1000, seed=3),
    }


def supports(config: Any, files: Any) -> Support:
    is_known = config.get("model_type") == "llama"
    reason = "" if is_known else f"There is no code for `{config.get('model_type')}`."
    return Support(kind="chat", is_supported=is_known, reason=reason)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LM Studio's folders are looked for below the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    go_online(monkeypatch)
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that does not exist yet."""
    folder = tmp_path / "cache" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def make(hub: LoopbackHub, cache: Path, fake_clock: FakeClock) -> Callable[..., ModelManager]:
    def _make(**options: Any) -> ModelManager:
        defaults: dict[str, Any] = {
            "cache_dir": cache,
            "endpoint": hub.endpoint,
            "describe_support": supports,
            "clock": fake_clock.clock,
        }
        return ModelManager(**{**defaults, **options})

    return _make


@pytest.fixture
def manager(make: Callable[..., ModelManager]) -> ModelManager:
    return make()
