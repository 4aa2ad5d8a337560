"""Content blocks: the parts of a message, in LangChain's standard form and in OpenAI's and Anthropic's."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError
from mlx_integrations.types import Attachment, Role, ToolCall

__all__ = ["Content", "ToolResult", "attachment_block", "read_content"]

Kind = Literal["image", "audio", "video", "file"]
Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's answer inside a user's message, as Anthropic writes it."""

    call_id: str
    text: str


@dataclass(slots=True)
class Content:
    """What the parts of one message amount to."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_results: list[ToolResult] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    separator: str = "\n"

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return self.separator.join(self.texts)


def read_content(content: str | Sequence[str | Block], role: Role) -> Content:
    """Sort the parts of a message. Keys that mean nothing here, such as `cache_control`, are passed over.

    Args:
        content: A text, or texts and blocks.
        role: Whose message it is: an assistant's parts are pieces of one text, a tool's may be any data.

    Raises:
        InvalidRequestError: A block of an unknown type, or one that is broken.
        UnsupportedContentError: A reference to a file that was uploaded to a provider.
    """
    result = Content(separator="" if role == "assistant" else "\n")
    for part in [content] if isinstance(content, str) else content:
        if isinstance(part, str):
            result.texts.append(part)
            continue
        reader = _READERS.get(str(part.get("type")))
        if reader is not None:
            reader(part, result)
        elif role == "tool":
            # A tool may answer with data of any shape; to the model it is text.
            result.texts.append(json.dumps(part, ensure_ascii=False, default=str))
        else:
            raise _unknown(part)
    return result


def attachment_block(item: Attachment) -> dict[str, Any]:
    """Write an attachment as a standard content block."""
    block: dict[str, Any] = {"type": item.kind}
    if item.url is not None:
        block["url"] = item.url
    if item.data is not None:
        block["base64"] = base64.b64encode(item.data).decode("ascii")
    if item.mime_type is not None:
        block["mime_type"] = item.mime_type
    return block


def _unknown(block: Block) -> InvalidRequestError:
    return InvalidRequestError(
        f"A message holds a content block of type `{block.get('type')}`, which no local model can be shown.",
        field="messages",
        hint="Remove the block, or write what it says as text.",
    )


def _string(block: Block, key: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(
            f"A content block of type `{block.get('type')}` has no text in `{key}`.", field="messages"
        )
    return value


def _read_text(block: Block, content: Content) -> None:
    content.texts.append(_string(block, "text"))


def _read_refusal(block: Block, content: Content) -> None:
    content.texts.append(_string(block, "refusal"))


def _read_reasoning(block: Block, content: Content) -> None:
    """Standard (`reasoning`), Anthropic (`thinking`) and OpenAI (`summary`: a list of texts)."""
    text = block.get("reasoning") or block.get("thinking")
    if text is None:
        text = "".join(part.get("text", "") for part in block.get("summary") or () if isinstance(part, Mapping))
    content.reasoning.append(str(text))


def _read_call(block: Block, content: Content) -> None:
    """Standard (`args`) and Anthropic (`input`)."""
    arguments = block.get("args", block.get("input")) or {}
    if not isinstance(arguments, Mapping):
        raise InvalidRequestError(f"A `{block.get('type')}` block has arguments that are no object.", field="messages")
    position = len(content.tool_calls)
    content.tool_calls.append(
        ToolCall(id=block.get("id") or f"call_{position}", name=_string(block, "name"), arguments=dict(arguments))
    )


def _read_result(block: Block, content: Content) -> None:
    answer = read_content(block.get("content") or "", "tool")
    content.attachments += answer.attachments
    text = f"Error: {answer.text}" if block.get("is_error") else answer.text
    content.tool_results.append(ToolResult(call_id=_string(block, "tool_use_id"), text=text))


def _pass_over(block: Block, content: Content) -> None:
    """Said elsewhere in the message, or written for its provider's eyes only."""


def _read_image_url(block: Block, content: Content) -> None:
    image = block.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise InvalidRequestError("An `image_url` block has no `url`.", field="messages")
    content.attachments.append(_from_url("image", url, None))


def _read_input_audio(block: Block, content: Content) -> None:
    audio = block.get("input_audio")
    if not isinstance(audio, Mapping):
        raise InvalidRequestError("An `input_audio` block has no `data`.", field="messages")
    content.attachments.append(
        Attachment(kind="audio", mime_type=f"audio/{audio.get('format', 'wav')}", data=_decode(audio.get("data")))
    )


def _read_plain_document(block: Block, content: Content) -> None:
    if isinstance(block.get("text"), str):
        content.texts.append(block["text"])
    else:
        _read_media({**block, "type": "file"}, content)


def _read_media(block: Block, content: Content) -> None:
    """Standard (`url`, `base64`), its predecessor (`data`), Anthropic (`source`) and OpenAI (`file`)."""
    named = str(block.get("type"))
    kind: Kind = cast(Kind, named) if named in ("image", "audio", "video") else "file"
    for nested in ("source", "file"):
        if isinstance(block.get(nested), Mapping):
            block = {"type": named, **block[nested]}
    mime_type = block.get("mime_type") or block.get("media_type")
    data = block.get("base64") or block.get("data")
    url = block.get("url") or block.get("file_data")
    if isinstance(data, bytes):
        content.attachments.append(Attachment(kind=kind, mime_type=mime_type, data=data))
    elif isinstance(data, str) and block.get("type") == "text":
        content.texts.append(data)
    elif isinstance(data, str):
        content.attachments.append(Attachment(kind=kind, mime_type=mime_type, data=_decode(data)))
    elif isinstance(url, str):
        content.attachments.append(_from_url(kind, url, mime_type))
    elif isinstance(block.get("text"), str):
        content.texts.append(block["text"])
    elif block.get("file_id") or block.get("id"):
        raise UnsupportedContentError(
            f"A content block of type `{named}` refers to a file that was uploaded to a provider.",
            kind=kind,
            hint="Send the content itself.",
        )
    else:
        raise InvalidRequestError(
            f"A content block of type `{named}` has neither `url` nor `base64`.", field="messages"
        )


def _from_url(kind: Kind, url: str, mime_type: str | None) -> Attachment:
    if not url.startswith("data:"):
        return Attachment(kind=kind, mime_type=mime_type, url=url)
    head, _, data = url.removeprefix("data:").partition(",")
    return Attachment(kind=kind, mime_type=head.partition(";")[0] or mime_type, data=_decode(data))


def _decode(data: Any) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidRequestError("A content block's data is not valid base64.", field="messages") from error


_READERS: dict[str, Callable[[Block, Content], None]] = {
    "text": _read_text,
    "input_text": _read_text,
    "output_text": _read_text,
    "refusal": _read_refusal,
    "reasoning": _read_reasoning,
    "thinking": _read_reasoning,
    "redacted_thinking": _pass_over,
    "tool_call": _read_call,
    "tool_use": _read_call,
    "tool_result": _read_result,
    # Calls in pieces and calls that failed are also in the message's own `tool_calls` and `invalid_tool_calls`.
    "tool_call_chunk": _pass_over,
    "invalid_tool_call": _pass_over,
    "function_call": _pass_over,
    "input_json_delta": _pass_over,
    "image_url": _read_image_url,
    "input_audio": _read_input_audio,
    "image": _read_media,
    "audio": _read_media,
    "video": _read_media,
    "file": _read_media,
    "document": _read_media,
    "text-plain": _read_plain_document,
}
