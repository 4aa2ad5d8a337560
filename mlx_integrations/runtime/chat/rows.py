"""One answer being generated, as the worker thread sees it, and what it sends back: plain numbers, never arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from llguidance import LLMatcher

from mlx_integrations.runtime.chat.sampling import Sampling

__all__ = ["EndEvent", "Event", "FailEvent", "Row", "StartEvent", "TokenEvent"]


class TokenEvent(NamedTuple):
    """A token was generated. `top` holds (token id, log-probability) pairs, strongest first."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class EndEvent(NamedTuple):
    """The answer is complete: an end token, or the token limit."""

    reason: Literal["stop", "length"]


class FailEvent(NamedTuple):
    """The answer will not come."""

    error: Exception


class StartEvent(NamedTuple):
    """The row is in the batch; this many tokens of its prompt need not be read."""

    cached_tokens: int


Event = StartEvent | TokenEvent | EndEvent | FailEvent


@dataclass(eq=False, slots=True, kw_only=True)
class Row:
    """A request in the batch.

    Attributes:
        prompt: Token ids, at least one.
        sampling: Checked against this model.
        end_ids: Tokens that end the answer; they are not sent.
        post: Takes events; called on the worker thread, must not block or raise.
        matcher: Holds the answer to a grammar.
        on_end: Called once, on the worker thread, when the row has left the batch, however it left.
        cancelled: Set by any thread; the row is dropped before the next step.
        has_begun: Whether a token was generated.
        failure: Set by a sampler or processor that could not go on.
    """

    prompt: list[int]
    sampling: Sampling
    end_ids: tuple[int, ...]
    post: Callable[[Event], None]
    matcher: LLMatcher | None = None
    on_end: list[Callable[[], None]] = field(default_factory=list)
    cancelled: bool = False
    has_begun: bool = False
    failure: BaseException | None = None

    def cancel(self) -> None:
        """Let go of the row at the next step; from any thread."""
        self.cancelled = True

    def end(self, event: Event | None = None) -> None:
        """Send the last event and let go of everything. Worker thread only."""
        if event is not None:
            self.post(event)
        callbacks, self.on_end = self.on_end, []
        for callback in callbacks:
            callback()
