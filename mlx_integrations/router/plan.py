"""The outcome of a decision: who is asked, in which order, and why everybody else is not."""

from dataclasses import dataclass

__all__ = ["Consideration", "Plan", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consideration:
    """What was decided about one candidate.

    Attributes:
        name: The candidate.
        is_taken: Whether it may be asked.
        reason: Why, or why not, in words for a person.
        is_privacy: Whether it is left out because the request must not leave this machine.
    """

    name: str
    is_taken: bool
    reason: str
    is_privacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is asked.

    Attributes:
        order: Names of candidates, the first one first; empty if nobody may be asked.
        considered: One for each candidate, those taken first and in their order.
        private_because: Why the request must stay on this machine; empty if it may leave.
    """

    order: tuple[str, ...]
    considered: tuple[Consideration, ...]
    private_because: tuple[str, ...] = ()


def explain(plan: Plan) -> str:
    """A plan in plain words, one line for each candidate; nothing of the request is in it."""
    lines = [f"This must stay on this machine: {', '.join(plan.private_because)}."] if plan.private_because else []
    taken = [item for item in plan.considered if item.is_taken]
    lines += [f"{place}. {item.name}: {item.reason}" for place, item in enumerate(taken, 1)]
    lines += [f"-  {item.name}: left out, {item.reason}" for item in plan.considered if not item.is_taken]
    return "\n".join(lines if taken else [*lines, "Nobody may be asked."])
