"""Answers of the runtime as LangChain messages: whole ones, and chunks that add up to exactly the same message."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.outputs import ChatResult as LangChainResult

from mlx_integrations.adapters.invalid_calls import kept_calls
from mlx_integrations.langchain.messages import langchain_tool_calls
from mlx_integrations.langchain.tools import arguments_text
from mlx_integrations.types import ChatChunk, ChatResult, Finish, InvalidToolCall, TokenLogprob, Usage

__all__ = ["MODEL_PROVIDER", "AnswerChunks", "to_langchain_result"]

MODEL_PROVIDER = "mlx"

# langchain-core re-parses the arguments of every call when chunks are added, repairing what looks like unfinished JSON:
# a call that was refused would come back as a valid one. A bracket that closes nothing cannot be repaired, and is
# found at the first character. The arguments as they came are in `additional_kwargs["invalid_tool_calls"]`.
_UNREPAIRABLE = "]"

# With output_version="v1" langchain-core numbers the text and reasoning blocks of a stream from 0, and merges blocks of
# the same number: calls are numbered out of their reach.
_FIRST_CALL_INDEX = 1000


def to_langchain_result(result: ChatResult) -> LangChainResult:
    """Translate a whole answer."""
    message = AIMessage(
        content=result.text,
        tool_calls=langchain_tool_calls(result.tool_calls),
        invalid_tool_calls=[
            invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=call.error)
            for call in result.invalid_tool_calls
        ],
        additional_kwargs=_additional(result.reasoning, result.invalid_tool_calls),
        response_metadata={**_logprobs(result.logprobs), **_metadata(result.finish)},
        usage_metadata=_usage(result.finish.usage),
    )
    generation = ChatGeneration(message=message, generation_info=dict(message.response_metadata))
    return LangChainResult(generations=[generation])


class AnswerChunks:
    """Translates the chunks of one answer, in order.

    Text, tool calls and the end travel apart: langchain-core reads the blocks of a chunk by position, and takes the
    calls of a chunk that also has text for finished ones. It remembers nothing but how many calls it has numbered.
    """

    def __init__(self) -> None:
        self._next_index = _FIRST_CALL_INDEX

    def translate(self, chunk: ChatChunk) -> Iterator[ChatGenerationChunk]:
        """Translate one chunk into those that LangChain expects: none, one or several."""
        if chunk.text or chunk.reasoning or chunk.logprobs:
            yield _generation(
                chunk.text,
                additional_kwargs=_additional(chunk.reasoning, ()),
                response_metadata=_logprobs(chunk.logprobs),
            )
        if chunk.tool_calls or chunk.invalid_tool_calls:
            yield _generation(
                tool_call_chunks=list(self._calls(chunk)),
                additional_kwargs=_additional("", chunk.invalid_tool_calls),
            )
        if chunk.finish is not None:
            yield _generation(
                response_metadata=_metadata(chunk.finish),
                usage_metadata=_usage(chunk.finish.usage),
                chunk_position="last",
            )

    def _calls(self, chunk: ChatChunk) -> Iterator[ToolCallChunk]:
        pieces = [(call.id, call.name, arguments_text(call.arguments)) for call in chunk.tool_calls]
        pieces += [(call.id, call.name or "", _UNREPAIRABLE + call.arguments) for call in chunk.invalid_tool_calls]
        for call_id, name, arguments in pieces:
            yield tool_call_chunk(name=name, args=arguments, id=call_id, index=self._next_index)
            self._next_index += 1


def _generation(
    text: str = "",
    *,
    tool_call_chunks: list[ToolCallChunk] | None = None,
    additional_kwargs: dict[str, Any] | None = None,
    response_metadata: dict[str, Any] | None = None,
    usage_metadata: UsageMetadata | None = None,
    chunk_position: Literal["last"] | None = None,
) -> ChatGenerationChunk:
    message = AIMessageChunk(
        content=text,
        tool_call_chunks=tool_call_chunks or [],
        additional_kwargs=additional_kwargs or {},
        response_metadata={"model_provider": MODEL_PROVIDER, **(response_metadata or {})},
        usage_metadata=usage_metadata,
        chunk_position=chunk_position,
    )
    return ChatGenerationChunk(message=message, generation_info=response_metadata or None)


def _additional(reasoning: str, invalid: Iterable[InvalidToolCall]) -> dict[str, Any]:
    extra: dict[str, Any] = {"reasoning_content": reasoning} if reasoning else {}
    calls = kept_calls(invalid)
    return {**extra, "invalid_tool_calls": calls} if calls else extra


def _metadata(finish: Finish) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "finish_reason": finish.reason,
        "model_name": finish.model_id,
        "model_provider": MODEL_PROVIDER,
        "tokens_per_second": finish.tokens_per_second,
    }
    return metadata if finish.stop_string is None else {**metadata, "stop_string": finish.stop_string}


def _usage(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
        output_token_details=OutputTokenDetails(reasoning=usage.reasoning_tokens),
    )


def _logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's shape, which LangChain's own tools read."""
    content = [
        {
            "token": item.token,
            "logprob": item.logprob,
            "top_logprobs": [{"token": token, "logprob": logprob} for token, _, logprob in item.top],
        }
        for item in logprobs
    ]
    return {"logprobs": {"content": content}} if content else {}
