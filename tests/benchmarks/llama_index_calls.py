"""What `MLXLLM` costs a token beyond the runtime, and how long an event loop waits while it answers.

Where a model runs on another thread, part of the adapter's work happens while the next token is computed; its processor
time alone is measured with a backend that computes nothing. The loop is measured idle as well: on a machine with other
work, that is what it waits in any case.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from mlx_integrations.assembly import chat_backend, get_runtime
from mlx_integrations.llama_index import MLXLLM
from mlx_integrations.llama_index.options import chat_request
from mlx_integrations.testing import FakeChatBackend
from tests.benchmarks.common import machine, small_model

TOKENS = 1000
ROUNDS = 5
TICK_SECONDS = 0.01
_NO_END = {2: -1000.0}
_MESSAGES = [ChatMessage(content="Tell me a long story.")]


def _us_a_token(stream: Callable[[], Iterable[Any]], clock: Callable[[], float]) -> float:
    started = clock()
    for _ in stream():
        pass
    return (clock() - started) / TOKENS * 1e6


def _processor_us_a_token() -> float:
    """Of the adapter alone, with the events that LlamaIndex sends for every piece."""
    backend = FakeChatBackend(["word " * TOKENS])
    llm, request = MLXLLM("fake", backend=backend), chat_request(_MESSAGES, {})
    pairs = [
        (
            _us_a_token(lambda: backend.stream(request), time.process_time),
            _us_a_token(lambda: llm.stream_chat(_MESSAGES), time.process_time),
        )
        for _ in range(ROUNDS + 1)
    ][1:]
    return statistics.median(adapter - runtime for runtime, adapter in pairs)


async def _longest_wait(seconds_or_call: float | MLXLLM) -> float:
    """Milliseconds that a tick came too late at most."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, time.perf_counter() - started - TICK_SECONDS)

    ticker = asyncio.create_task(tick())
    if isinstance(seconds_or_call, MLXLLM):
        await seconds_or_call.achat(_MESSAGES)
    else:
        await asyncio.sleep(seconds_or_call)
    ticker.cancel()
    return longest * 1e3


def main() -> None:
    """Print the figures."""
    path = small_model()
    print(machine())  # noqa: T201
    get_runtime().load(path)
    backend = chat_backend(path)
    llm = MLXLLM(path, temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    request = chat_request(_MESSAGES, {"temperature": 0, "max_tokens": TOKENS, "logit_bias": _NO_END})

    pairs = [
        (
            _us_a_token(lambda: backend.stream(request), time.perf_counter),
            _us_a_token(lambda: llm.stream_chat(_MESSAGES), time.perf_counter),
        )
        for _ in range(ROUNDS + 1)
    ][1:]
    extra = statistics.median(adapter - runtime for runtime, adapter in pairs)
    base = statistics.median(runtime for runtime, _ in pairs)
    print(f"MLXLLM.stream_chat: {extra:+.0f} us a token against the runtime's {base:.0f}")  # noqa: T201
    print(f"processor time of the adapter: {_processor_us_a_token():.0f} us a token")  # noqa: T201
    idle = asyncio.run(_longest_wait(1.0))
    busy = asyncio.run(_longest_wait(llm))
    print(f"longest wait of a {TICK_SECONDS * 1e3:.0f} ms tick: {busy:.1f} ms with achat, {idle:.1f} ms idle")  # noqa: T201


if __name__ == "__main__":
    main()
