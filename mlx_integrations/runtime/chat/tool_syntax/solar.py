"""Solar Open: messages between tokens of its own; a call is an id, a name and JSON arguments."""

from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallError, CallSyntax, OutputSyntax, RawCall
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["solar_syntax"]

_BEGIN, _NAME, _ARGUMENTS, _END = (f"<|tool_call:{part}|>" for part in ("begin", "name", "args", "end"))


def _calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    header, has_arguments, arguments = body.partition(_ARGUMENTS)
    _, has_name, name = header.partition(_NAME)
    if not has_arguments or not has_name:
        raise CallError(f"the call has no `{_NAME}` or no `{_ARGUMENTS}`")
    return [RawCall(name.strip(), arguments.strip())]


def solar_syntax() -> OutputSyntax:
    """Solar Open. A forced call gets an id that nothing reads."""
    return OutputSyntax(
        name="solar",
        call=CallSyntax(
            begin="<|tool_calls|>", before_name=f"{_BEGIN}call{_NAME}", before_arguments=_ARGUMENTS, after_call=_END
        ),
        build=build_staged,
        reasoning_start="<|think|>",
        reasoning_end="<|end|><|begin|>assistant",
        answer_prefix="<|content|>",
        blocks=(Block(_BEGIN, _END, _calls), HERMES_BLOCK),
        wrappers=("<|tool_calls|>",),
        silent=("<|content|>",),
        stop_markers=("<|calls|>",),
    )
