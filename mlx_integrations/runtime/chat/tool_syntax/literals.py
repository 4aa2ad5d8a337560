"""Which special tokens a parser needs to see, read off the literals it works with."""

import re
from dataclasses import replace

from mlx_integrations.runtime.chat.tool_syntax.base import OutputSyntax

__all__ = ["marker_texts", "with_markers"]

_MARKER = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


def marker_texts(*literals: str) -> frozenset[str]:
    """Everything in the literals that has the look of a special token: `<...>` without blanks, or `[CAPITALS]`."""
    return frozenset(marker for literal in literals for marker in _MARKER.findall(literal))


def with_markers(syntax: OutputSyntax, *extra: str) -> OutputSyntax:
    """`syntax` with the markers that its own literals hold, and those of `extra`."""
    call = syntax.call
    literals = (
        *(text for block in syntax.blocks for text in (block.start, block.end)),
        *(call.begin, call.before_name, call.before_arguments, call.after_call, call.between, call.end),
        *(syntax.reasoning_start or "", syntax.reasoning_end or "", syntax.answer_prefix),
        *(*syntax.wrappers, *syntax.silent, *extra),
    )
    return replace(syntax, markers=syntax.markers | marker_texts(*literals))
