"""LlamaIndex messages to `ChatMessage` and back. Pure: no model, no network, no file is read.

Text, thinking and tool calls are translated; images, audio, video and documents become attachments, which a text
model's backend refuses by name. What no model here could be shown is an error, never silently dropped.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import IOBase
from pathlib import Path
from typing import Any, Literal

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.base.llms.types import ChatMessage as IndexMessage

from mlx_integrations.adapters.invalid_calls import shown_calls
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import Attachment, ChatMessage, Role, ToolCall

__all__ = ["call_arguments", "from_chat_message", "to_chat_messages", "tool_call_blocks"]

_ROLES: dict[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
_BACK = {
    "system": MessageRole.SYSTEM,
    "user": MessageRole.USER,
    "assistant": MessageRole.ASSISTANT,
    "tool": MessageRole.TOOL,
}


@dataclass(slots=True)
class _Content:
    """What the blocks of one message amount to."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)


def to_chat_messages(messages: Sequence[IndexMessage]) -> tuple[ChatMessage, ...]:
    """Translate a conversation. An empty one stays empty: refusing it is the backend's part.

    Raises:
        InvalidRequestError: A block of a kind that has no meaning here, or a call whose arguments are no object.
    """
    return tuple(_translate(message) for message in messages)


def from_chat_message(message: ChatMessage) -> IndexMessage:
    """Translate one message back. Attachments become the blocks of their kind."""
    blocks: list[Any] = []
    if message.reasoning:
        blocks.append(ThinkingBlock(content=message.reasoning))
    if message.content or not (message.tool_calls or message.attachments):
        blocks.append(TextBlock(text=message.content))
    blocks += [_attachment_block(item) for item in message.attachments]
    blocks += tool_call_blocks(message.tool_calls)
    extra = {"name": message.name, "tool_call_id": message.tool_call_id}
    return IndexMessage(
        role=_BACK[message.role],
        blocks=blocks,
        additional_kwargs={name: value for name, value in extra.items() if value is not None},
    )


def tool_call_blocks(calls: Iterable[ToolCall]) -> list[ToolCallBlock]:
    """Translate calls for an answer."""
    return [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments)) for call in calls
    ]


def _translate(message: IndexMessage) -> ChatMessage:
    role = _ROLES[message.role]
    extra = message.additional_kwargs
    content = _Content()
    for block in message.blocks:
        _read(block, content)
    name = extra.get("name")
    if role != "assistant":
        call_id = extra.get("tool_call_id") if role == "tool" else None
        return ChatMessage(
            role=role,
            content="\n".join(content.texts),
            name=name if isinstance(name, str) else None,
            tool_call_id=None if call_id is None else str(call_id),
            attachments=tuple(content.attachments),
        )
    known = {call.id for call in content.calls}
    older = (_older_call(call, position) for position, call in enumerate(extra.get("tool_calls") or ()))
    content.calls += [call for call in older if call.id not in known]
    texts = [*content.texts, *shown_calls(extra.get("invalid_tool_calls") or ())]
    return ChatMessage(
        role=role,
        content="\n".join(text for text in texts if text) if len(texts) > 1 else "".join(texts),
        name=name if isinstance(name, str) else None,
        reasoning="".join(content.thoughts) or None,
        tool_calls=tuple(content.calls),
        attachments=tuple(content.attachments),
    )


def _read(block: Any, content: _Content) -> None:
    for kind, reader in _READERS.items():
        if isinstance(block, kind):
            reader(block, content)
            return
    raise InvalidRequestError(
        f"A message holds a `{type(block).__name__}`, which no local model can be shown.",
        field="messages",
        hint="Remove the block, or write what it says as text.",
    )


def _read_text(block: TextBlock, content: _Content) -> None:
    content.texts.append(block.text)


def _read_thinking(block: ThinkingBlock, content: _Content) -> None:
    if block.content:
        content.thoughts.append(block.content)


def _read_call(block: ToolCallBlock, content: _Content) -> None:
    content.calls.append(
        ToolCall(
            id=block.tool_call_id or f"call_{len(content.calls)}",
            name=block.tool_name,
            arguments=call_arguments(block.tool_name, block.tool_kwargs),
        )
    )


def _read_citable(block: CitableBlock, content: _Content) -> None:
    for inner in block.content:
        _read(inner, content)


def _read_citation(block: CitationBlock, content: _Content) -> None:
    _read(block.cited_content, content)


def _pass_over(block: CachePoint, content: _Content) -> None:
    """Where to cache is for providers to be told; here every prefix is kept."""


def _read_image(block: ImageBlock, content: _Content) -> None:
    content.attachments.append(_attachment("image", block.image, block.path, block.url, block.image_mimetype))


def _read_audio(block: AudioBlock, content: _Content) -> None:
    mime_type = f"audio/{block.format}" if block.format else None
    content.attachments.append(_attachment("audio", block.audio, block.path, block.url, mime_type))


def _read_video(block: VideoBlock, content: _Content) -> None:
    content.attachments.append(_attachment("video", block.video, block.path, block.url, block.video_mimetype))


def _read_document(block: DocumentBlock, content: _Content) -> None:
    item = _attachment("file", block.data, block.path, block.url, block.document_mimetype)
    if item.data is not None and (item.mime_type or "").startswith("text/"):
        content.texts.append(item.data.decode("utf-8", "replace"))
    else:
        content.attachments.append(item)


_READERS: dict[type, Callable[[Any, _Content], None]] = {
    TextBlock: _read_text,
    ThinkingBlock: _read_thinking,
    ToolCallBlock: _read_call,
    ImageBlock: _read_image,
    AudioBlock: _read_audio,
    VideoBlock: _read_video,
    DocumentBlock: _read_document,
    CitableBlock: _read_citable,
    CitationBlock: _read_citation,
    CachePoint: _pass_over,
}


def _attachment(
    kind: Literal["image", "audio", "video", "file"],
    data: bytes | IOBase | None,
    path: Path | str | None,
    url: Any,
    mime_type: str | None,
) -> Attachment:
    if isinstance(data, IOBase):
        data.seek(0)
        return Attachment(kind=kind, mime_type=mime_type, data=bytes(data.read()))
    if data:
        return Attachment(kind=kind, mime_type=mime_type, data=_decode(data))
    if path is not None:
        return Attachment(kind=kind, mime_type=mime_type, url=Path(path).absolute().as_uri())
    if url is not None:
        return Attachment(kind=kind, mime_type=mime_type, url=str(url))
    raise InvalidRequestError(f"A block of kind `{kind}` has neither data nor a place.", field="messages")


def _decode(data: bytes) -> bytes:
    """LlamaIndex keeps what it is given in base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return data


def _attachment_block(item: Attachment) -> ImageBlock | AudioBlock | VideoBlock | DocumentBlock:
    if item.kind == "image":
        return ImageBlock(image=item.data, url=item.url, image_mimetype=item.mime_type)
    if item.kind == "audio":
        form = item.mime_type.rpartition("/")[2] if item.mime_type else None
        return AudioBlock(audio=item.data, url=item.url, format=form)
    if item.kind == "video":
        return VideoBlock(video=item.data, url=item.url, video_mimetype=item.mime_type)
    return DocumentBlock(data=item.data, url=item.url, document_mimetype=item.mime_type)


def call_arguments(name: str, given: Any) -> dict[str, Any]:
    """Arguments of a call; other models leave them as the text that they wrote.

    Raises:
        InvalidRequestError: They are no JSON object.
    """
    value = given
    if isinstance(given, str):
        try:
            value = json.loads(given or "{}")
        except json.JSONDecodeError:
            value = None
    if not isinstance(value, Mapping):
        raise InvalidRequestError(
            f"A call of `{name}` has arguments that are no JSON object: `{given!r}`."[:300],
            field="messages",
        )
    return dict(value)


def _older_call(call: Any, position: int) -> ToolCall:
    """A call in `additional_kwargs`, where it was before there were blocks: OpenAI's dictionary, or its object."""
    as_dict = call if isinstance(call, Mapping) else getattr(call, "model_dump", dict)()
    function = as_dict.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(f"`tool_calls` of a message holds `{call!r}`."[:300], field="messages")
    return ToolCall(
        id=str(as_dict.get("id") or f"call_{position}"),
        name=function["name"],
        arguments=call_arguments(function["name"], function.get("arguments") or "{}"),
    )
