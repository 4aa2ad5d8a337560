"""The candidates of a router and what is known of each at the moment: breakers, health, spending."""

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.router.breaker import Breaker, Ticket
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.failures import Failure, Reaction
from mlx_integrations.router.health import Health, Ledger

__all__ = ["Roster"]

_NOTHING_SPECIAL = CandidateState()
_PRESENCE_SECONDS = 1.0
"""How often it is looked up at most whether a missing model has come."""


class Roster:
    """What calls share, from any thread and any event loop.

    Args:
        candidates: In the user's order; names are unique.
        observe: What is known of a candidate besides its calls: present, loaded, fits into memory. Asked for every
            plan, so it has to be quick.
        interruptible: Names of candidates whose streams keep to their `Budget` themselves: no thread has to stand
            between them and a deadline.
        continuable: Names of candidates that can write on where an answer broke off.
        locate: Where a candidate computes as of now; asked when a request that must stay here goes to an endpoint. May
            wait for a name to be looked up.
        threshold: Failures in a row after which a candidate is left alone.
        window_seconds: For how long.
        clock: Seconds that only go up.

    Raises:
        InvalidRequestError: No candidate, two of one name, or a name that is none of theirs.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        *,
        observe: Callable[[str], CandidateState] | None = None,
        interruptible: Collection[str] = (),
        continuable: Collection[str] = (),
        locate: Callable[[Candidate], Location] | None = None,
        threshold: float = 3.0,
        window_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(candidates, interruptible=interruptible, continuable=continuable)
        self.candidates = {candidate.name: candidate for candidate in candidates}
        self.interruptible = frozenset(interruptible)
        self.continuable = frozenset(continuable)
        self.locate = locate
        self.clock = clock
        self.health = Health(tuple(self.candidates))
        self.ledger = Ledger(self.candidates)
        self.breakers = {
            name: Breaker(threshold=threshold, window_seconds=window_seconds, clock=clock) for name in self.candidates
        }
        self._observe = observe
        self._lock = threading.Lock()
        self._missing: dict[str, float] = {}

    def observed(self, name: str) -> CandidateState:
        """What is known of a candidate besides its calls."""
        return _NOTHING_SPECIAL if self._observe is None else self._observe(name)

    def states(self) -> dict[str, CandidateState]:
        """How everybody is doing now."""
        return {name: self._state(name) for name in self.candidates}

    def enter(self, name: str) -> Ticket | None:
        """Leave to call a candidate, or `None` if it is left alone."""
        return self.breakers[name].enter()

    def failed(self, name: str, ticket: Ticket, failure: Failure, reaction: Reaction, *, counts: bool = True) -> None:
        """Tell a candidate's breaker what went wrong.

        Args:
            name: The candidate.
            ticket: The leave that its call had.
            failure: What went wrong.
            reaction: What follows from it.
            counts: Whether it says something about the candidate.
        """
        seconds = reaction.open_seconds
        is_told = failure.retry_after_seconds is not None and (reaction.opens or reaction.weight > 0)
        if is_told:
            seconds = failure.retry_after_seconds
        if reaction.until_present and not self.observed(name).is_present:
            seconds = math.inf  # nothing changes until whoever observes it says so
            with self._lock:
                self._missing[name] = self.clock()
        weight = reaction.weight if counts else 0.0
        ticket.fail(reaction.description, weight=weight, opens=reaction.opens or is_told, seconds=seconds)

    def _state(self, name: str) -> CandidateState:
        state = self.observed(name)
        if name in self._missing:
            self._look_again(name, state)
        vitals = self.health.vitals(name)
        seconds, reason = self.breakers[name].blocked()
        return replace(
            state,
            in_flight=vitals.in_flight,
            blocked_seconds=seconds,
            blocked_because=reason,
            tokens_per_second=vitals.tokens_per_second,
            first_token_seconds=vitals.first_token_seconds,
        )

    def _look_again(self, name: str, state: CandidateState) -> None:
        """Let a candidate be tried whose model was missing, once it is said to be there."""
        with self._lock:
            since = self._missing.get(name, math.inf)
            if not state.is_present or self.clock() - since < _PRESENCE_SECONDS:
                return
            self._missing.pop(name, None)
        self.breakers[name].allow_probe()


def _check(candidates: Sequence[Candidate], **named: Collection[str]) -> None:
    if not candidates:
        raise InvalidRequestError("A router needs at least one candidate.", field="candidates")
    names = [candidate.name for candidate in candidates]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequestError(
            f"Two candidates are named `{doubled[0]}`.", field="candidates", hint="Give every candidate its own name."
        )
    for field, wanted in named.items():
        if unknown := sorted(set(wanted) - set(names)):
            raise InvalidRequestError(
                f"`{field}` names `{unknown[0]}`, which is no candidate.",
                field=field,
                hint="The candidates are " + ", ".join(f"`{name}`" for name in names) + ".",
            )
