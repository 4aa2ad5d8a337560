"""A breaker opens after failures, lets a single call try again, and closes or opens by how that one went."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlx_integrations.errors import GenerationError, RouterError
from mlx_integrations.router.breaker import Breaker, Ticket
from tests.router.scripts import END, STALL, Bench, Clock, Script


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(threshold=3.0, window_seconds=30.0, clock=clock)


def entered(breaker: Breaker) -> Ticket:
    ticket = breaker.enter()
    assert ticket is not None
    return ticket


def opened(breaker: Breaker) -> None:
    for _ in range(3):
        entered(breaker).fail("it failed")


def test_it_opens_at_the_third_failure_in_a_row(breaker: Breaker) -> None:
    for _ in range(2):
        entered(breaker).fail("it failed")
    entered(breaker).succeed()
    opened(breaker)
    assert breaker.enter() is None
    assert breaker.blocked() == (30.0, "it failed")


def test_a_failure_that_says_nothing_about_it_does_not_count(breaker: Breaker) -> None:
    for _ in range(10):
        entered(breaker).fail("the prompt is too long", weight=0.0)
    assert breaker.enter() is not None


def test_one_failure_may_open_it_for_a_time_of_its_own(breaker: Breaker, clock: Clock) -> None:
    entered(breaker).fail("asked too often", weight=0.0, opens=True, seconds=7.0)
    assert breaker.blocked() == (7.0, "asked too often")
    clock.now += 7.0
    assert breaker.blocked() == (0.0, "") and breaker.enter() is not None


def test_after_its_window_one_call_tries_and_the_others_wait_for_it(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 30.0
    assert breaker.blocked() == (0.0, "")
    probe = entered(breaker)
    assert probe.is_probe and breaker.enter() is None
    assert breaker.blocked() == (30.0, "another call is trying it")
    probe.succeed()
    assert not entered(breaker).is_probe and breaker.blocked() == (0.0, "")


def test_a_try_that_fails_opens_it_for_another_window(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 30.0
    entered(breaker).fail("it failed again")
    assert breaker.enter() is None and breaker.blocked() == (30.0, "it failed again")


@pytest.mark.parametrize("ending", ["release", "fail"])
def test_a_try_that_says_nothing_leaves_the_next_call_to_try(breaker: Breaker, clock: Clock, ending: str) -> None:
    opened(breaker)
    clock.now += 30.0
    probe = entered(breaker)
    probe.release() if ending == "release" else probe.fail("the prompt is too long", weight=0.0)
    assert entered(breaker).is_probe


def test_an_old_call_that_ends_well_late_does_not_close_it(breaker: Breaker) -> None:
    late = entered(breaker)
    opened(breaker)
    late.succeed()
    assert breaker.enter() is None


def test_a_ticket_counts_once(breaker: Breaker) -> None:
    ticket = entered(breaker)
    for _ in range(5):
        ticket.fail("it failed")
    assert breaker.enter() is not None


def test_one_that_waits_for_something_to_change_is_tried_when_it_did(breaker: Breaker) -> None:
    entered(breaker).fail("its model is not there", opens=True, seconds=math.inf)
    assert breaker.blocked()[0] == math.inf
    breaker.allow_probe(because="another reason")
    assert breaker.enter() is None
    breaker.allow_probe(because="its model is not there")
    assert entered(breaker).is_probe


CALLERS = 20


class HeldProbe:
    """A candidate that fails three times; then its first call holds until everybody else has asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.is_dead = True
        self.bench = Bench([lambda call, budget: self.script(), ["spare", END]], options={"clock": self.clock})
        for _ in range(3):
            list(self.bench.stream())
        assert self.bench.asked.count("c0") == 3
        self.is_dead = False
        self.clock.now += 31.0

    def script(self) -> Script:
        return [GenerationError("dead")] if self.is_dead else ["back", END]


def test_of_twenty_threads_one_tries() -> None:
    held = HeldProbe()
    everybody = threading.Barrier(CALLERS)
    asked = threading.Semaphore(0)

    def call(_: int) -> str:
        everybody.wait()
        stream = held.bench.stream()
        first = next(stream)
        asked.release()
        if first.text == "back":  # it holds its answer until all the others have theirs
            for _ in range(CALLERS):
                assert asked.acquire(timeout=60)
        list(stream)
        return first.text

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(call, range(CALLERS)))
    assert sorted(answers) == ["back"] + ["spare"] * (CALLERS - 1)
    assert held.bench.asked.count("c0") == 4 and held.bench.in_flight == 0
    assert next(held.bench.stream()).text == "back"


async def test_of_twenty_tasks_one_tries() -> None:
    held = HeldProbe()
    asked = asyncio.Semaphore(0)

    async def call() -> str:
        stream = held.bench.astream()
        first = await anext(stream)
        asked.release()
        if first.text == "back":
            for _ in range(CALLERS):
                await asked.acquire()
        async for _ in stream:
            pass
        return first.text

    answers = await asyncio.gather(*(call() for _ in range(CALLERS)))
    assert sorted(answers) == ["back"] + ["spare"] * (CALLERS - 1)
    assert held.bench.asked.count("c0") == 4 and held.bench.in_flight == 0


async def test_threads_and_tasks_share_one_try() -> None:
    held = HeldProbe()
    astream = held.bench.astream()
    assert (await anext(astream)).text == "back"
    assert next(held.bench.stream()).text == "spare"
    await astream.aclose()
    stream = held.bench.stream()
    assert next(stream).text == "back", "the one that tried has left without an end: the next one tries"
    stream.close()


async def test_a_cancelled_try_leaves_the_next_call_to_try() -> None:
    held = HeldProbe()
    held.bench.scripts = [["back", STALL, END], ["spare", END]]
    begun = asyncio.Event()

    async def call() -> None:
        async for _ in held.bench.astream():
            begun.set()

    task = asyncio.create_task(call())
    await begun.wait()
    assert (await anext(held.bench.astream())).text == "spare"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await anext(held.bench.astream())).text == "back"


def test_a_try_that_nobody_ends_is_over_after_a_window() -> None:
    held = HeldProbe()
    forgotten = held.bench.stream()
    assert next(forgotten).text == "back"
    held.clock.now += 29.0
    assert next(held.bench.stream()).text == "spare"
    held.clock.now += 1.0
    assert next(held.bench.stream()).text == "back"


def test_a_dead_candidate_is_called_three_times_in_ten_requests_and_once_a_window() -> None:
    clock = Clock()
    bench = Bench([[GenerationError("dead")], ["spare", END]], options={"clock": clock})
    for _ in range(10):
        assert next(bench.stream()).text == "spare"
    assert bench.asked.count("c0") == 3
    for window in range(1, 4):
        clock.now += 30.0
        for _ in range(10):
            assert next(bench.stream()).text == "spare"
        assert bench.asked.count("c0") == 3 + window


def test_when_everybody_is_left_alone_the_error_says_so_and_for_how_long() -> None:
    bench = Bench([[GenerationError("dead")]], options={"clock": Clock()})
    for _ in range(3):
        with pytest.raises(RouterError):
            list(bench.stream())
    with pytest.raises(RouterError, match="left alone for 30 s") as caught:
        list(bench.stream())
    assert caught.value.is_retryable and bench.asked == ["c0"] * 3
