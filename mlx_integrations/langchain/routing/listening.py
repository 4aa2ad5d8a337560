"""Tags and metadata of the run that a call belongs to.

LangChain tells them to callbacks, and to the models themselves only when they do not stream.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

__all__ = ["RunListener", "RunMarks", "take_marks"]


class RunMarks(NamedTuple):
    """What was said of a run, by the call or by the graph around it."""

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}


_marks: ContextVar[RunMarks | None] = ContextVar("mlx_integrations_run_marks", default=None)


class RunListener(BaseCallbackHandler):
    """Keeps the marks of a run for the model that is about to begin it, in the same thread or task."""

    run_inline = True
    raise_error = True

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep them."""
        _marks.set(RunMarks(tuple(tags or ()), metadata or {}))


def take_marks() -> RunMarks:
    """The marks of the run that begins now."""
    marks = _marks.get()
    _marks.set(None)
    return marks or RunMarks()
