"""Kimi K2: `functions.name:index` and JSON arguments between tokens of its own."""

import re
from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallError, CallSyntax, OutputSyntax, RawCall
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["kimi_syntax"]

_SECTION_BEGIN, _SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
_BEGIN, _ARGUMENTS, _END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_HEADER = re.compile(r"\s*(?:functions\.)?(?P<name>.+?)(?::\d+)?\s*\Z", re.DOTALL)


def _calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    header, separator, arguments = body.partition(_ARGUMENTS)
    match = _HEADER.match(header)
    if not separator or match is None:
        raise CallError(f"the call has no name before `{_ARGUMENTS}`")
    return [RawCall(match["name"], arguments.strip())]


def kimi_syntax() -> OutputSyntax:
    """K2 and K2 Thinking. A forced call gets the index 0; the model counts, but nothing reads the number."""
    return OutputSyntax(
        name="kimi_k2",
        call=CallSyntax(
            begin=_SECTION_BEGIN,
            before_name=f"{_BEGIN}functions.",
            before_arguments=f":0{_ARGUMENTS}",
            after_call=_END,
            end=_SECTION_END,
        ),
        build=build_staged,
        blocks=(Block(_BEGIN, _END, _calls), HERMES_BLOCK),
        wrappers=(_SECTION_BEGIN, _SECTION_END),
    )
