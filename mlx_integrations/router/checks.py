"""Look in the background whether candidates are there: a daemon thread that somebody starts and stops."""

import contextlib
import threading
from collections.abc import Callable

from mlx_integrations.router.roster import Roster

__all__ = ["Checks", "Probe"]

Probe = Callable[[str], bool]
"""Whether the candidate of that name is there."""
_GONE = "it does not answer its health check"
_PATIENCE = 3.0
"""A candidate that is not there is left alone for so many intervals; the next check that finds it ends that."""


class Checks:
    """Asks a probe about each candidate, again and again.

    Args:
        roster: Whose breakers hear of it.
        probe: `False` and any exception mean that the candidate is not there.
        interval_seconds: Between two rounds.
        names: Whom to look after.
    """

    def __init__(self, roster: Roster, probe: Probe, *, interval_seconds: float, names: tuple[str, ...]) -> None:
        self._roster = roster
        self._probe = probe
        self._interval_seconds = interval_seconds
        self._names = names
        self._stopped = threading.Event()
        self._gone: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="mlxi-route-checks", daemon=True)

    def start(self) -> None:
        """Begin with a round now."""
        self._thread.start()

    def stop(self) -> None:
        """No more rounds. Does not wait for a probe that is running."""
        self._stopped.set()

    def look(self) -> None:
        """One round, in the caller's thread."""
        for name in self._names:
            is_there = False
            with contextlib.suppress(Exception):  # a probe that fails is an answer
                is_there = self._probe(name)
            if self._stopped.is_set():
                return
            self._tell(name, is_there=is_there)

    def _tell(self, name: str, *, is_there: bool) -> None:
        breaker = self._roster.breakers[name]
        if not is_there:
            self._gone.add(name)
            breaker.open(_GONE, _PATIENCE * self._interval_seconds)
        elif name in self._gone:
            # That it is there does not show that it answers: one call tries it first. Whatever else it is left alone
            # for, such as a limit of its rate, a check says nothing about.
            self._gone.discard(name)
            breaker.allow_probe(because=_GONE)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(self._interval_seconds)
