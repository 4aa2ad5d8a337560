"""How far a long call is, in one line on stderr: rewritten in a terminal, repeated now and then in a log file."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["ProgressLine"]

_TERMINAL_SECONDS = 0.1
_LOG_SECONDS = 10.0


class ProgressLine:
    """Counts texts.

    Args:
        total: How many there will be, if that is known.
        stream: Where to write; stderr otherwise.
        clock: Seconds that only go up.
    """

    def __init__(
        self, total: int | None, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._started = self._written = clock()
        self._done = 0
        self._width = 0

    def advance(self, texts: int) -> None:
        """So many more are done."""
        self._done += texts
        now = self._clock()
        if now - self._written >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
            self._written = now
            self._write(self._line(now - self._started), end="" if self._is_terminal else "\n")

    def close(self) -> None:
        """Say how it went."""
        seconds = self._clock() - self._started
        unfinished = "" if self._total in (None, self._done) else f" of {self._total}"
        self._write(f"Embedded {self._done}{unfinished} texts in {_time(seconds)}{self._speed(seconds)}.", end="\n")

    def _line(self, seconds: float) -> str:
        if self._total is None:
            return f"Embedding: {self._done} texts{self._speed(seconds)}"
        left = (self._total - self._done) * seconds / self._done if self._done else 0.0
        return f"Embedding: {self._done} of {self._total} texts{self._speed(seconds)}, {_time(left)} left"

    def _speed(self, seconds: float) -> str:
        speed = self._done / seconds if seconds > 0 else 0.0
        return f", {speed:.0f} texts/s" if speed >= 10 else f", {speed:.1f} texts/s"

    def _write(self, line: str, *, end: str) -> None:
        """A line in a terminal takes the place of the one before, of which nothing may be left over."""
        text = f"\r{line:<{self._width}}" if self._is_terminal else line
        self._width = len(line)
        self._stream.write(text + end)
        self._stream.flush()


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
