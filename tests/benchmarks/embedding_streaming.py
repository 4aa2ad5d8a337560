"""Gaps between streamed chat tokens while 5,000 texts are embedded in the same process, and what either costs."""

import statistics
import sys
import threading
import time
from pathlib import Path

import psutil
from langchain_core.messages import HumanMessage
from tokenizers import Tokenizer

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.manager.locate import locate
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import RuntimeSettings
from tests.benchmarks.common import machine, step_model
from tests.benchmarks.embedding_batches import mixed_texts

TEXTS = 5000
TOKENS = 400
_ANSWERS_ALONE = 3
_TEXTS_ALONE = 1000


class _Others:
    """What other processes take of the machine's cores from now on."""

    def __init__(self) -> None:
        self._started = self._read()

    def cores(self) -> float:
        """Cores that they kept busy on average."""
        wall, machine_seconds, own_seconds = (now - then for now, then in zip(self._read(), self._started, strict=True))
        return max(machine_seconds - own_seconds, 0.0) / wall

    @staticmethod
    def _read() -> tuple[float, float, float]:
        every, own = psutil.cpu_times(), psutil.Process().cpu_times()
        return time.perf_counter(), sum(every) - every.idle - getattr(every, "iowait", 0.0), own.user + own.system


def _letters_only(model: Path) -> dict[int, float]:
    """Biases against all other tokens.

    Random weights write many parts of characters and beginnings of tags. A stream holds them back until the next
    token, which looks like a gap of two steps.
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    shown = [tokenizer.decode([token_id]) for token_id in range(tokenizer.get_vocab_size())]
    return {token_id: -1000.0 for token_id, text in enumerate(shown) if not (text.isascii() and text.strip().isalpha())}


def _gaps(llm: ChatMLX, *, keep_going: threading.Event | None = None) -> list[float]:
    """Times between the tokens of one answer, or of several until `keep_going` is cleared."""
    gaps: list[float] = []
    while True:
        last = None
        for _ in llm.stream([HumanMessage("Tell me a story about queues.")]):
            now = time.perf_counter()
            if last is not None:
                gaps.append(now - last)
            last = now
            if keep_going is not None and not keep_going.is_set():
                return gaps
        if keep_going is None:
            return gaps


def _embed(backend: EmbeddingBackend, texts: list[str]) -> float:
    """Texts a second."""
    started = time.perf_counter()
    count = sum(len(chunk.vectors) for chunk in backend.stream(texts))
    assert count == len(texts)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Print the figures; the number of texts may be given as an argument."""
    texts = [text[:300] for text in mixed_texts(int(sys.argv[1]) if len(sys.argv) > 1 else TEXTS)]
    print(machine())  # noqa: T201
    runtime = Runtime(RuntimeSettings())
    bias = _letters_only(step_model())
    llm = ChatMLX(model=str(step_model()), runtime=runtime, temperature=0, max_tokens=TOKENS, logit_bias=bias)
    backend = runtime.embedding(locate("minilm-l6-v2"))
    backend.fingerprint()
    _gaps(llm)
    others = _Others()
    quiet = sorted(gap for _ in range(_ANSWERS_ALONE) for gap in _gaps(llm))
    quiet_others = others.cores()
    alone = _embed(backend, texts[:_TEXTS_ALONE])
    running = threading.Event()
    running.set()
    beside: list[float] = []

    def embed() -> None:
        beside.append(_embed(backend, texts))
        running.clear()

    others = _Others()
    worker = threading.Thread(target=embed)
    worker.start()
    gaps = sorted(_gaps(llm, keep_going=running))
    worker.join()
    seconds = len(texts) / beside[0]
    normal = statistics.median(quiet)
    print(f"{len(texts)} texts: {alone:.0f} texts/s alone, {beside[0]:.0f} beside the chat ({seconds:.0f} s)")  # noqa: T201
    print(f"normal median gap {1e3 * normal:.1f} ms; in multiples of it:")  # noqa: T201
    for name, values, busy in (("normal", quiet, quiet_others), ("while embedding", gaps, others.cores())):
        print(f"  {name:<16} {_spread(values, normal)}; other processes kept {busy:.1f} cores busy")  # noqa: T201


def _spread(gaps: list[float], unit: float) -> str:
    """Some quantiles of sorted gaps, as multiples of `unit`."""
    shares = {"median": 0.5, "95 %": 0.95, "99 %": 0.99, "longest": 1.0}
    quantiles = (f"{name} {gaps[int(share * (len(gaps) - 1))] / unit:.2f}" for name, share in shares.items())
    below = sum(gap < 4 * unit for gap in gaps) / len(gaps)
    return f"{', '.join(quantiles)}; {100 * below:.1f} % under 4; {len(gaps)} gaps"


if __name__ == "__main__":
    main()
