"""One call as each candidate understands it: the same conversation and tools, put in its own terms, asked silently."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from mlx_integrations.adapters.chat_candidates import EndsSeen
from mlx_integrations.langchain.routing.dialect import Piece, finish_reason
from mlx_integrations.langchain.routing.silence import SILENT, silence, without_cache
from mlx_integrations.router.dialect import Budget

__all__ = ["CandidateCalls", "EndsSeen"]

_TOOL_OPTIONS = ("tool_choice", "parallel_tool_calls", "strict", "response_format")


@dataclass(slots=True, kw_only=True)
class CandidateCalls:
    """Asks candidates on behalf of one call. `open` and `aopen` are what the router wants of an adapter.

    Attributes:
        models: By name.
        messages: The conversation.
        stop: Strings that end the answer.
        tools: In OpenAI's form.
        options: Everything else that was given for the call.
        is_streamed: Whether candidates are to stream; otherwise each gives a whole answer.
        is_private: Whether nobody may keep what is said.
        ends: Which candidates say why an answer ended.
    """

    models: Mapping[str, BaseChatModel]
    messages: Sequence[BaseMessage]
    stop: list[str] | None
    tools: Sequence[dict[str, Any]]
    options: Mapping[str, Any]
    is_streamed: bool
    is_private: bool = False
    ends: EndsSeen = field(default_factory=EndsSeen)

    def open(self, name: str, budget: Budget) -> Iterator[Piece]:
        """Ask a candidate."""
        model, messages, options = self._prepared(name, budget)
        if not self.is_streamed:
            with silence():
                answer = model.invoke(messages, SILENT, stop=self.stop, **options)
            yield self._whole(name, answer)
            return
        with closing(cast(Any, model.stream(messages, SILENT, stop=self.stop, **options))) as chunks:
            with silence():
                chunk = next(chunks, None)
            while chunk is not None:
                yield from self._pieces(name, chunk)
                chunk = next(chunks, None)

    async def aopen(self, name: str, budget: Budget) -> AsyncIterator[Piece]:
        """The same for event loops."""
        model, messages, options = self._prepared(name, budget)
        if not self.is_streamed:
            with silence():
                answer = await model.ainvoke(messages, SILENT, stop=self.stop, **options)
            yield self._whole(name, answer)
            return
        async with aclosing(cast(Any, model.astream(messages, SILENT, stop=self.stop, **options))) as chunks:
            with silence():
                chunk = await anext(chunks, None)
            while chunk is not None:
                for piece in self._pieces(name, chunk):
                    yield piece
                chunk = await anext(chunks, None)

    def _prepared(
        self, name: str, budget: Budget
    ) -> tuple[Runnable[Any, AIMessage], list[BaseMessage], dict[str, Any]]:
        """The model with its tools bound in its own way, what it is told, and the options of the call."""
        options = dict(self.options)
        if budget.is_repair:
            options["temperature"] = 0
        messages = list(self.messages)
        if budget.continues:
            messages.append(AIMessage(content=budget.continues))
        candidate = self.models[name]
        if self.is_private:
            candidate = without_cache(candidate)
        model: Runnable[Any, AIMessage] = candidate
        if self.tools:
            named = {option: options.pop(option) for option in _TOOL_OPTIONS if option in options}
            model = candidate.bind_tools(self.tools, **named)
        return model, messages, options

    def _whole(self, name: str, answer: AIMessage) -> Piece:
        reason = finish_reason(answer)
        if reason is not None:
            self.ends.add(name)
        elif name not in self.ends:
            reason = "stop"
        return Piece(_anonymous(answer), reason)

    def _pieces(self, name: str, chunk: AIMessage) -> Iterator[Piece]:
        reason = finish_reason(chunk)
        if reason is not None:
            self.ends.add(name)
        elif not isinstance(chunk, AIMessageChunk):
            reason = "stop"  # a model that cannot stream gave all of its answer at once
        elif chunk.chunk_position == "last" and name not in self.ends:
            reason = "stop"
        yield Piece(_anonymous(chunk), reason)


def _anonymous(message: AIMessage) -> AIMessage:
    """The message without the id of the silent run, under which nobody can find it; a provider's own id stays."""
    if message.id is not None and message.id.startswith(("lc_run-", "run-")):
        message.id = None
    return message
