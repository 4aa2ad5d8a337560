"""What a check says: whether it is good, in which figures, and what repairs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["SEVERITY", "Finding", "Status", "Told", "worst"]

Status = Literal["ok", "skip", "warn", "fail"]

SEVERITY: Final[tuple[Status, ...]] = ("skip", "ok", "warn", "fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found.

    Attributes:
        status: `ok`; `warn`, if it is worth a look; `fail`, if something does not work; `skip`, if nobody looked.
        text: What there is, with its figures.
        repair: The command that puts it right, or else what to do; empty if nothing has to be done.
        facts: The same as plain values.
    """

    status: Status
    text: str
    repair: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding with the check that it is from.

    Attributes:
        id: Of the check: the same in every version, so that programs can ask for it.
        group: What it is about.
        title: Its name on the screen.
        finding: What was found.
        seconds: How long the check took.
    """

    id: str
    group: str
    title: str
    finding: Finding
    seconds: float = 0.0


def worst(findings: Sequence[Finding]) -> Status:
    """The status of several findings together; `skip` if there are none."""
    return max((finding.status for finding in findings), key=SEVERITY.index, default="skip")
