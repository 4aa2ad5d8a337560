"""Tokens per second of one request: `ChatMLX.stream` against `mlx_lm.stream_generate`, same model, same prompt."""

import time

from mlx_integrations.assembly import chat_backend, get_runtime
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.runtime.worker import get_worker
from tests.benchmarks.common import machine, paired, report, step_model, upstream

TOKENS = 200
PROMPT = "Tell me a long story about a queue and a worker."
_NO_END = {2: -1000.0}  # random weights may end at any time


def _ours(llm: ChatMLX) -> float:
    seconds, count = 0.0, 0
    for chunk in llm.stream(PROMPT):
        if not count:
            seconds = time.perf_counter()
        count += 1
        usage = chunk.usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == TOKENS
    return (TOKENS - 1) / (time.perf_counter() - seconds)


def _theirs(prompt: list[int]) -> float:
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_logits_processors

    model, tokenizer = upstream(step_model())
    seconds = 0.0
    processors = make_logits_processors(logit_bias=_NO_END)
    for response in stream_generate(model, tokenizer, prompt, max_tokens=TOKENS, logits_processors=processors):
        if not seconds:
            seconds = time.perf_counter()
    assert response.generation_tokens == TOKENS
    return (TOKENS - 1) / (time.perf_counter() - seconds)


def main() -> None:
    """Print the figures."""
    path = step_model()
    print(machine())  # noqa: T201
    get_runtime().load(path)
    llm = ChatMLX(model=str(path), temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    prompt = chat_backend(path).tokenize(PROMPT)
    pairs = paired(lambda: _ours(llm), lambda: get_worker().call(_theirs, prompt).result(), rounds=7)
    report("decode, one request", pairs, "tokens/s")
    print(f"one step takes {1000 / pairs[-1][1]:.1f} ms in mlx_lm.stream_generate")  # noqa: T201


if __name__ == "__main__":
    main()
