"""Pieces of the candidate that answered, as the router's own answer: with the report, and the mark of privacy."""

import json
from collections.abc import Iterator, Sequence
from typing import cast

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from mlx_integrations.adapters.route_reports import ROUTER_KEY, describe_report, privacy_mark, route_metadata
from mlx_integrations.langchain.routing.dialect import Piece
from mlx_integrations.router.report import RouteReport

__all__ = ["Ending", "as_generation", "last_generation", "whole_result"]


def as_generation(piece: Piece) -> ChatGenerationChunk:
    """A piece as LangChain expects it of a model that streams."""
    return ChatGenerationChunk(message=_as_chunk(piece.message))


def last_generation(piece: Piece | None, report: RouteReport) -> ChatGenerationChunk:
    """The last piece, with the report; one without content if there is none left."""
    message = AIMessageChunk(content="") if piece is None else _as_chunk(piece.message)
    # Only here: chunks are merged by adding what is in their metadata.
    message.response_metadata = {**message.response_metadata, ROUTER_KEY: describe_report(report)}
    message.chunk_position = "last"
    return ChatGenerationChunk(message=message, generation_info=dict(message.response_metadata))


def whole_result(pieces: Sequence[Piece], report: RouteReport) -> ChatResult:
    """All pieces as one answer."""
    messages = [piece.message for piece in pieces]
    if len(messages) == 1 and not isinstance(messages[0], AIMessageChunk):
        message = messages[0]
    else:
        first, *others = [_as_chunk(message) for message in messages]
        merged = add_ai_message_chunks(first, *others)
        message = cast(AIMessage, message_chunk_to_message(merged))
    message.response_metadata = {**message.response_metadata, **route_metadata(report)}
    generation = ChatGeneration(message=message, generation_info=dict(message.response_metadata))
    return ChatResult(generations=[generation])


def _as_chunk(message: AIMessage) -> AIMessageChunk:
    """A whole answer as one chunk; a chunk stays as it is, but that nothing after it is excluded."""
    if isinstance(message, AIMessageChunk):
        message.chunk_position = None
        return message
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=index
        )
        for index, call in enumerate(message.tool_calls)
    ]
    return AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        tool_call_chunks=calls,
        id=message.id,
        name=message.name,
    )


class Ending:
    """Holds back what comes with the end of an answer, since only the very last chunk may carry the report.

    The mark of privacy comes with the first chunk, so that an answer that nobody reads to its end has it, too.

    Args:
        is_private: Whether it has to be marked.
    """

    def __init__(self, *, is_private: bool = False) -> None:
        self._held: list[Piece] = []
        self._mark = privacy_mark(is_private=is_private)

    def take(self, piece: Piece) -> Iterator[ChatGenerationChunk]:
        """A piece; returns what can be shown."""
        if piece.finish is None and not self._held:
            yield self._marked(as_generation(piece))
        else:
            self._held.append(piece)

    def finish(self, report: RouteReport) -> Iterator[ChatGenerationChunk]:
        """The rest, the last one with the report."""
        yield from (self._marked(as_generation(piece)) for piece in self._held[:-1])
        yield self._marked(last_generation(self._held[-1] if self._held else None, report))

    def _marked(self, generation: ChatGenerationChunk) -> ChatGenerationChunk:
        """The first one with the mark, and only that one: merging chunks puts texts in their metadata together."""
        message, mark = generation.message, self._mark
        if mark:
            message.response_metadata = {**message.response_metadata, **mark}
            self._mark = {}
        return generation
