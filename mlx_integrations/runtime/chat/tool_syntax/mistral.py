"""Mistral: `[TOOL_CALLS]` and a JSON list of calls (tokenizers v3 to v7), or `name[ARGS]{...}` (v11 and later)."""

import re
from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallError, CallSyntax, OutputSyntax, RawCall
from mlx_integrations.runtime.chat.tool_syntax.calls import json_calls
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["mistral_args_syntax", "mistral_list_syntax"]

_HEADER = re.compile(r"\s*(?P<name>[^\[\]{}]+?)\s*(?:\[CALL_ID\][^\[\]]*)?\[ARGS\](?P<arguments>.*)\Z", re.DOTALL)


def _calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    if body.lstrip()[:1] in ("[", "{"):
        return json_calls(body, tools)
    match = _HEADER.match(body)
    if match is None:
        raise CallError("neither a JSON list of calls nor `name[ARGS]` with arguments")
    return [RawCall(match["name"], match["arguments"].strip())]


_BLOCKS = (Block("[TOOL_CALLS]", "", _calls), HERMES_BLOCK)


def mistral_list_syntax(*, has_blank: bool = False) -> OutputSyntax:
    """The JSON list; `has_blank` where the template puts a blank between marker and list."""
    return OutputSyntax(
        name="mistral",
        call=CallSyntax(
            begin="[TOOL_CALLS] [" if has_blank else "[TOOL_CALLS][",
            before_name='{"name": "',
            before_arguments='", "arguments": ',
            after_call="}",
            between=", ",
            end="]",
        ),
        build=build_staged,
        call_trigger="[TOOL_CALLS]",
        blocks=_BLOCKS,
    )


def mistral_args_syntax() -> OutputSyntax:
    """One marker for each call, with the name outside the JSON."""
    return OutputSyntax(
        name="mistral_args",
        call=CallSyntax(before_name="[TOOL_CALLS]", before_arguments="[ARGS]", after_call=""),
        build=build_staged,
        call_trigger="[TOOL_CALLS]",
        blocks=_BLOCKS,
        markers=frozenset({"[CALL_ID]"}),
    )
