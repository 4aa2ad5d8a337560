"""LlamaIndex's responses and exceptions as the router reads them.

A stream of LlamaIndex repeats with every response all that came before it; `PieceReader` takes out what is new.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ThinkingBlock, ToolCallBlock

from mlx_integrations.adapters.client_failures import client_failure
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.router.dialect import Reading
from mlx_integrations.router.failures import Failure
from mlx_integrations.router.tool_check import call_problem, json_problem
from mlx_integrations.types import Usage

__all__ = ["LlamaIndexDialect", "Piece", "PieceReader", "finish_reason", "says_why_it_ends", "usage_of"]

# What providers call the reason why an answer ended: OpenAI and this package, Anthropic, Ollama, Google.
_REASONS: Final = ("finish_reason", "stop_reason", "done_reason", "finishReason")
_NO_TOKENS: Final = Usage(prompt_tokens=0, completion_tokens=0)


class Piece(NamedTuple):
    """One response of a candidate.

    Attributes:
        response: As it came, with all that was before it.
        text: What it adds to the answer.
        reasoning: What it adds to the thoughts.
        calls: All calls so far, whole or not, each with its arguments as they came.
        finish: Why the answer ended, if this response says so.
        usage: Tokens that earlier responses have not told of.
        is_object: The candidate was asked for an object, in the form of a call of a tool.
    """

    response: ChatResponse
    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallBlock, ...] = ()
    finish: str | None = None
    usage: Usage | None = None
    is_object: bool = False


class PieceReader:
    """Makes pieces of the responses of one answer.

    Args:
        is_object: The candidate was asked for an object, in the form of a call of a tool.
    """

    def __init__(self, *, is_object: bool = False) -> None:
        self._is_object = is_object
        self._text = ""
        self._reasoning = ""
        self._usage = _NO_TOKENS

    def read(self, response: ChatResponse, *, finish: str | None = None) -> Piece:
        """One response, the whole answer or one of a stream.

        Args:
            response: It.
            finish: Why the answer ended, where the response itself does not say.
        """
        message = response.message
        text, reasoning = message.content or "", _reasoning(message)
        added_text = _added(self._text, text, response.delta)
        added_reasoning = _added(self._reasoning, reasoning, response.additional_kwargs.get("thinking_delta"))
        self._text += added_text
        self._reasoning += added_reasoning
        usage = usage_of(response)
        added_usage = None if usage is None else _more(self._usage, usage)
        self._usage = usage or self._usage
        return Piece(
            response=response,
            text=added_text,
            reasoning=added_reasoning,
            calls=_calls(message),
            finish=finish_reason(response) or finish,
            usage=added_usage,
            is_object=self._is_object,
        )


class LlamaIndexDialect:
    """Reads pieces; implements `Dialect[Piece]`.

    Args:
        tools: JSON Schemas of the tools that were offered, by name.
        wants_json: Whether the text of an answer has to be JSON.
        schema: Name and JSON Schema of the object that was asked for, if one was.
    """

    def __init__(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        wants_json: bool = False,
        schema: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._tools = tools
        self._wants_json = wants_json
        self._schema = schema

    def read(self, piece: Piece) -> Reading:
        """What a piece holds."""
        has_tool_parts = bool(piece.calls) or _has_invalid_calls(piece)
        return Reading(piece.text, piece.reasoning, has_tool_parts, piece.finish, piece.usage)

    def check(self, pieces: Sequence[Piece]) -> str:
        """What is wrong with an answer that was held back."""
        if any(map(_has_invalid_calls, pieces)):
            return "it wrote a tool call that cannot be accepted"
        calls = next((piece.calls for piece in reversed(pieces) if piece.calls), ())
        is_object = any(piece.is_object for piece in pieces)
        tools = dict([self._schema]) if is_object and self._schema else self._tools
        for call in calls:
            # OpenAI and others send no arguments at all for a call that has none.
            if problem := call_problem(call.tool_name, call.tool_kwargs or {}, tools):
                return problem
        if is_object:
            return "" if len(calls) == 1 else "the answer is not the object that was asked for"
        return json_problem("".join(piece.text for piece in pieces)) if self._wants_json and not calls else ""

    def classify(self, error: Exception) -> Failure | None:
        """Which failure an exception of a provider's client is."""
        return None if isinstance(error, MLXIntegrationsError) else client_failure(error)


def finish_reason(response: ChatResponse) -> str | None:
    """Why an answer ended, if the response says so."""
    for place in (response.raw, response.additional_kwargs, response.message.additional_kwargs):
        choices = _get(place, "choices")
        for where in (place, choices[0] if isinstance(choices, Sequence) and choices else None):
            for name in _REASONS:
                if reason := _get(where, name):
                    return str(reason)
    return None


def says_why_it_ends(response: ChatResponse) -> bool:
    """Whether the last response of this stream has to give a reason: those in OpenAI's form have a place for it."""
    choices = _get(response.raw, "choices")
    if not isinstance(choices, Sequence) or not choices:
        return finish_reason(response) is not None
    first = choices[0]
    return "finish_reason" in first if isinstance(first, Mapping) else hasattr(first, "finish_reason")


def usage_of(response: ChatResponse) -> Usage | None:
    """The tokens that a response tells of."""
    for place in (response.additional_kwargs, _get(response.raw, "usage")):
        prompt = _get(place, "prompt_tokens") or _get(place, "input_tokens")
        completion = _get(place, "completion_tokens") or _get(place, "output_tokens")
        if isinstance(prompt, int) or isinstance(completion, int):
            return Usage(prompt_tokens=int(prompt or 0), completion_tokens=int(completion or 0))
    return None


def _get(place: Any, name: str) -> Any:
    return place.get(name) if isinstance(place, Mapping) else getattr(place, name, None)


def _added(before: str, now: str, delta: Any) -> str:
    """What is new. Some models' streams do not repeat what came before; then all of it is."""
    if now.startswith(before):
        return now[len(before) :]
    return delta if isinstance(delta, str) and delta else now


def _more(before: Usage, now: Usage) -> Usage:
    """What a later count has more than an earlier one: counts of a stream grow, and the router adds them up."""
    return Usage(
        prompt_tokens=max(0, now.prompt_tokens - before.prompt_tokens),
        completion_tokens=max(0, now.completion_tokens - before.completion_tokens),
    )


def _reasoning(message: ChatMessage) -> str:
    return "".join(block.content or "" for block in message.blocks if isinstance(block, ThinkingBlock))


def _calls(message: ChatMessage) -> tuple[ToolCallBlock, ...]:
    """The calls of a message, of its blocks or where they were before there were blocks."""
    blocks = tuple(block for block in message.blocks if isinstance(block, ToolCallBlock))
    older = () if blocks else message.additional_kwargs.get("tool_calls") or ()
    return blocks + tuple(
        ToolCallBlock(
            tool_call_id=_get(call, "id"),
            tool_name=str(_get(_get(call, "function"), "name") or ""),
            tool_kwargs=_get(_get(call, "function"), "arguments") or {},
        )
        for call in older
    )


def _has_invalid_calls(piece: Piece) -> bool:
    return bool(piece.response.message.additional_kwargs.get("invalid_tool_calls"))
