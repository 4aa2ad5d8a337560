"""Tokens per second of eight requests at once: `ChatMLX.batch` against `mlx_lm.batch_generate`.

Prompts are read again in every round: kept prefixes would flatter us.
"""

import time

from langchain_core.messages import HumanMessage

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.settings import RuntimeSettings
from tests.benchmarks.common import machine, paired, report, step_model, upstream

TOKENS = 60
REQUESTS = 8
PROMPTS = [f"Tell me story number {n} about " + "queues and workers and " * n for n in range(REQUESTS)]
_NO_END = {2: -1000.0}


def _ours(llm: ChatMLX) -> float:
    started = time.perf_counter()
    answers = llm.batch([[HumanMessage(prompt)] for prompt in PROMPTS])
    seconds = time.perf_counter() - started
    tokens = sum(answer.usage_metadata["output_tokens"] for answer in answers if answer.usage_metadata)
    assert tokens == TOKENS * REQUESTS
    return tokens / seconds


def _theirs(prompts: list[list[int]]) -> float:
    from mlx_lm import batch_generate
    from mlx_lm.sample_utils import make_logits_processors

    model, tokenizer = upstream(step_model())
    started = time.perf_counter()
    response = batch_generate(
        model,
        tokenizer,
        prompts,
        max_tokens=TOKENS,
        return_token_ids=True,
        logits_processors=make_logits_processors(logit_bias=_NO_END),
    )
    seconds = time.perf_counter() - started
    tokens = sum(map(len, response.token_ids or []))
    assert tokens == TOKENS * REQUESTS
    return tokens / seconds


def main() -> None:
    """Print the figures."""
    path = step_model()
    print(machine())  # noqa: T201
    runtime = Runtime(RuntimeSettings(prefix_cache_bytes=0))
    runtime.load(path)
    llm = ChatMLX(model=str(path), runtime=runtime, temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    backend = runtime.chat(path)
    prompts = [backend.tokenize(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n") for text in PROMPTS]
    pairs = paired(lambda: _ours(llm), lambda: get_worker().call(_theirs, prompts).result(), rounds=4)
    report(f"{REQUESTS} requests at once", pairs, "tokens/s")


if __name__ == "__main__":
    main()
