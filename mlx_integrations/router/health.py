"""How candidates are doing, as their real calls show it, and what they have cost."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_integrations.router.candidates import Candidate
from mlx_integrations.types import Usage

__all__ = ["Health", "Ledger", "Vitals"]

_NEWEST_SHARE = 0.3
"""Share of the newest call in a moving average: about the last six calls make nine tenths of it."""
_TOKENS_OF_A_PRICE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """How one candidate is doing. Attributes as in `CandidateState`."""

    in_flight: int = 0
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None


@dataclass(slots=True)
class _Pulse:
    in_flight: int = 0
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None


class Health:
    """Counts running calls and averages how fast candidates were lately. Safe from any thread.

    Args:
        names: The candidates.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._pulses = {name: _Pulse() for name in names}
        self._lock = threading.Lock()

    def began(self, name: str) -> None:
        """A call to it begins."""
        with self._lock:
            self._pulses[name].in_flight += 1

    def ended(
        self, name: str, *, first_token_seconds: float | None = None, tokens_per_second: float | None = None
    ) -> None:
        """A call to it is over, well or not; once for each that began.

        Args:
            name: The candidate.
            first_token_seconds: How long the first visible piece took, if one came.
            tokens_per_second: How fast it decoded, if it answered.
        """
        with self._lock:
            pulse = self._pulses[name]
            pulse.in_flight -= 1
            pulse.first_token_seconds = _averaged(pulse.first_token_seconds, first_token_seconds)
            pulse.tokens_per_second = _averaged(pulse.tokens_per_second, tokens_per_second)

    def vitals(self, name: str) -> Vitals:
        """How it is doing now."""
        pulse = self._pulses[name]
        return Vitals(
            in_flight=pulse.in_flight,
            first_token_seconds=pulse.first_token_seconds,
            tokens_per_second=pulse.tokens_per_second,
        )


def _averaged(average: float | None, newest: float | None) -> float | None:
    if newest is None or average is None:
        return average if newest is None else newest
    return average + _NEWEST_SHARE * (newest - average)


class Ledger:
    """What this process has spent. Safe from any thread.

    Args:
        candidates: By name, for their prices.
    """

    def __init__(self, candidates: Mapping[str, Candidate]) -> None:
        self._candidates = dict(candidates)
        self._spent_usd = 0.0
        self._lock = threading.Lock()

    @property
    def spent_usd(self) -> float:
        """All of it, in US dollars, as far as prices are known."""
        return self._spent_usd

    def charge(self, name: str, usage: Usage) -> float:
        """Book what a call took, failed or not; returns its cost in US dollars, 0 where no price is known."""
        candidate = self._candidates[name]
        cost = usage.prompt_tokens * (candidate.input_price or 0.0)
        cost += usage.completion_tokens * (candidate.output_price or 0.0)
        cost /= _TOKENS_OF_A_PRICE
        if cost:
            with self._lock:
                self._spent_usd += cost
        return cost
