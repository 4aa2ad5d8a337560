"""What answers of a routed model carry: how it came to be that one, and the mark that keeps it on this machine."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from mlx_integrations.router.plan import Consideration
from mlx_integrations.router.privacy import LOCAL_ONLY, PRIVACY_KEY
from mlx_integrations.router.report import Attempted, RouteReport
from mlx_integrations.types import Usage

__all__ = ["ROUTER_KEY", "describe_report", "privacy_mark", "route_metadata"]

ROUTER_KEY: Final = "router"
"""Where the report is in the metadata of an answer."""
_ATTEMPT: Final = tuple(field.name for field in fields(Attempted))
_CONSIDERED: Final = tuple(field.name for field in fields(Consideration))
_USAGE: Final = tuple(field.name for field in fields(Usage))


def describe_report(report: RouteReport) -> dict[str, Any]:
    """A report as plain values: who was asked, what became of it, who was not asked and why."""
    return {
        "answered_by": report.answered_by,
        "attempts": [_plain(attempt, _ATTEMPT) for attempt in report.attempts],
        "considered": [_plain(item, _CONSIDERED) for item in report.plan.considered],
        "private_because": list(report.plan.private_because),
        "cost_usd": report.cost_usd,
    }


def _plain(record: Any, names: Sequence[str]) -> dict[str, Any]:
    """A record's fields. `dataclasses.asdict` copies everything in them, which takes as long as a decision."""
    values = {name: getattr(record, name) for name in names}
    if (usage := values.get("usage")) is not None:
        values["usage"] = {name: getattr(usage, name) for name in _USAGE}
    return values


def privacy_mark(*, is_private: bool) -> dict[str, str]:
    """What the metadata of an answer has to hold for the rest of the conversation to stay here as well."""
    return {PRIVACY_KEY: LOCAL_ONLY} if is_private else {}


def route_metadata(report: RouteReport) -> dict[str, Any]:
    """Report and mark."""
    return {ROUTER_KEY: describe_report(report), **privacy_mark(is_private=report.is_private)}
