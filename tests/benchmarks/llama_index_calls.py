"""What `MLXLLM` costs a token beyond the runtime, and how long an event loop waits while it answers.

Where a model runs on another thread, part of the adapter's work happens while the next token is computed; its processor
time alone is measured with a backend that computes nothing. The loop is measured idle as well: on a machine with other
work, that is what it waits in any case. On Linux, the kernel says how long its thread was ready and got no processor.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from mlx_integrations.assembly import chat_backend, get_runtime
from mlx_integrations.llama_index import MLXLLM
from mlx_integrations.llama_index.options import chat_request
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatRequest
from tests.benchmarks.common import machine, small_model, step_model

TOKENS = 1000
ROUNDS = 7
LOOP_ROUNDS = 3
TICK_SECONDS = 0.01
_NO_END = {2: -1000.0}
_MESSAGES = [ChatMessage(content="Tell me a long story.")]
_TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "parameters": {
            "type": "object",
            "properties": {"lines": {"type": "array", "items": {"type": "string"}, "minItems": 20}},
            "required": ["lines"],
        },
    },
}


def _us_a_token(stream: Callable[[], Iterable[Any]], clock: Callable[[], float]) -> float:
    started = clock()
    for _ in stream():
        pass
    return (clock() - started) / TOKENS * 1e6


def _async_us_a_token(pieces: Callable[[], Awaitable[Any]], clock: Callable[[], float]) -> float:
    async def consume() -> float:
        started = clock()
        async for _ in await pieces():
            pass
        return (clock() - started) / TOKENS * 1e6

    return asyncio.run(consume())


async def _pieces(backend: Any, request: ChatRequest) -> Any:
    return backend.astream(request)


def _report_cost(title: str, llm: MLXLLM, backend: Any, request: ChatRequest, clock: Callable[[], float]) -> None:
    """Both forms against the runtime's own stream, one after the other in turns."""
    pairs: dict[str, list[tuple[float, float]]] = {"stream_chat": [], "astream_chat": []}
    for _ in range(ROUNDS + 1):
        pairs["stream_chat"].append(
            (
                _us_a_token(lambda: backend.stream(request), clock),
                _us_a_token(lambda: llm.stream_chat(_MESSAGES), clock),
            )
        )
        pairs["astream_chat"].append(
            (
                _async_us_a_token(lambda: _pieces(backend, request), clock),
                _async_us_a_token(lambda: llm.astream_chat(_MESSAGES), clock),
            )
        )
    for form, found in pairs.items():
        extras = sorted(adapter - runtime for runtime, adapter in found[1:])
        base = statistics.median(runtime for runtime, _ in found[1:])
        print(  # noqa: T201
            f"{title}, {form}: {statistics.median(extras):+.0f} us a token ({extras[0]:+.0f} to {extras[-1]:+.0f} in "
            f"{ROUNDS} pairs) against the runtime's {base:.0f}"
        )


def _queued_seconds() -> float:
    """How long this thread was ready and had no processor: https://docs.kernel.org/scheduler/sched-stats.html"""
    file = Path("/proc/thread-self/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


async def _longest_waits(work: Awaitable[Any]) -> tuple[float, float]:
    """Milliseconds that a tick came too late at most: by the clock, and without waits for a processor."""
    late = [(0.0, 0.0)]

    async def tick() -> None:
        while True:
            queued, started = _queued_seconds(), time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            waited = time.perf_counter() - started - TICK_SECONDS
            late.append((waited, waited - (_queued_seconds() - queued)))

    ticker = asyncio.create_task(tick())
    await work
    ticker.cancel()
    by_clock, without_queue = zip(*late, strict=True)
    return max(by_clock) * 1e3, max(without_queue) * 1e3


def _report_waits(llm: MLXLLM) -> None:
    larger = MLXLLM(step_model(), temperature=0, max_tokens=100, logit_bias=_NO_END)
    get_runtime().load(step_model())
    words = "one two three red green blue cat dog house " * 40
    long = [ChatMessage(content=words)]
    # A new prompt each time, so that it is read and not taken from what was kept.
    works: dict[str, Callable[[int], Awaitable[Any]]] = {
        "idle": lambda turn: asyncio.sleep(1.0),
        "achat, 1,000 tokens": lambda turn: llm.achat(_MESSAGES),
        "achat, a forced call": lambda turn: llm.achat(_MESSAGES, tools=[_TOOL], tool_choice="note", seed=turn),
        "eight achats at once": lambda turn: asyncio.gather(*[llm.achat(_MESSAGES, max_tokens=200) for _ in range(8)]),
        "achat of 34 M weights, a long prompt": lambda turn: larger.achat(
            [ChatMessage(content=f"{turn} {words}"), *long]
        ),
    }

    async def measured(work: Callable[[int], Awaitable[Any]], turn: int) -> tuple[float, float]:
        return await _longest_waits(work(turn))

    for name, work in works.items():
        found = [asyncio.run(measured(work, turn)) for turn in range(LOOP_ROUNDS)]
        by_clock, without_queue = (", ".join(f"{wait:.1f}" for wait in column) for column in zip(*found, strict=True))
        print(  # noqa: T201
            f"longest wait of a {TICK_SECONDS * 1e3:.0f} ms tick, {name}: {by_clock} ms; while there was a processor, "
            f"{without_queue} ms"
        )


def main() -> None:
    """Print the figures."""
    path = small_model()
    print(machine())  # noqa: T201
    get_runtime().load(path)
    options = {"temperature": 0, "max_tokens": TOKENS, "logit_bias": _NO_END}
    llm = MLXLLM(path, **options)
    _report_cost("as a clock sees it", llm, chat_backend(path), chat_request(_MESSAGES, options), time.perf_counter)
    fake = FakeChatBackend(["word " * TOKENS])
    scripted = MLXLLM("fake", backend=fake)
    _report_cost("processor time", scripted, fake, chat_request(_MESSAGES, {}), time.process_time)
    _report_waits(llm)


if __name__ == "__main__":
    main()
