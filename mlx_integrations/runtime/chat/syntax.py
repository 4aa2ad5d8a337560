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
from mlx_integrations.runtime.chat.tool_syntax.deepseek import (
    deepseek_dsml_syntax,
    deepseek_v3_syntax,
    deepseek_v31_syntax,
)
from mlx_integrations.runtime.chat.tool_syntax.harmony import harmony_syntax
from mlx_integrations.runtime.chat.tool_syntax.hermes import hermes_syntax
from mlx_integrations.runtime.chat.tool_syntax.json_lists import (
    JSON_LISTS,
    cohere_syntax,
    granite_syntax,
    json_list_syntax,
    phi_syntax,
)
from mlx_integrations.runtime.chat.tool_syntax.kimi import kimi_syntax
from mlx_integrations.runtime.chat.tool_syntax.literals import with_markers
from mlx_integrations.runtime.chat.tool_syntax.llama3 import llama3_syntax
from mlx_integrations.runtime.chat.tool_syntax.mistral import mistral_args_syntax, mistral_list_syntax
from mlx_integrations.runtime.chat.tool_syntax.reasoning import find_reasoning_tags
from mlx_integrations.runtime.chat.tool_syntax.seed import seed_syntax
from mlx_integrations.runtime.chat.tool_syntax.solar import solar_syntax
from mlx_integrations.runtime.chat.tool_syntax.upstream import upstream_syntax

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

_READ_BY_US = frozenset({"json_tools", "mistral", "kimi_k2"})
"""Formats of which mlx-lm has a parser, too; ours is stricter, and forces calls in the native form."""

_DSML_TYPES = frozenset({"deepseek_v32", "deepseek_v41"})
"""DeepSeek models whose template is code, so that only their type tells."""

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|END_OF_TURN_TOKEN|>")
"""Tokens that end a turn wherever a template writes them; generation_config.json often lacks them."""


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
    template = chat_template or ""
    syntax = _family(template, vocabulary, model_type, upstream)
    tags = find_reasoning_tags(chat_template, vocabulary)
    if syntax.reasoning_start is None and tags is not None:
        syntax = replace(syntax, reasoning_start=tags[0], reasoning_end=tags[1])
    known = [token for token in _TURN_ENDS if token in template and token not in (syntax.reasoning_end or "")]
    stops = dict.fromkeys(token for token in (*syntax.stop_markers, *known) if token in vocabulary)
    return with_markers(replace(syntax, stop_markers=tuple(stops)))


def _family(
    template: str, vocabulary: Mapping[str, int], model_type: str, upstream: UpstreamToolParser | None
) -> OutputSyntax:
    """The family; a template says more than a vocabulary, which fine-tunes inherit from other families."""
    if "<|channel|>" in template or ("<|channel|>" in vocabulary and "<|message|>" in vocabulary):
        return harmony_syntax()
    if "｜DSML｜" in template or (not template and model_type in _DSML_TYPES):
        return deepseek_dsml_syntax()
    if "<｜tool▁calls▁begin｜>" in template:
        return deepseek_v3_syntax() if "```json" in template else deepseek_v31_syntax()
    if "[TOOL_CALLS]" in template:
        if "[ARGS]" in template:
            return mistral_args_syntax()
        return mistral_list_syntax(has_blank="[TOOL_CALLS] [" in template)
    if "<|tool_calls_section_begin|>" in template:
        return kimi_syntax()
    if "<seed:tool_call>" in template:
        return seed_syntax()
    if "<|tool_call:begin|>" in template:
        return solar_syntax()
    if upstream is not None and upstream.name not in _READ_BY_US:
        return upstream_syntax(upstream)
    return _json_family(template, vocabulary)


def _json_family(template: str, vocabulary: Mapping[str, int]) -> OutputSyntax:
    if "<|START_ACTION|>" in template:
        return cohere_syntax()
    if "<|tool_call|>" in template:
        return phi_syntax() if "<|/tool_call|>" in vocabulary else granite_syntax()
    for name, (start, end) in JSON_LISTS.items():
        if start in template:
            return json_list_syntax(name, start, end)
    if "<tool_call>" not in template and ("<|python_tag|>" in template or "ipython" in template):
        return llama3_syntax()
    return hermes_syntax()
