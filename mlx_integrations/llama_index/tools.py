"""Tools of LlamaIndex as `ToolSpec`.

On the way they pass through OpenAI's dictionaries: these are what a prepared call holds, so that it can be shown by
callbacks and traces, and so that tools written by hand look alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.tools.types import BaseTool
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from mlx_integrations.adapters.requests import tool_specs_of
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import ToolSpec

__all__ = ["OpenAITool", "ToolLike", "openai_tool", "tool_specs"]

OpenAITool = dict[str, Any]
ToolLike = BaseTool | Mapping[str, Any]


def openai_tool(tool: ToolLike) -> OpenAITool:
    """Describe one tool as OpenAI does.

    Args:
        tool: A tool of LlamaIndex, or a dictionary in the form of OpenAI.

    Raises:
        InvalidRequestError: It is neither, has no name, or takes what JSON cannot express.
    """
    if isinstance(tool, Mapping):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise _not_a_tool(tool)
        return dict(tool)
    if not isinstance(tool, BaseTool):
        raise _not_a_tool(tool)
    metadata = tool.metadata
    if not metadata.name:
        raise InvalidRequestError(f"The tool `{tool!r}` has no name."[:300], field="tools")
    try:
        parameters = metadata.get_parameters_dict()
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        first = str(error).partition("\n")[0]
        raise InvalidRequestError(
            f"The tool `{metadata.name}` takes an argument that JSON cannot express: {first}",
            field="tools",
            hint="Give it arguments of plain types, or a `fn_schema` of its own.",
        ) from error
    function = {"name": metadata.name, "description": metadata.description or "", "parameters": parameters}
    return {"type": "function", "function": function}


def tool_specs(tools: Sequence[ToolLike]) -> tuple[ToolSpec, ...]:
    """Describe tools as the runtime wants them."""
    return tool_specs_of([openai_tool(tool) for tool in tools])


def _not_a_tool(tool: Any) -> InvalidRequestError:
    return InvalidRequestError(
        f"`{tool!r}` cannot be used as a tool."[:300],
        field="tools",
        hint="Wrap a function: `FunctionTool.from_defaults(fn=function)`.",
    )
