"""How far a download is: one figure over all its files, which never goes back."""

from collections.abc import Callable, Sequence
from typing import Final

from mlx_integrations.manager.pacing import Clock
from mlx_integrations.manager.records import PlannedFile, PullPhase, PullProgress

__all__ = ["OnProgress", "ProgressMeter"]

OnProgress = Callable[[PullProgress], None]
_INTERVAL_SECONDS: Final = 0.1  # more often than that nobody can read it


class ProgressMeter:
    """Adds up what is here of every file, and reports it a few times a second.

    Args:
        files: All files, with what is here of each now.
        on_progress: Told where the download stands.
        clock: Time.
    """

    def __init__(self, files: Sequence[PlannedFile], on_progress: OnProgress | None, clock: Clock) -> None:
        self._on_progress = on_progress
        self._clock = clock
        self._sizes = {file.path: file.size_bytes for file in files}
        self._here = {file.path: file.size_bytes if file.is_cached else file.resumed_bytes for file in files}
        self._total = sum(self._sizes.values())
        self._sum = self._done = self._resumed = sum(self._here.values())
        self._last: tuple[PullPhase, str | None] | None = None
        self._last_seconds = 0.0

    def arrived(self, file: str, count: int) -> None:
        """So many bytes of a file are here now; after a fresh start they are fewer than before."""
        count = min(count, self._sizes[file])
        self._sum += count - self._here[file]
        self._here[file] = count
        self._done = max(self._done, self._sum)

    def report(self, phase: PullPhase, file: str | None = None) -> None:
        """Tell where the download stands, unless that was told a moment ago."""
        if self._on_progress is None:
            return
        now = self._clock.monotonic()
        if (phase, file) == self._last and now - self._last_seconds < _INTERVAL_SECONDS and self._done < self._total:
            return
        self._last, self._last_seconds = (phase, file), now
        self._on_progress(
            PullProgress(
                phase=phase,
                done_bytes=self._done,
                total_bytes=self._total,
                resumed_bytes=self._resumed,
                file=file,
            )
        )
