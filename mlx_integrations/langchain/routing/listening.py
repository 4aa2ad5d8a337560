"""What LangChain tells callbacks of a run before its model begins: tags and metadata, which models are seldom told.

The listener hears of a run before a tracer does, and can stop it.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage

from mlx_integrations.errors import ConfigurationError, PrivacyError
from mlx_integrations.langchain.errors import langchain_errors
from mlx_integrations.langchain.routing.facts import read_call
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.read import RequestReader

__all__ = ["RunListener", "RunMarks", "check_tracing", "take_marks"]

_WAY_OUT = (
    "Call `mlx_integrations.seal.seal()` before, which switches tracing off, or unset LANGSMITH_TRACING. Chains and "
    "agents around a model are traced on their own."
)


class RunMarks(NamedTuple):
    """What was said of a run, by the call or by the graph around it."""

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}


_marks: ContextVar[RunMarks | None] = ContextVar("mlx_integrations_run_marks", default=None)


class RunListener(BaseCallbackHandler):
    """Keeps the marks of a run for the model that is about to begin it, in the same thread or task.

    Args:
        reader: Says whether a call is private. Such a call is refused while LangSmith would be sent what it says.
        is_local_only: Whether every call is.
    """

    run_inline = True
    raise_error = True

    def __init__(self, reader: RequestReader, *, is_local_only: bool = False) -> None:
        self._reader = reader
        self._is_local_only = is_local_only

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep them.

        Raises:
            PrivacyError: The call is private, and it would be sent to LangSmith.
        """
        marks = RunMarks(tuple(tags or ()), metadata or {})
        _marks.set(marks)
        if not _is_traced():
            return
        with langchain_errors():
            for conversation in messages:
                facts = read_call(
                    self._reader, conversation, invocation_params or {}, stop=None, tags=marks.tags, metadata=metadata
                )
                if facts.is_private or self._is_local_only:
                    raise PrivacyError(
                        "The call must stay on this machine, and LangSmith's tracing, which is on, would send it away.",
                        because=facts.private_because,
                        hint=_WAY_OUT,
                    )


def check_tracing(policy: Policy) -> None:
    """Refuse to let nothing leave this machine while everything is sent to LangSmith.

    Raises:
        ConfigurationError: The mode is `local_only`, and tracing is on.
    """
    if policy.mode == "local_only" and _is_traced():
        raise ConfigurationError("The mode `local_only` contradicts LangSmith's tracing, which is on.", hint=_WAY_OUT)


def take_marks(run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> RunMarks:
    """The marks of the run that begins now.

    Args:
        run: LangChain's own view of it, which models that stream do not get. Where several conversations are answered
            by one call, all runs begin before the first one is answered, so that this is the only view of each.
    """
    heard = _marks.get()
    _marks.set(None)
    if run is not None:
        return RunMarks(tuple(run.tags), run.metadata)
    return heard or RunMarks()


def _is_traced() -> bool:
    """Whether LangSmith is sent what runs; not so where traces are only kept here."""
    from langsmith.utils import tracing_is_enabled

    return tracing_is_enabled() is True
