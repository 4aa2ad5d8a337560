"""A piece of work on its way through the worker thread: what the engine needs of it, whatever the model does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["FailEvent", "Task"]


class FailEvent(NamedTuple):
    """The result will not come."""

    error: Exception


@dataclass(eq=False, slots=True, kw_only=True)
class Task:
    """Work for one model.

    Attributes:
        post: Takes events; called on the worker thread, must not block or raise.
        on_end: Called once, on the worker thread, when the model is done with it, however that came.
        cancelled: Set by any thread; the work is dropped before the next step.
    """

    post: Callable[[Any], None]
    on_end: list[Callable[[], None]] = field(default_factory=list)
    cancelled: bool = False

    def cancel(self) -> None:
        """Let go of the work at the next step; from any thread."""
        self.cancelled = True

    def end(self, event: Any = None) -> None:
        """Let go of everything, then send the last event, if any. Worker thread only.

        In this order, whoever hears that a request has ended may send the next one.
        """
        callbacks, self.on_end = self.on_end, []
        try:
            for callback in callbacks:
                callback()
        finally:
            if event is not None:
                self.post(event)
