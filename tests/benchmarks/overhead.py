"""Microseconds a token costs beyond the model: runtime and adapter, on a model too small to matter.

Against `mlx_lm.stream_generate` on the worker thread itself, which has no thread to cross and no message to build.
"""

import asyncio
import statistics
import time

from mlx_integrations.assembly import chat_backend, get_runtime
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import ChatMessage, ChatRequest, SamplingParams
from tests.benchmarks.common import machine, small_model, upstream

TOKENS = 1000
ROUNDS = 7
PROMPT = "Tell me a long story."
_NO_END = {2: -1000.0}


def _upstream(prompt: list[int]) -> float:
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_logits_processors

    model, tokenizer = upstream(small_model())
    started = time.perf_counter()
    processors = make_logits_processors(logit_bias=_NO_END)
    for _ in stream_generate(model, tokenizer, prompt, max_tokens=TOKENS, logits_processors=processors):
        pass
    return time.perf_counter() - started


def main() -> None:
    """Print the figures."""
    path = small_model()
    print(machine())  # noqa: T201
    get_runtime().load(path)
    backend = chat_backend(path)
    llm = ChatMLX(model=str(path), temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    prompt = backend.tokenize(PROMPT)
    request = ChatRequest(
        messages=(ChatMessage(role="user", content=PROMPT),),
        sampling=SamplingParams(temperature=0, max_tokens=TOKENS, logit_bias=_NO_END),
    )

    def runtime_stream() -> float:
        started = time.perf_counter()
        for _ in backend.stream(request):
            pass
        return time.perf_counter() - started

    def adapter_stream() -> float:
        started = time.perf_counter()
        for _ in llm.stream(PROMPT):
            pass
        return time.perf_counter() - started

    async def consume() -> None:
        async for _ in llm.astream(PROMPT):
            pass

    def adapter_astream() -> float:
        started = time.perf_counter()
        asyncio.run(consume())
        return time.perf_counter() - started

    ways = {
        "mlx_lm.stream_generate": lambda: get_worker().call(_upstream, prompt).result(),
        "runtime stream": runtime_stream,
        "ChatMLX.stream": adapter_stream,
        "ChatMLX.astream": adapter_astream,
    }
    rows = [{name: way() / TOKENS * 1e6 for name, way in ways.items()} for _ in range(ROUNDS + 1)][1:]
    base = statistics.median(row["mlx_lm.stream_generate"] for row in rows)
    for name in ways:
        median = statistics.median(row[name] for row in rows)
        extra = statistics.median(row[name] - row["mlx_lm.stream_generate"] for row in rows)
        print(f"{name:24} {median:8.0f} us a token, {extra:+6.0f} us against mlx-lm's {base:.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
