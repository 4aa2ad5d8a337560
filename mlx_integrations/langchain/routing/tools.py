"""Tools as the router keeps them: in OpenAI's form, and choices in the words that LangChain's models agree on."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.adapters.tool_choice import tool_choice

__all__ = ["neutral_choice", "schemas_of"]


def neutral_choice(choice: str | dict[str, Any] | bool, tools: Sequence[Mapping[str, Any]]) -> str:
    """The choice in the words that LangChain's models agree on: `auto`, `none`, `any`, or the name of a tool."""
    chosen = tool_choice(choice, [tool["function"]["name"] for tool in tools])
    return str(chosen.name) if chosen.mode == "tool" else chosen.mode


def schemas_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]] | None:
    """The schemas that calls have to satisfy; `None` if there are tools that have none."""
    if any("function" not in tool for tool in tools):
        return None
    return {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
