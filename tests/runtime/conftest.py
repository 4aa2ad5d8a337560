"""Tiny models built once for all runtime tests, and a fresh runtime for each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatMessage, ChatRequest, SamplingParams
from tests.tiny_models import build_model

TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """`tiny_model("llama")` gives the folder of a random model of that architecture."""
    root = tmp_path_factory.mktemp("tiny")
    built: dict[str, Path] = {}

    def get(architecture: str = "llama", name: str | None = None, **options: Any) -> Path:
        key = name or architecture
        if key not in built:
            built[key] = build_model(root / key, architecture, **options)
        return built[key]

    return get


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(RuntimeSettings(prefill_step_tokens=64))
    yield runtime
    runtime.close()


@pytest.fixture
def llama(tiny_model: TinyModel, runtime: Runtime) -> MLXChatBackend:
    return MLXChatBackend(tiny_model("llama"), runtime=runtime)


def ask(text: str = "hello there", **sampling: Any) -> ChatRequest:
    """A one-message request; greedy and short unless said otherwise."""
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 20, **sampling}
    return ChatRequest(
        messages=(ChatMessage(role="user", content=text),),
        sampling=SamplingParams(**options),
    )
