"""Prompt prefixes: the same answers with less reading, within a budget."""

from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.prefix.store import common_prefix_length
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult
from tests.runtime.conftest import TinyModel, ask
from tests.tiny_models import ARCHITECTURES

LONG = "Explain the event loop, the queue and the worker. " * 6


@given(a=st.lists(st.integers(0, 3), max_size=50), b=st.lists(st.integers(0, 3), max_size=50))
def test_the_common_prefix_is_found_by_halving(a: list[int], b: list[int]) -> None:
    expected = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix_length(array("I", a).tobytes(), array("I", b).tobytes()) == expected


def _conversation(backend: MLXChatBackend, turns: int) -> list[ChatResult]:
    """Several turns, each prompt holding all that was said before."""
    request = ask(LONG, max_tokens=30)
    results = []
    for turn in range(turns):
        results.append(ChatResult.join(backend.stream(request)))
        messages = (
            *request.messages,
            ChatMessage(role="assistant", content=results[-1].text),
            ChatMessage(role="user", content=f"and turn {turn}?"),
        )
        request = replace(request, messages=messages)
    return results


@pytest.fixture
def cold() -> Iterator[Runtime]:
    runtime = Runtime(RuntimeSettings(prefix_cache_bytes=0))
    yield runtime
    runtime.close()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_conversation_reads_the_same_with_and_without_prefixes(
    architecture: str, tiny_model: TinyModel, runtime: Runtime, cold: Runtime
) -> None:
    path = tiny_model(architecture)
    warm_results = _conversation(MLXChatBackend(path, runtime=runtime), 4)
    cold_results = _conversation(MLXChatBackend(path, runtime=cold), 4)
    assert [result.text for result in warm_results] == [result.text for result in cold_results]
    assert all(result.finish.usage.cached_tokens == 0 for result in cold_results)
    for result in warm_results:
        assert 0 <= result.finish.usage.cached_tokens < result.finish.usage.prompt_tokens


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mixture_of_experts"])
def test_most_of_a_conversation_comes_from_the_prefix(
    architecture: str, tiny_model: TinyModel, runtime: Runtime
) -> None:
    first, *later = _conversation(MLXChatBackend(tiny_model(architecture), runtime=runtime), 3)
    assert first.finish.usage.cached_tokens == 0
    for result in later:
        assert result.finish.usage.cached_tokens > first.finish.usage.prompt_tokens - 5


def test_branches_share_their_beginning_also_in_a_batch(llama: MLXChatBackend, cold: Runtime) -> None:
    other = MLXChatBackend(llama.path, runtime=cold)
    branches = [ask(LONG + f"Ending number {n}.", max_tokens=20) for n in range(5)]
    list(llama.stream(ask(LONG, max_tokens=2)))
    expected = [ChatResult.join(other.stream(request)).text for request in branches]
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda request: ChatResult.join(llama.stream(request)), branches))
    assert [result.text for result in results] == expected
    assert all(result.finish.usage.cached_tokens > 50 for result in results)


def test_the_same_prompt_again_leaves_one_token_to_read(llama: MLXChatBackend) -> None:
    request = ask(LONG, max_tokens=5)
    first = ChatResult.join(llama.stream(request))
    again = ChatResult.join(llama.stream(request))
    assert again.text == first.text
    assert again.finish.usage.cached_tokens == again.finish.usage.prompt_tokens - 1


def test_a_cancelled_answer_leaves_its_prefix(llama: MLXChatBackend, runtime: Runtime) -> None:
    stream = llama.stream(ask(LONG, max_tokens=1000))
    for _ in range(3):
        next(stream)
    stream.close()
    runtime.models()  # a round of the worker: the row is gone afterwards
    runtime.models()
    result = ChatResult.join(llama.stream(ask(LONG, max_tokens=5)))
    assert result.finish.usage.cached_tokens > 0


def test_the_store_stays_within_its_budget(tiny_model: TinyModel) -> None:
    budget = 300_000
    runtime = Runtime(RuntimeSettings(prefix_cache_bytes=budget))
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    sizes = []
    for n in range(12):
        list(backend.stream(ask(f"number {n} " + LONG, max_tokens=2)))
        sizes.append(next(iter(runtime._slots.values())).lane.prefix_bytes)
    assert 0 < max(sizes) <= budget
    kept = ChatResult.join(backend.stream(ask("number 11 " + LONG, max_tokens=2)))
    gone = ChatResult.join(backend.stream(ask("number 0 " + LONG, max_tokens=2)))
    assert kept.finish.usage.cached_tokens > gone.finish.usage.cached_tokens
    runtime.close()


def test_prefixes_make_room_before_models_do(tiny_model: TinyModel) -> None:
    from mlx_integrations.runtime.folder import read_folder

    paths = [tiny_model(name) for name in ("llama", "qwen3")]
    weights = sum(read_folder(path).weight_bytes(as_float32=True) for path in paths)
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=weights + 1000, prefix_cache_bytes=10**9))
    list(MLXChatBackend(paths[0], runtime=runtime).stream(ask(LONG, max_tokens=2)))
    runtime.load(paths[1])
    assert {model.path for model in runtime.models()} == set(paths)
    runtime.close()


def test_a_grammar_holds_behind_a_prefix(llama: MLXChatBackend) -> None:
    from mlx_integrations.types import JsonSchemaFormat
    from tests.runtime.chat.schemas import SCHEMAS

    def request(name: str) -> ChatRequest:
        return replace(ask(LONG, max_tokens=200), output=JsonSchemaFormat(schema=SCHEMAS[name]), reasoning=False)

    for name in ("nested", "enum_of_strings", "nested"):
        assert ChatResult.join(llama.stream(request(name))).finish.reason == "stop"
