"""What a router costs, and how soon it falls back, beside LangChain's `with_fallbacks` in the same run.

    python -m tests.benchmarks.routing [python with litellm]

Candidates are scripted and take next to no time, so that what is measured is what stands between them and the caller.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from mlx_integrations.router.attempts import Router
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.chat import ChatDialect
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.policy import Deadlines, Policy
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, Finish, ModelCapabilities, Usage
from tests.benchmarks.common import machine

ROUNDS = 300
CHUNKS = 1000
CHUNK_ROUNDS = 15
END = ChatChunk(finish=Finish(reason="stop", usage=Usage(prompt_tokens=8, completion_tokens=1)))
REQUEST = ChatRequest(messages=(ChatMessage(role="user", content="What is the capital of France?"),))
FACTS = RequestFacts(text_bytes=64)
HURRY = Deadlines(first_token=60.0, between_tokens=60.0, total=600.0)
CAPABILITIES = ModelCapabilities(context_window=8192, tools=True)


class DeadError(RuntimeError):
    """What the dead candidate raises."""


class Scripted:
    """A backend that answers with so many words, or is dead."""

    model_id = "scripted"
    capabilities = CAPABILITIES

    def __init__(self, words: int, *, is_dead: bool = False) -> None:
        self._chunks = [*[ChatChunk(text="word ")] * words, END]
        self._is_dead = is_dead
        self.calls = 0

    def stream(self, request: ChatRequest) -> Iterator[ChatChunk]:
        self.calls += 1
        if self._is_dead:
            raise DeadError("dead")
        yield from self._chunks

    async def astream(self, request: ChatRequest) -> AsyncIterator[ChatChunk]:
        self.calls += 1
        if self._is_dead:
            raise DeadError("dead")
        for chunk in self._chunks:
            yield chunk


class ScriptedChat(BaseChatModel):
    """The same for LangChain."""

    words: int = 1
    is_dead: bool = False
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.calls += 1
        if self.is_dead:
            raise DeadError("dead")
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="word " * self.words))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.calls += 1
        if self.is_dead:
            raise DeadError("dead")
        for _ in range(self.words):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))


def candidates(count: int) -> list[Candidate]:
    return [
        Candidate(
            name=f"c{number}", location="in-process", capabilities=CAPABILITIES, input_price=0.0, output_price=0.0
        )
        for number in range(count)
    ]


def routed(*backends: Scripted, deadlines: Deadlines | None = None) -> RouterBackend:
    policy = Policy(deadlines=deadlines or Deadlines())
    named = {f"c{number}": backend for number, backend in enumerate(backends)}
    return RouterBackend(named, Router(candidates(len(backends)), policy))  # type: ignore[arg-type]


def core(*backends: Scripted, deadlines: Deadlines | None = None) -> Callable[[], object]:
    """A call through the core alone, with facts that are known already; by a thread if there are deadlines."""
    router = routed(*backends, deadlines=deadlines).router
    by_name = {f"c{number}": backend for number, backend in enumerate(backends)}

    def open_stream(name: str, budget: Budget) -> Iterator[ChatChunk]:
        return by_name[name].stream(REQUEST)

    return lambda: list(router.stream(FACTS, open_stream, ChatDialect(REQUEST)))


async def _drain(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def seconds_of(call: Callable[[], object], rounds: int) -> float:
    """The median of so many calls, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def added(routed_call: Callable[[], object], bare: Callable[[], object], rounds: int) -> float:
    """Seconds that the first takes longer; both in turn, five times, and the median of that."""
    return statistics.median(seconds_of(routed_call, rounds) - seconds_of(bare, rounds) for _ in range(5))


def async_seconds(make: Callable[[], AsyncIterator[Any]], rounds: int) -> float:
    async def run() -> float:
        await _drain(make())
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            await _drain(make())
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    return asyncio.run(run())


def per_call() -> None:
    print("added to a call of one word, microseconds")  # noqa: T201
    bare, spare = Scripted(1), Scripted(1)
    chat = ScriptedChat()
    fallbacks = chat.with_fallbacks([ScriptedChat()])
    direct = lambda: list(bare.stream(REQUEST))  # noqa: E731
    backend, hurried = routed(bare, spare), routed(bare, spare, deadlines=HURRY)
    rows = {
        "router, facts known": added(core(bare, spare), direct, ROUNDS),
        "RouterBackend.stream": added(lambda: list(backend.stream(REQUEST)), direct, ROUNDS),
        "router, with deadlines (a thread)": added(core(bare, spare, deadlines=HURRY), direct, ROUNDS),
        "with_fallbacks, stream": added(lambda: list(fallbacks.stream("hi")), lambda: list(chat.stream("hi")), ROUNDS),
        "with_fallbacks, invoke": added(lambda: fallbacks.invoke("hi"), lambda: chat.invoke("hi"), ROUNDS),
    }
    base = async_seconds(lambda: bare.astream(REQUEST), ROUNDS)
    rows["RouterBackend.astream"] = async_seconds(lambda: backend.astream(REQUEST), ROUNDS) - base
    rows["RouterBackend.astream, with deadlines"] = async_seconds(lambda: hurried.astream(REQUEST), ROUNDS) - base
    show(rows)


def per_chunk() -> None:
    print(f"added to a chunk of {CHUNKS}, microseconds")  # noqa: T201
    bare, spare = Scripted(CHUNKS), Scripted(1)
    chat = ScriptedChat(words=CHUNKS)
    fallbacks = chat.with_fallbacks([ScriptedChat()])
    direct = lambda: list(bare.stream(REQUEST))  # noqa: E731
    backend, hurried = routed(bare, spare), routed(bare, spare, deadlines=HURRY)
    rows = {
        "router": added(core(bare, spare), direct, CHUNK_ROUNDS),
        "RouterBackend.stream": added(lambda: list(backend.stream(REQUEST)), direct, CHUNK_ROUNDS),
        "router, with deadlines (a thread)": added(core(bare, spare, deadlines=HURRY), direct, CHUNK_ROUNDS),
        "RouterBackend.stream, with deadlines": added(lambda: list(hurried.stream(REQUEST)), direct, CHUNK_ROUNDS),
    }
    base = async_seconds(lambda: bare.astream(REQUEST), CHUNK_ROUNDS)
    rows["RouterBackend.astream"] = async_seconds(lambda: backend.astream(REQUEST), CHUNK_ROUNDS) - base
    rows["RouterBackend.astream, with deadlines"] = async_seconds(lambda: hurried.astream(REQUEST), CHUNK_ROUNDS) - base
    rows["with_fallbacks, stream"] = added(
        lambda: list(fallbacks.stream("hi")), lambda: list(chat.stream("hi")), CHUNK_ROUNDS
    )
    show({name: seconds / CHUNKS for name, seconds in rows.items()})


def fallback() -> None:
    print("from the call to the first word, when the first candidate raises at once, microseconds")  # noqa: T201

    def first(make: Callable[[], Iterator[Any]]) -> float:
        times = []
        for _ in range(ROUNDS):
            stream = make()
            started = time.perf_counter()
            next(stream)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    # A new router each time: one that has seen the dead candidate fail three times does not ask it.
    fallbacks = ScriptedChat(is_dead=True).with_fallbacks([ScriptedChat()])
    show(
        {
            "RouterBackend.stream": first(lambda: routed(Scripted(1, is_dead=True), Scripted(1)).stream(REQUEST)),
            "with deadlines (two threads)": first(
                lambda: routed(Scripted(1, is_dead=True), Scripted(1), deadlines=HURRY).stream(REQUEST)
            ),
            "with_fallbacks, stream": first(lambda: fallbacks.stream("hi")),
        }
    )


def dead() -> None:
    first, model = Scripted(1, is_dead=True), ScriptedChat(is_dead=True)
    backend, fallbacks = routed(first, Scripted(1)), model.with_fallbacks([ScriptedChat()])
    for _ in range(10):
        list(backend.stream(REQUEST))
        list(fallbacks.stream("hi"))
    print(f"calls of a dead first candidate in 10 requests: router {first.calls}, with_fallbacks {model.calls}")  # noqa: T201


def litellm(python: str) -> None:
    """LiteLLM's Router, which has an environment of its own: it takes 228 MB."""
    script = Path(__file__).with_name("litellm_router.py")
    done = subprocess.run([python, str(script)], capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    calls = found.pop("dead calls")
    print(f"LiteLLM's Router, microseconds; calls of a dead first candidate in 10 requests: {calls}")  # noqa: T201
    show(found)


def show(rows: dict[str, float]) -> None:
    for name, seconds in rows.items():
        print(f"  {name:40} {seconds * 1e6:8.1f}")  # noqa: T201


def main() -> None:
    print(machine())  # noqa: T201
    per_call()
    per_chunk()
    fallback()
    dead()
    for python in sys.argv[1:2]:
        litellm(python)


if __name__ == "__main__":
    main()
