"""Gaps between streamed chat tokens while 5,000 texts are embedded in the same process."""

import statistics
import sys
import threading
import time

from langchain_core.messages import HumanMessage

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.manager.locate import locate
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import RuntimeSettings
from tests.benchmarks.common import machine, step_model
from tests.benchmarks.embedding_batches import mixed_texts

TEXTS = 5000
TOKENS = 400
_NO_END = {2: -1000.0}


def _gaps(llm: ChatMLX, *, keep_going: threading.Event | None = None) -> list[float]:
    """Seconds between tokens; until `keep_going` is cleared if given, else for one answer."""
    gaps: list[float] = []
    while True:
        last = None
        for _ in llm.stream([HumanMessage("Tell me a story about queues.")]):
            now = time.perf_counter()
            if last is not None:
                gaps.append(now - last)
            last = now
        if keep_going is None or not keep_going.is_set():
            return gaps


def main() -> None:
    """Print the figures; the number of texts may be given as an argument."""
    texts = [text[:300] for text in mixed_texts(int(sys.argv[1]) if len(sys.argv) > 1 else TEXTS)]
    print(machine())  # noqa: T201
    runtime = Runtime(RuntimeSettings())
    llm = ChatMLX(model=str(step_model()), runtime=runtime, temperature=0, max_tokens=TOKENS, logit_bias=_NO_END)
    backend = runtime.embedding(locate("minilm-l6-v2"))
    backend.fingerprint()
    _gaps(llm)
    quiet = sorted(gap for _ in range(3) for gap in _gaps(llm))
    normal = statistics.median(quiet)
    alone = sum(len(chunk.vectors) for chunk in backend.stream(texts[:500]))
    running = threading.Event()
    running.set()
    embedded = 0
    seconds = 0.0

    def embed() -> None:
        nonlocal embedded, seconds
        started = time.perf_counter()
        for chunk in backend.stream(texts):
            embedded += len(chunk.vectors)
        seconds = time.perf_counter() - started
        running.clear()

    worker = threading.Thread(target=embed)
    worker.start()
    gaps = sorted(_gaps(llm, keep_going=running))
    worker.join()
    assert embedded == len(texts) and alone == min(500, len(texts))
    print(  # noqa: T201
        f"{len(texts)} texts embedded in {seconds:.0f} s; normal median gap {1e3 * normal:.1f} ms, in multiples of it:"
    )
    for name, values in (("normal", quiet), ("while embedding", gaps)):
        print(f"  {name:<16} {_spread(values, normal)}")  # noqa: T201


def _spread(gaps: list[float], unit: float) -> str:
    """Some quantiles of sorted gaps, as multiples of `unit`."""
    shares = {"median": 0.5, "95 %": 0.95, "99 %": 0.99, "longest": 1.0}
    quantiles = (f"{name} {gaps[int(share * (len(gaps) - 1))] / unit:.2f}" for name, share in shares.items())
    return f"{', '.join(quantiles)}; {len(gaps)} gaps"


if __name__ == "__main__":
    main()
