"""Answers as they come over the wire: text, thoughts, calls, usage, and what is not accepted."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.errors import InvalidOutputError, RemoteContentPolicyError, RemoteError, RemoteStreamError
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    JsonObjectFormat,
    JsonSchemaFormat,
    SamplingParams,
    ToolChoice,
    ToolSpec,
)
from tests.openai_server import OpenAIServer

TOOLS = (ToolSpec(name="add"), ToolSpec(name="now"))
ASKED = ChatRequest(messages=(ChatMessage(role="user", content="Hi"),), tools=TOOLS)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def backend(server: OpenAIServer) -> Iterator[OpenAIChatBackend]:
    backend = OpenAIChatBackend(base_url=server.base_url, model="test-model", model_id="house/test-model")
    yield backend
    backend.close()


def ask(backend: OpenAIChatBackend, request: ChatRequest = ASKED) -> ChatResult:
    return ChatResult.join(backend.stream(request))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_come_apart_from_the_text(server: OpenAIServer, backend: OpenAIChatBackend, field: str) -> None:
    server.answer("So it is.", reasoning="hm, let me see", reasoning_field=field)
    result = ask(backend)
    assert (result.reasoning, result.text) == ("hm, let me see", "So it is.")
    assert result.finish.usage.reasoning_tokens == 4


def test_usage_and_names_are_the_endpoints(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 2}}
    server.answer("x", usage={"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, **details})
    finish = ask(backend).finish
    usage = finish.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (11, 7, 5, 2)
    assert finish.model_id == "house/test-model"
    assert finish.prompt_seconds >= 0 and finish.generation_seconds >= 0


def test_usage_is_estimated_where_it_is_not_counted(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer("four bytes each!", usage={})
    usage = ask(backend).finish.usage
    assert usage.prompt_tokens == backend.count_prompt_tokens(ASKED.messages, TOOLS)
    assert usage.completion_tokens == 4


@pytest.mark.parametrize(("sent", "reason"), [("stop", "stop"), ("length", "length"), ("function_call", "tool_calls")])
def test_finish_reasons_are_mapped(server: OpenAIServer, backend: OpenAIChatBackend, sent: str, reason: str) -> None:
    server.answer("x", finish_reason=sent)
    assert ask(backend).finish.reason == reason


@pytest.mark.parametrize("reason", ["error", "whatever"])
def test_an_unknown_reason_is_an_error_with_the_text_so_far(
    server: OpenAIServer, backend: OpenAIChatBackend, reason: str
) -> None:
    server.answer("one two", finish_reason=reason)
    with pytest.raises(RemoteStreamError, match=reason) as caught:
        ask(backend)
    assert caught.value.partial_text == "one two"


def test_a_filtered_answer_is_not_accepted(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer("half of", finish_reason="content_filter")
    with pytest.raises(RemoteContentPolicyError):
        ask(backend)


# Tool calls


@pytest.mark.parametrize("reason", [None, "stop"])
def test_calls_come_whole_after_the_text(server: OpenAIServer, backend: OpenAIChatBackend, reason: str | None) -> None:
    arguments = {"a": [1, {"b": 'ä\n"quoted"'}]}
    server.answer("Wait.", tool_calls=[("add", arguments), ("now", {})], finish_reason=reason)
    chunks = list(backend.stream(ASKED))
    assert [len(chunk.tool_calls) for chunk in chunks] == [0, 1, 1, 0]
    result = ChatResult.join(chunks)
    assert [(call.name, call.arguments) for call in result.tool_calls] == [("add", arguments), ("now", {})]
    assert len({call.id for call in result.tool_calls}) == 2
    assert result.finish.reason == "tool_calls" and result.text == "Wait."


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("add", '{"a": 1', "not JSON"),
        ("add", '{"a": NaN}', "not JSON"),
        ("add", '{"a": 1} {"a": 2}', "not JSON"),
        ("add", "[1]", "not a JSON object"),
        ("add", '"text"', "not a JSON object"),
        ("launch", "{}", "No tool `launch` was offered"),
    ],
)
def test_a_call_that_does_not_parse_strictly_is_never_released(
    server: OpenAIServer, backend: OpenAIChatBackend, name: str, arguments: str, why: str
) -> None:
    server.answer(tool_calls=[("now", {}), (name, arguments)])
    result = ask(backend)
    assert [call.name for call in result.tool_calls] == ["now"]
    (refused,) = result.invalid_tool_calls
    assert (refused.name, refused.arguments) == (name, arguments) and why in refused.error


def test_a_call_that_the_limit_cut_is_never_released(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    for arguments in ("", '{"a": 1'):
        server.answer(tool_calls=[("add", arguments)], finish_reason="length")
        result = ask(backend)
        assert result.tool_calls == () and result.invalid_tool_calls[0].arguments == arguments
        assert result.finish.reason == "length"


def test_a_call_without_parameters_may_come_without_arguments(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer(tool_calls=[("now", "")])
    (call,) = ask(backend).tool_calls
    assert call.arguments == {}


@pytest.mark.parametrize("chunks", range(5))
def test_a_stream_that_is_cut_inside_a_call_releases_nothing(
    server: OpenAIServer, backend: OpenAIChatBackend, chunks: int
) -> None:
    for fault in (server.cut, server.end_early, server.garbage_after):
        fault(chunks=chunks, tool_calls=[("add", {"first": 1, "second": 2})])
        stream = backend.stream(ASKED)
        with pytest.raises(RemoteStreamError):
            next(stream)  # nothing comes before the error


# What was demanded


def test_a_demanded_call_that_does_not_come_is_an_error(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer("I would rather not.")
    with pytest.raises(InvalidOutputError, match="told to call a tool") as caught:
        ask(backend, replace(ASKED, tool_choice=ToolChoice(mode="any")))
    assert caught.value.partial_text == "I would rather not."


@pytest.mark.parametrize("text", ['{"a": 1}', "no JSON", '{"b": "x"}'])
def test_an_answer_is_held_to_its_schema_here_as_well(
    server: OpenAIServer, backend: OpenAIChatBackend, text: str
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    server.answer(text)
    asked = replace(ASKED, tools=(), output=JsonSchemaFormat(schema=schema))
    if text == '{"a": 1}':
        assert json.loads(ask(backend, asked).text) == {"a": 1}
        return
    with pytest.raises(InvalidOutputError) as caught:
        ask(backend, asked)
    assert caught.value.partial_text == text


def test_json_of_any_shape_has_to_be_json(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer("hello")
    with pytest.raises(InvalidOutputError, match="not JSON"):
        ask(backend, replace(ASKED, tools=(), output=JsonObjectFormat()))


def test_an_answer_that_the_limit_cut_is_told_by_its_reason(server: OpenAIServer, backend: OpenAIChatBackend) -> None:
    server.answer('{"a": 1, "b": 2}')
    asked = replace(ASKED, tools=(), output=JsonObjectFormat(), sampling=SamplingParams(max_tokens=2))
    result = ask(backend, asked)
    assert (result.text, result.finish.reason) == ('{"a": 1,', "length")


# Anything at all


PLAIN = st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=4)
WEIRD = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": WEIRD,
        "reasoning": WEIRD,
        "refusal": WEIRD,
        "tool_calls": WEIRD
        | st.lists(
            st.fixed_dictionaries({}, optional={"index": PLAIN, "id": PLAIN, "function": WEIRD, "type": PLAIN}),
            max_size=2,
        ),
    },
)
EVENTS = WEIRD | st.fixed_dictionaries(
    {},
    optional={
        "choices": WEIRD
        | st.lists(
            st.fixed_dictionaries({}, optional={"delta": DELTAS | WEIRD, "logprobs": WEIRD, "finish_reason": WEIRD}),
            max_size=2,
        ),
        "usage": WEIRD | st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), PLAIN),
        "error": WEIRD,
    },
)


@settings(
    max_examples=int(os.environ.get("MLXI_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(EVENTS, max_size=3))
def test_whatever_a_server_sends_ends_as_an_answer_or_as_one_of_our_errors(
    server: OpenAIServer, backend: OpenAIChatBackend, events: list[Any]
) -> None:
    server.send_events(*(json.dumps(event) for event in events))
    try:
        result = ask(backend)
    except (RemoteError, InvalidOutputError):
        return
    assert all(isinstance(call.arguments, dict) and call.name in ("add", "now") for call in result.tool_calls)
