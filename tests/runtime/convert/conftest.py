"""Where the reference data is, and what it takes to look at a converted model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, SamplingParams

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def pytorch_reference() -> dict[str, Any]:
    """A question, and the tokens with which transformers answers it."""
    found: dict[str, Any] = json.loads((DATA / "pytorch.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def answer(runtime: Runtime) -> Callable[..., str]:
    """What a model says, greedily."""

    def ask(path: Path, question: str = "hello there", max_tokens: int = 20) -> str:
        request = ChatRequest(
            messages=(ChatMessage(role="user", content=question),),
            sampling=SamplingParams(temperature=0.0, max_tokens=max_tokens),
        )
        return ChatResult.join(runtime.chat(path).stream(request)).text

    return ask


def logits_of(path: Path, ids: list[int]) -> np.ndarray:
    """(T, vocabulary) float32."""

    def compute() -> np.ndarray:
        from mlx_integrations.runtime.blas import preload_blas

        preload_blas()
        from mlx_integrations.runtime._mlx import load_weights, mx

        model = load_weights(path, cpu_float32=True)
        return np.array(model(mx.array([ids]))[0].astype(mx.float32))

    return get_worker().call(compute).result()


def decoded(path: Path, ids: list[int]) -> str:
    """The text of tokens, by the tokenizer in a folder."""
    from tokenizers import Tokenizer

    text: str = Tokenizer.from_file(str(path / "tokenizer.json")).decode(ids)
    return text
