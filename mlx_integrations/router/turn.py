"""One candidate's turn in a call: what it is told, how long it is waited for, what becomes of its chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mlx_integrations.errors import GenerationError, InvalidOutputError
from mlx_integrations.router.breaker import Ticket
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.failures import Failure, classify
from mlx_integrations.router.gate import Gate
from mlx_integrations.router.report import Attempted, Outcome
from mlx_integrations.types import Usage

if TYPE_CHECKING:  # each of the two knows the other
    from mlx_integrations.router.call import Call

__all__ = ["Attempt", "Turn"]

C = TypeVar("C")
_BYTES_OF_A_TOKEN = 4
"""Of English text, for a candidate that failed before it could say what it had read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who is asked, and how."""

    name: str
    retries: int = 0
    wait_seconds: float = 0.0
    is_repair: bool = False
    continues: str = ""


class Attempt(Generic[C]):
    """One candidate's turn in a call.

    Attributes:
        name: Whom to ask.
        budget: What to tell it.
        wait_seconds: How long to wait before asking.
        gate: What holds its answer.
        is_over: Nothing more is to be read.
    """

    def __init__(self, call: "Call[C]", turn: Turn, ticket: Ticket, *, is_cold: bool) -> None:
        deadlines, roster = call.policy.deadlines, call.roster
        self.name = turn.name
        self.turn = turn
        left = call.seconds_left()
        self.wait_seconds = turn.wait_seconds if left is None else min(turn.wait_seconds, left)
        call.waited_seconds += self.wait_seconds
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
        self._is_cold = is_cold
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
        elif failure.kind == "timeout" and self._is_cold:
            failure = Failure(kind="slow_load")
        return self._failed(failure, error)

    def abandon(self) -> None:
        """The caller leaves; does nothing when the attempt is over. Always called in the end."""
        if self._is_settled:
            return
        self.is_over = True
        if self.gate.is_open and self.gate.finish_reason is not None and not self.gate.is_holding:
            self._succeed()  # nothing was left to come
        else:
            self._ticket.release()
            self._settle("abandoned")

    def _complete(self) -> Sequence[C]:
        if problem := self.gate.problem():
            kind: Failure = Failure(kind="bad_tool_call" if self.gate.has_tool_parts else "bad_output")
            return self._failed(kind, InvalidOutputError(f"`{self.name}`: {problem}"))
        self._succeed()
        return self.gate.release()

    def _succeed(self) -> None:
        self.is_over = True
        self._ticket.succeed()
        self._settle("answered")
        self._call.answered(self)

    def _failed(self, failure: Failure, error: Exception) -> Sequence[C]:
        self.is_over = True
        reaction = self._call.reaction_to(failure)
        roster = self._call.roster
        if not reaction.asks_another:
            self._ticket.release()
        else:
            # One that got what others had left of the time has not shown that it is slow.
            is_hurried = failure.kind in ("timeout", "stall") and self._call.report.attempts != ()
            counts = not (is_hurried and self._call.is_late)
            roster.failed(self.name, self._ticket, failure, reaction, counts=counts)
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
