"""Who is too late is left, told to stop, and leaves no thread behind."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Iterator

import pytest

from mlx_integrations.errors import PartialResponseError, RouterError
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.candidates import Candidate, CandidateState
from mlx_integrations.router.chat import ChatDialect
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.policy import Deadlines, Policy
from mlx_integrations.router.sources import PumpedSource
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatChunk, ChatRequest
from tests.router.scripts import BLANK, END, FACTS, REQUEST, STALL, Bench, Script, text_of

SOON = 0.4
"""Long enough for a candidate that answers at once on a machine with other work."""
FIRST = Policy(deadlines=Deadlines(first_token=SOON))
BETWEEN = Policy(deadlines=Deadlines(between_tokens=SOON))
TOTAL = Policy(deadlines=Deadlines(total=SOON))
SPARE: Script = ["spare", " answer", END]
PATIENCE_SECONDS = 30.0


def route_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mlxi-route-c")]


def no_thread_is_left() -> bool:
    for thread in route_threads():
        thread.join(PATIENCE_SECONDS)
    return not route_threads()


async def outcome(bench: Bench, flavour: str) -> str | PartialResponseError | RouterError:
    """The text that is shown, or the error at its end."""
    try:
        if flavour == "sync":
            return text_of(await asyncio.to_thread(lambda: list(bench.stream())))
        return text_of([chunk async for chunk in bench.astream()])
    except (PartialResponseError, RouterError) as error:
        return error


@pytest.mark.parametrize("flavour", ["sync", "async"])
@pytest.mark.parametrize("first", [[STALL, END], [BLANK, STALL, END]], ids=["silent", "blank"])
async def test_one_that_says_nothing_in_time_is_left_for_the_next(flavour: str, first: Script) -> None:
    bench = Bench([first, SPARE], FIRST)
    assert await outcome(bench, flavour) == "spare answer"
    assert bench.in_flight == 0
    bench.released.set()
    assert no_thread_is_left() and bench.opened == bench.closed == 2


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_one_that_stops_in_the_middle_ends_with_what_was_shown(flavour: str) -> None:
    bench = Bench([["one", STALL, " two", END], SPARE], BETWEEN)
    error = await outcome(bench, flavour)
    assert isinstance(error, PartialResponseError) and error.partial_text == "one"
    assert isinstance(error.__cause__, TimeoutError)
    bench.released.set()
    assert no_thread_is_left() and bench.opened == bench.closed == 1


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_the_whole_call_has_one_limit_for_everybody(flavour: str) -> None:
    bench = Bench([[STALL, END], SPARE], TOTAL)
    error = await outcome(bench, flavour)
    assert isinstance(error, RouterError) and "in time" in str(error)
    assert bench.asked == ["c0"]
    bench.released.set()
    assert no_thread_is_left()


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_an_answer_that_stalls_after_its_end_is_an_answer(flavour: str) -> None:
    bench = Bench([["one", END, STALL], SPARE], BETWEEN)
    assert await outcome(bench, flavour) == "one"
    bench.released.set()
    assert no_thread_is_left()


def test_what_a_caller_does_between_two_chunks_does_not_count() -> None:
    bench = Bench([["one", " two", END]], Policy(deadlines=Deadlines(between_tokens=SOON, total=SOON)))
    texts = []
    for chunk in bench.stream():
        texts.append(chunk.text)
        time.sleep(SOON)
    assert texts == ["one", " two", ""]


def test_a_candidate_is_told_what_is_left() -> None:
    now = 0.0

    def first(call: int, budget: Budget) -> Script:
        nonlocal now
        now += 3.0
        return [OSError()]

    policy = Policy(deadlines=Deadlines(first_token=5.0, between_tokens=2.0, total=10.0))
    bench = Bench([first, SPARE], policy, options={"clock": lambda: now})
    assert text_of(list(bench.stream())) == "spare answer"
    assert [budget.total for budget in bench.budgets] == [10.0, 7.0]
    assert [budget.first_token for budget in bench.budgets] == [5.0, 5.0]
    assert [budget.between_tokens for budget in bench.budgets] == [2.0, 2.0]


def test_a_model_that_is_still_loading_is_left_without_counting_it_as_a_failure() -> None:
    observe = lambda name: CandidateState(is_loaded=name != "c0")  # noqa: E731
    policy = Policy(deadlines=Deadlines(first_token=SOON), order=("c0", "c1"))
    bench = Bench([[STALL, END], SPARE], policy, options={"observe": observe, "threshold": 1.0})
    stream = bench.stream()
    assert text_of(list(stream)) == "spare answer"
    assert stream.report.attempts[0].outcome == "slow_load"
    assert bench.router.roster.breakers["c0"].blocked() == (0.0, "")
    bench.released.set()


def test_one_that_had_no_time_left_is_not_blamed_for_it() -> None:
    policy = Policy(deadlines=Deadlines(first_token=SOON, total=SOON * 1.2))
    bench = Bench([[STALL, END], [STALL, END]], policy, options={"threshold": 1.0})
    with pytest.raises(RouterError):
        list(bench.stream())
    assert bench.router.roster.breakers["c0"].blocked()[0] > 0
    assert bench.router.roster.breakers["c1"].blocked()[0] == 0
    bench.released.set()
    assert no_thread_is_left()


@pytest.mark.parametrize("how", ["unlimited", "interruptible"])
def test_no_thread_stands_in_between_where_none_is_needed(how: str) -> None:
    threads: list[threading.Thread] = []

    def only(call: int, budget: Budget) -> Script:
        threads.append(threading.current_thread())
        return ["one", END]

    options = {} if how == "unlimited" else {"interruptible": ["c0"]}
    bench = Bench([only], Policy() if how == "unlimited" else FIRST, options=options)
    assert text_of(list(bench.stream())) == "one"
    assert threads == [threading.current_thread()]


def test_a_thread_has_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("something")
    bench = Bench([lambda call, budget: [variable.get(), END]], FIRST)
    assert text_of(list(bench.stream())) == "something"


def test_a_thread_does_not_run_far_ahead_of_its_caller() -> None:
    bench = Bench([[*["word"] * 5000, END]], FIRST)
    made = 0

    def open_stream() -> Iterator[ChatChunk]:
        nonlocal made
        for chunk in bench.open("c0", Budget()):
            made += 1
            yield chunk

    source = PumpedSource(open_stream, name="mlxi-route-c0")
    source.next(None)
    source.close()
    assert no_thread_is_left()
    assert made <= 300 and bench.closed == 1


def test_a_caller_that_leaves_early_leaves_no_thread() -> None:
    bench = Bench([["one", " two", END]], FIRST)
    for _ in range(20):
        stream = bench.stream()
        assert next(stream).text == "one"
        stream.close()
    assert no_thread_is_left() and bench.opened == bench.closed == 20 and bench.in_flight == 0


class Interrupt(BaseException):
    """What is no error of anybody."""


def test_what_is_raised_in_a_thread_arrives_where_it_is_waited_for() -> None:
    with pytest.raises(Interrupt):
        list(Bench([[Interrupt()]], FIRST).stream())


def test_a_thread_reads_an_asynchronous_stream_too() -> None:
    bench = Bench([["one", " two", END], ["three", END]], FIRST)
    stream = bench.router.stream(FACTS, bench.aopen, ChatDialect(REQUEST))
    assert text_of(list(stream)) == "one two"
    failing = Bench([["one", OSError()], SPARE], FIRST)
    assert text_of(list(failing.router.stream(FACTS, failing.aopen, ChatDialect(REQUEST), guarantee="complete"))) == (
        "spare answer"
    )
    assert no_thread_is_left() and failing.opened == failing.closed == 2


def test_an_asynchronous_stream_is_cancelled_when_its_caller_leaves() -> None:
    bench = Bench([["one", STALL, END]], FIRST)
    stream = bench.router.stream(FACTS, bench.aopen, ChatDialect(REQUEST))
    assert next(stream).text == "one"
    stream.close()
    assert no_thread_is_left() and bench.closed == 1


def test_a_late_model_of_this_process_is_stopped_at_once() -> None:
    """It would go on computing for nobody: its synchronous stream cannot be told to stop before its next token."""

    class Late(FakeChatBackend):
        was_cancelled = threading.Event()

        async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
            try:
                await asyncio.Event().wait()
                yield END
            finally:
                self.was_cancelled.set()

    late, spare = Late(model_id="c0"), FakeChatBackend(["spare answer"], model_id="c1")
    candidates = [Candidate(name=name, location="in-process") for name in ("c0", "c1")]
    backend = RouterBackend({"c0": late, "c1": spare}, Router(candidates, FIRST))
    assert text_of(list(backend.stream(REQUEST))) == "spare answer"
    assert late.was_cancelled.wait(PATIENCE_SECONDS) and no_thread_is_left()


async def test_a_cancelled_reader_stops_the_candidate() -> None:
    bench = Bench([["one", STALL, END]])
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in bench.router.astream(FACTS, bench.aopen, ChatDialect(REQUEST)):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    assert bench.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.in_flight == 0 and bench.closed == 1


async def test_an_outer_timeout_is_the_callers_and_not_the_candidates() -> None:
    bench = Bench([[STALL, END], SPARE], Policy(deadlines=Deadlines(first_token=PATIENCE_SECONDS)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(outcome(bench, "async"), 0.05)
    assert bench.asked == ["c0"] and bench.in_flight == 0
    assert bench.router.roster.breakers["c0"].blocked() == (0.0, "")
