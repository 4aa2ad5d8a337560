"""Tools, from every form that LangChain accepts to `ToolSpec`.

On the way they pass through OpenAI's dictionaries: these are what `bind_tools` binds, so that tools bound by hand with
`.bind(tools=[...])`, by an agent or read back from a trace all look alike.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from mlx_integrations.adapters.requests import tool_specs_of
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import ToolSpec

__all__ = ["OpenAITool", "ToolLike", "arguments_text", "openai_tool", "tool_specs"]

ToolLike = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
OpenAITool = dict[str, Any]

_SCHEMA_TYPES = ("function", "custom", "object")


def openai_tool(tool: ToolLike, *, strict: bool | None = None) -> OpenAITool:
    """Describe one tool as OpenAI does.

    Args:
        tool: A tool, function, pydantic class, `TypedDict`, JSON Schema with a title, or a dictionary in the form of
            OpenAI, Anthropic or Bedrock.
        strict: `True` forbids properties that the schema does not name. Arguments are held to the schema either way.

    Raises:
        InvalidRequestError: It is none of these, or a tool that only a provider's servers can run.
    """
    if isinstance(tool, Mapping):
        tool = dict(tool)
        kind = tool.get("type", "function")
        if kind not in _SCHEMA_TYPES and "input_schema" not in tool:
            raise InvalidRequestError(
                f"A tool of type `{kind}` runs on its provider's servers.",
                field="tools",
                hint="Offer a function, a pydantic class or a LangChain tool instead.",
            )
    try:
        described = convert_to_openai_tool(tool, strict=strict)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"`{tool!r}` cannot be used as a tool: {error}", field="tools") from error
    if not isinstance(described.get("function"), dict) or not described["function"].get("name"):
        raise InvalidRequestError(f"The tool `{tool!r}` has no name.", field="tools")
    return described


def tool_specs(tools: Sequence[ToolLike]) -> tuple[ToolSpec, ...]:
    """Describe tools as the runtime wants them."""
    return tool_specs_of([openai_tool(tool) for tool in tools])


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """Arguments of a call as JSON; any character stays itself."""
    return json.dumps(dict(arguments), ensure_ascii=False, default=str)
