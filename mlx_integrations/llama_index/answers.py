"""Answers of the runtime as LlamaIndex responses: whole ones, and streams of which the last one is the whole one.

A streamed `ChatResponse` holds everything so far and, in `delta`, what is new. Thoughts that are new are in
`additional_kwargs["thinking_delta"]`, where LlamaIndex's agents look for them; log-probabilities are those of what is
new. The last response of a stream, like a whole answer, has in `raw` why and how the answer ended, and in
`additional_kwargs` what it took.
"""

from collections.abc import Iterable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage as IndexMessage
from llama_index.core.base.llms.types import (
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)

from mlx_integrations.adapters.invalid_calls import kept_calls
from mlx_integrations.llama_index.messages import tool_call_blocks
from mlx_integrations.types import ChatChunk, ChatResult, Finish, InvalidToolCall, TokenLogprob, ToolCall

__all__ = ["GrowingAnswer", "chat_response", "completion_response", "to_completion"]


class GrowingAnswer:
    """One answer while it streams: everything so far, as a new response after every chunk."""

    def __init__(self) -> None:
        self._text = ""
        self._reasoning = ""
        self._calls: tuple[ToolCall, ...] = ()
        self._invalid: tuple[InvalidToolCall, ...] = ()

    def add(self, chunk: ChatChunk) -> ChatResponse:
        """The response after one more chunk."""
        self._text += chunk.text
        self._reasoning += chunk.reasoning
        self._calls += chunk.tool_calls
        self._invalid += chunk.invalid_tool_calls
        extra: dict[str, Any] = {"thinking_delta": chunk.reasoning} if chunk.reasoning else {}
        finish = chunk.finish
        return ChatResponse(
            message=_message(self._text, self._reasoning, self._calls, self._invalid, finish),
            delta=chunk.text,
            raw=None if finish is None else _raw(finish),
            logprobs=_logprobs(chunk.logprobs) if chunk.logprobs else None,
            additional_kwargs=extra if finish is None else {**extra, **_usage(finish)},
        )


def chat_response(result: ChatResult) -> ChatResponse:
    """Translate a whole answer."""
    return ChatResponse(
        message=_message(result.text, result.reasoning, result.tool_calls, result.invalid_tool_calls, result.finish),
        raw=_raw(result.finish),
        logprobs=_logprobs(result.logprobs) if result.logprobs else None,
        additional_kwargs=_usage(result.finish),
    )


def completion_response(result: ChatResult) -> CompletionResponse:
    """Translate a whole answer to a prompt."""
    return to_completion(chat_response(result))


def to_completion(response: ChatResponse) -> CompletionResponse:
    """The same response without its message: its text, and its thoughts beside it."""
    thoughts = [block.content for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    extra = {"thinking": thoughts[0]} if thoughts else {}
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs={**extra, **response.additional_kwargs},
    )


def _message(
    text: str,
    reasoning: str,
    calls: tuple[ToolCall, ...],
    invalid: Iterable[InvalidToolCall],
    finish: Finish | None,
) -> IndexMessage:
    blocks: list[Any] = []
    if reasoning:
        tokens = None if finish is None else finish.usage.reasoning_tokens
        blocks.append(ThinkingBlock(content=reasoning, num_tokens=tokens or None))
    if text or not calls:
        blocks.append(TextBlock(text=text))
    if calls:
        blocks += tool_call_blocks(calls)
    refused = kept_calls(invalid)
    return IndexMessage(
        role=MessageRole.ASSISTANT,
        blocks=blocks,
        additional_kwargs={"invalid_tool_calls": refused} if refused else {},
    )


def _raw(finish: Finish) -> dict[str, Any]:
    """In OpenAI's words, which LlamaIndex's token counter reads."""
    usage = finish.usage
    raw: dict[str, Any] = {
        "model": finish.model_id,
        "finish_reason": finish.reason,
        "usage": {
            **_usage(finish),
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        },
        "tokens_per_second": finish.tokens_per_second,
    }
    return raw if finish.stop_string is None else {**raw, "stop_string": finish.stop_string}


def _usage(finish: Finish) -> dict[str, int]:
    usage = finish.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _logprobs(items: Iterable[TokenLogprob]) -> list[list[LogProb]]:
    """For each token, itself and then its rivals."""
    return [
        [
            LogProb(token=token, logprob=logprob, bytes=list(token.encode("utf-8", "replace")))
            for token, logprob in (
                (item.token, item.logprob),
                *((token, logprob) for token, token_id, logprob in item.top if token_id != item.token_id),
            )
        ]
        for item in items
    ]
