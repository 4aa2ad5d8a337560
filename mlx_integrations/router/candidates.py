"""Who could answer: what is known of a candidate before the call, and how it is doing at the moment."""

from dataclasses import dataclass, field
from typing import Literal

from mlx_integrations.types import ModelCapabilities

__all__ = ["Candidate", "CandidateState", "Location"]

Location = Literal["in-process", "loopback", "listed", "remote"]
"""Where a candidate computes, as found out: in this process, at an address of this machine, at one that the user listed
as their own, or elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What does not change between calls.

    Attributes:
        name: What policies, plans and reports call it.
        location: Where it computes.
        capabilities: What it can do; `None` where nobody knows.
        tasks: Tasks it is good at.
        languages: ISO 639-1 codes of languages it knows; `None` where nobody knows.
        input_price: US dollars for a million prompt tokens; `None` where nobody knows, 0 for one's own machine.
        output_price: The same for tokens of the answer.
        group: Candidates of one group are equals: the least busy one goes first.
        max_concurrent: Calls that it takes at the same time.
        base_url: Where it is asked, if it is an endpoint: its location is looked up again when a private request goes
            there.
        model: The model that the endpoint is asked for.
    """

    name: str
    location: Location
    capabilities: ModelCapabilities | None = None
    tasks: frozenset[str] = frozenset()
    languages: frozenset[str] | None = None
    input_price: float | None = None
    output_price: float | None = None
    group: str | None = None
    max_concurrent: int | None = None
    base_url: str | None = field(default=None, repr=False)  # it could hold a key
    model: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether what it is asked stays with the user."""
        return self.location != "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateState:
    """How a candidate is doing.

    Attributes:
        is_present: Its model is on this machine, or its endpoint offers it.
        is_loaded: Its model is in memory; `None` where nobody knows.
        fits_memory: Its model fits into memory; `None` where nobody knows.
        in_flight: Calls it is answering.
        blocked_seconds: For how long nobody is to call it; 0 if it may be called.
        blocked_because: Why not.
        tokens_per_second: How fast it decoded lately.
        first_token_seconds: How long its first token took lately.
        prompt_tokens: Tokens of the prompt at hand by its own tokenizer, where they were counted.
    """

    is_present: bool = True
    is_loaded: bool | None = None
    fits_memory: bool | None = None
    in_flight: int = 0
    blocked_seconds: float = 0.0
    blocked_because: str = ""
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    prompt_tokens: int | None = None
