"""The right family is recognised, and mlx-lm's own parsers work, and fail, inside it."""

import importlib
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.runtime.chat.syntax import (
    Delta,
    OutputSyntax,
    ReasoningDelta,
    TextDelta,
    UpstreamToolParser,
    detect_syntax,
)
from mlx_integrations.types import InvalidToolCall, ToolCall, ToolSpec
from tests.runtime.chat.templates.loading import template_source

TOOLS = (
    ToolSpec(
        name="get_weather",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "exact": {"type": "boolean"},
                "places": {"type": "array", "items": {"type": "string"}},
            },
        },
    ),
    ToolSpec(name="get_time"),
)
THINK = {"<think>": 1, "</think>": 2}
UPSTREAM_NAMES = [
    "function_gemma",
    "gemma4",
    "glm47",
    "kimi_k3",
    "laguna",
    "longcat",
    "minicpm5",
    "minimax_m2",
    "muse_spark",
    "pythonic",
    "qwen3_coder",
]


def upstream(name: str) -> UpstreamToolParser:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")  # noqa: TID251
    return UpstreamToolParser(
        name=name, start=module.tool_call_start, end=module.tool_call_end, parse=module.parse_tool_call
    )


def detect(
    template: str | None, vocabulary: Sequence[str] = (), *, model_type: str = "", parser: str | None = None
) -> OutputSyntax:
    return detect_syntax(
        chat_template=template,
        vocabulary={token: number for number, token in enumerate(vocabulary)},
        model_type=model_type,
        upstream=None if parser is None else upstream(parser),
    )


def parse(syntax: OutputSyntax, pieces: Sequence[str], **options: Any) -> list[Delta]:
    numbers = itertools.count(1)
    parser = syntax.parser(
        tools=options.pop("tools", TOOLS), in_reasoning=False, new_id=lambda: f"call_{next(numbers)}", **options
    )
    result: list[Delta] = []
    for delta in [*(delta for piece in pieces for delta in parser.feed(piece)), *parser.finish()]:
        match (result[-1] if result else None), delta:
            case TextDelta(before), TextDelta(after):
                result[-1] = TextDelta(before + after)
            case ReasoningDelta(before), ReasoningDelta(after):
                result[-1] = ReasoningDelta(before + after)
            case _:
                result.append(delta)
    return result


def call(number: int, name: str = "get_weather", **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call_{number}", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("template", "vocabulary", "expected"),
    [
        ("qwen25", [], "hermes"),
        ("qwen3", list(THINK), "hermes"),
        ("llama31", ["<|python_tag|>"], "llama3"),
        ("gemma2", [], "hermes"),
        ("mistral_v3", ["[TOOL_CALLS]"], "mistral"),
        ("deepseek_v3", [], "deepseek_v3"),
        ("deepseek_r1", list(THINK), "hermes"),
        ("gpt_oss", ["<|channel|>", "<|message|>"], "harmony"),
        ("phi3", [], "hermes"),
        ("granite33", ["<|tool_call|>"], "granite"),
        ("kimi_k2", [], "kimi_k2"),
        ("chatml", [], "hermes"),
    ],
)
def test_the_family_is_recognised_by_its_template(template: str, vocabulary: list[str], expected: str) -> None:
    assert detect(template_source(template), vocabulary).name == expected


@pytest.mark.parametrize(
    ("template", "vocabulary", "model_type", "expected"),
    [
        (None, [], "llama", "hermes"),
        ("", [], "", "hermes"),
        (None, ["<|channel|>", "<|message|>"], "gpt_oss", "harmony"),
        (None, [], "deepseek_v32", "deepseek_dsml"),
        ("<｜tool▁calls▁begin｜>name<｜tool▁sep｜>{}", [], "deepseek_v32", "deepseek_v31"),
        ("<|tool_call|>", ["<|/tool_call|>"], "phi3", "phi4_mini"),
        ("[TOOL_CALLS]name[ARGS]{}", [], "mistral", "mistral_args"),
        ("<|START_ACTION|>", [], "cohere2", "cohere"),
        ("<seed:tool_call>", [], "seed_oss", "seed"),
        ("<|tool_call:begin|>", [], "solar_open", "solar"),
        (None, [], "deepseek_v41", "deepseek_dsml"),
        ("<TOOLCALL>", [], "nemotron", "nemotron"),
        ("<tool_calls>", [], "hunyuan", "tagged_list"),
        ("no tools here", ["<|python_tag|>", "<|eom_id|>"], "llama", "hermes"),
        ("<tool_call> and ipython", ["<|python_tag|>"], "llama", "hermes"),
    ],
)
def test_the_family_is_recognised_by_the_marks_it_leaves(
    template: str | None, vocabulary: list[str], model_type: str, expected: str
) -> None:
    assert detect(template, vocabulary, model_type=model_type).name == expected


@pytest.mark.parametrize("name", UPSTREAM_NAMES)
def test_a_format_that_only_mlx_lm_reads_is_left_to_it_and_forced_in_the_hermes_form(name: str) -> None:
    syntax = detect("some template", parser=name)
    assert syntax.name == name
    text = syntax.call.before_name + "get_weather" + syntax.call.before_arguments + '{"city": "Paris"}'
    text += syntax.call.after_call
    assert parse(syntax, [text], forced_call=True) == [call(1, city="Paris")]
    assert parse(syntax, list(text)) == [call(1, city="Paris")]


@pytest.mark.parametrize(
    ("name", "expected"), [("json_tools", "hermes"), ("mistral", "mistral"), ("kimi_k2", "kimi_k2")]
)
def test_json_formats_of_mlx_lm_are_read_by_our_stricter_parsers(name: str, expected: str) -> None:
    templates = {
        "json_tools": "<tool_call> tool_call.name",
        "mistral": "[TOOL_CALLS] [",
        "kimi_k2": "<|tool_calls_section_begin|>",
    }
    assert detect(templates[name], parser=name).name == expected


def test_a_blank_that_the_template_writes_before_the_list_is_written_in_forced_calls() -> None:
    assert detect(template_source("mistral_v3")).call.begin == "[TOOL_CALLS] ["
    assert detect("[TOOL_CALLS][").call.begin == "[TOOL_CALLS]["


@pytest.mark.parametrize(
    ("template", "vocabulary", "tags"),
    [
        (None, ["<think>", "</think>"], ("<think>", "</think>")),
        ("<think>...</think>", [], ("<think>", "</think>")),
        (None, ["[THINK]", "[/THINK]"], ("[THINK]", "[/THINK]")),
        (None, ["<|channel>", "<channel|>"], ("<|channel>thought", "<channel|>")),
        (
            None,
            ["<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"],
            ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        ),
        ("<think> opened by the prompt", [], ("<think>", "</think>")),
        ("what stands before </think> is left out", [], ("<think>", "</think>")),
        (None, ["<think>"], (None, None)),
        (None, [], (None, None)),
    ],
)
def test_tags_for_thinking_are_found_in_vocabulary_or_template(
    template: str | None, vocabulary: list[str], tags: tuple[str | None, str | None]
) -> None:
    syntax = detect(template, vocabulary)
    assert (syntax.reasoning_start, syntax.reasoning_end) == tags


def test_every_special_token_that_a_parser_works_with_is_a_marker() -> None:
    assert {"<tool_call>", "</tool_call>", "<think>", "</think>"} <= detect(None, list(THINK)).markers
    assert {"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "<|constrain|>"} <= detect(
        template_source("gpt_oss")
    ).markers
    assert {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"} <= detect("[TOOL_CALLS]name[ARGS]{}").markers
    assert {"<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"} <= detect(
        template_source("deepseek_v3")
    ).markers
    assert {"<|tool_call_begin|>", "<|tool_call_argument_begin|>"} <= detect(template_source("kimi_k2")).markers
    assert {"<|channel>", "<channel|>", "<|tool_call>", '<|"|>'} <= detect(
        None, ["<|channel>", "<channel|>"], parser="gemma4"
    ).markers
    assert {"<|open|>", "<|close|>", "<|sep|>"} <= detect(None, parser="kimi_k3").markers


def test_tokens_that_end_a_turn_are_known_where_the_model_has_them() -> None:
    assert detect(template_source("gpt_oss"), ["<|channel|>", "<|call|>", "<|return|>", "<|end|>"]).stop_markers == (
        "<|return|>",
        "<|call|>",
    )
    assert detect(template_source("qwen25"), ["<|im_end|>", "<|eot_id|>"]).stop_markers == ("<|im_end|>",)
    assert detect(template_source("llama31"), ["<|eot_id|>", "<|eom_id|>"]).stop_markers == (
        "<|eot_id|>",
        "<|eom_id|>",
    )
    assert detect(template_source("phi3"), ["<|end|>"]).stop_markers == ("<|end|>",)
    assert detect(template_source("phi3")).stop_markers == ()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "qwen3_coder",
            "Ok.\n<tool_call>\n<function=get_weather>\n<parameter=city>\n42\n</parameter>\n<parameter=days>\n2\n"
            "</parameter>\n<parameter=exact>\ntrue\n</parameter>\n</function>\n</tool_call>",
            [TextDelta("Ok."), call(1, city="42", days=2, exact=True)],
        ),
        (
            "qwen3_coder",
            "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
            [call(1, city="Paris")],
        ),
        (
            "qwen3_coder",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
            "<function=get_time>\n</function>\n</tool_call>",
            [call(1, city="Paris"), call(2, "get_time")],
        ),
        (
            "glm47",
            "<tool_call>get_weather<arg_key>city</arg_key><arg_value>42</arg_value>"
            "<arg_key>days</arg_key><arg_value>2</arg_value></tool_call>",
            [call(1, city="42", days=2)],
        ),
        ("glm47", "<tool_call>get_time</tool_call>", [call(1, "get_time")]),
        (
            "minimax_m2",
            '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">42</parameter>\n'
            '<parameter name="places">["a"]</parameter>\n</invoke>\n<invoke name="get_time">\n</invoke>\n'
            "</minimax:tool_call>",
            [call(1, city="42", places=["a"]), call(2, "get_time")],
        ),
        (
            "gemma4",
            '<|tool_call>call:get_weather{city:<|"|>a "b" }{<|"|>,days:2}<tool_call|>',
            [call(1, city='a "b" }{', days=2)],
        ),
        (
            "function_gemma",
            "<start_function_call>call:get_weather{city:<escape>Paris<escape>,days:2}<end_function_call>",
            [call(1, city="Paris", days=2)],
        ),
        (
            "longcat",
            "<longcat_tool_call>get_weather\n<longcat_arg_key>city</longcat_arg_key>\n"
            "<longcat_arg_value>42</longcat_arg_value>\n</longcat_tool_call>",
            [call(1, city="42")],
        ),
        (
            "pythonic",
            '<|tool_call_start|>[get_weather(city="Paris", days=2), get_time()]<|tool_call_end|>Done.',
            [call(1, city="Paris", days=2), call(2, "get_time"), TextDelta("Done.")],
        ),
        (
            "minicpm5",
            '<function name="get_weather"><param name="city">Paris</param><param name="days">2</param></function>',
            [call(1, city="Paris", days=2)],
        ),
        (
            "kimi_k3",
            '<|open|>response<|sep|>Ok.<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool="get_weather" '
            'index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
            "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>",
            [TextDelta("Ok."), call(1, city="Paris")],
        ),
        (
            "muse_spark",
            "to=self<|message|>Hm.<|eom|>to=user<|message|>Ok.<|eom|><atem:function_calls>"
            '<atem:invoke name="get_weather"><atem:parameter name="city">Paris</atem:parameter></atem:invoke>'
            "</atem:function_calls>",
            [ReasoningDelta("Hm."), TextDelta("Ok."), call(1, city="Paris")],
        ),
    ],
)
def test_documented_output_is_read_through_mlx_lms_parser(name: str, text: str, expected: list[Delta]) -> None:
    syntax = detect("some template", parser=name)
    assert parse(syntax, [text]) == expected
    assert parse(syntax, list(text)) == expected


@pytest.mark.parametrize("name", UPSTREAM_NAMES)
@pytest.mark.parametrize("body", ["", "   ", "get_weather Paris", "{", "]", "<arg_key>", "call:get_weather{city}"])
def test_what_mlx_lms_parser_cannot_read_stays_visible(name: str, body: str) -> None:
    parser = upstream(name)
    deltas = parse(detect("some template", parser=name), [f"{parser.start}{body}{parser.end}"])
    assert deltas
    for delta in deltas:
        assert isinstance(delta, InvalidToolCall)
        assert delta.error


@pytest.mark.parametrize("name", UPSTREAM_NAMES)
def test_a_call_in_a_native_format_that_is_cut_is_invalid(name: str) -> None:
    parser = upstream(name)
    (delta,) = parse(detect("some template", parser=name), [f"{parser.start}get_wea"])
    assert isinstance(delta, InvalidToolCall)
    assert delta.arguments.endswith("get_wea")


@settings(deadline=None)
@given(st.sampled_from(UPSTREAM_NAMES), st.text(), st.data())
def test_mlx_lms_parsers_never_raise_through_ours(name: str, body: str, data: st.DataObject) -> None:
    parser = upstream(name)
    syntax = detect("some template", parser=name)
    text = f"a {parser.start}{body}{parser.end} b"
    place = data.draw(st.integers(0, len(text)))
    assert parse(syntax, [text[:place], text[place:]]) == parse(syntax, [text])


@pytest.mark.parametrize(
    "result",
    [
        {},
        [],
        None,
        "text",
        [{}],
        [{"arguments": {}}],
        {"name": 3, "arguments": {}},
        {"name": "get_weather", "arguments": {"x": float("nan")}},
        {"name": "get_weather", "arguments": {"x": {1, 2}}},
        {"name": "get_weather", "arguments": "Paris"},
        {"name": "get_weather", "arguments": {"raw": "Paris"}},
        KeyError("x"),
        AttributeError(),
        RecursionError("deep"),
    ],
)
def test_nonsense_from_a_parser_is_an_invalid_call(result: Any) -> None:
    def broken(text: str, tools: list[dict[str, Any]] | None) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    strange = UpstreamToolParser(name="strange", start="<s>", end="</s>", parse=broken)
    syntax = detect_syntax(chat_template=None, vocabulary={}, model_type="", upstream=strange)
    (delta,) = parse(syntax, ["<s>body</s>"])
    assert isinstance(delta, InvalidToolCall)


def test_parsers_are_given_the_tools_in_the_openai_form() -> None:
    seen: list[Any] = []

    def record(text: str, tools: list[dict[str, Any]] | None) -> dict[str, Any]:
        seen.append((text, tools))
        return {"name": "get_time", "arguments": {"place": ("a", "b")}}

    syntax = detect_syntax(
        chat_template=None,
        vocabulary={},
        model_type="",
        upstream=UpstreamToolParser(name="strange", start="<s>", end="</s>", parse=record),
    )
    assert parse(syntax, ["<s> body </s>"]) == [call(1, "get_time", place=["a", "b"])]
    text, tools = seen[0]
    assert text == "body"
    assert [tool["function"]["name"] for tool in tools] == ["get_weather", "get_time"]
