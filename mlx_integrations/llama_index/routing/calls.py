"""One call as each candidate understands it: the same conversation and tools, put in its own terms, asked silently.

Candidates report to no callbacks. Models of this package are asked below the methods that send LlamaIndex's events; of
others these are part of the method, so that their events and spans bear the tag `CANDIDATE_TAG`: whoever counts or
shows events leaves those out.
"""

import copy
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool, ToolMetadata, ToolOutput
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from mlx_integrations.adapters.chat_candidates import EndsSeen
from mlx_integrations.adapters.route_reports import ROUTER_KEY
from mlx_integrations.adapters.tool_choice import openai_tool_choice
from mlx_integrations.llama_index.answers import chat_response
from mlx_integrations.llama_index.llm import MLXLLM
from mlx_integrations.llama_index.routing.dialect import Piece, PieceReader, says_why_it_ends
from mlx_integrations.llama_index.structured import StructuredPrediction
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.privacy import PRIVACY_KEY
from mlx_integrations.types import ToolChoice

__all__ = ["CANDIDATE_TAG", "CandidateCalls", "object_tool"]

CANDIDATE_TAG: Final = "router_candidate"
"""The instrumentation tag of what a candidate reports of itself; its value is the candidate's name."""
_OURS: Final = (ROUTER_KEY, PRIVACY_KEY)


@dataclass(slots=True, kw_only=True)
class CandidateCalls:
    """Asks candidates on behalf of one call. `open` and `aopen` are what the router wants of an adapter.

    Attributes:
        llms: By name.
        messages: The conversation.
        tools: In OpenAI's form.
        choice: Which of them are to be called.
        parallel: Whether one answer may hold several calls.
        output: The form of the answer, as a `response_format`.
        options: Everything else that was given for the call.
        is_streamed: Whether candidates are to stream; otherwise each gives a whole answer.
        ends: Which candidates say why an answer ended.
    """

    llms: Mapping[str, LLM]
    messages: Sequence[ChatMessage]
    tools: Sequence[dict[str, Any]] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    parallel: bool = True
    output: dict[str, Any] | None = None
    options: Mapping[str, Any]
    is_streamed: bool
    ends: EndsSeen = field(default_factory=EndsSeen)

    def open(self, name: str, budget: Budget) -> Iterator[Piece]:
        """Ask a candidate."""
        llm, reader = self.llms[name], self._reader(name)
        messages, options = self._prepared(llm, budget)
        if not self.is_streamed:
            with _tagged(name):
                answer = _chat(llm, messages, options)
            yield self._seen(name, reader.read(answer), otherwise="stop")
            return
        with _tagged(name):
            responses = _stream_chat(llm, messages, options)
        with closing(_closable(responses)):
            last: ChatResponse | None = None
            while True:
                with _tagged(name):
                    response = next(responses, None)
                if response is None:
                    break
                last = response
                yield self._seen(name, reader.read(response))
            if last is not None and name not in self.ends:
                yield _end_of(last, reader)

    async def aopen(self, name: str, budget: Budget) -> AsyncIterator[Piece]:
        """The same for event loops."""
        llm, reader = self.llms[name], self._reader(name)
        messages, options = self._prepared(llm, budget)
        if not self.is_streamed:
            with _tagged(name):
                answer = await _achat(llm, messages, options)
            yield self._seen(name, reader.read(answer), otherwise="stop")
            return
        with _tagged(name):
            responses = await _astream_chat(llm, messages, options)
        async with aclosing(_aclosable(responses)):
            last: ChatResponse | None = None
            while True:
                with _tagged(name):
                    response = await anext(responses, None)
                if response is None:
                    break
                last = response
                yield self._seen(name, reader.read(response))
            if last is not None and name not in self.ends:
                yield _end_of(last, reader)

    def _prepared(self, llm: LLM, budget: Budget) -> tuple[list[ChatMessage], dict[str, Any]]:
        """What a model is told: the conversation, and the options of the call with tools and format in its own way."""
        options = dict(self.options)
        if budget.is_repair:
            options["temperature"] = 0
        messages = [_unmarked(message) for message in self.messages]
        if budget.continues:
            messages.append(ChatMessage(role=MessageRole.ASSISTANT, content=budget.continues))
        if isinstance(llm, StructuredPrediction):
            return messages, {**options, **self._own_options()}
        tools, must_call, parallel = self.tools, self.choice.mode in ("any", "tool"), self.parallel
        if self._asks_for_object(llm) and self.output is not None:
            tools, must_call, parallel = [object_tool(self.output)], True, False
        elif self.output is not None:
            options["response_format"] = self.output
        if not tools or self.choice.mode == "none" or not isinstance(llm, FunctionCallingLLM):
            return messages, options
        # Not every model can be told which tool to call; each can be offered only that one.
        chosen = [tool for tool in tools if self.choice.mode != "tool" or tool["function"]["name"] == self.choice.name]
        prepared = llm._prepare_chat_with_tools_compat(
            [DescribedTool(tool) for tool in chosen],
            chat_history=messages,
            allow_parallel_tool_calls=parallel,
            tool_required=must_call,
            **options,
        )
        return prepared.pop("messages"), prepared

    def _own_options(self) -> dict[str, Any]:
        """Tools and format for a model of this package."""
        options: dict[str, Any] = {} if self.output is None else {"response_format": self.output}
        if self.tools:
            choice = self.choice.name if self.choice.mode == "tool" else self.choice.mode
            names = [tool["function"]["name"] for tool in self.tools]
            options["tools"] = list(self.tools)
            options["tool_choice"] = openai_tool_choice(choice, names)
            options["parallel_tool_calls"] = self.parallel
        return options

    def _asks_for_object(self, llm: LLM) -> bool:
        """Whether an object is asked for as a call of a tool, which all that call tools understand."""
        has_schema = self.output is not None and self.output.get("type") == "json_schema" and not self.tools
        is_foreign = isinstance(llm, FunctionCallingLLM) and not isinstance(llm, StructuredPrediction)
        return has_schema and is_foreign

    def _reader(self, name: str) -> PieceReader:
        return PieceReader(is_object=self._asks_for_object(self.llms[name]))

    def _seen(self, name: str, piece: Piece, otherwise: str | None = None) -> Piece:
        if says_why_it_ends(piece.response):
            self.ends.add(name)
        return piece if piece.finish or otherwise is None else piece._replace(finish=otherwise)


class DescribedTool(BaseTool):
    """A tool of which there is only the description: candidates are told of tools, and never run any.

    Args:
        tool: In OpenAI's form.
    """

    def __init__(self, tool: Mapping[str, Any]) -> None:
        self._metadata = _Description(tool)

    @property
    def metadata(self) -> ToolMetadata:
        """Name, description and parameters."""
        return self._metadata

    def __call__(self, input: Any) -> ToolOutput:
        """Refuse: there is nothing to run."""
        raise NotImplementedError("A description of a tool cannot be called.")


class _Description(ToolMetadata):
    def __init__(self, tool: Mapping[str, Any]) -> None:
        function = tool["function"]
        super().__init__(description=function.get("description") or "", name=function["name"], fn_schema=None)
        self._parameters = function.get("parameters") or {"type": "object", "properties": {}}

    def get_parameters_dict(self) -> dict[str, Any]:
        """The JSON Schema, for a candidate to change as its provider wants it."""
        parameters: dict[str, Any] = copy.deepcopy(dict(self._parameters))
        return parameters


def object_tool(output: Mapping[str, Any]) -> dict[str, Any]:
    """The tool whose arguments are the object that a `response_format` asks for."""
    described = output.get("json_schema", output)
    # What OpenAI takes for a name: https://platform.openai.com/docs/api-reference/chat/create
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(described.get("name") or "response"))[:64]
    schema = described["schema"]
    description = str(schema.get("description") or "Give the answer in this form.")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _chat(llm: LLM, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> ChatResponse:
    if isinstance(llm, MLXLLM):
        return chat_response(llm._result(llm._messages(messages), options))
    response: ChatResponse = llm.chat(messages, **options)
    return response


async def _achat(llm: LLM, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> ChatResponse:
    if isinstance(llm, MLXLLM):
        return chat_response(await llm._aresult(llm._messages(messages), options))
    response: ChatResponse = await llm.achat(messages, **options)
    return response


def _stream_chat(llm: LLM, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> Iterator[ChatResponse]:
    if isinstance(llm, MLXLLM):
        return llm._responses(llm._request(llm._messages(messages), options))
    return iter(llm.stream_chat(messages, **options))


async def _astream_chat(
    llm: LLM, messages: Sequence[ChatMessage], options: Mapping[str, Any]
) -> AsyncIterator[ChatResponse]:
    if isinstance(llm, MLXLLM):
        return llm._aresponses(llm._request(llm._messages(messages), options))
    return aiter(await llm.astream_chat(messages, **options))


def _end_of(last: ChatResponse, reader: PieceReader) -> Piece:
    """The end of an answer whose model never says why it ends."""
    return reader.read(last.model_copy(update={"delta": ""}), finish="stop")


@contextmanager
def _tagged(name: str) -> Iterator[None]:
    """Let events and spans of a candidate be told from the router's own. To be left before anything is yielded."""
    with instrument_tags({**active_instrument_tags.get(), CANDIDATE_TAG: name}):
        yield


class _Unclosable:
    """An iterator that needs no closing."""

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


def _closable(responses: Any) -> Any:
    return responses if hasattr(responses, "close") else _Unclosable()


def _aclosable(responses: Any) -> Any:
    return responses if hasattr(responses, "aclose") else _Unclosable()


def _unmarked(message: ChatMessage) -> ChatMessage:
    """A message without the router's own marks, which some models would send along."""
    if not any(name in message.additional_kwargs for name in _OURS):
        return message
    kept = {name: value for name, value in message.additional_kwargs.items() if name not in _OURS}
    return message.model_copy(update={"additional_kwargs": kept})
