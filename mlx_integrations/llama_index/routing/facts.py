"""LlamaIndex messages and options as facts for the router."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index_instrumentation.dispatcher import active_instrument_tags

from mlx_integrations.errors import RequestError
from mlx_integrations.llama_index.messages import to_chat_messages
from mlx_integrations.router.facts import AttachmentKind, MessageFacts, RequestFacts
from mlx_integrations.router.privacy import PRIVACY_KEY, is_marked, said_private
from mlx_integrations.router.read import RequestReader, message_facts, readable_json
from mlx_integrations.types import Role

__all__ = ["ROUTE_OPTIONS", "read_call"]

ROUTE_OPTIONS: Final = ("privacy", "task", "language", "tags", "model")
"""Options of a call that are for the router alone; all but the last are also understood as instrumentation tags."""

_KINDS: Final[tuple[AttachmentKind, ...]] = ("image", "audio", "video", "file")
_ROLES: Final[Mapping[MessageRole, Role]] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


def read_call(reader: RequestReader, messages: Sequence[ChatMessage], options: Mapping[str, Any]) -> RequestFacts:
    """What the router may know of a call.

    Agents, engines and queries pass no options on to their model. What they are told with LlamaIndex's
    `instrument_tags` around them counts instead: `privacy`, `task`, `language` and `tags`, and every tag that is true.

    Args:
        reader: Reads as the policy wants.
        messages: The conversation.
        options: Of the call, those for the router among them.
    """
    around = active_instrument_tags.get()
    said = {**around, **{name: value for name, value in options.items() if value is not None}}
    described = {name: value for name, value in options.items() if name not in ROUTE_OPTIONS}
    return reader.read(
        [_message_facts(message) for message in messages],
        tools=readable_json(described).encode("utf-8", "surrogatepass"),
        needs_tools=bool(options.get("tools")) and options.get("tool_choice") != "none",
        needs_structured_output=options.get("response_format") is not None,
        output_tokens=_whole(options.get("max_tokens") or options.get("max_completion_tokens")),
        task=said.get("task"),
        language=said.get("language"),
        tags=[*_tags(said.get("tags")), *(str(name) for name, value in around.items() if value is True)],
        private=said_private(said.get(PRIVACY_KEY)),
    )


def _tags(given: Any) -> Iterable[str]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _message_facts(message: ChatMessage) -> MessageFacts:
    is_private = is_marked(message.additional_kwargs)
    try:
        (translated,) = to_chat_messages([message])
    except RequestError:
        return _plain_facts(message, is_private)  # a block that no model of this package knows; another one may
    return message_facts(translated, is_private=is_private)


def _plain_facts(message: ChatMessage, is_private: bool) -> MessageFacts:
    """A message of any kind: everything in it counts as text, whatever it is."""
    kinds = " ".join(block.block_type for block in message.blocks).replace("document", "file")
    return MessageFacts(
        role=_ROLES.get(message.role, "user"),
        text=readable_json(message.model_dump()),
        attachments=frozenset(kind for kind in _KINDS if kind in kinds),
        is_private=is_private,
    )
