"""DeepSeek: V3 and R1 (a fence of JSON for each call), V3.1 (bare JSON), and V3.2 and V4 (DSML, an XML)."""

import re
from collections.abc import Sequence
from typing import Any

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallError, CallSyntax, OutputSyntax, RawCall
from mlx_integrations.runtime.chat.tool_syntax.calls import strict_json
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK, HERMES_CALL
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["deepseek_dsml_syntax", "deepseek_v3_syntax", "deepseek_v31_syntax"]

_CALLS_BEGIN, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_BEGIN, _SEPARATOR, _END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_FENCED = re.compile(r"\s*(?P<name>[^\n`]*?)\s*```(?:json)?\s*(?P<arguments>.*?)\s*(?:```\s*)?\Z", re.DOTALL)

_DSML = "｜DSML｜"
_DSML_INVOKE = re.compile(rf'<{_DSML}invoke name="(?P<name>[^"]*)">(?P<body>.*?)</{_DSML}invoke>', re.DOTALL)
_DSML_PARAMETER = re.compile(
    rf'<{_DSML}parameter name="(?P<name>[^"]*)" string="(?P<is_string>true|false)">(?P<value>.*?)</{_DSML}parameter>',
    re.DOTALL,
)


def _marked_calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    """`function<sep>name` and a fence of JSON, or `name<sep>{...}`."""
    left, separator, right = body.partition(_SEPARATOR)
    if not separator:
        raise CallError(f"the call has no `{_SEPARATOR}`")
    match = None if right.lstrip().startswith("{") else _FENCED.match(right)
    if match is None:
        return [RawCall(left.strip(), right.strip())]
    return [RawCall(match["name"] or left.strip(), match["arguments"])]


_MARKED_BLOCK = Block(_BEGIN, _END, _marked_calls)


def deepseek_v3_syntax() -> OutputSyntax:
    """V3, V3-0324 and R1."""
    return OutputSyntax(
        name="deepseek_v3",
        call=CallSyntax(
            begin=_CALLS_BEGIN,
            before_name=f"{_BEGIN}function{_SEPARATOR}",
            before_arguments="\n```json\n",
            after_call=f"\n```{_END}",
            between="\n",
            end=_CALLS_END,
        ),
        build=build_staged,
        call_trigger=_CALLS_BEGIN,
        blocks=(_MARKED_BLOCK, HERMES_BLOCK),
        wrappers=(_CALLS_BEGIN, _CALLS_END),
    )


def deepseek_v31_syntax() -> OutputSyntax:
    """V3.1 and V3.2-Exp."""
    return OutputSyntax(
        name="deepseek_v31",
        call=CallSyntax(
            begin=_CALLS_BEGIN,
            before_name=_BEGIN,
            before_arguments=_SEPARATOR,
            after_call=_END,
            end=_CALLS_END,
        ),
        build=build_staged,
        call_trigger=_CALLS_BEGIN,
        blocks=(_MARKED_BLOCK, HERMES_BLOCK),
        wrappers=(_CALLS_BEGIN, _CALLS_END),
    )


def _dsml_calls(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    calls = [RawCall(match["name"], _dsml_arguments(match["body"])) for match in _DSML_INVOKE.finditer(body)]
    if not calls or _DSML_INVOKE.sub("", body).strip():
        raise CallError("the block does not consist of complete `invoke` elements")
    return calls


def _dsml_arguments(body: str) -> dict[str, Any]:
    if _DSML_PARAMETER.sub("", body).strip():
        raise CallError("the call does not consist of complete `parameter` elements")
    return {
        match["name"]: match["value"] if match["is_string"] == "true" else strict_json(match["value"])
        for match in _DSML_PARAMETER.finditer(body)
    }


def deepseek_dsml_syntax() -> OutputSyntax:
    """V3.2 (`function_calls`) and V4 (`tool_calls`); each argument says itself whether it is a string."""
    blocks = (
        Block(f"<{_DSML}{wrapper}>", f"</{_DSML}{wrapper}>", _dsml_calls, is_json=False)
        for wrapper in ("function_calls", "tool_calls")
    )
    return OutputSyntax(
        name="deepseek_dsml",
        call=HERMES_CALL,
        build=build_staged,
        blocks=(*blocks, HERMES_BLOCK),
        markers=frozenset({_DSML}),
    )
