"""Seed-OSS: functions as XML inside `<seed:tool_call>`, with values as bare text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallError, OutputSyntax, RawCall
from mlx_integrations.runtime.chat.tool_syntax.calls import strict_json
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK, HERMES_CALL
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["seed_syntax"]

_FUNCTION = re.compile(r"<function=(?P<name>[^>]*)>(?P<body>.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=(?P<name>[^>]*)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)


def _calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    calls = [
        RawCall(match["name"].strip(), _arguments(match["name"].strip(), match["body"], tools))
        for match in _FUNCTION.finditer(body)
    ]
    if not calls or _FUNCTION.sub("", body).strip():
        raise CallError("the block does not consist of complete `function` elements")
    return calls


def _arguments(tool_name: str, body: str, tools: Sequence[ToolSpec]) -> dict[str, Any]:
    if _PARAMETER.sub("", body).strip():
        raise CallError("the call does not consist of complete `parameter` elements", name=tool_name)
    properties: Mapping[str, Any] = next(
        (tool.parameters.get("properties") or {} for tool in tools if tool.name == tool_name), {}
    )
    return {match["name"]: _typed(match["value"], properties.get(match["name"])) for match in _PARAMETER.finditer(body)}


def _typed(value: str, schema: Any) -> Any:
    """A bare value as its schema types it: text where text is allowed, JSON elsewhere, as long as it is JSON."""
    if not isinstance(schema, Mapping):
        return value
    kinds = schema.get("type")
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds and value != "null"):
        return value
    try:
        return strict_json(value.lower() if kinds == "boolean" else value)
    except CallError:
        return value


def seed_syntax() -> OutputSyntax:
    """Seed-OSS, with its own tags for thinking."""
    return OutputSyntax(
        name="seed",
        call=HERMES_CALL,
        build=build_staged,
        reasoning_start="<seed:think>",
        reasoning_end="</seed:think>",
        blocks=(Block("<seed:tool_call>", "</seed:tool_call>", _calls, is_json=False), HERMES_BLOCK),
    )
