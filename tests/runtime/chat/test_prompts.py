"""Requests become the text that the authors of each template meant."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError
from mlx_integrations.runtime.chat.prompts import ChatTemplate, RenderedPrompt, prompt_token_ids
from mlx_integrations.types import (
    Attachment,
    ChatMessage,
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from tests.runtime.chat.templates.loading import NAMES, tokenizer

SYSTEM = ChatMessage(role="system", content="Be brief.")
USER = ChatMessage(role="user", content="What is the weather in Zürich?")
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather now.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = ToolSpec(name="get_time")
FIRST_CALL = ToolCall(id="call_0123456789abcdef01234567", name="get_weather", arguments={"city": "Zürich"})
SECOND_CALL = ToolCall(id="call_123456789abcdef012345670", name="get_time", arguments={})
FIRST_RESULT = ChatMessage(role="tool", content="12 degrees", tool_call_id=FIRST_CALL.id)
SECOND_RESULT = ChatMessage(role="tool", content="noon", tool_call_id=SECOND_CALL.id)
ONE_CALL = (USER, ChatMessage(role="assistant", tool_calls=(FIRST_CALL,)), FIRST_RESULT)
TWO_CALLS = (
    USER,
    ChatMessage(role="assistant", tool_calls=(FIRST_CALL, SECOND_CALL)),
    FIRST_RESULT,
    SECOND_RESULT,
)


def template(name: str | None) -> ChatTemplate:
    return ChatTemplate(tokenizer(name))


def render(name: str | None, *messages: ChatMessage, **fields: Any) -> str:
    return template(name).render(ChatRequest(messages=messages, **fields)).text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gemma2", "lfm2")])
def test_a_plain_conversation_renders_exactly_as_transformers_renders_it(name: str) -> None:
    messages = [SYSTEM, USER, ChatMessage(role="assistant", content="Cold."), ChatMessage(role="user", content="Why?")]
    expected = tokenizer(name).apply_chat_template(
        [{"role": item.role, "content": item.content} for item in messages],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert render(name, *messages) == expected


@pytest.mark.parametrize("name", [*NAMES, None])
def test_every_template_says_the_question_and_the_system_text(name: str | None) -> None:
    text = render(name, SYSTEM, USER)
    assert USER.content in text
    assert SYSTEM.content in text


@pytest.mark.parametrize("name", [*NAMES, None])
def test_every_model_is_told_its_tools(name: str | None) -> None:
    text = render(name, USER, tools=(WEATHER,))
    if name == "gpt_oss":
        assert "type get_weather" in text
    else:
        assert "get_weather" in text and '"city"' in text


@pytest.mark.parametrize("name", [*NAMES, None])
def test_every_model_is_shown_earlier_calls_and_results_in_order(name: str | None) -> None:
    text = render(name, *TWO_CALLS, tools=(WEATHER, CLOCK))
    history = text[text.index(USER.content) :]
    assert "Zürich" in history
    assert -1 < history.index("12 degrees") < history.index("noon")
    assert history.count("get_weather") >= 1 and history.count("get_time") >= 1


@pytest.mark.parametrize(
    ("name", "has_system", "has_tools", "has_switch"),
    [
        ("qwen25", True, True, False),
        ("qwen3", True, True, True),
        ("qwen3_thinking", True, False, False),
        ("llama31", True, True, False),
        ("gemma2", False, False, False),
        ("mistral_v3", True, True, False),
        ("deepseek_v3", True, True, False),
        ("deepseek_r1", True, False, False),
        ("gpt_oss", True, True, False),
        ("phi3", True, False, False),
        ("granite33", True, True, True),
        ("kimi_k2", True, True, False),
        ("granite30", True, True, False),
        ("lfm2", True, True, False),
        ("chatml", True, False, False),
    ],
)
def test_what_a_template_can_say_is_found_by_rendering(
    name: str, has_system: bool, has_tools: bool, has_switch: bool
) -> None:
    probed = template(name)
    assert (probed.has_system, probed.has_tools, probed.supports_thinking_switch) == (
        has_system,
        has_tools,
        has_switch,
    )


def test_system_text_stands_before_the_first_user_message_where_there_is_no_system_role() -> None:
    assert "<start_of_turn>user\nBe brief.\n\nWhat is the weather" in render("gemma2", SYSTEM, USER)


def test_system_text_alone_becomes_the_user_message_where_there_is_no_system_role() -> None:
    assert "<start_of_turn>user\nBe brief.<end_of_turn>" in render("gemma2", SYSTEM)


def test_an_empty_system_message_leaves_no_trace_where_there_is_no_system_role() -> None:
    assert render("gemma2", ChatMessage(role="system"), USER) == render("gemma2", USER)


def test_a_conversation_that_a_template_wants_in_another_shape_is_joined_with_its_calls() -> None:
    thought = ChatMessage(role="assistant", content="I look it up.")
    asked = ChatMessage(role="assistant", content="Now.", tool_calls=(FIRST_CALL,))
    text = render("gemma2", USER, thought, asked, FIRST_RESULT)
    assert "I look it up.\n\nNow.\n<tool_call>" in text
    text = render("mistral_v3", USER, USER, thought, asked, FIRST_RESULT, tools=(WEATHER,))
    assert text.count("[INST]") == 1 and "[TOOL_CALLS]" in text


def test_a_tool_without_properties_is_shown_as_one_that_takes_none() -> None:
    text = render("qwen25", USER, tools=(ToolSpec(name="get_time", parameters={}),))
    assert '"parameters": {"type": "object", "properties": {}}' in text


def test_messages_of_one_role_in_a_row_are_joined_only_where_the_template_demands_alternation() -> None:
    messages = (USER, ChatMessage(role="user", content="And tomorrow?"))
    assert "Zürich?\n\nAnd tomorrow?<end_of_turn>" in render("gemma2", *messages)
    assert "Zürich?<|im_end|>\n<|im_start|>user\nAnd tomorrow?" in render("qwen25", *messages)


def test_a_late_system_message_moves_to_the_front_where_the_template_demands_it() -> None:
    late = ChatMessage(role="system", content="Answer in French.")
    text = render("qwen3", SYSTEM, USER, late)
    assert text.startswith("<|im_start|>system\nBe brief.\n\nAnswer in French.<|im_end|>")


def test_the_templates_own_words_reach_the_caller_when_it_refuses() -> None:
    with pytest.raises(InvalidRequestError, match="roles must alternate user/assistant") as caught:
        render("gemma2", ChatMessage(role="assistant", content="Hello."), USER)
    assert caught.value.field == "messages"


def test_arguments_are_an_object_for_templates_that_write_them_as_json() -> None:
    assert '{"name": "get_weather", "arguments": {"city": "Zürich"}}' in render("qwen25", *ONE_CALL, tools=(WEATHER,))


def test_arguments_are_text_for_templates_that_join_them_to_text() -> None:
    text = render("deepseek_v3", *ONE_CALL, tools=(WEATHER,))
    assert 'function<｜tool▁sep｜>get_weather\n```json\n{"city": "Zürich"}\n```' in text


def test_call_ids_get_the_nine_characters_that_mistral_demands_and_results_keep_up() -> None:
    text = render("mistral_v3", *TWO_CALLS, tools=(WEATHER, CLOCK))
    ids = [part.split('"')[0] for part in text.split('"id": "')[1:]]
    results = [part.split('"')[0] for part in text.split('"call_id": "')[1:]]
    assert ids == results and len(set(ids)) == 2
    assert all(len(item) == 9 and item.isalnum() for item in ids)
    assert text == render("mistral_v3", *TWO_CALLS, tools=(WEATHER, CLOCK))


def test_an_id_that_has_nine_characters_already_stays() -> None:
    call = ToolCall(id="abcDEF123", name="get_weather", arguments={})
    result = ChatMessage(role="tool", content="1", tool_call_id=call.id)
    assert '"id": "abcDEF123"' in render("mistral_v3", USER, ChatMessage(role="assistant", tool_calls=(call,)), result)


def test_call_ids_carry_the_name_where_the_template_writes_nothing_else_of_it() -> None:
    text = render("kimi_k2", *TWO_CALLS, tools=(WEATHER, CLOCK))
    assert '<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Zürich"}' in text
    assert "functions.get_time:1<|tool_call_argument_begin|>" in text
    assert "## Return of functions.get_weather:0\n12 degrees" in text


def test_parallel_calls_become_turns_where_the_template_refuses_them() -> None:
    text = render("llama31", *TWO_CALLS, tools=(WEATHER, CLOCK))
    order = [text.rindex(words) for words in ('"name": "get_weather"', '"12 degrees"', '"get_time"', '"noon"')]
    assert order == sorted(order)


@pytest.mark.parametrize("name", ["llama31", "gpt_oss", "kimi_k2"])
def test_ids_that_come_again_in_a_later_turn_do_not_mix_up_results(name: str) -> None:
    def turn(number: int) -> tuple[ChatMessage, ...]:
        calls = tuple(ToolCall(id=str(i), name="get_weather", arguments={"n": f"{number}{i}"}) for i in range(2))
        results = (ChatMessage(role="tool", content=f"r{number}{i}", tool_call_id=str(i)) for i in (1, 0))
        return (ChatMessage(role="assistant", tool_calls=calls), *results, ChatMessage(role="user", content="More."))

    text = render(name, USER, *turn(1), *turn(2), tools=(WEATHER,))
    turns = ["10", "r10", "11", "r11", "20", "r20", "21", "r21"]
    places = [text.index(f'"{words}"' if words[0] != "r" else words) for words in turns]
    if name != "kimi_k2":
        assert places == sorted(places)
    else:
        assert "functions.get_weather:3\nr21" in text and "functions.get_weather:0\nr10" in text


def test_a_result_that_answers_no_call_stays_where_it_was() -> None:
    stray = ChatMessage(role="tool", content="stray words", tool_call_id="other")
    text = render("gpt_oss", *TWO_CALLS, stray, tools=(WEATHER, CLOCK))
    assert text.index("noon") < text.index("stray words")


def test_parallel_calls_become_turns_where_the_template_drops_all_but_the_first() -> None:
    text = render("gpt_oss", *TWO_CALLS, tools=(WEATHER, CLOCK))
    assert text.index("to=functions.get_weather") < text.index("functions.get_weather to=assistant")
    assert "to=functions.get_time<|channel|>commentary json<|message|>{}<|call|><|start|>functions.get_time to=" in text


def test_reasoning_goes_back_to_templates_that_show_it() -> None:
    answer = ChatMessage(role="assistant", content="Cold.", reasoning="It is winter.")
    text = render("qwen3", USER, answer, ChatMessage(role="user", content="Sure?"))
    assert "<think>\nIt is winter.\n</think>\n\nCold." in text


def test_reasoning_is_dropped_rather_than_the_text_where_a_template_takes_only_one() -> None:
    message = ChatMessage(role="assistant", content="I look it up.", reasoning="Hm.", tool_calls=(FIRST_CALL,))
    text = render("gpt_oss", USER, message, FIRST_RESULT, tools=(WEATHER,))
    assert "I look it up." in text and "Hm." not in text


@pytest.mark.parametrize("name", ["phi3", "gemma2", "deepseek_r1", "chatml", None])
def test_tools_are_explained_in_the_hermes_form_where_the_template_has_no_place_for_them(name: str | None) -> None:
    text = render(name, SYSTEM, *ONE_CALL, tools=(WEATHER,))
    listed = text.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(listed)["function"]["name"] == "get_weather"
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>' in text
    assert "<tool_response>\n12 degrees\n</tool_response>" in text


def test_calls_are_written_in_the_familys_form_where_the_template_shows_results_but_no_calls() -> None:
    text = render("granite30", *ONE_CALL, tools=(WEATHER,))
    assert 'assistant<|end_of_role|><|tool_call|>[{"name": "get_weather", "arguments": {"city": "Zürich"}}]<|' in text
    assert "<|start_of_role|>tool<|end_of_role|>12 degrees" in text
    text = render("lfm2", *TWO_CALLS, tools=(WEATHER, CLOCK))
    assert "assistant\n<|tool_call_start|>[get_weather(city='Zürich'), get_time()]<|tool_call_end|><|im_end|>" in text
    assert "<|im_start|>tool\n<|tool_response_start|>12 degrees" in text


def test_a_template_that_iterates_over_tools_is_given_none_of_them_as_a_list() -> None:
    assert "<|tool_list_start|>" not in render("lfm2", USER)
    with pytest.raises(Exception, match="not iterable"):
        tokenizer("lfm2").apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_results_in_a_row_share_one_user_message_in_the_hermes_form() -> None:
    text = render("gemma2", *TWO_CALLS, tools=(WEATHER, CLOCK))
    assert "12 degrees\n</tool_response>\n<tool_response>\nnoon" in text


@pytest.mark.parametrize("name", ["qwen25", "phi3", None])
def test_tools_are_not_shown_when_none_may_be_called(name: str | None) -> None:
    text = render(name, USER, tools=(WEATHER,), tool_choice=ToolChoice(mode="none"))
    assert "get_weather" not in text


def test_all_tools_are_shown_when_one_is_forced() -> None:
    text = render("qwen25", USER, tools=(WEATHER, CLOCK), tool_choice=ToolChoice(mode="tool", name="get_time"))
    assert "get_weather" in text and "get_time" in text


def test_a_schema_for_the_answer_stands_at_the_end_of_the_system_text() -> None:
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    text = render("qwen25", SYSTEM, USER, output=JsonSchemaFormat(schema=schema))
    instruction = "Reply with JSON that matches this JSON Schema:\n" + json.dumps(schema, ensure_ascii=False)
    assert f"Be brief.\n\n{instruction}<|im_end|>" in text


def test_a_schema_for_the_answer_becomes_the_system_text_where_there_is_none() -> None:
    text = render("chatml", USER, output=JsonSchemaFormat(schema={"type": "object"}))
    assert text.startswith(
        '<|im_start|>system\nReply with JSON that matches this JSON Schema:\n{"type": "object"}<|im_end|>'
    )


def test_a_json_object_is_asked_for_unless_the_messages_speak_of_json() -> None:
    assert "Reply with a JSON object." in render("chatml", USER, output=JsonObjectFormat())
    asked = ChatMessage(role="user", content="Give me json.")
    assert "Reply with a JSON object." not in render("chatml", asked, output=JsonObjectFormat())


def test_a_regular_expression_is_not_mentioned() -> None:
    assert render("chatml", USER, output=RegexFormat(pattern="[ab]+")) == render("chatml", USER)


def test_thinking_is_switched_through_the_variable_that_the_template_has() -> None:
    assert render("qwen3", USER, reasoning=False).endswith("<think>\n\n</think>\n\n")
    assert not render("qwen3", USER, reasoning=True).endswith("</think>\n\n")
    assert "Write your thoughts" in render("granite33", USER, reasoning=True)
    assert "Write your thoughts" not in render("granite33", USER)


def test_template_options_reach_the_template_and_win_over_the_switch() -> None:
    assert "Reasoning: high" in render("gpt_oss", USER, template_options={"reasoning_effort": "high"})
    text = render("qwen3", USER, reasoning=True, template_options={"enable_thinking": False})
    assert text.endswith("</think>\n\n")


@pytest.mark.parametrize("option", ["messages", "tools", "tokenize", "add_generation_prompt", "chat_template"])
def test_template_options_cannot_replace_what_the_request_says(option: str) -> None:
    with pytest.raises(InvalidRequestError, match=option) as caught:
        render("qwen3", USER, template_options={option: None})
    assert caught.value.field == "template_options"


@pytest.mark.parametrize(("name", "expected"), [("deepseek_r1", True), ("qwen3_thinking", True), ("qwen3", False)])
def test_a_prompt_that_opens_the_thinking_says_so(name: str, expected: bool) -> None:
    chat = template(name)
    rendered = chat.render(ChatRequest(messages=(USER,)))
    assert rendered.in_reasoning is expected
    assert chat.starts_in_reasoning(rendered) is expected


def test_no_messages_are_refused() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render("qwen25")
    assert caught.value.field == "messages"


@pytest.mark.parametrize("kind", ["image", "audio", "video", "file"])
def test_attachments_are_refused_by_kind_before_anything_else(kind: Any) -> None:
    message = ChatMessage(role="user", attachments=(Attachment(kind=kind, url="https://example.org/x"),))
    with pytest.raises(UnsupportedContentError, match=kind) as caught:
        render("qwen25", message, template_options={"messages": []})
    assert caught.value.kind == kind


@pytest.mark.parametrize("name", [*NAMES, None])
def test_text_that_is_not_unicode_reaches_the_tokenizer_as_replacement_characters(name: str | None) -> None:
    call = ToolCall(id="call_\ud800", name="get_weather", arguments={"ci\udfffty": ["\ud800x", {"a": "\udc00"}]})
    tool = ToolSpec(name="get_weather", description="broken \ud83d", parameters={"title": "\udead"})
    messages = (
        ChatMessage(role="system", content="sys \ud800"),
        ChatMessage(role="user", content="user \udfff"),
        ChatMessage(role="assistant", reasoning="\ud801", tool_calls=(call,)),
        ChatMessage(role="tool", content="caf\udce9", name="\ud800", tool_call_id=call.id),
    )
    chat = template(name)
    request = ChatRequest(
        messages=messages,
        tools=(tool,),
        output=JsonSchemaFormat(schema={"title": "\ud800"}),
        template_options={"x": "\ud800"},
    )
    rendered = chat.render(request)
    assert "user \ufffd" in rendered.text and "caf\ufffd" in rendered.text
    assert prompt_token_ids(tokenizer(name), rendered)


def test_a_pair_of_surrogates_becomes_the_character_it_stands_for() -> None:
    assert "\U0001f600" in render("chatml", ChatMessage(role="user", content="\ud83d\ude00"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text()), min_size=1, max_size=6))
def test_any_conversation_renders_or_is_an_invalid_request(turns: list[tuple[Any, str]]) -> None:
    messages = tuple(ChatMessage(role=role, content=text) for role, text in turns)
    for name in ("gemma2", "mistral_v3", "llama31", "qwen3", None):
        with suppress(InvalidRequestError):
            template(name).render(ChatRequest(messages=messages, tools=(WEATHER,))).text.encode()


def test_a_model_without_a_template_gets_a_transcript_with_titles_and_strings_that_stop_it() -> None:
    rendered = template(None).render(ChatRequest(messages=(SYSTEM, USER)))
    assert rendered.text == f"### System:\nBe brief.\n\n### User:\n{USER.content}\n\n### Assistant:\n"
    assert rendered.add_bos
    assert "\n### User:" in rendered.stop


def test_templated_text_is_tokenised_as_transformers_does_it() -> None:
    hf = tokenizer("llama31", adds_bos=True)
    rendered = ChatTemplate(hf).render(ChatRequest(messages=(USER,)))
    expected = hf.apply_chat_template(
        [{"role": "user", "content": USER.content}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    ids = prompt_token_ids(hf, rendered)
    assert ids == expected
    assert ids.count(hf.bos_token_id) == 1


def test_a_template_that_leaves_out_the_first_token_is_believed() -> None:
    hf = tokenizer("chatml", adds_bos=True)
    assert hf.bos_token_id not in prompt_token_ids(hf, ChatTemplate(hf).render(ChatRequest(messages=(USER,))))


@pytest.mark.parametrize(("adds_bos", "count"), [(True, 1), (False, 0)])
def test_a_transcript_begins_with_the_first_token_if_the_tokenizer_adds_one(adds_bos: bool, count: int) -> None:
    hf = tokenizer(None, adds_bos=adds_bos)
    ids = prompt_token_ids(hf, ChatTemplate(hf).render(ChatRequest(messages=(USER,))))
    assert ids.count(hf.bos_token_id) == count
    doubled = prompt_token_ids(hf, RenderedPrompt(text="<s>hello", add_bos=True))
    assert doubled.count(hf.bos_token_id) == 1


class FakeTokenizer:
    """Named templates, and a record of what was asked for."""

    def __init__(self, chat_template: Any) -> None:
        self.chat_template = chat_template
        self.calls: list[dict[str, Any]] = []

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
        self.calls.append(kwargs)
        return "prompt"


def test_one_of_several_named_templates_is_chosen() -> None:
    fake = FakeTokenizer({"rag": "RAG", "tool_use": "TOOLS"})
    chat = ChatTemplate(fake)
    chat.render(ChatRequest(messages=(USER,)))
    assert fake.calls[-1]["chat_template"] == "RAG"
    assert chat.source == "TOOLS"
    fake = FakeTokenizer({"default": "A", "tool_use": "B"})
    ChatTemplate(fake).render(ChatRequest(messages=(USER,)))
    assert "chat_template" not in fake.calls[-1]
    assert ChatTemplate(FakeTokenizer({})).source is None
    assert not ChatTemplate(FakeTokenizer({})).has_template


def test_a_template_that_is_code_gets_tools_and_options() -> None:
    def apply(messages: list[dict[str, Any]], *, tools: Any = None, add_generation_prompt: bool, mood: str = "") -> str:
        names = ",".join(tool["function"]["name"] for tool in tools or [])
        return f"{messages[0]['content']}|{names}|{mood}|{add_generation_prompt}"

    chat = ChatTemplate(FakeTokenizer(None), apply=apply)
    request = ChatRequest(messages=(USER,), tools=(WEATHER,), template_options={"mood": "calm"})
    assert chat.has_template and chat.has_tools
    assert chat.render(request).text == f"{USER.content}|get_weather|calm|True"


def test_tools_come_with_an_empty_system_message_where_the_template_shows_them_only_there() -> None:
    def apply(messages: list[dict[str, Any]], *, tools: Any = None, **options: Any) -> str:
        shown = [f"{item['role']}:{item['content']}" for item in messages]
        return "|".join([*shown, str(tools)] if tools and messages[0]["role"] == "system" else shown)

    chat = ChatTemplate(FakeTokenizer(None), apply=apply)
    text = chat.render(ChatRequest(messages=(USER,), tools=(WEATHER,))).text
    assert text.startswith("system:|user:") and "get_weather" in text


def test_whatever_a_template_raises_is_an_invalid_request() -> None:
    def apply(messages: Any, **options: Any) -> str:
        return str({}[messages[0]["role"]])

    with pytest.raises(InvalidRequestError, match="user"):
        ChatTemplate(FakeTokenizer(None), apply=apply).render(ChatRequest(messages=(USER,)))
