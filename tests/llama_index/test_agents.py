"""Agents: one tool with the demo model, everything that needs more with a script."""

from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel

from mlx_integrations.errors import GenerationError
from mlx_integrations.llama_index import MLXLLM, memory
from mlx_integrations.testing import FakeAnswer
from mlx_integrations.types import ToolCall
from tests.llama_index.fakes import ADD_TOOL, MULTIPLY_TOOL, fake_llm
from tests.scripts import ADD, ADD_AGAIN


def lookup_price(item: str) -> str:
    """Look up the price of an item."""
    return "2.50"


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_demo_model_uses_a_tool(streaming: bool) -> None:
    llm = MLXLLM("demo", temperature=0)
    agent = FunctionAgent(tools=[lookup_price], llm=llm, streaming=streaming)
    handler = agent.run("How much does the notebook cost?")
    events = [event async for event in handler.stream_events()]
    assert "2.50" in str(await handler)
    called = [event for event in events if isinstance(event, ToolCallResult)]
    assert [(event.tool_name, event.tool_kwargs) for event in called] == [("lookup_price", {"item": "notebook"})]
    assert any(isinstance(event, AgentStream) and event.delta for event in events) == streaming


async def test_the_demo_model_runs_a_workflow() -> None:
    workflow = AgentWorkflow.from_tools_or_functions([lookup_price], llm=MLXLLM("demo", temperature=0))
    handler = workflow.run(user_msg="How much does the notebook cost?")
    called = [event.tool_name async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert "2.50" in str(await handler) and called == ["lookup_price"]


async def test_calls_thoughts_and_answers_are_streamed() -> None:
    llm, backend = fake_llm(FakeAnswer(reasoning="Hm.", tool_calls=(ADD, ADD_AGAIN)), "3 and 7.")
    handler = FunctionAgent(tools=[ADD_TOOL], llm=llm).run("1 + 2 and 3 + 4?")
    streamed = [event async for event in handler.stream_events() if isinstance(event, AgentStream)]
    assert str(await handler) == "3 and 7."
    assert "".join(event.delta for event in streamed) == "3 and 7."
    assert [event.thinking_delta for event in streamed if event.thinking_delta] == ["Hm."]
    roles = [message.role for message in backend.requests[1].messages]
    assert roles == ["user", "assistant", "tool", "tool"]
    answers = [(message.tool_call_id, message.content) for message in backend.requests[1].messages[2:]]
    assert sorted(answers) == [("call_1", "3"), ("call_2", "7")]
    assert backend.requests[1].messages[1].reasoning == "Hm."


async def test_the_first_call_can_be_chosen() -> None:
    llm, backend = fake_llm(ADD, "Three.")
    agent = FunctionAgent(
        tools=[ADD_TOOL, MULTIPLY_TOOL], llm=llm, initial_tool_choice="add", allow_parallel_tool_calls=False
    )
    await agent.run("1 + 2?")
    assert (backend.requests[0].tool_choice.mode, backend.requests[0].tool_choice.name) == ("tool", "add")
    assert backend.requests[1].tool_choice.mode == "auto" and not backend.requests[1].parallel_tool_calls


class Sum(BaseModel):
    total: int


async def test_an_agent_answers_with_an_object() -> None:
    llm, backend = fake_llm(ADD, "Three.", '{"total": 3}')
    response: Any = await FunctionAgent(tools=[ADD_TOOL], llm=llm, output_cls=Sum).run("1 + 2?")
    assert response.structured_response == {"total": 3}
    assert backend.requests[2].output is not None


async def test_a_workflow_hands_over() -> None:
    def handing(name: str) -> ToolCall:
        return ToolCall(id="h", name="handoff", arguments={"to_agent": name, "reason": "It multiplies."})

    first, _ = fake_llm(handing("multiplier"))
    second, backend = fake_llm(ToolCall(id="m", name="multiply", arguments={"a": 2, "b": 3}), "Six.")
    agents: list[BaseWorkflowAgent] = [
        FunctionAgent(name="adder", description="Adds.", tools=[ADD_TOOL], llm=first, can_handoff_to=["multiplier"]),
        FunctionAgent(name="multiplier", description="Multiplies.", tools=[MULTIPLY_TOOL], llm=second),
    ]
    handler = AgentWorkflow(agents=agents, root_agent="adder").run(user_msg="2 * 3?")
    results = [event.tool_name async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert str(await handler) == "Six." and results == ["handoff", "multiply"]
    assert backend.requests[1].messages[-1].content == "6"


async def test_an_agent_that_writes_its_thoughts_works() -> None:
    act = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}'
    llm, backend = fake_llm(act, "Thought: I can answer without using any more tools.\nAnswer: Three.")
    response = await ReActAgent(tools=[ADD_TOOL], llm=llm).run("1 + 2?")
    assert str(response) == "Three."
    assert "Observation: 3" in backend.requests[1].messages[-1].content


async def test_a_memory_of_the_models_size_carries_an_agent_on() -> None:
    llm, backend = fake_llm("Hello Ada.", "Ada.")
    kept: Any = memory(llm)
    agent = FunctionAgent(tools=[ADD_TOOL], llm=llm)
    await agent.run("I am Ada.", memory=kept)
    await agent.run("Who am I?", memory=kept)
    assert [message.content for message in backend.requests[1].messages] == ["I am Ada.", "Hello Ada.", "Who am I?"]


async def test_errors_come_out_of_an_agent() -> None:
    llm, _ = fake_llm(GenerationError("it broke"))
    with pytest.raises(Exception, match="it broke"):
        await FunctionAgent(tools=[ADD_TOOL], llm=llm).run(chat_history=[ChatMessage(content="a")], user_msg="b")
