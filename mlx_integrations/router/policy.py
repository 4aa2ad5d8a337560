"""What the user wants of a router."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal, get_args

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.facts import TASKS, RequestFacts

__all__ = [
    "DEFAULT_DETECTORS",
    "DETECTORS",
    "Deadlines",
    "Detector",
    "Guarantee",
    "Mode",
    "Policy",
    "Scorer",
    "check_names",
]

Mode = Literal["local_only", "prefer_local", "prefer_cloud", "cloud_only"]
Guarantee = Literal["live", "complete"]
Detector = Literal["card", "email", "iban", "ip", "phone", "secret"]
"""What can be looked for in messages; `privacy.py` says how."""
DETECTORS: Final[tuple[str, ...]] = get_args(Detector)
DEFAULT_DETECTORS: Final[tuple[str, ...]] = ("card", "iban", "secret")
"""Those that hardly ever mistake something else for it, because it carries a checksum or a prefix of its own."""
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

    def __post_init__(self) -> None:
        for item in fields(self):
            seconds = getattr(self, item.name)
            if seconds is not None and not seconds > 0:
                raise ConfigurationError(
                    f"The deadline `{item.name}` cannot be `{seconds}`.", hint="Give seconds above 0, or none at all."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user wants.

    Attributes:
        mode: Which side goes first, and whether the other may be asked at all.
        allow_cloud: Whether anything may leave this machine; the mode alone never allows it.
        is_offline: The network is switched off: nobody elsewhere can be asked.
        deadlines: How long is waited.
        guarantee: `live` shows an answer as it comes, and what fails after that is an error that carries it; `complete`
            shows an answer when all of it is there.
        hold_tokens: Pieces of an answer that are held back before the first one is shown, so that an early failure can
            still be repaired.
        continue_text: Whether another candidate may write on where a plain text broke off.
        asks_another_if_forbidden: Whether another candidate is asked what the rules of one forbid.
        tasks: For a task, the candidates that go first, whichever side the mode prefers.
        order: Candidates in the order in which they go, within their side.
        first: A candidate that goes before all others: for a single call.
        private_tags: Tags that say that a call must stay on this machine.
        private_profiles: Embedding profiles whose texts must stay on this machine.
        detectors: Names of what is looked for in messages; what is found makes a request private.
        private_words: Words that make a request private, whatever their case.
        private_patterns: Regular expressions that do the same.
        budget_usd: What may be spent in this process; `None` means no limit.
        scorer: Orders candidates that are otherwise equal.

    Raises:
        ConfigurationError: It contradicts itself, or has a name that does not exist.
    """

    mode: Mode = "prefer_local"
    allow_cloud: bool = False
    is_offline: bool = False
    deadlines: Deadlines = Deadlines()
    guarantee: Guarantee = "live"
    hold_tokens: int = 0
    continue_text: bool = False
    asks_another_if_forbidden: bool = False
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    first: str | None = None
    private_tags: frozenset[str] = frozenset({"private"})
    private_profiles: frozenset[str] = frozenset()
    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    private_words: tuple[str, ...] = ()
    private_patterns: tuple[str, ...] = ()
    budget_usd: float | None = None
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        check_names("The mode", [self.mode], get_args(Mode))
        check_names("The guarantee", [self.guarantee], get_args(Guarantee))
        check_names("The detector", self.detectors, DETECTORS)
        check_names("The task", self.tasks, TASKS)
        if self.mode in ("prefer_cloud", "cloud_only") and not self.allow_cloud:
            raise ConfigurationError(
                f"The mode `{self.mode}` contradicts `allow_cloud`, which is false.",
                hint="Set `allow_cloud` to true if requests may leave this machine, or use the mode `prefer_local`.",
            )
        for name in ("hold_tokens", "budget_usd"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigurationError(f"`{name}` cannot be `{value}`.", hint="Give 0 or more.")

    def check_candidates(self, names: Collection[str]) -> None:
        """Refuse a policy that names candidates which are not there.

        Raises:
            ConfigurationError: There is such a name; the hint says the nearest one that exists.
        """
        check_names("The candidate", self.order, names, " in `order`")
        for task, wanted in self.tasks.items():
            check_names("The candidate", wanted, names, f" in `tasks.{task}`")


def check_names(noun: str, given: Iterable[str], known: Collection[str], where: str = "") -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigurationError: There is one; the hint says the nearest one that exists.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            listed = ", ".join(f"`{item}`" for item in known)
            raise ConfigurationError(
                f"{noun} `{name}`{where} does not exist.",
                hint=f"Did you mean `{near[0]}`?" if near else f"There are {listed}.",
            )
