"""Tokens per second of one request: `ChatMLX.stream` against `mlx_lm.stream_generate`, same model, same prompt."""

import time

from mlx_integrations.assembly import chat_backend, get_runtime
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.runtime.worker import get_worker
from tests.benchmarks.common import machine, paired, report, step_model, upstream

TOKENS = 100
PROMPT = "Tell me a long story about a queue and a worker."
_NO_END = {2: -1000.0}  # random weights may end at any time


def _ours(llm: ChatMLX) -> float:
    stream = llm.stream(PROMPT)
    next(stream)
    started = time.perf_counter()
    (usage,) = [chunk.usage_metadata for chunk in stream if chunk.usage_metadata]
    assert usage["output_tokens"] == TOKENS
    return (TOKENS - 1) / (time.perf_counter() - started)


def _theirs(prompt: list[int]) -> float:
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_logits_processors

    model, tokenizer = upstream(step_model())
    processors = make_logits_processors(logit_bias=_NO_END)
    stream = stream_generate(model, tokenizer, prompt, max_tokens=TOKENS, logits_processors=processors)
    next(stream)
    started = time.perf_counter()
    *_, last = stream
    assert last.generation_tokens == TOKENS
    return (TOKENS - 1) / (time.perf_counter() - started)


def main() -> None:
    """Print the figures."""
    path = step_model()
    print(machine())  # noqa: T201
    get_runtime().load(path)
    llm = ChatMLX(model=str(path), temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    prompt = chat_backend(path).tokenize(PROMPT)
    pairs = paired(lambda: _ours(llm), lambda: get_worker().call(_theirs, prompt).result(), rounds=5)
    report("decode, one request", pairs, "tokens/s")
    print(f"one step takes {1000 / pairs[-1][1]:.1f} ms in mlx_lm.stream_generate")  # noqa: T201


if __name__ == "__main__":
    main()
