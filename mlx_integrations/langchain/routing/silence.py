"""Asking a candidate so that nobody hears of it: no callback, no trace, no count of tokens.

What a candidate writes is shown by the router, once it may be. If its own call reported to the callbacks of the graph
around it, an answer that failed half-way would be on the screen, and every token would be counted twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import context as tracer_context

__all__ = ["SILENT", "is_cached", "silence", "silent_copy", "without_cache"]

SILENT: Final = RunnableConfig(callbacks=[], tags=["nostream"])
"""How candidates are called. LangGraph shows nothing of what bears that tag."""


def silent_copy(model: BaseChatModel) -> BaseChatModel:
    """The model, or a copy of it without callbacks of its own: they would show what was not let through."""
    return model if model.callbacks is None else model.model_copy(update={"callbacks": None})


def is_cached(model: BaseChatModel) -> bool:
    """Whether LangChain keeps what a model is asked and answers elsewhere than in this process's memory."""
    if model.cache is False:
        return False
    cache = model.cache if isinstance(model.cache, BaseCache) else get_llm_cache()
    return not (cache is None or isinstance(cache, InMemoryCache))


def without_cache(model: BaseChatModel) -> BaseChatModel:
    """The model, or a copy of it of which LangChain keeps nothing."""
    return model.model_copy(update={"cache": False}) if is_cached(model) else model


@contextmanager
def silence() -> Iterator[None]:
    """Hide what is around a call from it. To be left before anything is yielded.

    LangChain reads all of this when a call begins, so that only its first step has to be within.
    """
    from langsmith import tracing_context
    from langsmith.utils import tracing_is_enabled

    # Handlers that count tokens for a `with` block are found through these variables.
    hooks: list[ContextVar[Any]] = [hook[0] for hook in getattr(tracer_context, "_configure_hooks", ())]
    tokens = [(variable, variable.set(None)) for variable in hooks if variable.get() is not None]
    try:
        with tracing_context(enabled=False, parent=False) if tracing_is_enabled() else nullcontext():
            yield
    finally:
        for variable, token in tokens:
            variable.reset(token)
