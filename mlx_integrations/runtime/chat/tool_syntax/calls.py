"""Strict acceptance of calls: only a complete JSON object for an offered tool is a call, the rest stays visible."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from mlx_integrations.runtime.chat.tool_syntax.base import CallError, NewId, RawCall
from mlx_integrations.types import InvalidToolCall, ToolCall, ToolSpec

__all__ = ["accept", "invalid", "json_calls", "read_calls", "strict_json"]

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]*)"')


def _refuse_constant(constant: str) -> NoReturn:
    raise CallError(f"`{constant}` is not JSON")


def strict_json(text: str) -> Any:
    """The JSON value that is the whole of `text`.

    Raises:
        CallError: It is not JSON; `NaN` and the infinities are not, either.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except CallError:
        raise
    except RecursionError as exc:
        raise CallError("the JSON is nested too deeply") from exc
    except ValueError as exc:
        raise CallError(f"not valid JSON: {exc}") from exc


def json_calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    """Calls written as `{"name": ..., "arguments": {...}}`, or a list of them.

    `parameters` is taken for `arguments`, `tool_name` for `name`, and the wrapping `{"type": "function", "function":
    {...}}` is seen through, since models of several families write so.

    Raises:
        CallError: It is not that.
    """
    value = strict_json(body)
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise CallError("an empty list of calls")
    return [_entry(entry) for entry in entries]


def _entry(entry: Any) -> RawCall:
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
        entry = entry["function"]
    if not isinstance(entry, dict):
        raise CallError("a call must be a JSON object with `name` and `arguments`")
    name = entry.get("name", entry.get("tool_name"))
    if name is None:
        raise CallError("the call has no `name`")
    arguments = entry["arguments"] if "arguments" in entry else entry.get("parameters", {})
    return RawCall(name, arguments)


def accept(raw: RawCall, tools: Sequence[ToolSpec], new_id: NewId) -> ToolCall | InvalidToolCall:
    """Check one call: its name was offered and its arguments are an object."""
    written = raw.arguments if isinstance(raw.arguments, str) else _dump(raw.arguments)
    if not isinstance(raw.name, str):
        return invalid(written, "the name of the call is not a string", new_id)
    if raw.name not in {tool.name for tool in tools}:
        return invalid(written, _not_offered(raw.name, tools), new_id, name=raw.name)
    arguments = raw.arguments
    try:
        # Several templates show the arguments as a JSON string, and models imitate them.
        arguments = strict_json(arguments) if isinstance(arguments, str) else arguments
    except CallError as exc:
        return invalid(written, f"the arguments are {exc}", new_id, name=raw.name)
    if not isinstance(arguments, Mapping):
        return invalid(written, "the arguments are not a JSON object", new_id, name=raw.name)
    return ToolCall(id=new_id(), name=raw.name, arguments=dict(arguments))


def read_calls(
    body: str,
    parse: Callable[[str, Sequence[ToolSpec]], list[RawCall]],
    tools: Sequence[ToolSpec],
    new_id: NewId,
) -> list[ToolCall | InvalidToolCall]:
    """Read and check the calls in `body`; what cannot be read becomes one invalid call with all of it."""
    try:
        raws = parse(body, tools)
    except CallError as exc:
        return [invalid(body, str(exc), new_id, name=exc.name)]
    return [accept(raw, tools, new_id) for raw in raws]


def invalid(text: str, error: str, new_id: NewId, *, name: str | None = None) -> InvalidToolCall:
    """A call that could not be accepted, with the raw text and, where it can be made out, the name."""
    if name is None and (match := _NAME.search(text)):
        name = match.group(1)
    return InvalidToolCall(id=new_id(), name=name, arguments=text.strip(), error=error[:1].upper() + error[1:] + ".")


def _not_offered(name: str, tools: Sequence[ToolSpec]) -> str:
    offered = ", ".join(f"`{tool.name}`" for tool in tools)
    return f"no tool `{name}` was offered; the tools are {offered}" if offered else f"no tool `{name}` was offered"


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
