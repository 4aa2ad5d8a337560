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
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from mlx_integrations.errors import PartialResponseError, PrivacyError, RouterError
from mlx_integrations.router.candidates import Location
from mlx_integrations.router.decide import uncertain
from mlx_integrations.router.dialect import Dialect
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.failures import REACTIONS, Failure, Reaction
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Guarantee, Policy
from mlx_integrations.router.privacy import check_dispatch
from mlx_integrations.router.refusals import refusal
from mlx_integrations.router.report import Attempted, RouteReport, attach
from mlx_integrations.router.roster import Roster
from mlx_integrations.router.turn import Attempt, Turn

__all__ = ["Call"]

C = TypeVar("C")
_logger = logging.getLogger(__name__)


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
        retry_wait: Seconds to wait before a candidate that could not be reached is asked again.

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
        count: Callable[[str], int | None] | None = None,
        guarantee: Guarantee,
        retry_wait: Callable[[], float],
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
        self._retry_wait = retry_wait
        self._locations: dict[str, Location] = {}
        self._turns: deque[Turn] = deque()
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
        self._turns = deque(Turn(name=name) for name in self._plan.order)

    def seconds_left(self) -> float | None:
        """What is left of the whole call; what the caller does between chunks does not count."""
        total = self.policy.deadlines.total
        return None if total is None else total - self.waited_seconds

    def next_attempt(self) -> Attempt[C]:
        """Whom to ask now.

        Raises:
            PrivacyError: The request must stay on this machine.
            RouterError: Nobody is left.
        """
        while self._turns and not self.is_late:
            turn = self._turns.popleft()
            self._check_privacy(turn.name)
            is_cold = self.roster.observed(turn.name).is_loaded is False
            ticket = self.roster.enter(turn.name)
            if ticket is not None:
                return Attempt(self, turn, ticket, is_cold=is_cold)
            self._attempts.append(Attempted(candidate=turn.name, outcome="skipped"))
        raise self._with_report(self._nobody_left())

    @property
    def is_late(self) -> bool:
        """Whether the time of the whole call is over."""
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

    def _must_look_up(self, turn: Turn) -> bool:
        """Whether a request that has to stay here would go to an address."""
        candidate, policy = self.roster.candidates[turn.name], self.policy
        may_leave = policy.allow_cloud and policy.mode != "local_only" and not self.facts.is_private
        return candidate.location in ("loopback", "listed") and not may_leave

    def answered(self, attempt: Attempt[C]) -> None:
        """An attempt has brought the answer to its end."""
        self.is_done = True
        self._answered_by = attempt.name

    def record(self, attempted: Attempted) -> None:
        """Keep what became of an attempt, and book what it took."""
        if attempted.usage is not None:
            self._cost_usd += self.roster.ledger.charge(attempted.candidate, attempted.usage)
        self._attempts.append(attempted)

    def failed(self, attempt: Attempt[C], failure: Failure, error: Exception) -> None:
        """Decide what follows from a failure: returns if somebody else is asked, raises otherwise."""
        reaction = self.reaction_to(failure)
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

    def reaction_to(self, failure: Failure) -> Reaction:
        """What follows from a failure, as the user wants it."""
        reaction = REACTIONS[failure.kind]
        if failure.kind == "content_policy" and self.policy.asks_another_if_forbidden:
            return replace(reaction, asks_another=True)
        return reaction

    def _ask_again(self, turn: Turn, failure: Failure, reaction: Reaction) -> None:
        is_local = self.roster.candidates[turn.name].is_local
        allowed = reaction.local_retries if is_local else reaction.remote_retries
        if turn.retries >= allowed or failure.retry_after_seconds is not None:
            return
        waits = failure.kind == "unavailable"
        again = Turn(
            name=turn.name,
            retries=turn.retries + 1,
            wait_seconds=self._retry_wait() if waits else 0.0,
            is_repair=not waits,
        )
        self._turns.appendleft(again)

    def _continues_after(self, attempt: Attempt[C], reaction: Reaction) -> bool:
        """Let somebody else write on, if that is wanted and what was shown is plain text; once."""
        gate, policy = attempt.gate, self.policy
        is_plain = not (gate.has_reasoning or gate.has_tool_parts or self.facts.needs_tools)
        if not policy.continue_text or not is_plain or self.facts.needs_structured_output or attempt.turn.continues:
            return False
        names = [turn.name for turn in self._turns if turn.name in self.roster.continuable]
        self._turns = deque(Turn(name=name, continues=self._shown_text) for name in names[:1])
        return bool(names) and reaction.asks_another and not self.is_late

    def _partial(self, attempt: Attempt[C]) -> PartialResponseError:
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
        late = " in time" if self.is_late else ""
        error = RouterError(f"No candidate answered{late}: {listed}.", attempts=tried)
        error.__cause__ = self._first_error
        return error

    def _with_report(self, error: Exception) -> Exception:
        attach(error, self.report)
        return error
