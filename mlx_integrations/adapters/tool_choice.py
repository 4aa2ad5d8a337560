"""Tool choices, from the words and dictionaries that frameworks use to `ToolChoice` and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.errors import InvalidRequestError, UnknownToolError
from mlx_integrations.types import ToolChoice

__all__ = ["openai_tool_choice", "tool_choice"]

_WORDS = {
    "auto": ToolChoice(mode="auto"),
    "none": ToolChoice(mode="none"),
    "any": ToolChoice(mode="any"),
    "required": ToolChoice(mode="any"),
}


def tool_choice(choice: Any, offered: Sequence[str]) -> ToolChoice:
    """Read a tool choice.

    Args:
        choice: `"auto"`, `"none"`, `"any"` or `"required"`; `True` for any, `False` or `None` for auto; the name of a
            tool; or a dictionary in OpenAI's or Anthropic's form.
        offered: Names of the tools that go with it.

    Raises:
        UnknownToolError: It asks for a tool that is not offered.
        InvalidRequestError: It is none of these.
    """
    wanted = _WORDS["any"] if choice is True else _parse(choice)
    if wanted.mode == "tool" and wanted.name not in offered:
        raise UnknownToolError(f"No tool is called `{wanted.name}`.", tool_name=str(wanted.name), offered=offered)
    if wanted.mode == "any" and not offered:
        raise UnknownToolError("A tool call is required, but no tool is offered.", tool_name="any")
    return wanted


def openai_tool_choice(choice: Any, offered: Sequence[str]) -> str | dict[str, Any]:
    """Read a tool choice, and write it as OpenAI does. Arguments and errors are those of `tool_choice`."""
    read = tool_choice(choice, offered)
    if read.mode == "tool":
        return {"type": "function", "function": {"name": read.name}}
    return "required" if read.mode == "any" else read.mode


def _parse(choice: Any) -> ToolChoice:
    if not choice:
        return _WORDS["auto"]
    if isinstance(choice, str):
        return _WORDS.get(choice) or ToolChoice(mode="tool", name=choice)
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        if isinstance(name, str):
            return ToolChoice(mode="tool", name=name)
        if choice.get("type") in _WORDS:
            return _WORDS[choice["type"]]
    raise InvalidRequestError(
        f"`tool_choice` cannot be `{choice!r}`.",
        field="tool_choice",
        hint='Give "auto", "none", "any", the name of a tool, or {"type": "function", "function": {"name": ...}}.',
    )
