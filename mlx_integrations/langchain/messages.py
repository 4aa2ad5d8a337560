"""LangChain messages to `ChatMessage` and back. Pure: no model, no network, nothing looked up.

Text, reasoning and tool calls are translated; images, audio and files become attachments, which a text model's backend
refuses by name. What no model here could be shown (a block of an unknown type) is an error, never silently dropped.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages import ChatMessage as RoleMessage
from langchain_core.messages.tool import ToolCall as LangChainToolCall
from langchain_core.messages.tool import tool_call

from mlx_integrations.adapters.invalid_calls import shown_calls
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.langchain.blocks import attachment_block, read_content
from mlx_integrations.types import ChatMessage, Role, ToolCall

__all__ = ["from_chat_message", "langchain_tool_calls", "to_chat_messages"]

_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}


def to_chat_messages(messages: Sequence[BaseMessage]) -> tuple[ChatMessage, ...]:
    """Translate a conversation. An empty one stays empty: refusing it is the backend's part.

    Raises:
        InvalidRequestError: A message or content block of a kind that has no meaning here.
        UnsupportedContentError: A reference to a file that was uploaded to a provider.
    """
    return tuple(translated for message in messages for translated in _translate(message))


def from_chat_message(message: ChatMessage) -> BaseMessage:
    """Translate one message back. Attachments become standard content blocks."""
    content: Any = message.content
    if message.attachments:
        text = [{"type": "text", "text": message.content}] if message.content else []
        content = text + [attachment_block(item) for item in message.attachments]
    if message.role == "system":
        return SystemMessage(content=content, name=message.name)
    if message.role == "user":
        return HumanMessage(content=content, name=message.name)
    if message.role == "tool":
        return ToolMessage(content=content, tool_call_id=message.tool_call_id or "", name=message.name)
    return AIMessage(
        content=content,
        name=message.name,
        tool_calls=langchain_tool_calls(message.tool_calls),
        additional_kwargs={} if message.reasoning is None else {"reasoning_content": message.reasoning},
    )


def langchain_tool_calls(calls: Iterable[ToolCall]) -> list[LangChainToolCall]:
    """Translate calls for an `AIMessage`."""
    return [tool_call(name=call.name, args=dict(call.arguments), id=call.id) for call in calls]


def _translate(message: BaseMessage) -> list[ChatMessage]:
    if isinstance(message, AIMessage):
        return [_assistant(message)]
    if isinstance(message, ToolMessage):
        return [_tool_answer(message)]
    role = _role(message)
    content = read_content(message.content, role)
    answers = [
        ChatMessage(role="tool", content=result.text, tool_call_id=result.call_id) for result in content.tool_results
    ]
    if answers and not content.text and not content.attachments:
        return answers
    return [
        *answers,
        ChatMessage(role=role, content=content.text, name=message.name, attachments=tuple(content.attachments)),
    ]


def _role(message: BaseMessage) -> Role:
    if isinstance(message, RoleMessage):
        if message.role not in _ROLES:
            raise InvalidRequestError(
                f"A message has the role `{message.role}`.",
                field="messages",
                hint="Use one of " + ", ".join(f"`{role}`" for role in _ROLES) + ", or a `ToolMessage`.",
            )
        return _ROLES[message.role]
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, SystemMessage):
        return "system"
    raise InvalidRequestError(
        f"A `{type(message).__name__}` cannot be sent to a model.",
        field="messages",
        hint="Answers of tools are `ToolMessage`s; `FunctionMessage` belongs to an interface that no longer exists.",
    )


def _assistant(message: AIMessage) -> ChatMessage:
    content = read_content(message.content, "assistant")
    calls = [
        ToolCall(id=call["id"] or f"call_{position}", name=call["name"], arguments=call["args"])
        for position, call in enumerate(message.tool_calls)
    ]
    known = {call.id for call in calls}
    calls += [call for call in content.tool_calls if call.id not in known]
    reasoning = "".join(content.reasoning) or message.additional_kwargs.get("reasoning_content")
    text = "\n".join(part for part in (content.text, *_invalid_calls(message)) if part)
    return ChatMessage(
        role="assistant",
        content=text,
        name=message.name,
        reasoning=reasoning if isinstance(reasoning, str) else None,
        tool_calls=tuple(calls),
        attachments=tuple(content.attachments),
    )


def _invalid_calls(message: AIMessage) -> Iterable[str]:
    exact = message.additional_kwargs.get("invalid_tool_calls")
    calls: Sequence[Mapping[str, Any]] = exact if isinstance(exact, list) and exact else message.invalid_tool_calls
    return shown_calls(calls)


def _tool_answer(message: ToolMessage) -> ChatMessage:
    content = read_content(message.content, "tool")
    text = content.text
    if message.status == "error" and not text.lstrip().casefold().startswith("error"):
        # A chat template has no place for the status; the model has to read it.
        text = f"Error: {text}"
    return ChatMessage(
        role="tool",
        content=text,
        name=message.name,
        tool_call_id=message.tool_call_id,
        attachments=tuple(content.attachments),
    )
