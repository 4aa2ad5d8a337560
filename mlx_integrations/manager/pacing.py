"""How long to wait before a request is made again. Pure, but for the clock that is passed in."""

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Clock", "InterruptionError", "RetryPolicy", "asked_pause_seconds"]

_RATE_LIMIT = re.compile(r"\br=0\b.*\bt=(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance, as tests replace them."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


class InterruptionError(Exception):
    """An attempt failed in a way that another attempt may not.

    Args:
        reason: What happened, as the end of a sentence.
        pause_seconds: How long the server asked to be left alone; `None` if it did not say.
        must_restart: Whether what has arrived of the file cannot be gone on with.
    """

    def __init__(self, reason: str, *, pause_seconds: float | None = None, must_restart: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause_seconds = pause_seconds
        self.must_restart = must_restart


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to give up, and how long to wait until then.

    Attributes:
        attempts: Attempts in a row that may bring nothing.
        first_seconds: The first pause; each further one is twice as long.
        longest_seconds: No pause is longer.
        longest_asked_seconds: A server that asks for a longer pause than this is given up on.
    """

    attempts: int
    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    longest_asked_seconds: float = 300.0

    def pause_seconds(self, failures: int, interruption: InterruptionError, chance: float) -> float | None:
        """How long to wait before the next attempt.

        Args:
            failures: Attempts in a row that brought nothing, this one included; at least 1.
            interruption: How this one ended.
            chance: From 0 to 1, so that clients that failed together do not come back together.

        Returns:
            `None` if there should be no next attempt.
        """
        asked = interruption.pause_seconds
        if failures >= self.attempts or (asked or 0) > self.longest_asked_seconds:
            return None
        own = min(self.longest_seconds, self.first_seconds * 2.0 ** (failures - 1)) * (0.5 + chance / 2)
        return own if asked is None else asked + own / 2


def asked_pause_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How long a busy server asks to be left alone, by its headers; `None` if it does not say.

    `Retry-After` in both its forms (RFC 9110, section 10.2.3), and the `RateLimit` header of the Hub
    (https://huggingface.co/docs/hub/rate-limits).
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    if value:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return float(limit[1]) if limit else None
