"""How far a migration of many stores is, on stderr: a bar for each store, and one below them for all together."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final

from mlx_integrations.cli.migrate.printing import amount
from mlx_integrations.cli.progress import Meter
from mlx_integrations.cli.text import duration, fitted

if TYPE_CHECKING:
    from mlx_integrations.migration.engine.passes import Progress
    from mlx_integrations.migration.many.bulk import Outcome
    from mlx_integrations.migration.many.jobs import Job

__all__ = ["Bars", "RowsDone", "became"]

_FRAME_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 5.0
_LABEL_SHARE: Final = 0.25
_LEAST_LABEL: Final = 13
_MOST_LABEL: Final = 36
_UP: Final = "\x1b[1A"
_STATES: Final = {
    "done": "done",
    "was done": "was done before",
    "has it": "has these vectors already",
    "built": "built, not in use",
    "stopped": "stopped",
    "nothing": "nothing to do",
    "failed": "failed",
}


def became(outcome: "Outcome") -> str:
    """What became of a store, in a few words."""
    return _STATES[outcome.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDone:
    """How far embedding is, for a bar, which counts rows here."""

    done_bytes: int
    total_bytes: int
    phase: str = ""


class Bars:
    """Implements `Watcher`, for as long as the `with` block runs.

    Args:
        expected: About how many rows each store has.
        stream: Where to; a terminal that can go up a line gets bars, anything else a line now and then.
        width: Columns of the terminal at the moment.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        expected: "Mapping[Job, int]",
        stream: IO[str] | None = None,
        *,
        width: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._width = width or _terminal_width
        self._clock = clock
        self._expected = dict(expected)
        self._ended = 0
        self._before = 0  # rows of stores whose turn is over
        self._all = Meter(amount, " rows", keeps_time=True)
        self._one = Meter(amount, " rows", keeps_time=True)
        self._job: Job | None = None
        self._done = 0
        self._shown_at: float | None = None
        self._drawn = (0, 0)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state on the screen; what is written next is below it."""
        if not self._is_live or self._shown_at is None:
            return
        if self._job is not None:  # it was interrupted
            self._write_line(self._line_of_store())
        self._stream.write(f"\r{self._line_of_all().ljust(self._drawn[0])}\n")
        self._stream.flush()
        self._is_live, self._shown_at = False, None

    def began(self, job: "Job", rows: int) -> None:
        """A store's turn has come."""
        self._job, self._done = job, 0
        self._expected[job] = rows
        self._one = Meter(amount, " rows", keeps_time=True)
        self._feed(0)

    def went_on(self, progress: "Progress") -> None:
        """Some of its rows are embedded."""
        self._feed(progress.done)

    def ended(self, outcome: "Outcome") -> None:
        """Its turn is over: its line stays as it is."""
        self._ended += 1
        if self._job == outcome.job and not outcome.is_failure:
            self._before += self._expected[outcome.job]
        else:
            self._expected[outcome.job] = self._done if self._job == outcome.job else 0
            self._before += self._expected[outcome.job]
        self._job, self._done = None, 0
        told = f"{amount(outcome.rows)} rows  " if outcome.rows else ""
        how = became(outcome) if not outcome.is_failure else f"failed: {outcome.error}"
        took = f"  {duration(outcome.seconds)}" if outcome.state == "done" else ""
        self._write_line(self._labelled(outcome.job.label, f"{told}{how}{took}"))
        self._feed_all(self._clock())
        if self._is_live and self._ended < len(self._expected):
            self._shown_at = self._clock()
            self._draw()

    def _feed(self, done: int) -> None:
        now = self._clock()
        assert self._job is not None
        self._done = done
        self._one.feed(RowsDone(done_bytes=done, total_bytes=max(self._expected[self._job], done)), now)
        self._feed_all(now)
        pause = _FRAME_SECONDS if self._is_live else _LINE_SECONDS
        if self._shown_at is None and not self._is_live:
            self._shown_at = now  # the first line comes after one pause
        elif self._shown_at is None or now - self._shown_at >= pause or done == 0:
            self._shown_at = now
            self._draw()

    def _feed_all(self, now: float) -> None:
        done = self._before + self._done
        self._all.feed(RowsDone(done_bytes=done, total_bytes=max(sum(self._expected.values()), done)), now)

    def _draw(self) -> None:
        if not self._is_live:
            if self._job is not None:
                parts = ", ".join(part.strip() for part in self._one.parts())
                whole = ", ".join(part.strip() for part in (self._all.parts()[:1] + self._all.parts()[2:]))
                self._stream.write(f"{self._job.label}: {parts}; all stores: {whole}\n")
                self._stream.flush()
            return
        first, second = self._line_of_store(), self._line_of_all()
        self._stream.write(f"\r{first.ljust(self._drawn[0])}\n{second.ljust(self._drawn[1])}{_UP}\r")
        self._stream.flush()
        self._drawn = (len(first), len(second))

    def _write_line(self, line: str) -> None:
        """A line that stays; what comes next is below it."""
        if not self._is_live:
            self._stream.write(f"{line}\n")
        else:
            self._stream.write(f"\r{line.ljust(self._drawn[0])}\n")
            self._drawn = (self._drawn[1], 0)
        self._stream.flush()

    def _line_of_store(self) -> str:
        if self._job is None:
            return ""
        label, rest = self._columns()
        return f"{fitted(self._job.label, label, keeps_end=True)}  {self._one.line(rest)}"

    def _line_of_all(self) -> str:
        label, rest = self._columns()
        return f"{fitted(f'{self._ended} of {len(self._expected)} stores', label)}  {self._all.line(rest)}"

    def _labelled(self, label: str, text: str) -> str:
        if not self._is_live:
            return f"{label}: {text}"
        columns, rest = self._columns()
        return f"{fitted(label, columns, keeps_end=True)}  {fitted(text, rest).rstrip()}"

    def _columns(self) -> tuple[int, int]:
        """For a store's name, and for what is said of it."""
        width = self._width() - 1
        label = min(max(round(width * _LABEL_SHARE), _LEAST_LABEL), _MOST_LABEL)
        return label, width - label - 2


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
