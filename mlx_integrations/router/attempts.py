"""`Router`: makes plans and carries them out, for chunks of any framework, in threads and on event loops.

    request --facts--> plan --order--> open(name, budget) --chunks--> gate --chunks--> caller
                         ^                  |
                         +--- a failure before anything was shown: the next one ---+

An adapter for a framework needs three things:

1. `RequestFacts` of the request: what `decide` may know, in no framework's words.
2. A `Dialect`, which reads the framework's chunks, checks calls of tools, and says what its exceptions are.
3. `open(name, budget)`, which asks the candidate called `name` and returns the iterator of its chunks. It may be called
   several times for one call, each time for another candidate or another try, and has to tell the candidate what the
   `Budget` says: seconds where it takes any, temperature 0 for a repair, the text to write on for a continuation. It
   reports nothing to the framework's callbacks: nobody may see an answer before the router lets it through. Own
   retries of the candidate are switched off.

    router = Router([local, cloud], Policy(allow_cloud=True))
    stream = router.stream(facts, open, dialect)
    for chunk in stream:            # chunks of exactly one candidate, unchanged and in order
        ...
    stream.report                   # who was asked, what became of it; also at any time before the end

    whole = list(router.stream(facts, open, dialect, guarantee="complete"))

Give `guarantee="complete"` wherever nobody sees an answer before its end, such as `invoke`: a failure in the middle is
then repaired like any other. Errors raised by a stream:

- `PrivacyError`: it must stay on this machine, and nobody here may answer; nothing was sent anywhere.
- `RouterError`: everybody failed; its cause is the first one's error, `attempts` lists all.
- `PartialResponseError`: it failed after something was shown; carries that text, its cause is the candidate's error.
- `ContextOverflowError`, `UnsupportedContentError`: it fits nobody.
- Errors that the caller caused, unchanged, and those that steer a framework (`Failure(kind="control")`).

`report_of(error)` gives the report of any of them. `KeyboardInterrupt`, cancellation and closing a stream early end the
candidate's stream as well, and say nothing about the candidate.

A stream without deadlines is read in the caller's thread. With deadlines, the synchronous one is read by a thread of
its own, unless the candidate is `interruptible`: one whose stream keeps to its `Budget` and raises `TimeoutError`. For
that thread, `open` may return an asynchronous iterator too: it is read on an event loop there, and cancelled at once
when it is too late. Nothing else can be stopped before its next chunk.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.router.call import Call
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.checks import Checks, Probe
from mlx_integrations.router.decide import decide, uncertain
from mlx_integrations.router.dialect import Budget, Dialect
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Guarantee, Policy
from mlx_integrations.router.report import RouteReport
from mlx_integrations.router.roster import Roster
from mlx_integrations.router.sources import AsyncSource, DirectSource, PumpedSource
from mlx_integrations.router.turn import Attempt

__all__ = ["AsyncRoutedStream", "RoutedStream", "Router"]

C = TypeVar("C")
_THE_USUAL = Policy()


class RoutedStream(Iterator[C]):
    """Chunks of one candidate, and the report of how it came to be that one."""

    def __init__(self, call: Call[C], chunks: Generator[C, None, None]) -> None:
        self._call = call
        self._chunks = chunks

    @property
    def report(self) -> RouteReport:
        """What has happened so far; all of it when the stream is over."""
        return self._call.report

    def __iter__(self) -> "RoutedStream[C]":
        return self

    def __next__(self) -> C:
        return next(self._chunks)

    def close(self) -> None:
        """End the candidate's stream; there are no more chunks."""
        self._chunks.close()


class AsyncRoutedStream(AsyncIterator[C]):
    """The same for event loops."""

    def __init__(self, call: Call[C], chunks: AsyncGenerator[C, None]) -> None:
        self._call = call
        self._chunks = chunks

    @property
    def report(self) -> RouteReport:
        """What has happened so far; all of it when the stream is over."""
        return self._call.report

    def __aiter__(self) -> "AsyncRoutedStream[C]":
        return self

    async def __anext__(self) -> C:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """End the candidate's stream; there are no more chunks."""
        await self._chunks.aclose()


class Router:
    """Chooses among candidates and carries plans out. Safe from any thread and any event loop.

    Args:
        candidates: In the user's order; names are unique.
        policy: What the user wants.
        observe: What is known of a candidate besides its calls: present, loaded, fits into memory. Asked for every
            plan, so it has to be quick.
        interruptible: Names of candidates whose streams keep to their `Budget` themselves.
        continuable: Names of candidates that can write on where an answer broke off, given the text so far.
        locate: Where a candidate computes as of now; asked when a request that must stay here goes to an endpoint. May
            wait for a name to be looked up.
        threshold: Failures in a row after which a candidate is left alone.
        window_seconds: For how long; then a single call tries it.
        retry_seconds: A remote candidate that could not be reached is asked once more after a random time in between.
        clock: Seconds that only go up.
        random_number: Numbers from 0 to 1.

    Attributes:
        roster: The candidates, their breakers, health and costs.
        policy: What the user wants.

    Raises:
        InvalidRequestError: No candidate, two of one name, or a name that is none of theirs.
        ConfigurationError: The policy names a candidate that is not there.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        policy: Policy = _THE_USUAL,
        *,
        observe: Callable[[str], CandidateState] | None = None,
        interruptible: Collection[str] = (),
        continuable: Collection[str] = (),
        locate: Callable[[Candidate], Location] | None = None,
        threshold: float = 3.0,
        window_seconds: float = 30.0,
        retry_seconds: tuple[float, float] = (0.1, 0.3),
        clock: Callable[[], float] = time.monotonic,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        self.roster = Roster(
            candidates,
            observe=observe,
            interruptible=interruptible,
            continuable=continuable,
            locate=locate,
            threshold=threshold,
            window_seconds=window_seconds,
            clock=clock,
        )
        policy.check_candidates(self.roster.candidates)
        self.policy = policy
        self._retry_seconds = retry_seconds
        self._random_number = random_number
        self._checks: Checks | None = None

    def plan(
        self, facts: RequestFacts, *, policy: Policy | None = None, count: Callable[[str], int | None] | None = None
    ) -> Plan:
        """Who would be asked now, and why; asks nobody.

        Args:
            facts: What is known of the request.
            policy: Instead of the router's own.
            count: Counts the prompt by a candidate's tokenizer; `None` if it cannot. Asked where sizes leave it open.
        """
        candidates = tuple(self.roster.candidates.values())
        states = self.roster.states()
        if count is not None:
            for name in uncertain(facts, candidates):
                with contextlib.suppress(MLXIntegrationsError):  # whatever is wrong, the candidate will say it
                    states[name] = replace(states[name], prompt_tokens=count(name))
        return decide(facts, candidates, states, policy or self.policy, spent_usd=self.roster.ledger.spent_usd)

    def stream(
        self,
        facts: RequestFacts,
        open: Callable[[str, Budget], Iterator[C] | AsyncIterator[C]],
        dialect: Dialect[C],
        *,
        policy: Policy | None = None,
        guarantee: Guarantee | None = None,
        count: Callable[[str], int | None] | None = None,
    ) -> RoutedStream[C]:
        """Have a request answered. Nothing happens before the first chunk is wanted.

        Args:
            facts: What is known of the request.
            open: Asks a candidate; returns its chunks.
            dialect: Reads chunks.
            policy: Instead of the router's own.
            guarantee: Instead of the policy's.
            count: Counts the prompt by a candidate's tokenizer; `None` if it cannot. Asked where sizes leave it open.
        """
        call = self._call(facts, dialect, policy, guarantee, count)
        return RoutedStream(call, self._chunks(call, open))

    def astream(
        self,
        facts: RequestFacts,
        open: Callable[[str, Budget], AsyncIterator[C]],
        dialect: Dialect[C],
        *,
        policy: Policy | None = None,
        guarantee: Guarantee | None = None,
        count: Callable[[str], int | None] | None = None,
    ) -> AsyncRoutedStream[C]:
        """The same for event loops; never blocks one."""
        call = self._call(facts, dialect, policy, guarantee, count)
        return AsyncRoutedStream(call, self._achunks(call, open))

    def watch(self, probe: Probe, *, interval_seconds: float = 30.0, names: Collection[str] | None = None) -> None:
        """Look in the background from now on, until `close`, whether candidates are there.

        Args:
            probe: Whether the candidate of that name is there; `False` and any exception mean that it is not.
            interval_seconds: How often.
            names: Whom to look after; everybody otherwise.
        """
        self.close()
        self._checks = Checks(
            self.roster, probe, interval_seconds=interval_seconds, names=tuple(names or self.roster.candidates)
        )
        self._checks.start()

    def close(self) -> None:
        """Stop looking in the background. Calls go on."""
        if self._checks is not None:
            self._checks.stop()
            self._checks = None

    def _call(
        self,
        facts: RequestFacts,
        dialect: Dialect[C],
        policy: Policy | None,
        guarantee: Guarantee | None,
        count: Callable[[str], int | None] | None,
    ) -> Call[C]:
        policy = policy or self.policy
        return Call(
            self.roster,
            facts,
            policy,
            dialect,
            plan=partial(self.plan, facts, policy=policy, count=count),
            count=count,
            guarantee=guarantee or policy.guarantee,
            retry_wait=self._retry_wait,
        )

    def _retry_wait(self) -> float:
        lowest, highest = self._retry_seconds
        return lowest + (highest - lowest) * self._random_number()

    # The two drivers are the same but for what they wait with; everything that is decided is in `Call`.

    def _chunks(
        self, call: Call[C], open_stream: Callable[[str, Budget], Iterator[C] | AsyncIterator[C]]
    ) -> Generator[C, None, None]:
        call.begin()
        while not call.is_done:
            call.look_up()
            attempt = call.next_attempt()
            source = self._source(call, attempt, partial(open_stream, attempt.name, attempt.budget))
            try:
                if attempt.wait_seconds:
                    time.sleep(attempt.wait_seconds)
                while not attempt.is_over:
                    yield from _step(attempt, source)
            finally:
                attempt.abandon()
                source.close()

    async def _achunks(
        self, call: Call[C], open_stream: Callable[[str, Budget], AsyncIterator[C]]
    ) -> AsyncGenerator[C, None]:
        await _maybe_in_thread(call.begin, is_slow=call.counts)
        while not call.is_done:
            await _maybe_in_thread(call.look_up, is_slow=call.looks_up)
            attempt = call.next_attempt()
            source = AsyncSource(partial(open_stream, attempt.name, attempt.budget))
            try:
                if attempt.wait_seconds:
                    await asyncio.sleep(attempt.wait_seconds)
                while not attempt.is_over:
                    for chunk in await _astep(attempt, source):
                        yield chunk
            finally:
                attempt.abandon()
                await source.close()

    def _source(
        self, call: Call[C], attempt: Attempt[C], open_stream: Callable[[], Iterator[C] | AsyncIterator[C]]
    ) -> DirectSource[C] | PumpedSource[C]:
        deadlines = call.policy.deadlines
        is_unlimited = deadlines.first_token is None and deadlines.between_tokens is None and deadlines.total is None
        if is_unlimited or attempt.name in self.roster.interruptible:
            return DirectSource(cast("Callable[[], Iterator[C]]", open_stream))
        return PumpedSource(open_stream, name=f"mlxi-route-{attempt.name}")


async def _maybe_in_thread(function: Callable[[], None], *, is_slow: bool) -> None:
    """Keep the event loop free of what may wait, and its usual calls free of a thread."""
    if is_slow:
        await asyncio.to_thread(function)
    else:
        function()


def _step(attempt: Attempt[C], source: DirectSource[C] | PumpedSource[C]) -> Sequence[C]:
    """Wait for one chunk; returns what to show. Shows nothing itself: what a caller throws in is no candidate's."""
    try:
        chunk = source.next(attempt.wait_limit())
    except StopIteration:
        return attempt.end()
    except Exception as error:  # noqa: BLE001 - what a candidate raises is for the call to judge
        return attempt.fail(error)
    return attempt.feed(chunk)


async def _astep(attempt: Attempt[C], source: AsyncSource[C]) -> Sequence[C]:
    try:
        chunk = await source.next(attempt.wait_limit())
    except StopAsyncIteration:
        return attempt.end()
    except Exception as error:  # noqa: BLE001 - what a candidate raises is for the call to judge
        return attempt.fail(error)
    return attempt.feed(chunk)
