"""The records that generators make: a conversation with the answers that the model should give."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One generated conversation.

    Attributes:
        skill: Which skill it exercises.
        messages: The whole conversation in the OpenAI form, the model's right answers included.
        tools: Tools offered to the model, in the OpenAI form.
    """

    skill: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()

    def graded(self) -> tuple[int, ...]:
        """Returns the positions of the assistant's turns after the last user turn: those that evaluation grades."""
        last_user = max(at for at, message in enumerate(self.messages) if message["role"] == "user")
        turns = range(last_user + 1, len(self.messages))
        return tuple(at for at in turns if self.messages[at]["role"] == "assistant")


def system(text: str) -> Message:
    """Returns a system message."""
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    """Returns a user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Returns an assistant message with text only."""
    return {"role": "assistant", "content": text}


def calling(*calls: tuple[str, dict[str, Any]]) -> Message:
    """Returns an assistant message that calls tools.

    Args:
        *calls: Tool name and arguments of each call, in order.
    """
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "id": f"call_{at}", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(calls)
        ],
    }


def result(content: Any, name: str = "") -> Message:
    """Returns a tool message; anything but text is written as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return {"role": "tool", "name": name, "content": text}


def tool(name: str, description: str, properties: dict[str, Any], required: list[str] | None = None) -> Tool:
    """Returns a tool definition in the OpenAI form."""
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    parameters["required"] = list(properties) if required is None else required
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
