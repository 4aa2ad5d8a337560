"""Llama 3.1 to 3.3: the whole answer is `{"name": ..., "parameters": {...}}`, or it follows `<|python_tag|>`."""

import ast
import json
import re
from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import (
    Block,
    CallError,
    CallSyntax,
    Delta,
    NewId,
    OutputParser,
    OutputSyntax,
    ParserOptions,
    RawCall,
)
from mlx_integrations.runtime.chat.tool_syntax.calls import accept, invalid, json_calls, strict_json
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK
from mlx_integrations.runtime.chat.tool_syntax.scanning import JsonTracker
from mlx_integrations.runtime.chat.tool_syntax.staged import block_parser, stage
from mlx_integrations.types import FinishReason, ToolSpec

__all__ = ["BareJsonParser", "llama3_syntax"]

_CALL_KEYS = frozenset({"name", "parameters", "arguments", "type", "function", "id"})
_FIRST_KEY = re.compile(r'\{\s*"(?P<key>[^"]*)(?P<closed>")?')
_NOTHING_YET = re.compile(r"(?:\{\s*)?\Z")
_NAME_FIRST = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)(?P<closed>")?')
_BETWEEN = " \t\r\n;"


def _python_tag_calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    """JSON calls with `;` between, or `name.call(key="value")` as the built-in tools are written."""
    if body.lstrip().startswith("{"):
        return [raw for value in _values(body) for raw in json_calls(value, tools)]
    try:
        node = ast.parse(body.strip(), mode="eval").body
        if isinstance(node, ast.Call) and not node.args and all(item.arg for item in node.keywords):
            name = node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "call" else node.func
            if isinstance(name, ast.Name):
                arguments = {str(item.arg): ast.literal_eval(item.value) for item in node.keywords}
                return [RawCall(name.id, json.dumps(arguments, allow_nan=False))]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as exc:
        raise CallError("neither JSON nor a call with literal arguments") from exc
    raise CallError("code, and no tool that runs code was offered")


def _function_calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    """The rest of `<function=name>{...}</function>`, the form for tools of one's own in Meta's first prompts."""
    name, closed, arguments = body.partition(">")
    if not closed:
        raise CallError("the name of the function is not closed")
    return [RawCall(name.strip(), arguments.strip())]


def _values(text: str) -> list[str]:
    """The JSON values in a row, `;` between; the last takes whatever is left."""
    values = []
    rest = text.strip(_BETWEEN)
    while rest:
        tracker = JsonTracker()
        tracker.advance(rest, len(rest))
        end = len(rest) if tracker.closed_at is None else tracker.closed_at
        values.append(rest[:end])
        rest = rest[end:].strip(_BETWEEN)
    return values


class BareJsonParser:
    """Takes an answer for calls if nothing but JSON calls of offered tools is in it; else passes it on unread.

    Text is held only while it can still become that: `{"answer": ...` goes out at its first key.

    Args:
        otherwise: Reads every other answer.
        tools: The tools offered.
        new_id: Makes ids of calls.
    """

    def __init__(self, otherwise: OutputParser, *, tools: Sequence[ToolSpec], new_id: NewId) -> None:
        self._otherwise = otherwise
        self._tools = tools
        self._names = frozenset(tool.name for tool in tools)
        self._new_id = new_id
        self._buffer = ""
        self._start = 0
        self._tracker = JsonTracker()
        self._has_passed = False

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back whatever is certain by now."""
        if not self._has_passed:
            self._buffer += text
            if self._can_be_calls():
                return []
            self._has_passed = True
            text = self._buffer
        return self._otherwise.feed(text)

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Give back everything still held."""
        if self._has_passed:
            return self._otherwise.finish(reason)
        try:
            calls = self._read()
        except CallError as exc:
            match = _NAME_FIRST.match(self._buffer.lstrip())
            if match is not None and match["closed"] and match["name"] in self._names:
                was_cut = self._tracker.closed_at is None
                error = "the answer ended before the call was complete" if was_cut else str(exc)
                return [invalid(self._buffer, error, self._new_id, name=match["name"])]
            calls = []
        if calls:
            return [accept(raw, self._tools, self._new_id) for raw in calls]
        return self._otherwise.feed(self._buffer) + self._otherwise.finish(reason)

    def _can_be_calls(self) -> bool:
        text = self._buffer.lstrip()
        if not self._tools or not "{".startswith(text[:1]):
            return False
        if _NOTHING_YET.match(text):
            return True
        first_key = _FIRST_KEY.match(text)
        if first_key is None:
            return False
        key = first_key["key"]
        if not (key in _CALL_KEYS if first_key["closed"] else any(known.startswith(key) for known in _CALL_KEYS)):
            return False
        name = _NAME_FIRST.match(text)
        if name is not None:
            written = name["name"]
            is_offered = written in self._names if name["closed"] else any(n.startswith(written) for n in self._names)
            if not is_offered and "\\" not in text[name.end() : name.end() + 1]:
                return False
        return self._follow()

    def _follow(self) -> bool:
        """Whether what comes after each value is the end, a separator or the next value."""
        while True:
            rest = self._buffer[self._start :]
            self._tracker.advance(rest, len(rest))
            if self._tracker.closed_at is None:
                return True
            after = rest[self._tracker.closed_at :]
            following = after.lstrip(_BETWEEN)
            if not following:
                return True
            if following[0] != "{":
                return False
            self._start += len(rest) - len(following)
            self._tracker = JsonTracker()

    def _read(self) -> list[RawCall]:
        """The calls, if the whole answer is that; none if it is JSON of another kind.

        Raises:
            CallError: It is not JSON.
        """
        values = _values(self._buffer)
        objects = [strict_json(value) for value in values]
        if not all(isinstance(item, dict) and item.keys() <= _CALL_KEYS for item in objects):
            return []
        calls = [raw for value in values for raw in json_calls(value, self._tools)]
        return calls if all(raw.name in self._names for raw in calls if isinstance(raw.name, str)) else []


def _build(syntax: OutputSyntax, options: ParserOptions) -> OutputParser:
    bare = BareJsonParser(block_parser(syntax, options), tools=options.tools, new_id=options.new_id)
    return stage(syntax, options, bare)


def llama3_syntax() -> OutputSyntax:
    """Llama 3.1 to 3.3, whose templates refuse several calls in one turn, and Llama 4, which has tags for code, too."""
    return OutputSyntax(
        name="llama3",
        call=CallSyntax(
            before_name='{"name": "', before_arguments='", "parameters": ', after_call="}", between="; ", parallel=False
        ),
        build=_build,
        blocks=(
            Block("<|python_tag|>", "<|eom_id|>", _python_tag_calls, is_open_ended=True),
            Block("<|python_start|>", "<|python_end|>", _python_tag_calls, is_open_ended=True),
            Block("<function=", "</function>", _function_calls),
            HERMES_BLOCK,
        ),
        stop_markers=("<|eot_id|>", "<|eom_id|>"),
    )
