"""Families whose calls mlx-lm's own parsers read: their formats are XML or notations that are not JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_integrations.runtime.chat.prompt_messages import template_tools
from mlx_integrations.runtime.chat.tool_syntax.base import (
    Block,
    CallError,
    OutputSyntax,
    RawCall,
    UpstreamToolParser,
)
from mlx_integrations.runtime.chat.tool_syntax.calls import json_calls
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK, HERMES_CALL, HERMES_MARKERS
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged
from mlx_integrations.types import ToolSpec

__all__ = ["upstream_syntax"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quirks:
    """What a family needs besides its parser."""

    markers: frozenset[str] = frozenset()
    wrappers: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    reasoning: tuple[str, str] | None = None
    answer_prefix: str = ""
    stop_markers: tuple[str, ...] = ()


_QUIRKS: dict[str, _Quirks] = {
    "gemma4": _Quirks(markers=frozenset({'<|"|>'}), stop_markers=("<|tool_response>",)),
    "function_gemma": _Quirks(markers=frozenset({"<escape>"}), stop_markers=("<start_function_response>",)),
    "glm47": _Quirks(markers=frozenset({"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"})),
    "laguna": _Quirks(markers=frozenset({"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"})),
    "longcat": _Quirks(
        markers=frozenset({"<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>"})
    ),
    "qwen3_coder": _Quirks(markers=frozenset({"</function>", "</parameter>"}), wrappers=("</tool_call>",)),
    "kimi_k3": _Quirks(
        silent=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
        answer_prefix="<|open|>response<|sep|>",
    ),
    "muse_spark": _Quirks(
        silent=("to=user<|message|>", "to=commentary<|message|>", "<|eom|>", "<|eot|>"),
        reasoning=("to=self<|message|>", "<|eom|>"),
    ),
}


def upstream_syntax(upstream: UpstreamToolParser) -> OutputSyntax:
    """The family that `upstream` reads; a call in the Hermes form, as it is forced, is read as well."""
    quirks = _QUIRKS.get(upstream.name, _Quirks())
    blocks = [Block(upstream.start, upstream.end, _reader(upstream), is_json=False)]
    if upstream.name == "qwen3_coder":
        # The model often leaves out the `<tool_call>` before a function.
        blocks.append(Block("<function=", "</function>", _reader(upstream, "<function=", "</function>"), is_json=False))
    if upstream.start != HERMES_BLOCK.start:
        blocks.append(HERMES_BLOCK)
    start, end = quirks.reasoning or (None, None)
    return OutputSyntax(
        name=upstream.name,
        call=HERMES_CALL,
        build=build_staged,
        reasoning_start=start,
        reasoning_end=end,
        answer_prefix=quirks.answer_prefix,
        blocks=tuple(blocks),
        wrappers=quirks.wrappers,
        silent=quirks.silent,
        markers=quirks.markers | HERMES_MARKERS,
        stop_markers=quirks.stop_markers,
    )


def _reader(
    upstream: UpstreamToolParser, prefix: str = "", suffix: str = ""
) -> Callable[[str, Sequence[ToolSpec]], list[RawCall]]:
    def read(body: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
        if body.lstrip().startswith("{"):
            return json_calls(body, tools)
        parts = _functions(body) if upstream.name == "qwen3_coder" and not prefix else [body]
        return [raw for part in parts for raw in _read(upstream, prefix + part.strip() + suffix, tools)]

    return read


def _functions(body: str) -> list[str]:
    """Each function of a block: the parser reads only one."""
    head, *rest = body.split("<function=")
    return [head + "<function=" + rest[0], *(f"<function={part}" for part in rest[1:])] if rest else [body]


def _read(upstream: UpstreamToolParser, text: str, tools: Sequence[ToolSpec]) -> list[RawCall]:
    try:
        result = upstream.parse(text, template_tools(tools))
    except Exception as exc:  # these parsers raise whatever their regular expressions and lookups happen to raise
        raise CallError(f"not a call in the `{upstream.name}` format ({type(exc).__name__}: {exc})") from exc
    entries: Any = [result] if isinstance(result, Mapping) else result
    if not isinstance(entries, list | tuple) or not entries:
        raise CallError(f"no call in the `{upstream.name}` format")
    return [_raw_call(entry, upstream, tools) for entry in entries]


def _raw_call(entry: Any, upstream: UpstreamToolParser, tools: Sequence[ToolSpec]) -> RawCall:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise CallError(f"no call in the `{upstream.name}` format")
    name, arguments = entry["name"], entry.get("arguments", {})
    if isinstance(arguments, Mapping) and set(arguments) == {"raw"} and not _has_parameter(name, "raw", tools):
        # mlx-lm's way of saying that it found no arguments.
        raise CallError("the arguments cannot be read", name=None if name == "unknown" else name)
    try:
        return RawCall(name, json.loads(json.dumps(arguments, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as exc:
        raise CallError(f"the arguments are not JSON: {exc}", name=name if isinstance(name, str) else None) from exc


def _has_parameter(tool_name: Any, parameter: str, tools: Sequence[ToolSpec]) -> bool:
    return any(tool.name == tool_name and parameter in (tool.parameters.get("properties") or {}) for tool in tools)
