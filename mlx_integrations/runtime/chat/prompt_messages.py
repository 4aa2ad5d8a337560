"""Messages and tools in the shapes that chat templates read, and the ways around what a template cannot say. Pure."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mlx_integrations.types import ChatMessage, JsonObjectFormat, JsonSchemaFormat, OutputFormat, ToolCall, ToolSpec

__all__ = [
    "ArgumentsForm",
    "CallForm",
    "IdStyle",
    "TemplateMessage",
    "clean_text",
    "fold_system",
    "one_call_a_turn",
    "plain",
    "repairs",
    "template_messages",
    "template_tools",
    "with_system_text",
    "with_written_calls",
    "without_tool_roles",
    "written_output_instruction",
    "written_tools",
]

TemplateMessage = dict[str, Any]
ArgumentsForm = Literal["object", "string"]
CallForm = Literal["hermes", "json_list", "pythonic"]
IdStyle = Literal["as_is", "nine_characters", "name_and_index"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def clean_text(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD: tokenizers raise on them, and tools that decode leniently send
    them.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def plain(value: Any) -> Any:
    """A value as plain dicts, lists and clean strings: templates test types, and `tojson` takes no other mappings."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value]
    return value


def dump(value: Any) -> str:
    """JSON as models see it in training: spaces after `:` and `,`, letters of all languages as they are."""
    return json.dumps(plain(value), ensure_ascii=False)


def template_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """Tools in the OpenAI form, which templates and mlx-lm's parsers read."""
    return [
        {
            "type": "function",
            "function": {
                "name": clean_text(tool.name),
                "description": clean_text(tool.description),
                # Templates and parsers walk through `properties` without asking whether it is there.
                "parameters": {"type": "object", "properties": {}} | plain(tool.parameters),
            },
        }
        for tool in tools
    ]


def template_messages(
    messages: Sequence[ChatMessage], *, arguments: ArgumentsForm = "object", ids: IdStyle = "as_is"
) -> list[TemplateMessage]:
    """Messages in the form templates read; keys that say nothing are left out.

    Args:
        messages: The conversation.
        arguments: Whether the template wants arguments as an object or as JSON text.
        ids: The shape of call ids that it wants.
    """
    shapes = _IdShapes(ids)
    names: dict[str, str] = {}
    result: list[TemplateMessage] = []
    for message in messages:
        item: TemplateMessage = {"role": message.role, "content": clean_text(message.content)}
        if message.reasoning:
            item["reasoning_content"] = clean_text(message.reasoning)
        if message.tool_calls:
            names |= {call.id: call.name for call in message.tool_calls}
            item["tool_calls"] = [_call(call, arguments, shapes) for call in message.tool_calls]
        if message.tool_call_id is not None:
            item["tool_call_id"] = shapes.of(message.tool_call_id)
        name = message.name or (names.get(message.tool_call_id or "") if message.role == "tool" else None)
        if name:
            item["name"] = clean_text(name)
        result.append(item)
    return result


def _call(call: ToolCall, form: ArgumentsForm, shapes: "_IdShapes") -> dict[str, Any]:
    arguments = dump(call.arguments) if form == "string" else plain(call.arguments)
    return {
        "id": shapes.of(call.id, name=call.name),
        "type": "function",
        "function": {"name": clean_text(call.name), "arguments": arguments},
    }


class _IdShapes:
    """Maps call ids to the shape a template wants; a result gets the shape of the last call with its id."""

    def __init__(self, style: IdStyle) -> None:
        self._style = style
        self._by_position: dict[str, str] = {}
        self._count = 0

    def of(self, call_id: str, *, name: str = "") -> str:
        if self._style == "nine_characters":
            return _nine_characters(call_id)
        if self._style == "name_and_index":
            # Kimi writes the name of the function inside the id, and counts calls through the conversation.
            if name:
                self._by_position[call_id] = f"functions.{name}:{self._count}"
                self._count += 1
            return clean_text(self._by_position.get(call_id, call_id))
        return clean_text(call_id)


def _nine_characters(call_id: str) -> str:
    """The id as Mistral's templates demand it: nine letters or digits."""
    if len(call_id) == 9 and call_id.isascii() and call_id.isalnum():
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).digest()[:8])
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def written_tools(tools: Sequence[ToolSpec]) -> str:
    """An explanation of tools in the Hermes form, for a model whose template has no place for them."""
    lines = "\n".join(dump(tool) for tool in template_tools(tools))
    return (
        "# Tools\n\nYou may call functions to help with the user's request. "
        "The functions you have are listed between <tools> and </tools>, one JSON object on each line:\n"
        f"<tools>\n{lines}\n</tools>\n\n"
        "To call a function, write a JSON object with its name and its arguments between <tool_call> and </tool_call>, "
        "once for each call:\n"
        '<tool_call>\n{"name": "<function name>", "arguments": {"<argument name>": "<value>"}}\n</tool_call>'
    )


def written_output_instruction(output: OutputFormat | None, messages: Sequence[ChatMessage]) -> str:
    """What the model is told about the format of its answer; the grammar enforces it in any case."""
    if isinstance(output, JsonSchemaFormat):
        return "Reply with JSON that matches this JSON Schema:\n" + dump(output.schema)
    if isinstance(output, JsonObjectFormat) and not any("json" in message.content.lower() for message in messages):
        return "Reply with a JSON object."
    return ""


def with_system_text(messages: Sequence[ChatMessage], text: str) -> tuple[ChatMessage, ...]:
    """`messages` with `text` at the end of the first system message, or as one where there is none."""
    if not text:
        return tuple(messages)
    if messages and messages[0].role == "system":
        first = replace(messages[0], content="\n\n".join(filter(None, (messages[0].content, text))))
        return (first, *messages[1:])
    return (ChatMessage(role="system", content=text), *messages)


def fold_system(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """`messages` with all system text at the head of the first user message, for templates without that role."""
    system = "\n\n".join(message.content for message in messages if message.role == "system" and message.content)
    rest = [message for message in messages if message.role != "system"]
    if not system and rest:
        return tuple(rest)
    if rest and rest[0].role == "user":
        return (replace(rest[0], content="\n\n".join(filter(None, (system, rest[0].content)))), *rest[1:])
    return (ChatMessage(role="user", content=system), *rest)


def written_calls(calls: Sequence[ToolCall], form: CallForm) -> str:
    """Calls as text, in the form in which the family writes them."""
    objects = [{"name": call.name, "arguments": call.arguments} for call in calls]
    if form == "json_list":
        return f"<|tool_call|>{dump(objects)}"
    if form == "pythonic":
        return f"<|tool_call_start|>[{', '.join(map(_pythonic, calls))}]<|tool_call_end|>"
    return "\n".join(f"<tool_call>\n{dump(item)}\n</tool_call>" for item in objects)


def _pythonic(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={plain(value)!r}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def with_written_calls(messages: Sequence[ChatMessage], form: CallForm) -> tuple[ChatMessage, ...]:
    """`messages` with calls as text behind the text of their message."""
    separator = "\n" if form == "hermes" else ""
    return tuple(
        replace(
            message,
            content=separator.join(filter(None, (message.content, written_calls(message.tool_calls, form)))),
            tool_calls=(),
        )
        if message.tool_calls
        else message
        for message in messages
    )


def without_tool_roles(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """`messages` with calls and their results as text in the Hermes form; results in a row become one user message."""
    result: list[ChatMessage] = []
    was_tool = False
    for message in with_written_calls(messages, "hermes"):
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if was_tool:
                result[-1] = replace(result[-1], content=f"{result[-1].content}\n{text}")
            else:
                result.append(ChatMessage(role="user", content=text))
        else:
            result.append(message)
        was_tool = message.role == "tool"
    return tuple(result)


def repairs(messages: list[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    """What to try, in order, with a template that refuses `messages`: them, each way around alone, then all ways."""
    yield messages
    steps: tuple[Callable[[list[TemplateMessage]], list[TemplateMessage]], ...] = (
        _merge_neighbours,
        _gather_system,
        one_call_a_turn,
        _drop_reasoning,
    )
    everything = messages
    tried = [messages]
    for step in steps:
        everything = step(everything)
        if (alone := step(messages)) not in tried:
            tried.append(alone)
            yield alone
    # Splitting calls and gathering system text can make neighbours that were none before.
    everything = _merge_neighbours(everything)
    if everything not in tried:
        yield everything


def _merge_neighbours(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    """Join messages of one role in a row: many templates demand that user and assistant alternate."""
    result: list[TemplateMessage] = []
    for message in messages:
        last = result[-1] if result else None
        if last is None or last["role"] != message["role"] or message["role"] == "tool" or last.get("tool_calls"):
            result.append(dict(message))
            continue
        for key in ("content", "reasoning_content"):
            if joined := "\n\n".join(filter(None, (last.get(key), message.get(key)))):
                last[key] = joined
        if calls := message.get("tool_calls"):
            last["tool_calls"] = calls
    return result


def _gather_system(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    """Move all system text into one message at the beginning, the only place where some templates take it."""
    system = [message for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    if not system:
        return messages
    content = "\n\n".join(message["content"] for message in system if message["content"])
    return [{"role": "system", "content": content}, *rest]


def one_call_a_turn(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    """Spread parallel calls over turns, each followed by its result, for templates that know one call at a time."""
    spread: list[TemplateMessage] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        calls = message.get("tool_calls", [])
        if len(calls) < 2:
            spread.append(message)
            continue
        count = next((number for number, item in enumerate(rest) if item["role"] != "tool"), len(rest))
        results, rest = rest[:count], rest[count:]
        for position, call in enumerate(calls):
            turn = message if position == 0 else {"role": "assistant", "content": ""}
            spread.append({**turn, "tool_calls": [call]})
            own = next((item for item in results if item.get("tool_call_id") == call["id"]), None)
            if own is not None:
                spread.append(own)
                results = [item for item in results if item is not own]
        spread.extend(results)
    return spread


def _drop_reasoning(messages: list[TemplateMessage]) -> list[TemplateMessage]:
    return [{key: value for key, value in message.items() if key != "reasoning_content"} for message in messages]
