"""What the user wants of a router."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlx_integrations.router.facts import RequestFacts

__all__ = ["Deadlines", "Guarantee", "Mode", "Policy", "Scorer"]

Mode = Literal["local_only", "prefer_local", "prefer_cloud", "cloud_only"]
Guarantee = Literal["live", "complete"]
Scorer = Callable[[RequestFacts, str], float]
"""How well a candidate suits a request, from 0 to 1; the second argument is its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds; `None` means no limit.

    Attributes:
        first_token: From the call to the first visible piece of an answer, for each candidate.
        between_tokens: From one piece to the next.
        total: For the whole call, all candidates together.
    """

    first_token: float | None = None
    between_tokens: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user wants.

    Attributes:
        mode: Which side goes first, and whether the other may be asked at all.
        allow_cloud: Whether anything may leave this machine; the mode alone never allows it.
        deadlines: How long is waited.
        guarantee: `live` shows an answer as it comes, and what fails after that is an error that carries it; `complete`
            shows an answer when all of it is there.
        hold_tokens: Pieces of an answer that are held back before the first one is shown, so that an early failure can
            still be repaired.
        continue_text: Whether another candidate may write on where a plain text broke off.
        tasks: For a task, the candidates that go first.
        private_tags: Tags that say that a call must stay on this machine.
        detectors: Names of what is looked for in messages; what is found makes a request private.
        budget_usd: What may be spent in this process; `None` means no limit.
        scorer: Orders candidates that are otherwise equal.
    """

    mode: Mode = "prefer_local"
    allow_cloud: bool = False
    deadlines: Deadlines = Deadlines()
    guarantee: Guarantee = "live"
    hold_tokens: int = 0
    continue_text: bool = False
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    private_tags: frozenset[str] = frozenset({"private"})
    detectors: tuple[str, ...] = ()
    budget_usd: float | None = None
    scorer: Scorer | None = None
