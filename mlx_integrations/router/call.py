"""One routed call, without input and output: who is asked next, what is shown, what a failure leads to.

Whoever drives it opens the streams and reads them, in a thread or on an event loop:

    call.begin()
    while not call.is_done:
        call.look_up()
        attempt = call.next_attempt()         wait `attempt.wait_seconds`, then open `attempt.name`
        while not attempt.is_over:
            wait for a chunk, `attempt.wait_limit()` seconds at most
            show `attempt.feed(chunk)`        or `attempt.end()` or `attempt.fail(error)`, which may raise
        attempt.abandon()                     always, also when its caller has left
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlx_integrations.errors import GenerationError, InvalidOutputError, PartialResponseError, PrivacyError, RouterError
from mlx_integrations.router.breaker import Ticket
from mlx_integrations.router.candidates import Location
from mlx_integrations.router.decide import uncertain
from mlx_integrations.router.dialect import Budget, Dialect
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.failures import REACTIONS, Failure, Reaction, classify
from mlx_integrations.router.gate import Gate
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Guarantee, Policy
from mlx_integrations.router.privacy import check_dispatch
from mlx_integrations.router.refusals import refusal
from mlx_integrations.router.report import Attempted, Outcome, RouteReport, attach
from mlx_integrations.router.roster import Roster
from mlx_integrations.types import Usage

__all__ = ["Attempt", "Call"]

C = TypeVar("C")
_logger = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.3)
"""A remote candidate that could not be reached is asked again after a random time in between."""
_BYTES_OF_A_TOKEN = 4
"""Of English text, for a candidate that failed before it could say what it had read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """Who is asked, and how."""

    name: str
    retries: int = 0
    wait_seconds: float = 0.0
    is_repair: bool = False
    continues: str = ""


class Call(Generic[C]):
    """Carries one plan out.

    Args:
        roster: What calls share.
        facts: What is known of the request.
        policy: What the user wants.
        dialect: Reads chunks.
        plan: Decides who is asked, in which order.
        count: Counts the prompt by a candidate's tokenizer.
        guarantee: Whether an answer is shown as it comes.
        random: Numbers from 0 to 1.

    Attributes:
        is_done: The answer is complete.
    """

    def __init__(
        self,
        roster: Roster,
        facts: RequestFacts,
        policy: Policy,
        dialect: Dialect[C],
        *,
        plan: Callable[[], Plan],
        count: Callable[[str], int] | None = None,
        guarantee: Guarantee,
        random: Callable[[], float],
    ) -> None:
        self.roster = roster
        self.facts = facts
        self.policy = policy
        self.dialect = dialect
        self.guarantee = guarantee
        self.is_done = False
        self._decide = plan
        self._count = count
        self._plan = Plan(order=(), considered=())
        self._random = random
        self._locations: dict[str, Location] = {}
        self._turns: deque[_Turn] = deque()
        self._attempts: list[Attempted] = []
        self._failures: list[tuple[str, Failure]] = []
        self._first_error: Exception | None = None
        self._shown_text = ""
        self._has_shown = False
        self._answered_by: str | None = None
        self._cost_usd = 0.0
        self.waited_seconds = 0.0

    @property
    def report(self) -> RouteReport:
        """What has happened so far."""
        return RouteReport(
            plan=self._plan,
            attempts=tuple(self._attempts),
            answered_by=self._answered_by,
            is_private=self.facts.is_private,
            cost_usd=self._cost_usd,
        )

    @property
    def counts(self) -> bool:
        """Whether a tokenizer has to count the prompt before it can be decided who is asked."""
        return self._count is not None and bool(uncertain(self.facts, tuple(self.roster.candidates.values())))

    @property
    def looks_up(self) -> bool:
        """Whether `look_up` may have to wait for a name to be looked up."""
        return self.roster.locate is not None and any(map(self._must_look_up, self._turns))

    def look_up(self) -> None:
        """Find out anew where those compute that may be asked next, if the request must not leave this machine."""
        if self.roster.locate is None:
            return
        for turn in filter(self._must_look_up, self._turns):
            self._locations[turn.name] = self.roster.locate(self.roster.candidates[turn.name])

    def begin(self) -> None:
        """Decide who is asked."""
        self._plan = self._decide()
        self._turns = deque(_Turn(name=name) for name in self._plan.order)

    def seconds_left(self) -> float | None:
        """What is left of the whole call; what the caller does between chunks does not count."""
        total = self.policy.deadlines.total
        return None if total is None else total - self.waited_seconds

    def next_attempt(self) -> "Attempt[C]":
        """Whom to ask now.

        Raises:
            PrivacyError: The request must stay on this machine.
            RouterError: Nobody is left.
        """
        while self._turns and not self._is_late():
            turn = self._turns.popleft()
            self._check_privacy(turn.name)
            ticket = self.roster.enter(turn.name)
            if ticket is not None:
                return Attempt(self, turn, ticket)
            self._attempts.append(Attempted(candidate=turn.name, outcome="skipped"))
        raise self._with_report(self._nobody_left())

    def _is_late(self) -> bool:
        left = self.seconds_left()
        return left is not None and left <= 0

    def _check_privacy(self, name: str) -> None:
        """Once more, at the last moment before anything leaves: whatever made the plan, or changed since."""
        candidate = self.roster.candidates[name]
        location = self._locations.get(name)
        try:
            check_dispatch(candidate, self.facts, self.policy, location=location)
        except PrivacyError as error:
            raise self._with_report(error) from None

    def _must_look_up(self, turn: _Turn) -> bool:
        """Whether a request that has to stay here would go to an address."""
        candidate, policy = self.roster.candidates[turn.name], self.policy
        may_leave = policy.allow_cloud and policy.mode != "local_only" and not self.facts.is_private
        return candidate.base_url is not None and candidate.is_local and not may_leave

    def answered(self, attempt: "Attempt[C]") -> None:
        """An attempt has brought the answer to its end."""
        self.is_done = True
        self._answered_by = attempt.name

    def record(self, attempted: Attempted) -> None:
        """Keep what became of an attempt, and book what it took."""
        if attempted.usage is not None:
            self._cost_usd += self.roster.ledger.charge(attempted.candidate, attempted.usage)
        self._attempts.append(attempted)

    def failed(self, attempt: "Attempt[C]", failure: Failure, error: Exception) -> None:
        """Decide what follows from a failure: returns if somebody else is asked, raises otherwise."""
        reaction = REACTIONS[failure.kind]
        if failure.kind == "control":
            raise self._with_report(error)
        self._failures.append((attempt.name, failure))
        self._first_error = self._first_error or error
        self._shown_text += attempt.gate.text
        self._has_shown = self._has_shown or attempt.gate.is_open
        if failure.kind == "authentication":
            _logger.warning("`%s` refuses the key; it is left alone for a while.", attempt.name)
        if self._has_shown:
            if not self._continues_after(attempt, reaction):
                raise self._with_report(self._partial(attempt)) from error
        elif not reaction.asks_another:
            if len(self._failures) == 1:
                raise self._with_report(error)
            raise self._with_report(self._nobody_left()) from self._first_error
        else:
            self._ask_again(attempt.turn, failure, reaction)

    def _ask_again(self, turn: _Turn, failure: Failure, reaction: Reaction) -> None:
        is_local = self.roster.candidates[turn.name].is_local
        allowed = reaction.local_retries if is_local else reaction.remote_retries
        if turn.retries >= allowed or failure.retry_after_seconds is not None:
            return
        lowest, highest = _RETRY_SECONDS
        waits = failure.kind == "unavailable"
        again = _Turn(
            name=turn.name,
            retries=turn.retries + 1,
            wait_seconds=lowest + (highest - lowest) * self._random() if waits else 0.0,
            is_repair=not waits,
        )
        self._turns.appendleft(again)

    def _continues_after(self, attempt: "Attempt[C]", reaction: Reaction) -> bool:
        """Let somebody else write on, if that is wanted and what was shown is plain text; once."""
        gate, policy = attempt.gate, self.policy
        is_plain = not (gate.has_reasoning or gate.has_tool_parts or self.facts.needs_tools)
        if not policy.continue_text or not is_plain or self.facts.needs_structured_output or attempt.turn.continues:
            return False
        names = [turn.name for turn in self._turns if turn.name in self.roster.continuable]
        self._turns = deque(_Turn(name=name, continues=self._shown_text) for name in names[:1])
        return bool(names) and reaction.asks_another and not self._is_late()

    def _partial(self, attempt: "Attempt[C]") -> PartialResponseError:
        description = REACTIONS[self._failures[-1][1].kind].description
        return PartialResponseError(
            f"`{attempt.name}` failed after part of its answer was shown: {description}.",
            partial_text=self._shown_text,
            candidate=attempt.name,
        )

    def _nobody_left(self) -> Exception:
        """The error for a call that nobody has answered."""
        if not self._attempts:
            return refusal(self.facts, self._plan, self.roster.candidates, self._count)
        kinds = {failure.kind for _, failure in self._failures}
        if self._first_error is not None and kinds <= {"context_overflow", "unsupported"}:
            # It is the request, and everybody said so: this error says more than one that counts them up.
            return self._first_error
        if self._has_shown:
            return PartialResponseError(
                "Nobody could write on where an answer broke off.",
                partial_text=self._shown_text,
                candidate=self._attempts[0].candidate,
            )
        tried = [(name, REACTIONS[failure.kind].description) for name, failure in self._failures]
        tried += [(item.candidate, "left alone") for item in self._attempts if item.outcome == "skipped"]
        listed = ", ".join(f"`{name}` ({reason})" for name, reason in tried)
        late = " in time" if self._is_late() else ""
        error = RouterError(f"No candidate answered{late}: {listed}.", attempts=tried)
        error.__cause__ = self._first_error
        return error

    def _with_report(self, error: Exception) -> Exception:
        attach(error, self.report)
        return error


class Attempt(Generic[C]):
    """One candidate's turn in a call.

    Attributes:
        name: Whom to ask.
        budget: What to tell it.
        wait_seconds: How long to wait before asking.
        gate: What holds its answer.
        is_over: Nothing more is to be read.
    """

    def __init__(self, call: Call[C], turn: _Turn, ticket: Ticket) -> None:
        deadlines, roster = call.policy.deadlines, call.roster
        self.name = turn.name
        self.turn = turn
        self.wait_seconds = turn.wait_seconds
        self.budget = Budget(
            first_token=deadlines.first_token,
            between_tokens=deadlines.between_tokens,
            total=call.seconds_left(),
            is_repair=turn.is_repair,
            continues=turn.continues,
        )
        self.gate: Gate[C] = Gate(
            call.dialect, holds_all=call.guarantee == "complete", hold_tokens=call.policy.hold_tokens
        )
        self.is_over = False
        self._call = call
        self._ticket = ticket
        self._clock = roster.clock
        self._was_cold = deadlines.first_token is not None and roster.observed(turn.name).is_loaded is False
        self._started = self._clock()
        self._waiting_since: float | None = None
        self._quiet_seconds = 0.0
        self._first_at: float | None = None
        self._decoding_seconds = 0.0
        self._is_settled = False
        roster.health.began(turn.name)

    def wait_limit(self) -> float | None:
        """Begin to wait for the next chunk; returns for how many seconds at most, `None` for as long as it takes."""
        self._waiting_since = self._clock()
        budget = self.budget
        limit = budget.between_tokens if self.gate.has_begun else budget.first_token
        if limit is not None:
            limit -= self._quiet_seconds
        left = self._call.seconds_left()
        if left is None:
            return limit if limit is None else max(0.0, limit)
        return max(0.0, left if limit is None else min(limit, left))

    def feed(self, chunk: C) -> Sequence[C]:
        """Take a chunk; returns what to show now."""
        self._stop_waiting()
        pieces = self.gate.pieces
        released = self.gate.feed(chunk)
        if self.gate.pieces != pieces:
            self._quiet_seconds = 0.0
            if self._first_at is None:
                self._first_at = self._clock()
        return released

    def end(self) -> Sequence[C]:
        """The stream is at its end; returns what to show.

        Raises:
            Exception: It ended too early or badly, and nobody else is to be asked.
        """
        self._stop_waiting()
        if self.gate.finish_reason is None:
            return self._failed(Failure(kind="cut"), GenerationError(f"The answer of `{self.name}` was cut off."))
        return self._complete()

    def fail(self, error: Exception) -> Sequence[C]:
        """The candidate has raised, or the wait was too long; returns what to show.

        Raises:
            Exception: Nobody else is to be asked.
        """
        self._stop_waiting()
        if self.gate.finish_reason is not None:  # the answer was complete, whatever happened after it
            return self._complete()
        failure = self._call.dialect.classify(error) or classify(error)
        if failure.kind == "timeout" and self.gate.has_begun:
            failure = Failure(kind="stall")
        elif failure.kind == "timeout" and self._was_cold:
            failure = Failure(kind="slow_load")
        return self._failed(failure, error)

    def abandon(self) -> None:
        """The caller leaves; does nothing when the attempt is over. Always called in the end."""
        if not self._is_settled:
            self.is_over = True
            self._ticket.release()
            self._settle("abandoned")

    def _complete(self) -> Sequence[C]:
        if problem := self.gate.problem():
            kind: Failure = Failure(kind="bad_tool_call" if self.gate.has_tool_parts else "bad_output")
            return self._failed(kind, InvalidOutputError(f"`{self.name}`: {problem}"))
        self.is_over = True
        self._ticket.succeed()
        self._settle("answered")
        self._call.answered(self)
        return self.gate.release()

    def _failed(self, failure: Failure, error: Exception) -> Sequence[C]:
        self.is_over = True
        reaction = REACTIONS[failure.kind]
        roster = self._call.roster
        if not reaction.asks_another:
            self._ticket.release()
        else:
            # One that got what others had left of the time has not shown that it is slow.
            is_hurried = failure.kind in ("timeout", "stall") and self._call.report.attempts != ()
            is_late = (self._call.seconds_left() or math.inf) <= 0
            roster.failed(self.name, self._ticket, failure, reaction, counts=not (is_hurried and is_late))
        self._settle(failure.kind, error, failure)
        self._call.failed(self, failure, error)
        return ()

    def _stop_waiting(self) -> None:
        if self._waiting_since is None:
            return
        seconds = self._clock() - self._waiting_since
        self._waiting_since = None
        self._quiet_seconds += seconds
        self._call.waited_seconds += seconds
        if self._first_at is not None:
            self._decoding_seconds += seconds

    def _settle(self, outcome: Outcome, error: Exception | None = None, failure: Failure | None = None) -> None:
        self._is_settled = True
        now = self._clock()
        first_token = None if self._first_at is None else self._first_at - self._started
        is_answered = outcome == "answered"
        self._call.roster.health.ended(
            self.name,
            first_token_seconds=first_token if is_answered else None,
            tokens_per_second=self._tokens_per_second(now) if is_answered else None,
        )
        usage, is_estimated = self._usage()
        self._call.record(
            Attempted(
                candidate=self.name,
                outcome=outcome,
                seconds=now - self._started,
                first_token_seconds=first_token,
                usage=usage,
                is_usage_estimated=is_estimated,
                is_repair=self.turn.is_repair,
                is_continuation=bool(self.turn.continues),
                error_type=None if error is None else type(error).__name__,
                status=None if failure is None else failure.status,
            )
        )

    def _usage(self) -> tuple[Usage | None, bool]:
        """Tokens that the candidate took, and whether they are guessed."""
        if self.gate.usage is not None or not self.gate.has_begun:
            return self.gate.usage, False
        facts = self._call.facts
        prompt = facts.prompt_tokens if facts.prompt_tokens is not None else facts.text_bytes // _BYTES_OF_A_TOKEN
        return Usage(prompt_tokens=prompt, completion_tokens=self.gate.pieces), True

    def _tokens_per_second(self, now: float) -> float | None:
        """How fast it decoded; `None` if that cannot be told, because the caller was slower."""
        usage = self.gate.usage
        tokens = (self.gate.pieces if usage is None else usage.completion_tokens) - 1
        if self._first_at is None or tokens < 1 or self._decoding_seconds <= 0:
            return None
        return tokens / self._decoding_seconds if self._decoding_seconds * 2 >= now - self._first_at else None
