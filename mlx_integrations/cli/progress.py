"""How far something long is: one bar over all of it on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO, Final, Protocol

from mlx_integrations.cli.text import disk, duration

__all__ = ["Meter", "Progress", "ProgressDisplay"]

_WINDOW_SECONDS: Final = 8.0
"""Speed is that of the last seconds: the average of an hour says nothing about now."""
_LINE_SECONDS: Final = 5.0
_FRAME_SECONDS: Final = 0.1
_MINIMUM_BAR: Final = 8
_WORDS: Final = {"waiting": "waiting", "verifying": "checking", "linking": "finishing", "downloading": ""}
_UNMEASURED: Final = ("waiting", "linking")
"""Phases in which no bytes move."""


class Progress(Protocol):
    """Where something stands: `PullProgress` of the manager, `ConversionProgress` of the runtime."""

    @property
    def phase(self) -> str:
        """What is being done."""
        ...

    @property
    def done_bytes(self) -> int:
        """How much of it is done."""
        ...

    @property
    def total_bytes(self) -> int:
        """How much there is to do."""
        ...


class Meter:
    """Speed and what is left, from how far a download was at a few moments. No clock, no terminal.

    Args:
        shown: Writes an amount: of bytes, or of whatever is counted instead.
        unit: What stands behind a speed, where an amount does not say it.
        keeps_time: Whether amounts are left out before speed and time, where there is little room.
    """

    def __init__(self, shown: Callable[[float], str] = disk, unit: str = "", *, keeps_time: bool = False) -> None:
        self._shown = shown
        self._unit = unit
        self._keeps_time = keeps_time
        self._moments: deque[tuple[float, int]] = deque()
        self._now: Progress | None = None

    def feed(self, progress: Progress, now: float) -> None:
        """Take in where it stands at a time in seconds."""
        if self._now is not None and self._now.phase != progress.phase:
            self._moments.clear()  # time spent waiting or checking is not time spent downloading
        self._now = progress
        if progress.phase not in _UNMEASURED:
            self._moments.append((now, progress.done_bytes))
            while len(self._moments) > 2 and now - self._moments[1][0] >= _WINDOW_SECONDS:
                self._moments.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """How fast bytes came lately; `None` while nothing can be said."""
        if len(self._moments) < 2:
            return None
        (began, first), (ended, last) = self._moments[0], self._moments[-1]
        return (last - first) / (ended - began) if ended > began else None

    @property
    def share(self) -> float:
        """What is done, from 0 to 1."""
        if self._now is None:
            return 0.0
        return self._now.done_bytes / self._now.total_bytes if self._now.total_bytes else 1.0

    def parts(self) -> list[str]:
        """What can be said, the most telling first."""
        now = self._now
        if now is None:
            return []
        told = [f"{self.share * 100:3.0f} %", f"{self._shown(now.done_bytes)} of {self._shown(now.total_bytes)}"]
        if word := _WORDS.get(now.phase, now.phase):
            told.append(word)
        if (speed := self.bytes_per_second) and speed > 0:  # what is counted anew begins at nothing
            told += [
                f"{self._shown(speed)}{self._unit}/s",
                f"{duration((now.total_bytes - now.done_bytes) / speed)} left",
            ]
        return told

    def line(self, width: int) -> str:
        """A bar and as much beside it as fits into `width` columns."""
        told = self.parts()
        while len(told) > 1 and len("  ".join(told)) + 2 + _MINIMUM_BAR > width:
            told.pop(1 if self._keeps_time and len(told) > 2 else -1)
        text = "  ".join(told)
        columns = min(max(width - len(text) - 3, 0), 40)
        filled = int(self.share * columns)
        bar = "━" * filled + "─" * (columns - filled)
        return f"{bar}  {text}" if columns >= _MINIMUM_BAR else text[:width]


class ProgressDisplay:
    """Shows on stderr how far something is, for as long as the `with` block runs; hand `update` to whoever does it.

    Args:
        stream: Where to; a terminal gets a bar.
        width: Columns of the terminal at the moment.
        clock: Seconds that only go up.
        meter: Says what there is to say; one of bytes if left out.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        *,
        width: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._width = width or _terminal_width
        self._clock = clock
        self._meter = meter or Meter()
        self._shown_at: float | None = None
        self._shown_phase = ""
        self._drawn = 0

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown_at is None or not self._is_terminal:
            return
        if kind is not None and not self.share:  # nothing was begun, and the error says why
            self._stream.write(f"\r{' ' * self._drawn}\r")
        else:
            self._draw()
            self._stream.write("\n")
        self._stream.flush()

    @property
    def share(self) -> float:
        """What is done, from 0 to 1."""
        return self._meter.share

    def update(self, progress: Progress) -> None:
        """Take in where it stands, and show it if that is due."""
        now = self._clock()
        self._meter.feed(progress, now)
        pause = _FRAME_SECONDS if self._is_terminal else _LINE_SECONDS
        if self._shown_at is None and not self._is_terminal:
            self._shown_at = now  # the plan was just shown; the first line comes after one pause
        elif self._shown_at is None or now - self._shown_at >= pause or self._is_new_phase(progress):
            self._shown_at = now
            self._draw()
        self._shown_phase = progress.phase

    def _is_new_phase(self, progress: Progress) -> bool:
        """Whether a bar is to change at once: it may be long until there is more to say."""
        return self._is_terminal and progress.phase != self._shown_phase

    def _draw(self) -> None:
        if self._is_terminal:
            # Blanks where the old line was longer: not every terminal knows how to clear a line.
            line = self._meter.line(self._width() - 1)
            self._stream.write(f"\r{line.ljust(self._drawn)}")
            self._drawn = len(line)
        else:
            self._stream.write(", ".join(part.strip() for part in self._meter.parts()) + "\n")
        self._stream.flush()


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
