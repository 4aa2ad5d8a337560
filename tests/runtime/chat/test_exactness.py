"""Greedy answers equal mlx-lm's own, token for token, alone and in a batch of mixed lengths."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import ChatRequest, ChatResult, TokenLogprob
from tests.runtime.conftest import TinyModel, ask
from tests.tiny_models import ARCHITECTURES

TIE = 1e-4
"""Of log-probabilities: a hundred times the rounding of float32 here."""
TEXTS = [
    "hello",
    "What is a coroutine? " * 30,
    "Tell me about dictionaries and how they keep their order.",
    "x",
    "Write a long story about a queue. " * 8,
    "naïve café 東京 🙂",
]


@lru_cache(maxsize=2)
def _reference_model(path: Path) -> tuple[Any, Any]:
    from mlx_lm import load

    model, tokenizer = load(str(path))[:2]
    return model, tokenizer


def _reference(path: Path, prompt: list[int], max_tokens: int) -> list[int]:
    """What `mlx_lm.stream_generate` makes of a prompt, end tokens left out."""
    from mlx_lm import stream_generate

    model, tokenizer = _reference_model(path)
    responses = list(stream_generate(model, tokenizer, prompt, max_tokens=max_tokens))
    return [response.token for response in responses if response.token not in tokenizer.eos_token_ids]


def _prompt(backend: MLXChatBackend, request: ChatRequest) -> list[int]:
    return backend.text.prompt(request)[1]


def _answer(backend: MLXChatBackend, request: ChatRequest) -> tuple[TokenLogprob, ...]:
    return ChatResult.join(backend.stream(request)).logprobs


def _tokens(answer: tuple[TokenLogprob, ...]) -> list[int]:
    return [item.token_id for item in answer]


def _is_a_tie(answer: tuple[TokenLogprob, ...], expected: list[int]) -> bool:
    """Whether an answer leaves the expected one at a token that was as likely: sums of a batch of another size round
    otherwise, and among a thousand tokens of random weights two are now and then equal to the last digits.
    """
    pairs = zip(answer, expected, strict=False)
    at = next((place for place, (item, token) in enumerate(pairs) if item.token_id != token), None)
    if at is None:
        return False
    other = next((logprob for _, token_id, logprob in answer[at].top if token_id == expected[at]), None)
    return other is not None and answer[at].logprob - other < TIE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_answers_equal_mlx_lm_alone_and_in_a_mixed_batch(
    architecture: str, tiny_model: TinyModel, runtime: Runtime
) -> None:
    path = tiny_model(architecture)
    backend = MLXChatBackend(path, runtime=runtime)
    requests = [ask(text, max_tokens=30, logprobs=True, top_logprobs=2) for text in TEXTS]
    prompts = [_prompt(backend, request) for request in requests]
    expected = [get_worker().call(_reference, path, prompt, 30).result() for prompt in prompts]
    assert len({tuple(tokens) for tokens in expected}) == len(TEXTS)

    alone = [_tokens(_answer(backend, request)) for request in requests]
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        together = list(pool.map(lambda request: _answer(backend, request), requests))

    assert alone == expected
    for answer, tokens in zip(together, expected, strict=True):
        assert _tokens(answer) == tokens or _is_a_tie(answer, tokens)


def test_the_text_of_an_answer_is_the_decoding_of_its_tokens(llama: MLXChatBackend) -> None:
    result = ChatResult.join(llama.stream(ask(max_tokens=200, logprobs=True)))
    ids = [item.token_id for item in result.logprobs]
    assert len(ids) > 20
    assert result.text == llama.text.backend.decode(ids, skip_special_tokens=False)


_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("architecture", "older", "newer"),
    [
        ("llama", {"rope_theta": 300.0}, {"rope_theta": 300.0, "rope_type": "default"}),
        ("llama", {"rope_theta": 500.0, "rope_scaling": _LLAMA3}, {"rope_theta": 500.0, **_LLAMA3}),
        ("qwen3", {"rope_theta": 300.0}, {"rope_theta": 300.0, "rope_type": "default"}),
        (
            "gemma3",
            {"rope_theta": 300.0, "rope_local_base_freq": 50.0},
            {
                "full_attention": {"rope_theta": 300.0, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"},
            },
        ),
    ],
)
def test_positions_are_rotated_as_either_form_of_the_configuration_says(
    architecture: str, older: dict[str, Any], newer: dict[str, Any], tiny_model: TinyModel, runtime: Runtime
) -> None:
    """transformers 5 writes `rope_parameters` instead of `rope_theta`, which most of mlx-lm's classes do not read."""
    absent = {"rope_theta": None, "rope_local_base_freq": None}
    forms = {
        "older": older,
        "newer": {**absent, "rope_parameters": newer},
        "neither": {"rope_theta": 10_000.0, "rope_local_base_freq": 10_000.0},
    }
    tokens = {}
    for form, changes in forms.items():
        path = tiny_model(architecture, name=f"rope-{architecture}-{len(older)}-{form}", **changes)
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kept = {name: value for name, value in config.items() if value is not None}
        (path / "config.json").write_text(json.dumps(kept), encoding="utf-8")
        backend = MLXChatBackend(path, runtime=runtime)
        tokens[form] = _tokens(_answer(backend, ask(TEXTS[1], max_tokens=30, logprobs=True)))
    assert tokens["newer"] == tokens["older"] != tokens["neither"]
