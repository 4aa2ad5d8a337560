"""A breaker: a candidate that keeps failing is left alone for a while, then tried by a single call.

closed --failures reach the threshold, or one that opens at once--> open --its time is over--> half-open
half-open --the one call that tries it succeeds--> closed; --it fails--> open

Threads and event loops share one: no method waits for anything.
"""

import math
import threading
from collections.abc import Callable

__all__ = ["Breaker", "Ticket"]


class Ticket:
    """Leave to call a candidate once. Says how it went exactly once; what is said later is ignored."""

    __slots__ = ("_breaker", "_is_probe", "_is_used")

    def __init__(self, breaker: "Breaker", *, is_probe: bool) -> None:
        self._breaker = breaker
        self._is_probe = is_probe
        self._is_used = False

    @property
    def is_probe(self) -> bool:
        """Whether it is the one call that tries whether the candidate works again."""
        return self._is_probe

    def succeed(self) -> None:
        """The candidate answered."""
        if not self._is_used:
            self._is_used = True
            self._breaker._succeeded(self)

    def fail(self, reason: str, *, weight: float = 1.0, opens: bool = False, seconds: float | None = None) -> None:
        """The candidate failed.

        Args:
            reason: Why, for whoever is told that it is left alone.
            weight: How much it counts; 0 says nothing about the candidate.
            opens: Leave it alone at once.
            seconds: For how long; the breaker's own window if `None`. Infinity means until somebody allows a try.
        """
        if not self._is_used:
            self._is_used = True
            self._breaker._failed(self, reason, weight, opens, seconds)

    def release(self) -> None:
        """The call ended without saying anything about the candidate: its caller left, or was wrong."""
        if not self._is_used:
            self._is_used = True
            self._breaker._released(self)


class Breaker:
    """Watches one candidate.

    Args:
        threshold: Failures in a row that open it, by weight.
        window_seconds: How long it stays open.
        clock: Seconds that only go up.
    """

    def __init__(self, *, threshold: float, window_seconds: float, clock: Callable[[], float]) -> None:
        self._threshold = threshold
        self._window_seconds = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0.0
        self._open_until: float | None = None
        self._reason = ""
        self._probe: Ticket | None = None
        self._probe_until = 0.0

    def enter(self) -> Ticket | None:
        """Leave to call, or `None` while it is open, or another call is trying it."""
        with self._lock:
            if self._open_until is None:
                return Ticket(self, is_probe=False)
            now = self._clock()
            if now < self._open_until or (self._probe is not None and now < self._probe_until):
                return None
            # A call that nobody reads on, and nobody closes, may never say how it went: it has a window for it.
            self._probe_until = now + self._window_seconds
            self._probe = Ticket(self, is_probe=True)
            return self._probe

    def blocked(self) -> tuple[float, str]:
        """For how many seconds nobody is to call, and why; 0 if somebody may."""
        if self._open_until is None:  # nearly always, and one read needs no lock
            return 0.0, ""
        with self._lock:
            if self._open_until is None:
                return 0.0, ""
            now = self._clock()
            if now < self._open_until:
                return self._open_until - now, self._reason
            if self._probe is not None and now < self._probe_until:
                return self._probe_until - now, "another call is trying it"
            return 0.0, ""

    def open(self, reason: str, seconds: float | None = None) -> None:
        """Leave the candidate alone, whatever calls say."""
        with self._lock:
            self._open(reason, seconds)

    def allow_probe(self, *, because: str | None = None) -> None:
        """End the waiting: the next call may try whether the candidate works again.

        Args:
            because: Only if this is the reason why it is left alone.
        """
        with self._lock:
            if self._open_until is not None and because in (None, self._reason):
                self._open_until = -math.inf

    def _open(self, reason: str, seconds: float | None) -> None:
        until = self._clock() + (self._window_seconds if seconds is None else seconds)
        if self._open_until is None or until > self._open_until:
            self._open_until, self._reason = until, reason

    def _succeeded(self, ticket: Ticket) -> None:
        with self._lock:
            self._forget(ticket)
            if ticket.is_probe:
                self._open_until = None
            # A call from before it opened that ends well late does not close it.
            if self._open_until is None:
                self._failures = 0.0

    def _failed(self, ticket: Ticket, reason: str, weight: float, opens: bool, seconds: float | None) -> None:
        with self._lock:
            self._forget(ticket)
            self._failures += weight
            if opens or (weight > 0 and (ticket.is_probe or self._failures >= self._threshold)):
                self._open(reason, seconds)

    def _released(self, ticket: Ticket) -> None:
        with self._lock:
            self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        if ticket is self._probe:
            self._probe = None
