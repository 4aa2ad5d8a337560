"""A request as an endpoint gets it, and what is refused by name before anything is sent."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from mlx_integrations.cloud.presets import PRESETS
from mlx_integrations.cloud.request import is_strict_ready, request_body
from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError, UnsupportedSchemaError
from mlx_integrations.types import (
    Attachment,
    ChatMessage,
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    ModelCapabilities,
    OutputFormat,
    RegexFormat,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolSpec,
)

ASKED = ChatRequest(messages=(ChatMessage(role="user", content="Hi"),))
TOOL = ToolSpec(
    name="add", description="Adds.", parameters={"type": "object", "properties": {"a": {"type": "integer"}}}
)
THINKER = ModelCapabilities(context_window=1000, tools=True, reasoning=True, vision=True)


def body(request: ChatRequest, kind: str = "openai", capabilities: ModelCapabilities = THINKER) -> dict[str, Any]:
    made = request_body(request, endpoint=kind, options=PRESETS[kind].options, capabilities=capabilities)
    json.dumps(made, ensure_ascii=False).encode()  # it can be sent
    return made


def test_a_plain_question_is_nothing_but_its_messages() -> None:
    assert body(ASKED) == {"messages": [{"role": "user", "content": "Hi"}]}


def test_a_conversation_with_calls_and_results_is_written_as_openai_has_it() -> None:
    call = ToolCall(id="c1", name="add", arguments={"a": 1, "b": ["ä"]})
    messages = (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Add.", name="ann"),
        ChatMessage(role="assistant", reasoning="hm", tool_calls=(call,)),
        ChatMessage(role="tool", content="2", tool_call_id="c1", name="add"),
    )
    system, user, assistant, tool = body(ChatRequest(messages=messages))["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user == {"role": "user", "content": "Add.", "name": "ann"}
    assert assistant["content"] is None and "reasoning" not in str(assistant)
    (sent,) = assistant["tool_calls"]
    assert (sent["id"], sent["type"], sent["function"]["name"]) == ("c1", "function", "add")
    assert json.loads(sent["function"]["arguments"]) == {"a": 1, "b": ["ä"]}
    assert tool == {"role": "tool", "content": "2", "tool_call_id": "c1"}


def test_images_are_data_urls_behind_the_text() -> None:
    image = Attachment(kind="image", mime_type="image/jpeg", data=b"\xff\xd8")
    link = Attachment(kind="image", url="https://example.com/a.png")
    asked = ChatRequest(messages=(ChatMessage(role="user", content="What?", attachments=(image, link)),))
    text, first, second = body(asked)["messages"][0]["content"]
    assert text == {"type": "text", "text": "What?"}
    assert first["image_url"]["url"] == f"data:image/jpeg;base64,{base64.b64encode(image.data or b'').decode()}"
    assert second == {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize("kind", ["audio", "video", "file"])
def test_what_a_model_cannot_read_is_refused(kind: Any) -> None:
    part = Attachment(kind=kind, data=b"x")
    with pytest.raises(UnsupportedContentError) as caught:
        body(ChatRequest(messages=(ChatMessage(role="user", attachments=(part,)),)))
    assert caught.value.kind == kind


def test_lone_surrogates_are_replaced_everywhere() -> None:
    tool = replace(TOOL, description="\ud800", parameters={"type": "object", "x": "\ud800"})
    sampling = SamplingParams(stop=("\udfff",))
    asked = ChatRequest(messages=(ChatMessage(role="user", content="a\ud800b"),), tools=(tool,), sampling=sampling)
    made = body(asked)
    assert made["messages"][0]["content"] == "a\ufffdb" and made["stop"] == ["\ufffd"]


@pytest.mark.parametrize(
    ("kind", "sampling", "expected"),
    [
        ("openai", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("ollama", {"max_tokens": 5}, {"max_tokens": 5}),
        ("compatible", {"seed": 7, "stop": ("a", "b")}, {"seed": 7, "stop": ["a", "b"]}),
        ("openai", {"temperature": 0.0, "top_p": 1.0}, {"temperature": 0.0, "top_p": 1.0}),
        ("openai", {"logit_bias": {5: 1.5}}, {"logit_bias": {"5": 1.5}}),
        ("openai", {"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ("lmstudio", {"repetition_penalty": 1.1, "top_k": 9}, {"repeat_penalty": 1.1, "top_k": 9}),
        ("mlx-lm", {"xtc_probability": 0.5, "min_p": 0.1}, {"xtc_probability": 0.5, "min_p": 0.1}),
    ],
)
def test_sampling_has_the_names_of_the_endpoint(kind: str, sampling: dict[str, Any], expected: dict[str, Any]) -> None:
    made = body(replace(ASKED, sampling=SamplingParams(**sampling)), kind)
    assert {name: value for name, value in made.items() if name != "messages"} == expected


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("openai", {"sampling": SamplingParams(top_k=5)}, "top_k"),
        ("openai", {"sampling": SamplingParams(min_p=0.1)}, "min_p"),
        ("anthropic", {"sampling": SamplingParams(seed=1)}, "seed"),
        ("anthropic", {"sampling": SamplingParams(logprobs=True)}, "logprobs"),
        ("ollama", {"sampling": SamplingParams(logit_bias={1: 1.0})}, "logit_bias"),
        ("ollama", {"tools": (TOOL,), "tool_choice": ToolChoice(mode="any")}, "tool_choice"),
        ("mlx-lm", {"tools": (TOOL,), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ("openai", {"template_options": {"a": 1}}, "template_options"),
        ("lmstudio", {"reasoning": True}, "reasoning"),
    ],
)
def test_an_option_that_the_endpoint_does_not_know_is_refused_by_name(
    kind: str, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"`{kind}` does not know the option `{field}`") as caught:
        body(replace(ASKED, **changes), kind)
    assert caught.value.field == field
    assert f"`{field}`" in caught.value.hint


def test_a_further_option_can_be_vouched_for() -> None:
    options = {**PRESETS["compatible"].options, "top_k": "top_k"}
    asked = replace(ASKED, sampling=SamplingParams(top_k=5))
    assert request_body(asked, endpoint="x", options=options, capabilities=THINKER)["top_k"] == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", True),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("presence_penalty", "much"),
        ("top_logprobs", 21),
        ("top_logprobs", -1),
        ("stop", ("",)),
    ],
)
def test_an_impossible_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(replace(ASKED, sampling=SamplingParams(**{field: value})))
    assert caught.value.field == field and caught.value.hint


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(), None),
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="any"), "required"),
        (ToolChoice(mode="tool", name="add"), {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tools_and_the_choice_among_them(choice: ToolChoice, expected: Any) -> None:
    made = body(replace(ASKED, tools=(TOOL,), tool_choice=choice, parallel_tool_calls=False))
    assert made.get("tool_choice") == expected
    assert made["parallel_tool_calls"] is False
    (tool,) = made["tools"]
    assert tool["function"] == {"name": "add", "description": "Adds.", "parameters": dict(TOOL.parameters)}


def test_an_endpoint_without_a_choice_gets_no_tools_when_none_may_be_called() -> None:
    made = body(replace(ASKED, tools=(TOOL,), tool_choice=ToolChoice(mode="none")), "ollama")
    assert "tools" not in made and "tool_choice" not in made


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"tools": (TOOL, TOOL)}, "tools"), ({"tool_choice": ToolChoice(mode="any")}, "tool_choice")],
)
def test_impossible_tools_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(replace(ASKED, **changes))
    assert caught.value.field == field


CLOSED = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": False}}
    },
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "properties": {"a": {"type": "object"}}}, False),
        ({"anyOf": [CLOSED, {"type": "object", "properties": {"b": {}}, "additionalProperties": False}]}, False),
    ],
)
def test_a_schema_is_strict_only_where_openai_takes_it_so(schema: dict[str, Any], is_strict: bool) -> None:
    assert is_strict_ready(schema) is is_strict
    sent = body(replace(ASKED, output=JsonSchemaFormat(schema=schema, name="thing")))["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": is_strict}}


def test_json_of_any_shape_is_a_format_too() -> None:
    assert body(replace(ASKED, output=JsonObjectFormat()))["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("openai", RegexFormat(pattern="a+")),
        ("anthropic", JsonSchemaFormat(schema=CLOSED)),
        ("mlx-lm", JsonObjectFormat()),
        ("lmstudio", JsonObjectFormat()),
    ],
)
def test_a_format_that_the_endpoint_cannot_enforce_is_refused(kind: str, output: OutputFormat) -> None:
    with pytest.raises(UnsupportedSchemaError, match=f"`{kind}` cannot hold an answer to"):
        body(replace(ASKED, output=output), kind)


@pytest.mark.parametrize(
    ("kind", "reasoning", "expected"),
    [
        ("openai", True, {"reasoning_effort": "medium"}),
        ("openai", False, {"reasoning_effort": "none"}),
        ("openrouter", False, {"reasoning": {"enabled": False}}),
        ("mlx-lm", True, {"chat_template_kwargs": {"x": 1, "enable_thinking": True}}),
    ],
)
def test_thinking_is_switched_as_the_endpoint_has_it(kind: str, reasoning: bool, expected: dict[str, Any]) -> None:
    extra = {"x": 1} if kind == "mlx-lm" else {}
    made = body(replace(ASKED, reasoning=reasoning, template_options=extra), kind)
    assert {name: value for name, value in made.items() if name != "messages"} == expected


def test_a_model_that_never_thinks_is_not_told_not_to() -> None:
    plain = ModelCapabilities(context_window=1000)
    assert set(body(replace(ASKED, reasoning=False), "lmstudio", plain)) == {"messages"}
