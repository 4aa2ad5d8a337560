"""The outcome of a decision: who is asked, in which order, and why everybody else is not."""

from dataclasses import dataclass

__all__ = ["Consideration", "Plan"]


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
