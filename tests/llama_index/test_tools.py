"""Tools: how they are offered, what is enforced, and how calls are read."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import ToolMetadata
from pydantic import BaseModel

from mlx_integrations.errors import InvalidRequestError, UnknownToolError, UnsupportedSchemaError
from mlx_integrations.llama_index import MLXLLM
from mlx_integrations.llama_index.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.llama_index.tools import openai_tool
from mlx_integrations.types import ToolChoice, ToolSpec
from tests.llama_index.fakes import ADD_TOOL, MULTIPLY_TOOL, add, fake_llm
from tests.scripts import ADD, ADD_AGAIN, BROKEN

SCHEMA = {
    "type": "object",
    "properties": {"a": {"title": "A", "type": "integer"}, "b": {"title": "B", "type": "integer"}},
    "required": ["a", "b"],
}


def test_a_tool_is_offered_with_its_schema() -> None:
    llm, backend = fake_llm(ADD)
    llm.chat_with_tools([ADD_TOOL], "1 + 2?")
    (spec,) = backend.requests[0].tools
    assert (spec.name, spec.parameters) == ("add", SCHEMA)
    assert "Add two numbers." in spec.description


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, ToolChoice(mode="auto")),
        ({"tool_required": True}, ToolChoice(mode="any")),
        ({"tool_required": True, "tool_choice": "auto"}, ToolChoice(mode="auto")),
        ({"tool_choice": "none"}, ToolChoice(mode="none")),
        ({"tool_choice": "required"}, ToolChoice(mode="any")),
        ({"tool_choice": "multiply"}, ToolChoice(mode="tool", name="multiply")),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, ToolChoice(mode="tool", name="add")),
    ],
)
def test_a_choice_reaches_the_model(options: dict[str, Any], choice: ToolChoice) -> None:
    llm, backend = fake_llm(ADD)
    llm.chat_with_tools([ADD_TOOL, MULTIPLY_TOOL], "1 + 2?", **options)
    assert backend.requests[0].tool_choice == choice


async def test_parallel_calls_are_allowed_only_when_asked_for() -> None:
    llm, backend = fake_llm(ADD)
    llm.chat_with_tools([ADD_TOOL], "1 + 2?")
    await llm.achat_with_tools([ADD_TOOL], "1 + 2?", allow_parallel_tool_calls=True)
    assert [request.parallel_tool_calls for request in backend.requests] == [False, True]


def test_history_and_question_are_put_together() -> None:
    llm, _ = fake_llm(ADD)
    history = [ChatMessage(content="Hi")]
    for question in ("1 + 2?", ChatMessage(content="1 + 2?")):
        prepared = llm._prepare_chat_with_tools([ADD_TOOL], question, history, temperature=0.5)
        assert [message.content for message in prepared["messages"]] == ["Hi", "1 + 2?"]
        assert prepared["temperature"] == 0.5
    assert len(history) == 1
    assert llm._prepare_chat_with_tools([], chat_history=history)["tools"] == []


async def test_calls_are_read_from_every_form() -> None:
    llm, _ = fake_llm([ADD, ADD_AGAIN])
    found = [
        llm.chat_with_tools([ADD_TOOL], "?", allow_parallel_tool_calls=True),
        list(llm.stream_chat_with_tools([ADD_TOOL], "?", allow_parallel_tool_calls=True))[-1],
        [piece async for piece in await llm.astream_chat_with_tools([ADD_TOOL], "?")][-1],
    ]
    for response in found:
        calls = llm.get_tool_calls_from_response(response)
        assert [(call.tool_id, call.tool_name, call.tool_kwargs) for call in calls] == [
            ("call_1", "add", {"a": 1, "b": 2}),
            ("call_2", "add", {"a": 3, "b": 4}),
        ]


def test_an_answer_without_a_call_is_an_error_only_when_one_is_expected() -> None:
    llm, _ = fake_llm("No.")
    response = llm.chat_with_tools([ADD_TOOL], "1 + 2?")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(InvalidOutputError, match="called no tool") as caught:
        llm.get_tool_calls_from_response(response)
    assert isinstance(caught.value, ValueError) and caught.value.partial_text == "No."


def test_a_call_that_was_not_accepted_is_told_with_its_reason() -> None:
    llm, _ = fake_llm(BROKEN)
    with pytest.raises(InvalidOutputError, match="it ends too early") as caught:
        llm.get_tool_calls_from_response(llm.chat_with_tools([ADD_TOOL], "1 + 2?"))
    assert caught.value.partial_text == BROKEN.arguments


def test_an_answer_that_was_cut_says_so() -> None:
    llm, _ = fake_llm("I will now call")
    with pytest.raises(TruncatedOutputError):
        llm.get_tool_calls_from_response(llm.chat_with_tools([ADD_TOOL], "1 + 2?", max_tokens=2))


def test_arguments_that_another_model_left_as_text_are_read() -> None:
    block = ToolCallBlock(tool_call_id="x", tool_name="add", tool_kwargs='{"a": 1}')
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=[block]))
    assert fake_llm()[0].get_tool_calls_from_response(response)[0].tool_kwargs == {"a": 1}


async def test_predict_and_call_calls_the_tool() -> None:
    llm, _ = fake_llm(ADD)
    assert str(llm.predict_and_call([ADD_TOOL], "1 + 2?")) == "3"
    assert str(await llm.apredict_and_call([ADD_TOOL], "1 + 2?", tool_required=True)) == "3"


def test_a_tool_that_is_not_offered_cannot_be_chosen() -> None:
    llm, _ = fake_llm()
    with pytest.raises(UnknownToolError) as caught:
        llm.chat_with_tools([ADD_TOOL], "?", tool_choice="divide")
    assert caught.value.offered == ("add",)
    with pytest.raises(UnknownToolError):
        llm.chat_with_tools([], "?", tool_required=True)


def test_tools_may_be_given_to_a_call_as_they_are() -> None:
    llm, backend = fake_llm(ADD)
    by_hand = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
    llm.chat([ChatMessage(content="?")], tools=[ADD_TOOL])
    llm.chat([ChatMessage(content="?")], tools=[by_hand], tool_choice="add")
    assert backend.requests[1].tools == (ToolSpec(name="add", parameters=SCHEMA),)
    assert backend.requests[0].tools[0].parameters == SCHEMA


class TakesACallable(BaseModel):
    function: Callable[[int], int]


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (add, "cannot be used as a tool"),
        ({"name": "add"}, "cannot be used as a tool"),
        (FunctionTool(add, ToolMetadata("Adds.", name=None)), "has no name"),
        (FunctionTool(add, ToolMetadata("Adds.", name="add", fn_schema=TakesACallable)), "JSON cannot express"),
    ],
)
def test_what_is_no_tool_is_refused(tool: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        openai_tool(tool)
    assert caught.value.field == "tools"


def lasting(numbers: set[int]) -> str:
    """Keep numbers."""
    return "kept"


async def test_a_schema_that_cannot_be_enforced_is_refused_where_it_has_to_be() -> None:
    """With the demo model, whose grammar it is: a set has no item twice, which no grammar can see to."""
    llm, tool = MLXLLM("demo", temperature=0, max_tokens=20), FunctionTool.from_defaults(fn=lasting)
    for options in ({"tool_required": True}, {"tool_choice": "lasting"}):
        with pytest.raises(UnsupportedSchemaError, match=r"`lasting`.*`uniqueItems`") as caught:
            llm.chat_with_tools([tool], "Hello!", **options)
        assert caught.value.hint and isinstance(caught.value, ValueError)
    with pytest.raises(UnsupportedSchemaError):
        await llm.achat_with_tools([tool], "Hello!", tool_required=True)
    assert llm.chat_with_tools([tool], "Hello!").message.content


def test_a_tool_without_a_schema_takes_an_input() -> None:
    tool = FunctionTool(add, ToolMetadata("Adds.", name="add", fn_schema=None))
    assert openai_tool(tool)["function"]["parameters"]["required"] == ["input"]
