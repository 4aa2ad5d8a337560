"""Agents over a scripted model: they end, they stream, and they keep within the window."""

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage, ToolMessage, trim_messages
from pydantic import BaseModel

from mlx_integrations.errors import ContextOverflowError, GenerationError, QueueFullError, UnsupportedSchemaError
from mlx_integrations.langchain import ChatMLX, context_budget, summarization_middleware
from mlx_integrations.langchain.errors import InvalidRequestError
from mlx_integrations.testing import FakeAnswer, FakeChatBackend
from mlx_integrations.types import ChatRequest, JsonSchemaFormat, ModelCapabilities, ToolCall, ToolChoice
from tests.langchain.fakes import add, fake_model
from tests.scripts import ADD, BROKEN


class Sum(BaseModel):
    """The sum of two numbers."""

    total: int


QUESTION: Any = {"messages": [{"role": "user", "content": "What is 1 + 2?"}]}
LIMITED: Any = {"recursion_limit": 12}
ANSWER = json.dumps({"total": 3})


def test_an_agent_calls_a_tool_and_ends() -> None:
    model, backend = fake_model(ADD, "It is 3.")
    messages = create_agent(model, [add], system_prompt="Be brief.").invoke(QUESTION, LIMITED)["messages"]
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert (messages[2].content, messages[3].content) == ("3", "It is 3.")
    assert [message.role for message in backend.requests[1].messages] == ["system", "user", "assistant", "tool"]
    assert backend.requests[0].tools[0].name == "add"
    assert backend.requests[0].tool_choice == ToolChoice()


async def test_an_agent_makes_parallel_calls() -> None:
    model, _ = fake_model((ADD, ToolCall(id="call_9", name="add", arguments={"a": 5, "b": 6})), "3 and 11.")
    messages = (await create_agent(model, [add]).ainvoke(QUESTION, LIMITED))["messages"]
    assert [message.content for message in messages if isinstance(message, ToolMessage)] == ["3", "11"]


def test_an_agent_without_tools_ends() -> None:
    model, _ = fake_model("Three.")
    assert create_agent(model).invoke(QUESTION, LIMITED)["messages"][-1].content == "Three."


@pytest.mark.parametrize("response_format", [Sum, ProviderStrategy(Sum)], ids=["automatic", "provider"])
def test_an_agent_that_answers_in_a_schema_ends_at_once(response_format: Any) -> None:
    model, backend = fake_model(ANSWER)
    result = create_agent(model, response_format=response_format).invoke(QUESTION, LIMITED)
    assert result["structured_response"] == Sum(total=3)
    assert len(backend.requests) == 1
    assert isinstance(backend.requests[0].output, JsonSchemaFormat)


def test_an_agent_with_tools_may_call_or_answer_in_a_schema() -> None:
    model, backend = fake_model(ADD, ANSWER)
    result = create_agent(model, [add], response_format=Sum).invoke(QUESTION, LIMITED)
    assert result["structured_response"] == Sum(total=3)
    assert len(backend.requests) == 2
    for request in backend.requests:
        assert request.tools and request.output and request.tool_choice == ToolChoice()


@pytest.mark.parametrize("tools", [[], [add]])
def test_an_agent_that_answers_by_a_tool_is_held_to_it(tools: list[Any]) -> None:
    model, backend = fake_model(ToolCall(id="1", name="Sum", arguments={"total": 3}))
    result = create_agent(model, tools, response_format=ToolStrategy(Sum)).invoke(QUESTION, LIMITED)
    assert result["structured_response"] == Sum(total=3)
    assert backend.requests[0].tool_choice == ToolChoice(mode="any")


def test_an_agent_is_told_of_a_call_that_was_refused() -> None:
    model, backend = fake_model((BROKEN,), "It is 3.")
    messages = create_agent(model, [add]).invoke(QUESTION, LIMITED)["messages"]
    assert messages[1].invalid_tool_calls[0]["id"] == BROKEN.id
    model.invoke(messages)
    assert BROKEN.error in backend.requests[-1].messages[1].content


def test_an_agent_streams_tokens_and_updates() -> None:
    model, _ = fake_model(FakeAnswer(reasoning="Let me add.", tool_calls=(ADD,)), "It is three.")
    agent = create_agent(model, [add])
    pieces = [message for message, _ in agent.stream(QUESTION, LIMITED, stream_mode="messages")]
    texts = [str(piece.text) for piece in pieces if isinstance(piece, AIMessageChunk)]
    assert [text for text in texts if text] == ["It", " is", " three."]
    assert sum(bool(getattr(piece, "usage_metadata", None)) for piece in pieces) == 2
    nodes = [next(iter(update)) for update in agent.stream(QUESTION, LIMITED, stream_mode="updates")]
    assert nodes == ["model", "tools", "model"]


async def test_an_agent_streams_without_blocking_and_says_the_same() -> None:
    agent = create_agent(fake_model(ADD, "It is three.")[0], [add])
    pieces = [message async for message, _ in agent.astream(QUESTION, LIMITED, stream_mode="messages")]
    assert "".join(str(piece.text) for piece in pieces if isinstance(piece, AIMessageChunk)) == "It is three."


async def test_events_of_an_agent_show_its_model() -> None:
    agent = create_agent(fake_model(ADD, "It is three.")[0], [add])
    events = [event["event"] async for event in agent.astream_events(QUESTION, LIMITED, version="v2")]
    assert events.count("on_chat_model_end") == 2 and "on_chat_model_stream" in events


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_events_of_version_3_show_calls_and_text() -> None:
    agent = create_agent(fake_model(ADD, "It is three.")[0], [add])
    run = agent.stream_events(QUESTION, LIMITED, version="v3")
    messages = (run.output or {})["messages"]
    assert messages[-1].text == "It is three."
    assert messages[1].tool_calls[0]["args"] == {"a": 1, "b": 2}


def test_a_fallback_takes_over_with_tools_and_schema() -> None:
    broken, _ = fake_model(GenerationError("it broke"))
    good, backend = fake_model(ADD, ANSWER)
    agent = create_agent(broken, [add], response_format=Sum, middleware=[ModelFallbackMiddleware(good)])
    assert agent.invoke(QUESTION, LIMITED)["structured_response"] == Sum(total=3)
    assert backend.requests[0].tools and backend.requests[0].output


def test_a_retry_happens_only_where_it_can_help() -> None:
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False, on_failure="error")
    busy, _ = fake_model(QueueFullError("busy"), QueueFullError("busy"), "At last.")
    assert create_agent(busy, middleware=[retry]).invoke(QUESTION, LIMITED)["messages"][-1].text == "At last."
    wrong, backend = fake_model(UnsupportedSchemaError("never"), "Not reached.")
    with pytest.raises(UnsupportedSchemaError):
        create_agent(wrong, middleware=[retry]).invoke(QUESTION, LIMITED)
    assert len(backend.requests) == 1


def test_messages_can_be_trimmed_by_the_models_own_count() -> None:
    model, _ = fake_model()
    history = [HumanMessage("one two"), AIMessage("three four"), HumanMessage("five six")]
    kept = trim_messages(history, max_tokens=6, token_counter=model, strategy="last")
    assert [message.text for message in kept] == ["three four", "five six"]


def small_model(window: int, *responses: Any) -> tuple[ChatMLX, FakeChatBackend]:
    backend = FakeChatBackend(responses, capabilities=ModelCapabilities(context_window=window, tools=True))
    return ChatMLX(model="fake", backend=backend), backend


@pytest.mark.parametrize(
    ("window", "budget"),
    [(512, 384), (2048, 1536), (3000, 2048), (4096, 2457), (32_768, 19_660), (131_072, 78_643), (1_000_000, 200_000)],
)
def test_a_budget_is_a_share_of_the_window_within_reason(window: int, budget: int) -> None:
    assert context_budget(window) == budget < window
    assert context_budget(small_model(window, "Hi")[0]) == budget


def test_a_budget_can_be_set() -> None:
    assert context_budget(10_000, 0.9) == 9000
    assert context_budget(10_000, 0.1, minimum_tokens=500) == 1000
    assert context_budget(10_000, 0.5, maximum_tokens=3000) == 3000


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_a_share_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        context_budget(1000, fraction)
    assert caught.value.field == "fraction"


def converse(window: int, turns: int) -> tuple[list[int], list[AnyMessage], FakeChatBackend]:
    """A long conversation in a small window: prompt sizes, the last messages, the backend."""

    def answer(request: ChatRequest) -> str:
        asked = request.messages[-1].content
        return "SUMMARY of what was said" if asked.startswith("Summarise") else "word " * 20

    model, backend = small_model(window, answer)
    agent = create_agent(model, [add], middleware=[summarization_middleware(model)])
    messages: list[AnyMessage] = []
    for turn in range(turns):
        messages = agent.invoke({"messages": [*messages, HumanMessage(f"turn {turn} " + "word " * 20)]})["messages"]
    sizes = [backend.count_prompt_tokens(request.messages) for request in backend.requests]
    return sizes, messages, backend


@pytest.mark.parametrize("window", [400, 1024])
def test_a_conversation_never_leaves_a_small_window(window: int) -> None:
    sizes, messages, backend = converse(window, turns=60)
    assert max(sizes) <= window
    assert any("SUMMARY" in str(message.text) for message in messages)
    summaries = [item for item in backend.requests if item.messages[-1].content.startswith("Summarise")]
    assert summaries and all((item.sampling.max_tokens or 0) <= window // 4 for item in summaries)


def test_the_middleware_counts_with_the_models_own_tokenizer() -> None:
    model, _ = small_model(1000, "Hi")
    middleware = summarization_middleware(model, fraction=0.5)
    assert isinstance(middleware, SummarizationMiddleware)
    assert middleware.token_counter([HumanMessage("one two")]) == 3
    assert middleware.trigger == ("tokens", 750)
    assert middleware.keep == ("tokens", 250)
    assert middleware.trim_tokens_to_summarize == 500


def test_settings_of_the_middleware_can_be_replaced() -> None:
    model, _ = small_model(100_000, "Hi")
    middleware = summarization_middleware(model, keep=("messages", 4), trigger=("messages", 9), summary_prompt="S:")
    assert (middleware.keep, middleware.trigger, middleware.summary_prompt) == (("messages", 4), ("messages", 9), "S:")


def test_a_summary_that_does_not_fit_is_tried_again_with_less() -> None:
    """LangChain does this for its own `ContextOverflowError`; ours is one."""
    overflow = ContextOverflowError("too long", prompt_tokens=2000, limit_tokens=1000)
    model, backend = small_model(1000, overflow, "A summary.", "It is three.")
    middleware = summarization_middleware(model, trigger=("messages", 3), keep=("messages", 1))
    history: list[Any] = [HumanMessage("one " * 30), AIMessage("two"), HumanMessage("three")]
    result = create_agent(model, middleware=[middleware]).invoke({"messages": history})
    assert "A summary." in result["messages"][0].text
    assert len(backend.requests) == 3
