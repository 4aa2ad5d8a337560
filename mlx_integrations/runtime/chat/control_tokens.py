"""Keep text from posing as structure: `<|im_end|>` in a web page that a tool returned must not end a turn.

Only the model's chat template may write control tokens. Those that appear in messages, tools and the output schema are
broken up before rendering by a character that no text contains, and the prompt is tokenised piece by piece at that
character: the model reads the same words, as ordinary tokens. A tool's name is what the model must write, so there they
are refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import ChatMessage, ChatRequest, JsonSchemaFormat, OutputFormat, ToolCall, ToolSpec

__all__ = ["ControlTokens", "split_at_marks", "unescape_marks"]

_MARK = "\ufdd0"  # a noncharacter: valid in strings, in no text
_ESCAPED_MARK = r"\ufdd0"  # some templates write JSON with escapes


def split_at_marks(text: str) -> list[str]:
    """The pieces of a rendered prompt that must be tokenised apart from one another."""
    return text.split(_MARK)


def unescape_marks(text: str) -> str:
    """A rendered prompt in which marks that the template escaped are marks again.

    Only for requests that went through `ControlTokens.disarm`: it broke up what looked like an escaped mark before.
    """
    return text.replace(_ESCAPED_MARK, _MARK)


class ControlTokens:
    """Disarms the control tokens of one tokenizer.

    Args:
        tokens: Their texts.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, (*longest_first, _ESCAPED_MARK))))

    def disarm(self, request: ChatRequest) -> ChatRequest:
        """The request with every control token in its texts broken up; itself if there are none.

        Raises:
            InvalidRequestError: The name of a tool contains one.
        """
        messages = tuple(map(self._message, request.messages))
        tools = tuple(map(self._tool, request.tools))
        output = self._output(request.output)
        if (messages, tools, output) == (request.messages, request.tools, request.output):
            return request
        return replace(request, messages=messages, tools=tools, output=output)

    def _message(self, message: ChatMessage) -> ChatMessage:
        calls = tuple(
            ToolCall(id=self._text(call.id), name=self._text(call.name), arguments=self._value(call.arguments))
            for call in message.tool_calls
        )
        return replace(
            message,
            content=self._text(message.content),
            reasoning=None if message.reasoning is None else self._text(message.reasoning),
            name=None if message.name is None else self._text(message.name),
            tool_calls=calls,
            tool_call_id=None if message.tool_call_id is None else self._text(message.tool_call_id),
        )

    def _tool(self, tool: ToolSpec) -> ToolSpec:
        if found := self._pattern.search(tool.name):
            raise InvalidRequestError(
                f"The name of the tool `{tool.name}` contains `{found[0]}`, which means something else to the model.",
                field="tools",
                hint="Name tools with letters, digits, `_` and `-`.",
            )
        return ToolSpec(
            name=tool.name, description=self._text(tool.description), parameters=self._value(tool.parameters)
        )

    def _output(self, output: OutputFormat | None) -> OutputFormat | None:
        if not isinstance(output, JsonSchemaFormat):
            return output  # nothing else is written into the prompt
        return replace(output, schema=self._value(output.schema))

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._value(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        return self._pattern.sub(lambda found: f"{found[0][0]}{_MARK}{found[0][1:]}", text)
