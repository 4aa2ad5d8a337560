"""Keep text from posing as structure: `<|im_end|>` in a web page that a tool returned must not end a turn.

Only the model's chat template may write control tokens. Those that appear in messages and tools are broken up before
rendering by a character that no text contains, and the prompt is tokenised piece by piece at that character: the model
reads the same words, as ordinary tokens.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mlx_integrations.types import ChatMessage, ChatRequest, ToolCall, ToolSpec

__all__ = ["ControlTokens", "split_at_marks"]

_MARK = "\ufdd0"  # a noncharacter: valid in strings, in no text
_MARKS = re.compile(rf"{_MARK}|\\ufdd0")  # some templates write JSON with escapes


def split_at_marks(text: str) -> list[str]:
    """The pieces of a rendered prompt that must be tokenised apart from one another."""
    return _MARKS.split(text)


class ControlTokens:
    """Disarms the control tokens of one tokenizer.

    Args:
        tokens: Their texts.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def disarm(self, request: ChatRequest) -> ChatRequest:
        """The request with every control token in its texts broken up; itself if there are none."""
        if self._pattern is None:
            return request
        messages = tuple(map(self._message, request.messages))
        tools = tuple(map(self._tool, request.tools))
        if messages == request.messages and tools == request.tools:
            return request
        return replace(request, messages=messages, tools=tools)

    def _message(self, message: ChatMessage) -> ChatMessage:
        calls = tuple(
            ToolCall(id=call.id, name=self._text(call.name), arguments=self._value(call.arguments))
            for call in message.tool_calls
        )
        return replace(
            message,
            content=self._text(message.content),
            reasoning=None if message.reasoning is None else self._text(message.reasoning),
            name=None if message.name is None else self._text(message.name),
            tool_calls=calls,
        )

    def _tool(self, tool: ToolSpec) -> ToolSpec:
        return ToolSpec(
            name=tool.name, description=self._text(tool.description), parameters=self._value(tool.parameters)
        )

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._value(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        assert self._pattern is not None
        return self._pattern.sub(lambda found: f"{found[0][0]}{_MARK}{found[0][1:]}", text)
