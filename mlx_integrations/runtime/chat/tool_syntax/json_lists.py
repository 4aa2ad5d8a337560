"""Families with a JSON list of calls behind a marker: Granite 3, Phi-4-mini, Command A, Nemotron, Hunyuan, Apriel."""

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallSyntax, OutputSyntax
from mlx_integrations.runtime.chat.tool_syntax.calls import json_calls
from mlx_integrations.runtime.chat.tool_syntax.hermes import HERMES_BLOCK
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged

__all__ = ["JSON_LISTS", "cohere_syntax", "granite_syntax", "json_list_syntax", "phi_syntax"]

JSON_LISTS: dict[str, tuple[str, str]] = {
    "nemotron": ("<TOOLCALL>", "</TOOLCALL>"),
    "tagged_list": ("<tool_calls>", "</tool_calls>"),
}
"""Families that differ in nothing but their markers."""


def json_list_syntax(name: str, start: str, end: str) -> OutputSyntax:
    """`start`, a list of `{"name": ..., "arguments": {...}}`, and `end` where the family writes it."""
    return OutputSyntax(
        name=name,
        call=CallSyntax(
            begin=f"{start}[",
            before_name='{"name": "',
            before_arguments='", "arguments": ',
            after_call="}",
            between=", ",
            end=f"]{end}",
        ),
        build=build_staged,
        call_trigger=start,
        blocks=(Block(start, "", json_calls), HERMES_BLOCK),
        wrappers=(end,) if end else (),
    )


def granite_syntax() -> OutputSyntax:
    """Granite 3.0 to 3.3: the list ends with the turn. Granite 4 writes Hermes."""
    return json_list_syntax("granite", "<|tool_call|>", "")


def phi_syntax() -> OutputSyntax:
    """Phi-4-mini."""
    return json_list_syntax("phi4_mini", "<|tool_call|>", "<|/tool_call|>")


def cohere_syntax() -> OutputSyntax:
    """Command R7B and Command A: actions with `tool_name` and `parameters`; the answer has markers, too."""
    return OutputSyntax(
        name="cohere",
        call=CallSyntax(
            begin="<|START_ACTION|>[\n    ",
            before_name='{"tool_call_id": "0", "tool_name": "',
            before_arguments='", "parameters": ',
            after_call="}",
            between=",\n    ",
            end="\n]<|END_ACTION|>",
        ),
        build=build_staged,
        reasoning_start="<|START_THINKING|>",
        reasoning_end="<|END_THINKING|>",
        answer_prefix="<|START_RESPONSE|>",
        call_trigger="<|START_ACTION|>",
        blocks=(Block("<|START_ACTION|>", "<|END_ACTION|>", json_calls), HERMES_BLOCK),
        silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    )
