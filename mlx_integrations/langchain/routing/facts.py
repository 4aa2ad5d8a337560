"""LangChain messages and options as facts for the router."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from mlx_integrations.errors import RequestError
from mlx_integrations.langchain.messages import to_chat_messages
from mlx_integrations.router.facts import AttachmentKind, MessageFacts, RequestFacts
from mlx_integrations.router.privacy import PRIVACY_KEY, is_marked, said_private
from mlx_integrations.router.read import RequestReader, message_facts, readable_json
from mlx_integrations.types import Role

__all__ = ["ROUTE_OPTIONS", "read_call", "wants_format"]

ROUTE_OPTIONS: Final = ("privacy", "task", "language", "model")
"""Options of a call that are for the router alone, also understood in a call's metadata."""

_KINDS: Final[tuple[AttachmentKind, ...]] = ("image", "audio", "video", "file")


def read_call(
    reader: RequestReader,
    messages: Sequence[BaseMessage],
    options: Mapping[str, Any],
    *,
    stop: Sequence[str] | None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> RequestFacts:
    """What the router may know of a call.

    Args:
        reader: Reads as the policy wants.
        messages: The conversation.
        options: Of the call, those for the router among them.
        stop: Strings that end the answer.
        tags: Of the run, those of the graph around it among them.
        metadata: Of the run.
    """
    said = {**(metadata or {}), **{name: value for name, value in options.items() if value is not None}}
    tools = options.get("tools") or ()
    described = [{name: value for name, value in options.items() if name not in ROUTE_OPTIONS}, list(stop or ())]
    return reader.read(
        [_message_facts(message) for message in messages],
        tools=readable_json(described).encode("utf-8", "surrogatepass"),
        needs_tools=bool(tools) and options.get("tool_choice") != "none",
        needs_structured_output=wants_format(options.get("response_format")),
        output_tokens=_whole(options.get("max_tokens") or options.get("max_completion_tokens")),
        task=said.get("task"),
        language=said.get("language"),
        tags=tags,
        private=said_private(said.get(PRIVACY_KEY)),
    )


def wants_format(response_format: Any) -> bool:
    """Whether an answer has to be JSON of some form; OpenAI's way to say that it need not is `{"type": "text"}`."""
    is_text = isinstance(response_format, Mapping) and response_format.get("type") == "text"
    return response_format is not None and not is_text


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _message_facts(message: BaseMessage) -> MessageFacts:
    is_private = is_marked(message.response_metadata) or is_marked(message.additional_kwargs)
    try:
        translated = to_chat_messages([message])
    except RequestError:
        return _plain_facts(message, is_private)  # a block that no model of this package knows; another one may
    besides = _besides(message)
    if len(translated) == 1:
        facts = message_facts(translated[0], is_private=is_private)
        return replace(facts, text=f"{facts.text}\n{readable_json(besides)}") if besides else facts
    parts = [message_facts(part) for part in translated]
    return MessageFacts(
        role=parts[0].role if parts else "user",
        text="\n".join([*(part.text for part in parts), readable_json(besides) if besides else ""]),
        attachments=frozenset().union(*(part.attachments for part in parts)),
        is_private=is_private,
    )


def _besides(message: BaseMessage) -> dict[str, Any]:
    """What models of other packages may send besides, such as calls in the older form."""
    if not message.additional_kwargs:
        return {}
    known = (PRIVACY_KEY, "reasoning_content", *(["tool_calls"] if getattr(message, "tool_calls", None) else []))
    return {name: value for name, value in message.additional_kwargs.items() if name not in known}


def _plain_facts(message: BaseMessage, is_private: bool) -> MessageFacts:
    """A message of any kind: everything in it counts as text, whatever it is."""
    content = message.content
    blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
    kinds = " ".join(str(block.get("type")) for block in blocks)
    calls = getattr(message, "tool_calls", [])
    return MessageFacts(
        role=_role(message),
        text=readable_json([content, calls, _besides(message)]),
        attachments=frozenset(kind for kind in _KINDS if kind in kinds),
        is_private=is_private,
    )


def _role(message: BaseMessage) -> Role:
    kinds: tuple[tuple[type[BaseMessage], Role], ...] = (
        (SystemMessage, "system"),
        (AIMessage, "assistant"),
        (ToolMessage, "tool"),
        (HumanMessage, "user"),
    )
    return next((role for kind, role in kinds if isinstance(message, kind)), "user")
