"""Endpoints that many people have: where they are, where their key is kept, and which options they know.

What an endpoint's own documents do not list is refused here by name: many endpoints ignore what they do not know, and
an option that is ignored in silence is worse than one that is refused. `options=` of the backends, or `options` of a
`[endpoints.<name>]` section, adds to the list what a newer version has learned.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlx_integrations.errors import ConfigurationError

__all__ = ["PRESETS", "Preset", "find_preset"]

_OPENAI_SAMPLING: Final = {
    name: name
    for name in (
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "seed",
        "max_tokens",
        "stop",
        "logprobs",
        "top_logprobs",
    )
}
_OPENAI_REST: Final = {
    name: name for name in ("tools", "tool_choice", "parallel_tool_calls", "json_schema", "json_object")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of endpoint.

    Attributes:
        title: Its name for people.
        base_url: Where it is unless somebody says otherwise; empty if that differs from person to person.
        key_variable: The environment variable that its documents keep the key in; empty if it needs none.
        source: Where all of this is written.
        options: What it knows: the option's name here to the field of the request. `reasoning` names the field that
            switches thinking on and off: `reasoning_effort`, `reasoning` or `chat_template_kwargs`.
    """

    title: str
    base_url: str
    key_variable: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_key(self) -> bool:
        """Whether it lets nobody in without a key."""
        return bool(self.key_variable)


PRESETS: Final[Mapping[str, Preset]] = {
    "openai": Preset(
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        source="https://developers.openai.com/api/reference/resources/chat",
        # `max_tokens` is deprecated there, and refused by models that reason.
        options={
            **_OPENAI_SAMPLING,
            **_OPENAI_REST,
            "max_tokens": "max_completion_tokens",
            "reasoning": "reasoning_effort",
        },
    ),
    "openrouter": Preset(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        source="https://openrouter.ai/docs/api-reference/parameters",
        options={
            **_OPENAI_SAMPLING,
            **_OPENAI_REST,
            "top_k": "top_k",
            "min_p": "min_p",
            "repetition_penalty": "repetition_penalty",
            "reasoning": "reasoning",
        },
    ),
    "gemini": Preset(
        title="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variable="GEMINI_API_KEY",
        source="https://ai.google.dev/gemini-api/docs/openai",
        options={
            **{name: name for name in ("temperature", "top_p", "max_tokens", "stop")},
            **{name: name for name in ("tools", "tool_choice", "json_schema", "json_object")},
            "reasoning": "reasoning_effort",
        },
    ),
    "anthropic": Preset(
        title="Anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        source="https://docs.anthropic.com/en/api/openai-sdk",
        # It ignores seeds, penalties, log-probabilities and response formats.
        options={
            **{name: name for name in ("temperature", "top_p", "max_tokens", "stop")},
            **{name: name for name in ("tools", "tool_choice", "parallel_tool_calls")},
        },
    ),
    "ollama": Preset(
        title="Ollama",
        base_url="http://localhost:11434/v1",
        key_variable="",
        source="https://docs.ollama.com/api/openai-compatibility",
        # It knows neither `tool_choice` nor `logit_bias`.
        options={
            **{name: name for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")},
            **{name: name for name in ("max_tokens", "stop", "logprobs", "top_logprobs")},
            **{name: name for name in ("tools", "json_schema", "json_object")},
            "reasoning": "reasoning_effort",
        },
    ),
    "lmstudio": Preset(
        title="LM Studio",
        base_url="http://localhost:1234/v1",
        key_variable="",
        source="https://lmstudio.ai/docs/developer/openai-compat/chat-completions",
        options={
            **{name: name for name in ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty")},
            **{name: name for name in ("logit_bias", "seed", "max_tokens", "stop", "tools", "json_schema")},
            "repetition_penalty": "repeat_penalty",
        },
    ),
    "mlx-lm": Preset(
        title="mlx_lm.server",
        base_url="http://localhost:8080/v1",
        key_variable="",
        source="https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/server.py",
        # It has neither `tool_choice` nor response formats, and streams no log-probabilities.
        options={
            **{name: name for name in _OPENAI_SAMPLING if "logprobs" not in name},
            **{name: name for name in ("top_k", "min_p", "xtc_probability", "xtc_threshold", "repetition_penalty")},
            "tools": "tools",
            "template_options": "chat_template_kwargs",
            "reasoning": "chat_template_kwargs",
        },
    ),
    "compatible": Preset(
        title="An OpenAI-compatible server",
        base_url="",
        key_variable="",
        source="https://developers.openai.com/api/reference/resources/chat",
        options={**_OPENAI_SAMPLING, **_OPENAI_REST},
    ),
}
"""By the name that `kind` of an `[endpoints.<name>]` section takes. `compatible` is any other server."""


def find_preset(kind: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigurationError: There is none; the hint names the nearest one.
    """
    found = PRESETS.get(kind)
    if found is None:
        near = difflib.get_close_matches(kind, PRESETS, n=1)
        known = ", ".join(f"`{name}`" for name in PRESETS)
        raise ConfigurationError(
            f"There is no kind of endpoint `{kind}`.",
            hint=f"Did you mean `{near[0]}`?" if near else f"There are {known}.",
        )
    return found
