"""One answer being generated, as the worker thread sees it, and what it sends back: plain numbers, never arrays."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from llguidance import LLMatcher

from mlx_integrations.runtime.chat.sampling import Sampling
from mlx_integrations.runtime.tasks import FailEvent, Task

__all__ = ["EndEvent", "Event", "FailEvent", "Row", "StartEvent", "TokenEvent"]


class TokenEvent(NamedTuple):
    """A token was generated. `top` holds (token id, log-probability) pairs, strongest first."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class EndEvent(NamedTuple):
    """The answer is complete: an end token, or the token limit."""

    reason: Literal["stop", "length"]


class StartEvent(NamedTuple):
    """The row is in the batch; this many tokens of its prompt need not be read."""

    cached_tokens: int


Event = StartEvent | TokenEvent | EndEvent | FailEvent


@dataclass(eq=False, slots=True, kw_only=True)
class Row(Task):
    """A request in the batch.

    Attributes:
        prompt: Token ids, at least one.
        sampling: Checked against this model.
        end_ids: Tokens that end the answer; they are not sent.
        matcher: Holds the answer to a grammar.
        has_begun: Whether a token was generated.
        failure: Set by a sampler or processor that could not go on.
    """

    prompt: list[int]
    sampling: Sampling
    end_ids: tuple[int, ...]
    matcher: LLMatcher | None = None
    has_begun: bool = False
    failure: BaseException | None = None
