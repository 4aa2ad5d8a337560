"""Whatever candidates do, in whichever order: no mixed answers, no unchecked calls, nothing left open."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations import errors
from mlx_integrations.errors import PartialResponseError
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.report import report_of
from mlx_integrations.types import ChatChunk
from tests.router.scripts import (
    BLANK,
    CALL,
    CALL_AGAINST_SCHEMA,
    CALL_OF_ANOTHER,
    END,
    HALF_A_CALL,
    Bench,
    Script,
    Step,
    text_of,
    thought,
)

EXAMPLES = settings(
    max_examples=int(os.environ.get("MLXI_FUZZ_EXAMPLES", "80")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class Interrupt(BaseException):
    """What is no error of anybody."""


ERRORS = st.sampled_from(
    [
        errors.GenerationError("no"),
        errors.ContextOverflowError("no", prompt_tokens=2, limit_tokens=1),
        errors.RemoteRateLimitError("no", endpoint="x", status=429, retry_after_seconds=5.0),
        errors.RemoteServerError("no", endpoint="x", status=500),
        errors.RemoteAuthenticationError("no", endpoint="x", status=401),
        errors.RemoteContentPolicyError("no", endpoint="x"),
        errors.InvalidOutputError("no"),
        MemoryError(),
        TimeoutError(),
        OSError(),
        KeyError("no"),
        ValueError("no"),
        Interrupt(),
    ]
)
WORDS = st.sampled_from(["a ", "b ", "c ", "d "])
CALLS = st.sampled_from([CALL, HALF_A_CALL, CALL_OF_ANOTHER, CALL_AGAINST_SCHEMA])
STEPS: st.SearchStrategy[Step] = st.one_of(
    WORDS, WORDS, WORDS, st.just(BLANK), st.just(thought("hm ")), CALLS, ERRORS, st.just(END)
)
SCRIPTS = st.lists(STEPS, max_size=7)
# For each candidate, the scripts of its first calls; the last one is that of all that follow.
BENCHES = st.lists(st.lists(SCRIPTS, min_size=1, max_size=3), min_size=1, max_size=4)
POLICIES = st.builds(
    Policy,
    allow_cloud=st.just(True),
    mode=st.sampled_from(["prefer_local", "prefer_cloud"]),
    guarantee=st.sampled_from(["live", "complete"]),
    hold_tokens=st.integers(0, 3),
)
LOCATIONS = st.lists(st.sampled_from(["in-process", "remote"]), min_size=4, max_size=4)


def bench_of(plays: Sequence[Sequence[Script]], policy: Policy, locations: Sequence[Any]) -> Bench:
    """Candidates whose every word says who wrote it, in which call."""

    def player(number: int) -> Any:
        def play(call: int, budget: Budget) -> Script:
            steps = plays[number][min(call, len(plays[number]) - 1)]
            return [f"<c{number}.{call}>{step}" if isinstance(step, str) else step for step in steps]

        return play

    options = {"clock": lambda: 0.0, "retry_seconds": (0.0, 0.0)}
    return Bench([player(number) for number in range(len(plays))], policy, locations[: len(plays)], options)


def answer_of(bench: Bench, plays: Sequence[Sequence[Script]], name: str, call: int) -> list[ChatChunk]:
    """What one call of a candidate would have brought, up to where it fails."""
    number = int(name[1:])
    chunks: list[ChatChunk] = []
    for step in plays[number][min(call, len(plays[number]) - 1)]:
        if isinstance(step, BaseException):
            break
        assert isinstance(step, str | ChatChunk)
        chunks.append(ChatChunk(text=f"<{name}.{call}>{step}") if isinstance(step, str) else step)
    return chunks


def check(bench: Bench, plays: Sequence[Sequence[Script]], shown: list[ChatChunk], error: BaseException | None) -> None:
    """What has to hold of everything that a caller has seen."""
    sources = {chunk.text[: chunk.text.index(">")] for chunk in shown if chunk.text}
    assert len(sources) <= 1, "words of two answers"
    last = bench.asked[-1] if bench.asked else "c0"
    calls = bench.asked.count(last) - 1
    answer = answer_of(bench, plays, last, calls)
    assert shown == answer[: len(shown)], "not the beginning of the last one's answer"
    for chunk in shown:
        assert not chunk.invalid_tool_calls
        assert all(call.name == "add" and call.arguments == {"a": 1} for call in chunk.tool_calls)
    if error is None:
        assert shown == answer and any(chunk.finish for chunk in shown)
    elif isinstance(error, PartialResponseError):
        assert error.partial_text == text_of(shown)
    elif not isinstance(error, Interrupt):
        assert shown == []
    if error is not None and not isinstance(error, Interrupt):
        assert report_of(error) is not None
    assert bench.opened == bench.closed and bench.in_flight == 0
    assert all(breaker._probe is None for breaker in bench.router.roster.breakers.values())


@EXAMPLES
@given(BENCHES, POLICIES, LOCATIONS)
def test_a_stream_shows_the_beginning_of_exactly_one_answer(plays: Any, policy: Policy, locations: Any) -> None:
    bench = bench_of(plays, policy, locations)
    for _ in range(2):  # the second time, some are left alone
        bench.asked.clear()
        shown: list[ChatChunk] = []
        error: BaseException | None = None
        try:
            for chunk in bench.stream():
                shown.append(chunk)
        except BaseException as caught:  # noqa: BLE001 - looked at below
            error = caught
        check(bench, plays, shown, error)


@EXAMPLES
@given(BENCHES, POLICIES, LOCATIONS)
def test_threads_and_event_loops_show_the_same(plays: Any, policy: Policy, locations: Any) -> None:
    async def on_a_loop(bench: Bench) -> tuple[list[ChatChunk], str]:
        shown: list[ChatChunk] = []
        try:
            async for chunk in bench.astream():
                shown.append(chunk)
        except (Exception, Interrupt) as caught:  # noqa: BLE001 - looked at below
            check(bench, plays, shown, caught)
            return shown, repr(caught)
        check(bench, plays, shown, None)
        return shown, ""

    bench = bench_of(plays, policy, locations)
    shown: list[ChatChunk] = []
    raised = ""
    try:
        for chunk in bench.stream():
            shown.append(chunk)
    except (Exception, Interrupt) as caught:  # noqa: BLE001 - compared below
        raised = repr(caught)
    assert asyncio.run(on_a_loop(bench_of(plays, policy, locations))) == (shown, raised)


@EXAMPLES
@given(BENCHES, POLICIES, LOCATIONS, st.integers(0, 12))
def test_a_caller_may_leave_at_any_point(plays: Any, policy: Policy, locations: Any, steps: int) -> None:
    bench = bench_of(plays, policy, locations)
    stream = bench.stream()
    shown: list[ChatChunk] = []
    error: BaseException | None = None
    try:
        for _ in range(steps):
            shown.append(next(stream))
    except StopIteration:
        pass
    except BaseException as caught:  # noqa: BLE001 - looked at below
        error = caught
    stream.close()
    assert bench.opened == bench.closed and bench.in_flight == 0
    assert all(breaker._probe is None for breaker in bench.router.roster.breakers.values())
    if error is None:
        assert len({chunk.text[: chunk.text.index(">")] for chunk in shown if chunk.text}) <= 1


@EXAMPLES
@given(BENCHES, POLICIES, LOCATIONS, st.integers(0, 30))
def test_a_task_may_be_cancelled_at_any_point(plays: Any, policy: Policy, locations: Any, turns: int) -> None:
    async def run() -> None:
        bench = bench_of(plays, policy, locations)

        async def read() -> None:
            stream = bench.astream()
            try:
                async for _ in stream:
                    await asyncio.sleep(0)
            finally:
                await stream.aclose()

        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        assert bench.opened == bench.closed and bench.in_flight == 0
        assert all(breaker._probe is None for breaker in bench.router.roster.breakers.values())

    asyncio.run(run())
