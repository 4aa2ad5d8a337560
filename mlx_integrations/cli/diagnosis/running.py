"""Running the checks: all at once, each in a thread of its own, none longer than its time."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from mlx_integrations.cli.diagnosis.checks import CHECKS, Check
from mlx_integrations.cli.diagnosis.finding import Finding, Told
from mlx_integrations.cli.diagnosis.surroundings import Surroundings

__all__ = ["LIMIT_SECONDS", "run_checks"]

LIMIT_SECONDS: Final = 70.0
"""A check that takes longer is given up; a disk that hangs must not keep the rest from being told."""


def run_checks(
    around: Surroundings, checks: Sequence[Check] = CHECKS, *, limit_seconds: float = LIMIT_SECONDS
) -> Iterator[Told]:
    """Run all checks at the same time, and tell of them in their order.

    Args:
        around: What they ask.
        checks: Which.
        limit_seconds: What each may take.
    """
    attempts = [_Attempt(check, around) for check in checks]
    for attempt in attempts:
        attempt.start()
    deadline = time.monotonic() + limit_seconds
    for attempt in attempts:
        attempt.join(max(deadline - time.monotonic(), 0.0))
        yield from attempt.told(limit_seconds)


class _Attempt(threading.Thread):
    """One check. A daemon: one that hangs does not keep the process alive."""

    def __init__(self, check: Check, around: Surroundings) -> None:
        super().__init__(name=f"doctor-{check.id}", daemon=True)
        self._check = check
        self._around = around
        self._findings: list[Finding] | None = None
        self._seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            found = self._check.look(self._around)
            findings = [found] if isinstance(found, Finding) else list(found)
        except Exception as error:
            findings = [_failed(error)]
        self._seconds = time.monotonic() - began
        self._findings = findings

    def told(self, limit_seconds: float) -> list[Told]:
        """What there is to say by now."""
        findings = self._findings
        if findings is None:
            findings = [Finding(status="fail", text=f"no answer within {limit_seconds:.0f} seconds")]
        check = self._check
        return [
            Told(id=check.id, group=check.group, title=check.title, finding=finding, seconds=round(self._seconds, 3))
            for finding in findings
        ]


def _failed(error: Exception) -> Finding:
    """A check that did not get to its end is a finding, too."""
    hint = getattr(error, "hint", "")
    message = getattr(error, "message", "") or str(error)
    return Finding(
        status="fail",
        text=f"this cannot be looked at: {message or type(error).__name__}",
        repair=str(hint),
        facts={"error": type(error).__name__},
    )
