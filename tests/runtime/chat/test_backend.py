"""The chat backend on real (tiny) models: streaming, cancelling, seeds, stop strings, log-probabilities, loops."""

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from mlx_integrations.errors import InvalidRequestError, MLXIntegrationsError, UnsupportedContentError
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.types import (
    Attachment,
    ChatChunk,
    ChatMessage,
    ChatRequest,
    ChatResult,
    SamplingParams,
    ToolSpec,
)
from tests.runtime.conftest import TinyModel, ask


def _active(runtime: Runtime) -> int:
    return sum(model.active_requests for model in runtime.models())


def _wait_until_idle(runtime: Runtime) -> None:
    deadline = time.monotonic() + 5
    while _active(runtime):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_tokens_arrive_one_by_one_while_the_rest_is_still_to_come(llama: MLXChatBackend, runtime: Runtime) -> None:
    stream = llama.stream(ask(max_tokens=2000))
    for _ in range(5):
        next(stream)
    assert _active(runtime) == 1  # it streams while it generates
    stream.close()
    _wait_until_idle(runtime)


def test_closing_a_stream_frees_its_row(llama: MLXChatBackend, runtime: Runtime) -> None:
    stream = llama.stream(ask(max_tokens=4000))
    next(stream)
    started = time.perf_counter()
    stream.close()
    _wait_until_idle(runtime)
    assert time.perf_counter() - started < 2  # 4,000 tokens would take far longer


async def test_cancelling_a_task_frees_its_row(llama: MLXChatBackend, runtime: Runtime) -> None:
    async def read() -> None:
        async for _ in llama.astream(ask(max_tokens=4000)):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(_wait_until_idle, runtime)


async def test_async_answers_equal_sync_ones(llama: MLXChatBackend) -> None:
    requests = [ask(f"number {n}", max_tokens=25) for n in range(5)]
    sync = [ChatResult.join(llama.stream(request)).text for request in requests]

    async def collect(request: ChatRequest) -> str:
        return ChatResult.join([chunk async for chunk in llama.astream(request)]).text

    assert await asyncio.gather(*map(collect, requests)) == sync


def test_several_event_loops_and_threads_share_one_batch(llama: MLXChatBackend) -> None:
    expected = ChatResult.join(llama.stream(ask(max_tokens=40))).text

    def on_own_loop(_: int) -> list[str]:
        async def both() -> list[str]:
            async def one() -> str:
                return ChatResult.join([chunk async for chunk in llama.astream(ask(max_tokens=40))]).text

            return list(await asyncio.gather(one(), one()))

        return asyncio.run(both())

    with ThreadPoolExecutor(4) as pool:
        loops = pool.map(on_own_loop, range(2))
        threads = pool.map(lambda _: ChatResult.join(llama.stream(ask(max_tokens=40))).text, range(2))
        assert [*(text for pair in loops for text in pair), *threads] == [expected] * 6


def test_rows_join_and_leave_a_running_batch_without_changing_it(llama: MLXChatBackend) -> None:
    request = ask("the long one", max_tokens=120)
    expected = ChatResult.join(llama.stream(request)).text
    stream = llama.stream(request)
    chunks: list[ChatChunk] = [next(stream)]
    with ThreadPoolExecutor(4) as pool:
        for n in range(4):
            pool.submit(ChatResult.join, llama.stream(ask("short " * (n * 40 + 1), max_tokens=5 + n)))
            chunks += [next(stream) for _ in range(4)]
        doomed = llama.stream(ask("cancelled", max_tokens=500))
        next(doomed)
        doomed.close()
        chunks += list(stream)
    assert ChatResult.join(chunks).text == expected


def test_the_same_seed_gives_the_same_answer_alone_and_in_a_batch(llama: MLXChatBackend) -> None:
    def seeded(n: int) -> ChatRequest:
        return ask("same words", temperature=1.0, top_p=0.95, top_k=50, seed=n, max_tokens=30)

    alone = [ChatResult.join(llama.stream(seeded(n))).text for n in range(6)]
    assert len(set(alone)) == 6
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda n: ChatResult.join(llama.stream(seeded(n))).text, range(6)))
    assert together == alone


def test_unseeded_sampling_varies(llama: MLXChatBackend) -> None:
    texts = {ChatResult.join(llama.stream(ask(temperature=1.0))).text for _ in range(4)}
    assert len(texts) > 1


def test_top_k_one_is_greedy(llama: MLXChatBackend) -> None:
    greedy = ChatResult.join(llama.stream(ask())).text
    assert ChatResult.join(llama.stream(ask(temperature=1.0, top_k=1, seed=1))).text == greedy


def test_a_logit_bias_forbids_and_forces(llama: MLXChatBackend) -> None:
    result = ChatResult.join(llama.stream(ask(logit_bias={300: 1000.0}, max_tokens=5, logprobs=True)))
    assert {item.token_id for item in result.logprobs} == {300}
    favourite = ChatResult.join(llama.stream(ask(max_tokens=1, logprobs=True))).logprobs[0].token_id
    without = ChatResult.join(llama.stream(ask(max_tokens=1, logprobs=True, logit_bias={favourite: -1000.0})))
    assert without.logprobs[0].token_id != favourite


def test_penalties_change_the_answer(llama: MLXChatBackend) -> None:
    plain = ChatResult.join(llama.stream(ask(max_tokens=60))).text
    changes: list[dict[str, Any]] = [{"repetition_penalty": 2.0}, {"presence_penalty": 5.0}, {"frequency_penalty": 5.0}]
    for change in changes:
        assert ChatResult.join(llama.stream(ask(max_tokens=60, **change))).text != plain


def test_a_stop_string_that_spans_tokens_ends_the_answer_before_it(llama: MLXChatBackend) -> None:
    whole = ChatResult.join(llama.stream(ask(max_tokens=40))).text
    for start in range(4, len(whole) - 6, 3):
        stop = whole[start : start + 5]
        if "\ufffd" in stop:
            continue
        result = ChatResult.join(llama.stream(ask(max_tokens=40, stop=(stop,))))
        assert result.text == whole[: whole.index(stop)]
        assert result.finish.reason == "stop"
        assert result.finish.stop_string == stop


def test_a_stop_string_that_never_comes_loses_nothing(llama: MLXChatBackend) -> None:
    whole = ChatResult.join(llama.stream(ask(max_tokens=40)))
    with_stop = ChatResult.join(llama.stream(ask(max_tokens=40, stop=(whole.text[-3:] + "Z",))))
    assert with_stop.text == whole.text
    assert with_stop.finish.reason == "length"


def test_logprobs_are_those_of_the_distribution(llama: MLXChatBackend) -> None:
    result = ChatResult.join(llama.stream(ask(max_tokens=8, top_logprobs=5)))
    assert len(result.logprobs) == 8
    for item in result.logprobs:
        values = [value for _, _, value in item.top]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert item.token_id == item.top[0][1]  # greedy takes the strongest
        assert math.isclose(item.logprob, values[0], rel_tol=1e-6)
        assert sum(map(math.exp, values)) <= 1.0 + 1e-6


def test_usage_counts_prompt_and_answer(llama: MLXChatBackend) -> None:
    request = ask(max_tokens=7)
    finish = ChatResult.join(llama.stream(request)).finish
    assert finish.usage.prompt_tokens == llama.count_prompt_tokens(request.messages)
    assert finish.usage.completion_tokens == 7
    assert finish.reason == "length"
    assert finish.tokens_per_second > 0


def test_max_tokens_is_kept_within_the_window(tiny_model: TinyModel, runtime: Runtime) -> None:
    path = tiny_model("llama", name="small_window", max_position_embeddings=64)
    backend = MLXChatBackend(path, runtime=runtime)
    request = ask("hi", max_tokens=1000, logit_bias={2: -1000.0})
    usage = ChatResult.join(backend.stream(request)).finish.usage
    assert usage.prompt_tokens + usage.completion_tokens == 64


BAD_SAMPLING = [
    {"temperature": -0.1},
    {"temperature": float("nan")},
    {"temperature": "hot"},
    {"top_p": 0.0},
    {"top_p": 1.5},
    {"top_k": -1},
    {"top_k": 5000},
    {"top_k": 2.5},
    {"min_p": 2.0},
    {"xtc_threshold": 0.9},
    {"xtc_probability": -1},
    {"repetition_penalty": 0},
    {"presence_penalty": float("inf")},
    {"frequency_penalty": "much"},
    {"logit_bias": {99_999_999: 1.0}},
    {"logit_bias": {-1: 1.0}},
    {"logit_bias": {5: float("nan")}},
    {"max_tokens": 0},
    {"max_tokens": -5},
    {"max_tokens": 1.5},
    {"seed": "tomorrow"},
    {"top_logprobs": 21},
    {"stop": ("",)},
]


@pytest.mark.parametrize("bad", BAD_SAMPLING, ids=str)
def test_impossible_sampling_is_refused_before_any_token(llama: MLXChatBackend, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        next(llama.stream(ask(**bad)))
    assert caught.value.field in bad
    assert caught.value.hint


def test_bad_requests_leave_the_others_undisturbed(llama: MLXChatBackend) -> None:
    request = ask(max_tokens=150)
    expected = ChatResult.join(llama.stream(request)).text
    stream = llama.stream(request)
    chunks = [next(stream)]
    bad = [
        ChatRequest(messages=()),
        replace(request, messages=(ChatMessage(role="user", attachments=(Attachment(kind="image", url="x"),)),)),
        replace(request, tools=(ToolSpec(name="a"), ToolSpec(name="a"))),
        replace(request, sampling=SamplingParams(top_k=10**9)),
        ask("word " * 20_000),
    ]
    for wrong in bad:
        with pytest.raises(MLXIntegrationsError):
            next(llama.stream(wrong))
    assert ChatResult.join([*chunks, *stream]).text == expected


def test_images_to_a_text_model_name_their_kind(llama: MLXChatBackend) -> None:
    message = ChatMessage(role="user", content="look", attachments=(Attachment(kind="image", data=b"png"),))
    with pytest.raises(UnsupportedContentError) as caught:
        next(llama.stream(ChatRequest(messages=(message,))))
    assert caught.value.kind == "image"


def test_undecodable_tool_output_is_read_as_replacement_characters(llama: MLXChatBackend) -> None:
    dirty = b"\xff\xfe data \x80".decode("utf-8", "surrogateescape")
    request = ChatRequest(
        messages=(
            ChatMessage(role="user", content="run it"),
            ChatMessage(role="tool", content=dirty, tool_call_id="call_1", name="shell"),
        ),
        sampling=SamplingParams(temperature=0, max_tokens=3),
    )
    assert ChatResult.join(llama.stream(request)).finish.usage.completion_tokens == 3
    assert llama.tokenize(dirty)


async def test_the_event_loop_is_not_blocked_while_an_answer_is_generated(llama: MLXChatBackend) -> None:
    """Structural: other tasks of the loop get their turn between any two tokens, and no callback hops threads."""
    loop_thread = threading.current_thread()
    ticks = 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(ticker())
    count = 0
    async for chunk in llama.astream(ask(max_tokens=100)):
        count += bool(chunk.text)
        assert threading.current_thread() is loop_thread
    task.cancel()
    assert count > 50
    assert ticks > count  # the loop went round at least once for every token


async def test_a_loop_that_closes_with_a_stream_open_harms_nobody(llama: MLXChatBackend, runtime: Runtime) -> None:
    def abandoned() -> None:
        async def begin() -> None:
            stream = llama.astream(ask(max_tokens=3000))
            await anext(stream)
            streams.append(stream)

        asyncio.run(begin())

    streams: list[object] = []
    await asyncio.to_thread(abandoned)
    streams.clear()
    result = await asyncio.to_thread(lambda: ChatResult.join(llama.stream(ask())))
    assert result.finish.usage.completion_tokens == 20
    await asyncio.to_thread(_wait_until_idle, runtime)
