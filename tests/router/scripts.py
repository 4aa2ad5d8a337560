"""Candidates that follow a script, in threads and on event loops, and a router over them.

bench = Bench([["a", "b", END], [fail(GenerationError("it broke"))]])
list(bench.stream())            chunks of candidate `c0`
bench.opened, bench.closed      how often a stream was begun and let go
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_integrations.router.attempts import AsyncRoutedStream, RoutedStream, Router
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.chat import ChatDialect
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.policy import Guarantee, Policy
from mlx_integrations.types import (
    ChatChunk,
    ChatMessage,
    ChatRequest,
    Finish,
    InvalidToolCall,
    ToolCall,
    ToolSpec,
    Usage,
)

USAGE = Usage(prompt_tokens=10, completion_tokens=5)
END = ChatChunk(finish=Finish(reason="stop", usage=USAGE))
BLANK = ChatChunk()
TOOL = ToolSpec(name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
CALL = ChatChunk(tool_calls=(ToolCall(id="1", name="add", arguments={"a": 1}),))
CALL_OF_ANOTHER = ChatChunk(tool_calls=(ToolCall(id="1", name="rocket", arguments={}),))
CALL_AGAINST_SCHEMA = ChatChunk(tool_calls=(ToolCall(id="1", name="add", arguments={"a": "one"}),))
HALF_A_CALL = ChatChunk(invalid_tool_calls=(InvalidToolCall(id="1", name="add", arguments='{"a', error="cut"),))
REQUEST = ChatRequest(messages=(ChatMessage(role="user", content="What is one and one?"),), tools=(TOOL,))
FACTS = RequestFacts(text_bytes=40)


class Stall:
    """The stream says nothing more until the bench is released."""


STALL = Stall()
Step = str | ChatChunk | BaseException | Stall
Script = Sequence[Step]


class Clock:
    """Seconds that go up when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def thought(text: str) -> ChatChunk:
    return ChatChunk(reasoning=text)


@dataclass
class Bench:
    """A router over scripted candidates `c0`, `c1` and so on.

    Attributes:
        scripts: One for each candidate: the steps of every call, or one list of steps for each call in turn.
        locations: Where candidates are; in this process otherwise.
    """

    scripts: Sequence[Script | Callable[[int, Budget], Script]]
    policy: Policy = field(default_factory=lambda: Policy(allow_cloud=True))
    locations: Sequence[Location] = ()
    options: dict[str, Any] = field(default_factory=dict)
    candidates: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = [f"c{number}" for number in range(len(self.scripts))]
        locations = self.locations or ["in-process"] * len(self.scripts)
        self.router = Router(
            [
                Candidate(name=name, location=location, **self.candidates)
                for name, location in zip(self.names, locations, strict=True)
            ],
            self.policy,
            **({"random_number": lambda: 0.0} | self.options),
        )
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.budgets: list[Budget] = []
        self.opened = 0
        self.closed = 0

    def stream(
        self, facts: RequestFacts = FACTS, *, guarantee: Guarantee | None = None, policy: Policy | None = None
    ) -> RoutedStream[ChatChunk]:
        return self.router.stream(facts, self.open, ChatDialect(REQUEST), guarantee=guarantee, policy=policy)

    def astream(
        self, facts: RequestFacts = FACTS, *, guarantee: Guarantee | None = None, policy: Policy | None = None
    ) -> AsyncRoutedStream[ChatChunk]:
        return self.router.astream(facts, self.aopen, ChatDialect(REQUEST), guarantee=guarantee, policy=policy)

    def open(self, name: str, budget: Budget) -> Iterator[ChatChunk]:
        return self._play(self._steps(name, budget))

    def aopen(self, name: str, budget: Budget) -> AsyncIterator[ChatChunk]:
        return self._aplay(self._steps(name, budget))

    @property
    def in_flight(self) -> int:
        return sum(self.router.roster.health.vitals(name).in_flight for name in self.names)

    def _steps(self, name: str, budget: Budget) -> Script:
        with self.lock:
            call = self.asked.count(name)
            self.asked.append(name)
            self.budgets.append(budget)
        script = self.scripts[self.names.index(name)]
        return script(call, budget) if callable(script) else script

    def _play(self, steps: Script) -> Generator[ChatChunk, None, None]:
        self._count(opened=1)
        try:
            for step in steps:
                if isinstance(step, Stall):
                    self.released.wait()
                else:
                    yield chunk_of(step)
        finally:
            self._count(closed=1)

    async def _aplay(self, steps: Script) -> AsyncGenerator[ChatChunk, None]:
        self._count(opened=1)
        try:
            for step in steps:
                if isinstance(step, Stall):
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                yield chunk_of(step)
        finally:
            self._count(closed=1)

    def _count(self, *, opened: int = 0, closed: int = 0) -> None:
        with self.lock:
            self.opened += opened
            self.closed += closed


def chunk_of(step: Step) -> ChatChunk:
    if isinstance(step, BaseException):
        raise step
    assert isinstance(step, str | ChatChunk)
    return ChatChunk(text=step) if isinstance(step, str) else step


def text_of(chunks: Sequence[ChatChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)
