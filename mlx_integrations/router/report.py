"""What happened while a plan was carried out, without a word of what was asked or answered."""

from dataclasses import dataclass
from typing import Literal

from mlx_integrations.router.failures import FailureKind
from mlx_integrations.router.plan import Plan
from mlx_integrations.types import Usage

__all__ = ["Attempted", "Outcome", "RouteReport", "report_of"]

Outcome = FailureKind | Literal["answered", "abandoned", "skipped"]
"""`abandoned`: the caller left before the end; `skipped`: not asked, because it became unavailable after the plan."""
_ATTRIBUTE = "route_report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One candidate's turn.

    Attributes:
        candidate: Its name.
        outcome: How it ended.
        seconds: How long it took, what the caller did in between included.
        first_token_seconds: How long the first visible piece took; `None` if none came.
        usage: Tokens that it reported, or an estimate; `None` if it read nothing.
        is_usage_estimated: The candidate reported nothing: the tokens are guessed from sizes and pieces.
        is_repair: It was asked again, at temperature 0.
        is_continuation: It wrote on where another one broke off.
        error_type: The class of its error; its text may hold anything, so it is left out.
        status: Its HTTP status, if it had one.
    """

    candidate: str
    outcome: Outcome
    seconds: float = 0.0
    first_token_seconds: float | None = None
    usage: Usage | None = None
    is_usage_estimated: bool = False
    is_repair: bool = False
    is_continuation: bool = False
    error_type: str | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """A whole call.

    Attributes:
        plan: What was decided before.
        attempts: In order; the one that answered is the last.
        answered_by: Who gave the answer, or the last part of it; `None` if nobody did.
        is_private: Whether the request had to stay on this machine, and so does its answer.
        cost_usd: What it cost, as far as prices are known.
    """

    plan: Plan
    attempts: tuple[Attempted, ...] = ()
    answered_by: str | None = None
    is_private: bool = False
    cost_usd: float = 0.0


def attach(error: BaseException, report: RouteReport) -> None:
    """Let an error carry the report of the call that it ended."""
    if not hasattr(error, _ATTRIBUTE):
        setattr(error, _ATTRIBUTE, report)


def report_of(error: BaseException) -> RouteReport | None:
    """The report of the call that an error ended; `None` if no router raised it."""
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, RouteReport) else None
