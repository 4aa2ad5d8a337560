"""Pieces of the candidate that answered, as the router's own responses: with the report, and the mark of privacy."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ToolCallBlock
from pydantic import BaseModel

from mlx_integrations.adapters.route_reports import ROUTER_KEY, describe_report, privacy_mark, route_metadata
from mlx_integrations.llama_index.messages import call_arguments
from mlx_integrations.llama_index.routing.dialect import Piece, finish_reason
from mlx_integrations.router.report import RouteReport

__all__ = ["RoutedAnswer", "whole_response"]


class RoutedAnswer:
    """One streamed answer. What comes with its end is held back, since only the very last response has the report.

    Calls of tools come with the last response as well, all at once: those who read streams must not see half of one.

    Args:
        is_private: Whether every response is marked.
    """

    def __init__(self, *, is_private: bool) -> None:
        self._is_private = is_private
        self._held: list[Piece] = []

    def take(self, piece: Piece) -> Iterator[ChatResponse]:
        """A piece; returns what can be shown."""
        if self._held or piece.finish is not None or piece.calls:
            self._held.append(piece)
        elif self._is_private:
            message = _message(piece, (), is_private=True)
            yield piece.response.model_copy(update={"message": message, "delta": piece.text})
        else:
            yield piece.response

    def finish(self, report: RouteReport) -> ChatResponse:
        """The last response, with the report."""
        response = whole_response(self._held, report)
        if thoughts := "".join(piece.reasoning for piece in self._held):
            response.additional_kwargs["thinking_delta"] = thoughts
        is_object = any(piece.is_object for piece in self._held)
        response.delta = response.message.content if is_object else "".join(piece.text for piece in self._held)
        return response


def whole_response(pieces: Sequence[Piece], report: RouteReport) -> ChatResponse:
    """All pieces as one response; of a stream, those that were held back."""
    last = pieces[-1]
    calls = next((piece.calls for piece in reversed(pieces) if piece.calls), ())
    message = _message(last, calls, is_private=report.is_private)
    extra: dict[str, Any] = {}
    for piece in pieces:
        extra.update(piece.response.additional_kwargs)
    extra.pop("thinking_delta", None)
    finish = next((piece.finish for piece in reversed(pieces) if piece.finish), None)
    ending = next((piece.response for piece in reversed(pieces) if finish_reason(piece.response)), last.response)
    return ChatResponse(
        message=message,
        raw=_raw(ending.raw, last, finish, report),
        logprobs=ending.logprobs,
        additional_kwargs={**extra, **route_metadata(report)},
    )


def _message(piece: Piece, calls: Sequence[ToolCallBlock], *, is_private: bool) -> ChatMessage:
    """The answer as any candidate could have given it: calls as blocks, their arguments as dictionaries."""
    message = piece.response.message
    blocks: list[Any] = [block for block in message.blocks if not isinstance(block, ToolCallBlock)]
    if piece.is_object and calls:
        arguments = call_arguments(calls[0].tool_name, calls[0].tool_kwargs or {})
        blocks = [block for block in blocks if not isinstance(block, TextBlock)]
        blocks.append(TextBlock(text=json.dumps(arguments, ensure_ascii=False)))
    elif calls:
        blocks = [block for block in blocks if not isinstance(block, TextBlock) or block.text]
        blocks += [
            ToolCallBlock(
                tool_call_id=call.tool_call_id or f"call_{position}",
                tool_name=call.tool_name,
                tool_kwargs=call_arguments(call.tool_name, call.tool_kwargs or {}),
            )
            for position, call in enumerate(calls)
        ]
    kept = {name: value for name, value in message.additional_kwargs.items() if name != "tool_calls"}
    return ChatMessage(
        role=message.role, blocks=blocks, additional_kwargs={**kept, **privacy_mark(is_private=is_private)}
    )


def _raw(ending: Any, last: Piece, finish: str | None, report: RouteReport) -> dict[str, Any]:
    """What the model's endpoint sent, with the report: agents hand on nothing else of an answer."""
    raw: dict[str, Any] = {"finish_reason": finish, **_plain(ending)}
    if usage := _plain(last.response.raw).get("usage"):
        raw["usage"] = usage  # some send it after the end
    return {**raw, ROUTER_KEY: describe_report(report)}


def _plain(raw: Any) -> Mapping[str, Any]:
    if isinstance(raw, BaseModel):
        return raw.model_dump()
    return raw if isinstance(raw, Mapping) else {}
