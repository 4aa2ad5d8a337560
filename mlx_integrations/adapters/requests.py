"""From options under our names, and what a framework alone can translate, to a `ChatRequest`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.adapters.sampling import sampling_params
from mlx_integrations.adapters.tool_choice import tool_choice
from mlx_integrations.types import ChatMessage, ChatRequest, OutputFormat, ToolSpec

__all__ = ["chat_request_of", "tool_specs_of"]


def chat_request_of(
    messages: tuple[ChatMessage, ...],
    tools: tuple[ToolSpec, ...],
    output: OutputFormat | None,
    options: Mapping[str, Any],
) -> ChatRequest:
    """Build the request.

    Args:
        messages: The conversation.
        tools: What it may call.
        output: The form of its answer.
        options: The other options of the call; none of them is `None`.

    Raises:
        RequestError: An option cannot be translated.
    """
    return ChatRequest(
        messages=messages,
        tools=tools,
        tool_choice=tool_choice(options.get("tool_choice"), [tool.name for tool in tools]),
        parallel_tool_calls=options.get("parallel_tool_calls", True),
        output=output,
        sampling=sampling_params(options),
        reasoning=options.get("reasoning"),
        template_options=options.get("template_options", {}),
    )


def tool_specs_of(tools: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    """Describe tools as the runtime wants them, from dictionaries in OpenAI's form."""
    functions = [tool["function"] for tool in tools]
    return tuple(
        ToolSpec(
            name=function["name"],
            description=function.get("description") or "",
            parameters=function.get("parameters") or {"type": "object", "properties": {}},
        )
        for function in functions
    )
