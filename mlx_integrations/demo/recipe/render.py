"""Renders conversations with the model's own chat template, exactly as transformers does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_integrations.demo.recipe.case import Message, Tool

MODEL_FOLDER = Path(__file__).parent.parent / "model"


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    return environment.from_string((MODEL_FOLDER / "chat_template.jinja").read_text(encoding="utf-8"))


def render(messages: Sequence[Message], tools: Sequence[Tool] = (), *, add_generation_prompt: bool = False) -> str:
    """Renders a conversation.

    Args:
        messages: Messages in the OpenAI form.
        tools: Tools in the OpenAI form.
        add_generation_prompt: End with the opening of an assistant turn.

    Returns:
        The text that the tokenizer gets.
    """
    return _template().render(
        messages=list(messages), tools=list(tools) or None, add_generation_prompt=add_generation_prompt
    )


def answer_text(message: Message) -> str:
    """Returns what the model must generate for an assistant message, without the end-of-turn token."""
    whole = render([message])
    return whole.removeprefix("<|im_start|>assistant\n").removesuffix("<|im_end|>\n")
