"""What a decision takes: rules only, and with all detectors over a prompt that is new or known; beside LiteLLM's pick.

    python -m tests.benchmarks.routing_decision [python with litellm]

The second part looks at texts that are made to be slow to read, at two lengths: twice the time is twice the text.
"""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from mlx_integrations.router.candidates import Candidate, CandidateState
from mlx_integrations.router.decide import decide
from mlx_integrations.router.detectors import make_detectors
from mlx_integrations.router.facts import MessageFacts, RequestFacts
from mlx_integrations.router.policy import DETECTORS, Policy
from mlx_integrations.router.read import RequestReader
from mlx_integrations.types import ModelCapabilities
from tests.benchmarks.common import machine

ROUNDS = 20_000
COLD_ROUNDS = 200
KIB = 1024
SHAPES = (
    "1 ",
    "9",
    "01 23 45 ",
    "4111 ",
    "a@a.a.",
    "a:",
    "1.",
    "+1 ",
    "token: ",
    "eyJaaaa.",
    "://a:",
    "DE89",
    "ab12 ",
    "-",
)
CAPABLE = ModelCapabilities(context_window=32_768, tools=True, vision=True)
CANDIDATES = (
    Candidate(name="home", location="in-process", capabilities=CAPABLE, tasks=frozenset({"chat"})),
    Candidate(name="mac-1", location="loopback", capabilities=CAPABLE, group="macs"),
    Candidate(name="mac-2", location="loopback", capabilities=CAPABLE, group="macs"),
    Candidate(name="cheap", location="remote", capabilities=CAPABLE, input_price=0.2, output_price=1.0),
    Candidate(name="dear", location="remote", capabilities=CAPABLE, input_price=3.0, output_price=15.0),
)
STATES = {
    item.name: CandidateState(is_loaded=True, in_flight=place, tokens_per_second=30.0 + place, first_token_seconds=0.3)
    for place, item in enumerate(CANDIDATES)
}
POLICY = Policy(allow_cloud=True, detectors=DETECTORS)
FULL = replace(POLICY, tasks={"code": ("cheap", "home")}, order=("mac-1", "home"), budget_usd=5.0)
PLAIN = RequestFacts(text_bytes=800)
NEEDY = RequestFacts(text_bytes=800, output_tokens=300, task="code", language="en", needs_tools=True)
PRIVATE = replace(PLAIN, private_because=("an email address in a user's message",))

LITELLM = """
import os, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
router = litellm.Router(model_list=[
    {"model_name": "chat", "litellm_params": {"model": f"openai/m{n}", "api_key": "x", "api_base": "http://127.0.0.1:9"}}
    for n in range(5)
])
messages = [{"role": "user", "content": "word " * 160}]
times = []
for _ in range(2000):
    start = time.thread_time()
    router.get_available_deployment("chat", messages=messages)
    times.append(time.thread_time() - start)
times.sort()
print(times[len(times) // 2] * 1e6, times[int(len(times) * 0.99)] * 1e6)
"""


def microseconds(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and 99th percentile of one call, in time of this thread: what other programs take is left out."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    times.sort()
    return statistics.median(times) * 1e6, times[int(len(times) * 0.99)] * 1e6


def prose(size: int, seed: int) -> str:
    """Words, sentences and a few numbers, as in a conversation."""
    pick = random.Random(seed)
    words = [
        "the",
        "model",
        "answers",
        "in",
        "2024",
        "with",
        "a",
        "letter",
        "from",
        "Berlin,",
        "and",
        "17",
        "others:",
        "x",
    ]
    return " ".join(pick.choices(words, k=size // 3))[:size]


def code(size: int, seed: int) -> str:
    """A Python file of this package, as often as needed."""
    text = Path(decide.__code__.co_filename).read_text(encoding="utf-8")
    return f"# {seed}\n{text * (size // len(text) + 1)}"[:size]


def show(title: str, figures: Iterable[float]) -> None:
    """One row."""
    print(f"{title:<58}" + "".join(f"{figure:>12,.1f}" for figure in figures))  # noqa: T201


def decisions() -> None:
    """How long `decide` takes for five candidates."""
    print(f"\n{'microseconds':<58}{'median':>12}{'p99':>12}")  # noqa: T201
    cases = (
        ("a plain request", PLAIN, POLICY),
        ("with every need and rule", NEEDY, FULL),
        ("private", PRIVATE, POLICY),
    )
    for title, facts, policy in cases:
        decide_it = lambda facts=facts, policy=policy: decide(facts, CANDIDATES, STATES, policy)  # noqa: E731
        show(f"decide, {title}, 5 candidates", microseconds(decide_it, ROUNDS))


def reading() -> None:
    """How long it takes to read requests with all detectors, and to decide."""
    for title, make in (("prose", prose), ("code", code)):
        new = [[MessageFacts(role="user", text=make(10 * KIB, seed))] for seed in range(COLD_ROUNDS)]
        show(f"read and decide, 10 KiB of {title}, new", planned(new, 1))
        show(f"read and decide, 10 KiB of {title}, known", planned(new[:1], 2000))
    conversation = [MessageFacts(role="user", text=prose(256, seed)) for seed in range(40)]
    show("read and decide, 40 messages, known", planned([conversation], 2000))


def planned(requests: Sequence[Sequence[MessageFacts]], rounds: int) -> tuple[float, float]:
    """Microseconds to read and plan each request, so many times."""
    reader = RequestReader(POLICY)
    waiting = cycle(requests)
    if rounds > 1:
        reader.read(requests[0])
    return microseconds(lambda: decide(reader.read(next(waiting)), CANDIDATES, STATES, POLICY), rounds * len(requests))


def worst() -> None:
    """Texts that are made to be slow to read."""
    detectors = list(make_detectors(DETECTORS, (), ()).values())
    print(f"\n{'milliseconds of processor, all detectors':<58}{'10 KiB':>12}{'160 KiB':>12}")  # noqa: T201

    def processor_ms(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            for detector in detectors:
                detector(text)
            best = min(best, time.process_time() - start)
        return best * 1e3

    for unit in SHAPES:
        show(repr(unit), [processor_ms((unit * size * KIB)[: size * KIB]) for size in (10, 160)])


def peer(python: str) -> None:
    """LiteLLM's pick among five deployments."""
    done = subprocess.run([python, "-c", LITELLM], capture_output=True, text=True, check=True)
    show("LiteLLM's Router picks one of 5 deployments", [float(figure) for figure in done.stdout.split()[-2:]])


def main() -> None:
    """Print all tables."""
    print(machine())  # noqa: T201
    decisions()
    reading()
    for python in sys.argv[1:]:
        peer(python)
    worst()


if __name__ == "__main__":
    main()
