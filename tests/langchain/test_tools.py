"""Whatever LangChain takes for a tool becomes a `ToolSpec`; every tool choice is understood or refused."""

from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import InjectedToolArg, tool
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1

from mlx_integrations.adapters.tool_choice import openai_tool_choice, tool_choice
from mlx_integrations.errors import InvalidRequestError, UnknownToolError
from mlx_integrations.langchain.tools import openai_tool, tool_specs
from mlx_integrations.types import ToolChoice
from tests.langchain.fakes import add


class Add(BaseModel):
    """Add two numbers."""

    a: int = Field(description="The first number.")
    b: int = Field(description="The second number.")


class OldAdd(BaseModelV1):
    """Add two numbers."""

    a: int
    b: int


class TypedAdd(TypedDict):
    """Add two numbers."""

    a: Annotated[int, ..., "The first number."]
    b: int


@tool
def add_tool(a: int, b: int, secret: Annotated[str, InjectedToolArg] = "") -> int:
    """Add two numbers."""
    return a + b


class Words(TypedDict):
    a: int
    b: int


PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
runnable_tool = RunnableLambda(lambda words: words["a"] + words["b"]).as_tool(
    arg_types={"a": int, "b": int}, name="add", description="Add two numbers."
)


@pytest.mark.parametrize(
    ("offered", "name"),
    [
        (Add, "Add"),
        (OldAdd, "OldAdd"),
        (TypedAdd, "TypedAdd"),
        (add, "add"),
        (add_tool, "add_tool"),
        (runnable_tool, "add"),
        ({"title": "add", "description": "Add two numbers.", **PARAMETERS}, "add"),
        ({"name": "add", "description": "Add two numbers.", "parameters": PARAMETERS}, "add"),
        ({"name": "add", "description": "Add two numbers.", "input_schema": PARAMETERS}, "add"),
        ({"type": "custom", "name": "add", "description": "Add two numbers.", "input_schema": PARAMETERS}, "add"),
        (
            {
                "type": "function",
                "function": {"name": "add", "description": "Add two numbers.", "parameters": PARAMETERS},
            },
            "add",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anything_that_langchain_takes_for_a_tool_is_one(offered: Any, name: str) -> None:
    (spec,) = tool_specs([offered])
    assert spec.name == name
    assert spec.description.startswith("Add two numbers.")
    assert spec.parameters["type"] == "object"
    assert set(spec.parameters["properties"]) == {"a", "b"}


def test_descriptions_of_arguments_are_kept() -> None:
    (spec,) = tool_specs([add])
    assert spec.parameters["properties"]["a"]["description"] == "The first number."


def test_a_tool_without_arguments_has_an_empty_object() -> None:
    (spec,) = tool_specs([{"type": "function", "function": {"name": "now"}}])
    assert (spec.description, spec.parameters) == ("", {"type": "object", "properties": {}})


def test_strict_closes_the_arguments() -> None:
    assert openai_tool(Add, strict=True)["function"]["parameters"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "offered",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "function"},
        {"type": "object", "properties": {}},
        {"type": "function", "function": {}},
        {},
        42,
    ],
)
def test_what_cannot_be_a_tool_is_refused(offered: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        openai_tool(offered)
    assert caught.value.field == "tools"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        (False, ToolChoice()),
        ("auto", ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ("none", ToolChoice(mode="none")),
        ("any", ToolChoice(mode="any")),
        ("required", ToolChoice(mode="any")),
        (True, ToolChoice(mode="any")),
        ({"type": "any"}, ToolChoice(mode="any")),
        ("add", ToolChoice(mode="tool", name="add")),
        ({"type": "function", "function": {"name": "add"}}, ToolChoice(mode="tool", name="add")),
        ({"type": "tool", "name": "add"}, ToolChoice(mode="tool", name="add")),
        ({"type": "function", "name": "add"}, ToolChoice(mode="tool", name="add")),
    ],
)
def test_every_form_of_a_tool_choice_is_understood(choice: Any, expected: ToolChoice) -> None:
    offered = ["add", "subtract"]
    assert tool_choice(choice, offered) == expected
    assert tool_choice(openai_tool_choice(choice, offered), offered) == expected


@pytest.mark.parametrize("choice", ["divide", {"type": "tool", "name": "divide"}])
def test_a_tool_that_is_not_offered_cannot_be_chosen(choice: Any) -> None:
    with pytest.raises(UnknownToolError, match="`add`, `subtract`") as caught:
        tool_choice(choice, ["add", "subtract"])
    assert caught.value.tool_name == "divide"


def test_a_call_cannot_be_forced_when_there_is_no_tool() -> None:
    with pytest.raises(UnknownToolError, match="Pass the tools together"):
        tool_choice("any", [])


@pytest.mark.parametrize("choice", [7, {"type": "allowed_tools"}, ["add"]])
def test_a_tool_choice_of_another_form_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        tool_choice(choice, ["add"])
    assert caught.value.field == "tool_choice"
