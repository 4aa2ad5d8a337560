"""Which output syntax a model writes: decided from its template, its vocabulary and what mlx-lm inferred."""

from collections.abc import Mapping
from dataclasses import replace

from mlx_integrations.runtime.chat.tool_syntax.base import (
    CallSyntax,
    Delta,
    OutputParser,
    OutputSyntax,
    ReasoningDelta,
    TextDelta,
    UpstreamToolParser,
    new_call_id,
)
from mlx_integrations.runtime.chat.tool_syntax.hermes import hermes_syntax
from mlx_integrations.runtime.chat.tool_syntax.reasoning import find_reasoning_tags

__all__ = [
    "CallSyntax",
    "Delta",
    "OutputParser",
    "OutputSyntax",
    "ReasoningDelta",
    "TextDelta",
    "UpstreamToolParser",
    "detect_syntax",
    "new_call_id",
]


def detect_syntax(
    *,
    chat_template: str | None,
    vocabulary: Mapping[str, int],
    model_type: str,
    upstream: UpstreamToolParser | None,
) -> OutputSyntax:
    """Choose the output syntax of a model.

    Args:
        chat_template: The Jinja source, where there is one.
        vocabulary: Token text to id, special tokens included.
        model_type: From config.json.
        upstream: The tool parser that mlx-lm inferred, if any.
    """
    return _with_reasoning(hermes_syntax(), chat_template, vocabulary)


def _with_reasoning(syntax: OutputSyntax, chat_template: str | None, vocabulary: Mapping[str, int]) -> OutputSyntax:
    """Add the tags for reasoning that the model has."""
    tags = find_reasoning_tags(chat_template, vocabulary)
    if tags is None or syntax.reasoning_start is not None:
        return syntax
    return replace(syntax, reasoning_start=tags[0], reasoning_end=tags[1], markers=syntax.markers | set(tags))
