"""Texts per second on mixed lengths: batches cut by tokens against naive batches of 8, with MiniLM."""

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlx_integrations.manager.locate import locate
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.embedding.text import TextEncoder
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import EmbeddingResult
from tests.benchmarks.common import machine, paired, report

TEXTS = 96
NAIVE_BATCH = 8
_WORDS = "the a system of vectors keeps documents near questions that they answer and far from all others".split()


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Mostly short texts, some long ones: a few words to beyond what the model reads."""
    chance = random.Random(seed)
    lengths = [min(round(chance.lognormvariate(2.8, 1.3)) + 1, 254) for _ in range(count)]
    return [" ".join(chance.choices(_WORDS, k=length)) for length in lengths]


def _naive(network: Any, encoder: TextEncoder, texts: Sequence[str]) -> float:
    """As most libraries do it: eight at a time, in the order in which they come. Worker thread only."""
    from mlx_integrations.runtime._mlx import mx

    started = time.perf_counter()
    for first in range(0, len(texts), NAIVE_BATCH):
        rows = encoder.encode(texts[first : first + NAIVE_BATCH], "")
        *_, vectors = network.stages([row.ids for row in rows], [row.prompt_tokens for row in rows], encoder.pad_id)
        mx.eval(vectors)
        np.array(vectors)
    return len(texts) / (time.perf_counter() - started)


def main() -> None:
    """Print the figures."""
    print(machine())  # noqa: T201
    path = locate("minilm-l6-v2")
    runtime = Runtime()
    backend = runtime.embedding(path)
    texts = mixed_texts(TEXTS)
    tokens = [min(count, backend.capabilities.max_tokens) for count in backend.count_tokens(texts)]
    print(f"{TEXTS} texts of {min(tokens)} to {max(tokens)} tokens, {sum(tokens) / TEXTS:.0f} on average")  # noqa: T201
    model = read_sentence_model(path)
    encoder = TextEncoder(model)

    def load() -> Any:
        from mlx_integrations.runtime.embedding.network import load_network

        return load_network(model, cpu_float32=True)

    backend.fingerprint()
    network = get_worker().call(load).result()

    def ours() -> float:
        started = time.perf_counter()
        assert len(EmbeddingResult.join(backend.stream(texts)).vectors) == TEXTS
        return TEXTS / (time.perf_counter() - started)

    pairs = paired(ours, lambda: get_worker().call(_naive, network, encoder, texts).result(), rounds=5)
    report(f"token batches against batches of {NAIVE_BATCH}", pairs, "texts/s")


if __name__ == "__main__":
    main()
