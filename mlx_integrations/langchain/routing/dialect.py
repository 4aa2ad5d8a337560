"""LangChain's messages, chunks and exceptions as the router reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core import exceptions
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import ValidationError

from mlx_integrations.adapters.client_failures import client_failure
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.router.dialect import Reading
from mlx_integrations.router.failures import Failure, FailureKind
from mlx_integrations.router.tool_check import call_problem, json_problem
from mlx_integrations.types import Usage

__all__ = ["LangChainDialect", "Piece", "finish_reason"]

# What providers call the reason why an answer ended: OpenAI and this package, Anthropic, Ollama, Google, Cohere.
_REASONS = ("finish_reason", "stop_reason", "done_reason", "finishReason")
_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (exceptions.ContextOverflowError, "context_overflow"),
    (exceptions.ModelAuthenticationError, "authentication"),
    (exceptions.ModelPermissionDeniedError, "authentication"),
    (exceptions.ModelRateLimitError, "rate_limit"),
    (exceptions.ModelTimeoutError, "timeout"),
    (exceptions.ModelConnectionError, "unavailable"),
    (exceptions.ModelAPIError, "unavailable"),
    (exceptions.ModelNotFoundError, "missing_model"),
    (exceptions.ModelInvalidRequestError, "invalid_request"),
    (exceptions.OutputParserException, "bad_output"),
)


class Piece(NamedTuple):
    """A chunk of a candidate's answer.

    Attributes:
        message: The chunk, or the whole answer of a candidate that cannot stream.
        finish: Why the answer ended, if it ended with this piece.
    """

    message: AIMessage
    finish: str | None = None


class LangChainDialect:
    """Reads pieces; implements `Dialect[Piece]`.

    Args:
        tools: JSON Schemas of the tools that were offered, by name; `None` if some run on a provider's servers.
        wants_json: Whether the text of an answer has to be JSON.
    """

    def __init__(self, tools: Mapping[str, Mapping[str, Any]] | None, *, wants_json: bool = False) -> None:
        self._tools = tools
        self._wants_json = wants_json

    def read(self, piece: Piece) -> Reading:
        """What a piece holds."""
        message = piece.message
        has_tool_parts = bool(message.tool_calls or message.invalid_tool_calls) or (
            isinstance(message, AIMessageChunk) and bool(message.tool_call_chunks)
        )
        return Reading(_text(message), _reasoning(message), has_tool_parts, piece.finish, _usage(message))

    def check(self, pieces: Sequence[Piece]) -> str:
        """What is wrong with an answer that was held back."""
        calls = list(_calls([piece.message for piece in pieces]))
        for name, arguments in calls:
            tools = {str(name): {}} if self._tools is None else self._tools
            if problem := call_problem(name, arguments, tools):
                return problem
        if self._wants_json and not calls:
            return json_problem("".join(_text(piece.message) for piece in pieces))
        return ""

    def classify(self, error: Exception) -> Failure | None:
        """Which failure an exception of LangChain, LangGraph or a provider's client is."""
        if _steers_the_graph(error):
            return Failure(kind="control")
        if isinstance(error, MLXIntegrationsError):
            return None
        if isinstance(error, ValidationError) and error.title.startswith("AIMessage"):
            # LangChain could not make a message of what the model wrote, which is nothing that the caller did.
            return Failure(kind="bad_tool_call" if self._tools else "bad_output")
        return client_failure(error, next((kind for known, kind in _KINDS if isinstance(error, known)), None))


def finish_reason(message: AIMessage) -> str | None:
    """Why an answer ended, if the message says so."""
    metadata = message.response_metadata
    for name in _REASONS:
        if metadata.get(name):
            return str(metadata[name])
    # OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses/object#responses/object-status
    status = metadata.get("status")
    return str(status) if status in ("completed", "incomplete") else None


def _text(message: AIMessage) -> str:
    return message.content if isinstance(message.content, str) else str(message.text)


def _reasoning(message: AIMessage) -> str:
    found = message.additional_kwargs.get("reasoning_content")
    if isinstance(found, str) and found:
        return found
    if isinstance(message.content, str):
        return ""
    blocks = (block for block in message.content if isinstance(block, dict))
    return "".join(
        str(block.get("thinking") or block.get("reasoning") or "")
        for block in blocks
        if block.get("type") in ("thinking", "reasoning")
    )


def _usage(message: AIMessage) -> Usage | None:
    usage = message.usage_metadata
    if usage is None:
        return None
    return Usage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        cached_tokens=(usage.get("input_token_details") or {}).get("cache_read") or 0,
        reasoning_tokens=(usage.get("output_token_details") or {}).get("reasoning") or 0,
    )


def _calls(messages: Iterable[AIMessage]) -> Iterable[tuple[str | None, str | Mapping[str, Any]]]:
    """Names and arguments of all calls, the latter as they came: what LangChain parsed may have been mended."""
    pieces: dict[Any, tuple[str, str]] = {}
    for message in messages:
        if not isinstance(message, AIMessageChunk):
            yield from ((call["name"], call["args"]) for call in message.tool_calls)
            yield from ((call["name"], call["args"] or "") for call in message.invalid_tool_calls)
            continue
        for chunk in message.tool_call_chunks:
            # As LangChain merges them: by index, and a call without one stands alone.
            index = chunk.get("index")
            place = (len(pieces), None) if index is None else index
            name, arguments = pieces.get(place, ("", ""))
            pieces[place] = name + (chunk.get("name") or ""), arguments + (chunk.get("args") or "")
    # Anthropic and others send no arguments at all for a call that has none.
    yield from ((name, arguments or "{}") for name, arguments in pieces.values())


def _steers_the_graph(error: Exception) -> bool:
    """Interrupts and commands of LangGraph, which is not imported for it."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)
