"""Texts per second with MiniLM against `mlx_embeddings.generate` and sentence-transformers, whichever is installed."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mlx_integrations.manager.locate import locate
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import EmbeddingResult
from tests.benchmarks.common import machine, paired, report
from tests.benchmarks.embedding_batches import mixed_texts

EQUAL_WORDS = 60
EQUAL_TEXTS = 64
SHORT_WORDS = 6
SHORT_TEXTS = 256
MIXED_TEXTS = 128
ROUNDS = 5


@lru_cache(maxsize=1)
def _mlx_embeddings(path: Path) -> tuple[Any, Any]:
    from mlx_embeddings import load

    model, tokenizer = load(str(path))
    return model, tokenizer


def _with_mlx_embeddings(path: Path, texts: Sequence[str]) -> float:
    """One call for all texts, at the length that the model was made for. Worker thread only."""
    import mlx.core as mx
    from mlx_embeddings import generate

    model, tokenizer = _mlx_embeddings(path)
    started = time.perf_counter()
    output = generate(model, tokenizer, list(texts), max_length=256)
    mx.eval(output.text_embeds)
    assert np.array(output.text_embeds).shape == (len(texts), 384)
    return len(texts) / (time.perf_counter() - started)


def _sentence_transformers(path: Path) -> Callable[[Sequence[str]], float]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path), device="cpu")

    def run(texts: Sequence[str]) -> float:
        started = time.perf_counter()
        assert model.encode(list(texts), show_progress_bar=False).shape == (len(texts), 384)
        return len(texts) / (time.perf_counter() - started)

    return run


def main() -> None:
    """Print the figures."""
    print(machine())  # noqa: T201
    path = locate("minilm-l6-v2")
    backend = Runtime().embedding(path)
    backend.fingerprint()

    def ours(texts: Sequence[str]) -> float:
        started = time.perf_counter()
        assert EmbeddingResult.join(backend.stream(texts)).vectors.shape == (len(texts), 384)
        return len(texts) / (time.perf_counter() - started)

    words = "the a system of vectors keeps documents near questions that they answer and far from others".split()
    sets = {
        f"{EQUAL_TEXTS} texts of {EQUAL_WORDS} words": [
            " ".join(words[(n + k) % len(words)] for k in range(EQUAL_WORDS)) for n in range(EQUAL_TEXTS)
        ],
        f"{SHORT_TEXTS} texts of {SHORT_WORDS} words": [
            " ".join(words[(n + k) % len(words)] for k in range(SHORT_WORDS)) for n in range(SHORT_TEXTS)
        ],
        f"{MIXED_TEXTS} texts of mixed lengths": mixed_texts(MIXED_TEXTS),
    }
    peers: dict[str, Callable[[Sequence[str]], float]] = {}
    if importlib.util.find_spec("mlx_embeddings") is not None:
        peers["mlx_embeddings.generate"] = lambda texts: get_worker().call(_with_mlx_embeddings, path, texts).result()
    if importlib.util.find_spec("sentence_transformers") is not None:
        peers["sentence-transformers (torch)"] = _sentence_transformers(path)
    for peer, run in peers.items():
        for name, texts in sets.items():
            pairs = paired(partial(ours, texts), partial(run, texts), rounds=ROUNDS)
            report(f"{name}, ours against {peer}", pairs, "texts/s")


if __name__ == "__main__":
    main()
