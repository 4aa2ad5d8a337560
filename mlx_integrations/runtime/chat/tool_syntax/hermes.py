"""Hermes: `<tool_call>` with a JSON object of `name` and `arguments`; Qwen 2.5 and 3, Hermes, Granite 4, and many more.

Also the form in which tools are explained to a model whose own template knows none.
"""

from mlx_integrations.runtime.chat.tool_syntax.base import Block, CallSyntax, OutputSyntax
from mlx_integrations.runtime.chat.tool_syntax.calls import json_calls
from mlx_integrations.runtime.chat.tool_syntax.staged import build_staged

__all__ = ["HERMES_BLOCK", "HERMES_CALL", "HERMES_MARKERS", "hermes_syntax"]

HERMES_BLOCK = Block("<tool_call>", "</tool_call>", json_calls)
HERMES_CALL = CallSyntax(
    before_name='<tool_call>\n{"name": "',
    before_arguments='", "arguments": ',
    after_call="}\n</tool_call>",
    between="\n",
)
HERMES_MARKERS = frozenset({"<tool_call>", "</tool_call>"})


def hermes_syntax() -> OutputSyntax:
    """The syntax, without tags for reasoning: those depend on the model."""
    return OutputSyntax(
        name="hermes",
        call=HERMES_CALL,
        build=build_staged,
        call_trigger="<tool_call>",
        blocks=(HERMES_BLOCK,),
        markers=HERMES_MARKERS,
    )
