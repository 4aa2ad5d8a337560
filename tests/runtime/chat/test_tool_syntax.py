"""Every family's output, as its authors document it, splits into text, reasoning and strictly checked calls."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.runtime.chat.syntax import Delta, OutputSyntax, ReasoningDelta, TextDelta
from mlx_integrations.runtime.chat.tool_syntax.deepseek import (
    deepseek_dsml_syntax,
    deepseek_v3_syntax,
    deepseek_v31_syntax,
)
from mlx_integrations.runtime.chat.tool_syntax.harmony import harmony_syntax
from mlx_integrations.runtime.chat.tool_syntax.hermes import hermes_syntax
from mlx_integrations.runtime.chat.tool_syntax.json_lists import (
    JSON_LISTS,
    cohere_syntax,
    granite_syntax,
    json_list_syntax,
    phi_syntax,
)
from mlx_integrations.runtime.chat.tool_syntax.kimi import kimi_syntax
from mlx_integrations.runtime.chat.tool_syntax.llama3 import llama3_syntax
from mlx_integrations.runtime.chat.tool_syntax.mistral import mistral_args_syntax, mistral_list_syntax
from mlx_integrations.runtime.chat.tool_syntax.seed import seed_syntax
from mlx_integrations.runtime.chat.tool_syntax.solar import solar_syntax
from mlx_integrations.types import FinishReason, InvalidToolCall, ToolCall, ToolSpec

TOOLS = (
    ToolSpec(
        name="get_weather",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"}},
        },
    ),
    ToolSpec(name="get_time"),
)


def thinking(syntax: OutputSyntax) -> OutputSyntax:
    return replace(syntax, reasoning_start="<think>", reasoning_end="</think>")


SYNTAXES: dict[str, Callable[[], OutputSyntax]] = {
    "hermes": lambda: thinking(hermes_syntax()),
    "llama3": llama3_syntax,
    "mistral": mistral_list_syntax,
    "mistral_blank": lambda: mistral_list_syntax(has_blank=True),
    "mistral_args": mistral_args_syntax,
    "deepseek_v3": lambda: thinking(deepseek_v3_syntax()),
    "deepseek_v31": lambda: thinking(deepseek_v31_syntax()),
    "deepseek_dsml": lambda: thinking(deepseek_dsml_syntax()),
    "harmony": harmony_syntax,
    "granite": granite_syntax,
    "phi4_mini": phi_syntax,
    "cohere": cohere_syntax,
    "kimi_k2": kimi_syntax,
    "seed": seed_syntax,
    "solar": solar_syntax,
    **{name: lambda n=name, m=marks: json_list_syntax(n, *m) for name, marks in JSON_LISTS.items()},  # type: ignore[misc]
}


def parse(
    name: str,
    text: str | Iterable[str],
    *,
    tools: Sequence[ToolSpec] = TOOLS,
    in_reasoning: bool = False,
    forced_call: bool = False,
    reason: FinishReason = "stop",
) -> list[Delta]:
    """The deltas of a whole answer, neighbours of one kind joined, ids counted from 1."""
    numbers = itertools.count(1)
    parser = SYNTAXES[name]().parser(
        tools=tools, in_reasoning=in_reasoning, forced_call=forced_call, new_id=lambda: f"call_{next(numbers)}"
    )
    pieces = [text] if isinstance(text, str) else text
    return joined([*(delta for piece in pieces for delta in parser.feed(piece)), *parser.finish(reason)])


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    result: list[Delta] = []
    for delta in deltas:
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


@dataclass(frozen=True)
class Case:
    syntax: str
    text: str
    expected: list[Delta]
    in_reasoning: bool = False
    reason: FinishReason = "stop"


PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
CASES = {
    "hermes, one call": Case("hermes", f"<tool_call>\n{PARIS}\n</tool_call>", [call(1, city="Paris")]),
    "hermes, text before, two calls": Case(
        "hermes",
        f'I look.\n\n<tool_call>\n{PARIS}\n</tool_call>\n<tool_call>\n{{"name": "get_time"}}\n</tool_call>',
        [TextDelta("I look."), call(1, city="Paris"), call(2, "get_time")],
    ),
    "hermes, thinking first": Case(
        "hermes",
        f"<think>\nSo.\n\n  Hm\n</think>\n\nOk.\n<tool_call>{PARIS}</tool_call>",
        [ReasoningDelta("So.\n\n  Hm"), TextDelta("Ok."), call(1, city="Paris")],
    ),
    "hermes, thinking opened by the prompt": Case(
        "hermes", "So.\n</think>\n\n    indented", [ReasoningDelta("So."), TextDelta("    indented")], in_reasoning=True
    ),
    "hermes, thinking opened twice": Case(
        "hermes", "<think>\nSo.</think>Yes", [ReasoningDelta("So."), TextDelta("Yes")], in_reasoning=True
    ),
    "hermes, thinking that is empty": Case("hermes", "<think>\n\n</think>\n\nYes", [TextDelta("Yes")]),
    "hermes, thinking cut by the limit": Case(
        "hermes", "<think>\nSo. </thi", [ReasoningDelta("So. </thi")], reason="length"
    ),
    "hermes, a call that the thinking only mentions": Case(
        "hermes",
        "I write <tool_call>x</tool_call></think>Ok",
        [ReasoningDelta("I write <tool_call>x</tool_call>"), TextDelta("Ok")],
        in_reasoning=True,
    ),
    "hermes, a call that ends thinking which was never closed": Case(
        "hermes",
        f"Let me see.\n<tool_call>\n{PARIS}\n</tool_call>\n<tool_call>\n{PARIS}\n</tool_call>",
        [
            ReasoningDelta(f"Let me see.\n<tool_call>\n{PARIS}\n</tool_call>\n<tool_call>\n{PARIS}\n</tool_call>"),
            call(1, city="Paris"),
            call(2, city="Paris"),
        ],
        in_reasoning=True,
    ),
    "hermes, thinking that goes on after a call and is never closed": Case(
        "hermes",
        f"<tool_call>\n{PARIS}\n</tool_call> or not",
        [ReasoningDelta(f"<tool_call>\n{PARIS}\n</tool_call> or not")],
        in_reasoning=True,
    ),
    "hermes, a tag that the answer only mentions": Case(
        "hermes", "Use <think> and </think>.", [TextDelta("Use <think> and </think>.")]
    ),
    "hermes, end marker inside an argument": Case(
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "a</tool_call>\\"b"}}</tool_call> ok',
        [call(1, city='a</tool_call>"b'), TextDelta(" ok")],
    ),
    "hermes, arguments as a string": Case(
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        [call(1, city="Paris")],
    ),
    "hermes, function wrapper": Case(
        "hermes",
        f'<tool_call>{{"type": "function", "function": {PARIS}}}</tool_call>',
        [call(1, city="Paris")],
    ),
    "hermes, list of calls": Case(
        "hermes",
        f'<tool_call>[{PARIS}, {{"name": "get_time"}}]</tool_call>',
        [call(1, city="Paris"), call(2, "get_time")],
    ),
    "hermes, no end marker but complete": Case("hermes", f"<tool_call>\n{PARIS}\n", [call(1, city="Paris")]),
    "hermes, text after a call": Case(
        "hermes", f"<tool_call>{PARIS}</tool_call>\n\n  - done ", [call(1, city="Paris"), TextDelta("  - done ")]
    ),
    "hermes, half a marker at the end": Case("hermes", "if a <tool_c", [TextDelta("if a <tool_c")]),
    "hermes, trailing blanks": Case("hermes", "  a <\n\n", [TextDelta("  a <\n\n")]),
    "llama3, bare": Case(
        "llama3", '{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}', [call(1, city="Paris", days=2)]
    ),
    "llama3, bare, several": Case(
        "llama3",
        '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_time", "parameters": {}}',
        [call(1, city="Paris"), call(2, "get_time")],
    ),
    "llama3, with type": Case(
        "llama3",
        '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
        [call(1, city="Paris")],
    ),
    "llama3, python tag with JSON": Case(
        "llama3", '<|python_tag|>{"name": "get_time", "parameters": {}}', [call(1, "get_time")]
    ),
    "llama3, python tag with a call": Case(
        "llama3", '<|python_tag|>get_weather.call(city="Paris", days=2)', [call(1, city="Paris", days=2)]
    ),
    "llama3, function tag": Case(
        "llama3", '<function=get_weather>{"city": "Paris"}</function>', [call(1, city="Paris")]
    ),
    "llama3, JSON that is an answer": Case(
        "llama3", '{"city": "Paris", "name": "x"}', [TextDelta('{"city": "Paris", "name": "x"}')]
    ),
    "llama3, JSON with the name of no tool": Case(
        "llama3", '{"name": "Ada", "parameters": {}}', [TextDelta('{"name": "Ada", "parameters": {}}')]
    ),
    "llama3, JSON with other keys": Case(
        "llama3", '{"name": "get_time", "age": 3}', [TextDelta('{"name": "get_time", "age": 3}')]
    ),
    "llama3, JSON with text after it": Case(
        "llama3",
        '{"name": "get_time", "parameters": {}} is what I would call.',
        [TextDelta('{"name": "get_time", "parameters": {}} is what I would call.')],
    ),
    "llama3, text before JSON": Case(
        "llama3",
        'So: {"name": "get_time", "parameters": {}}',
        [TextDelta('So: {"name": "get_time", "parameters": {}}')],
    ),
    "mistral, list": Case(
        "mistral",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "[TOOL_CALLS]"}, "id": "abcDEF123"}]',
        [call(1, city="[TOOL_CALLS]")],
    ),
    "mistral, list and text": Case(
        "mistral",
        f"Ok.[TOOL_CALLS][{PARIS}, {PARIS}] bye",
        [TextDelta("Ok."), call(1, city="Paris"), call(2, city="Paris"), TextDelta(" bye")],
    ),
    "mistral, names outside": Case(
        "mistral_args",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time[CALL_ID]abcDEF123[ARGS]{}',
        [call(1, city="Paris"), call(2, "get_time")],
    ),
    "deepseek v3": Case(
        "deepseek_v3",
        "Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "```"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [TextDelta("Ok"), call(1, city="```"), call(2, "get_time")],
    ),
    "deepseek v3.1": Case(
        "deepseek_v31",
        "Hm.</think><｜tool▁calls▁begin｜>"
        '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
        "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [ReasoningDelta("Hm."), call(1, city="Paris"), call(2, "get_time")],
        in_reasoning=True,
    ),
    "deepseek v3.2": Case(
        "deepseek_dsml",
        'Ok.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">42</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        '<｜DSML｜invoke name="get_time">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
        [TextDelta("Ok."), call(1, city="42", days=2), call(2, "get_time")],
    ),
    "harmony, analysis and final": Case(
        "harmony",
        "<|channel|>analysis<|message|>Let me see.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Hi  there<|return|>",
        [ReasoningDelta("Let me see."), TextDelta("Hi  there")],
    ),
    "harmony, call": Case(
        "harmony",
        "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
        '<|constrain|>json<|message|>{"city": "Paris"}<|call|>',
        [ReasoningDelta("Look."), call(1, city="Paris")],
    ),
    "harmony, call without its stop token": Case(
        "harmony",
        '<|channel|>commentary to=functions.get_weather json<|message|>{"city": "Paris"}',
        [call(1, city="Paris")],
    ),
    "harmony, recipient in the role": Case(
        "harmony",
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>',
        [call(1, city="Paris")],
    ),
    "harmony, preamble for the user": Case(
        "harmony",
        "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant<|channel|>commentary "
        "to=functions.get_time<|message|>{}<|call|>",
        [TextDelta("I look it up."), call(1, "get_time")],
    ),
    "harmony, two messages of a kind": Case(
        "harmony",
        "<|channel|>commentary<|message|>One.<|end|><|start|>assistant<|channel|>final<|message|>Two.",
        [TextDelta("One.\n\nTwo.")],
    ),
    "harmony, analysis opened by the prompt": Case(
        "harmony",
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
        [ReasoningDelta("Hm."), TextDelta("Yes")],
        in_reasoning=True,
    ),
    "harmony, no channels at all": Case("harmony", "\n Hello", [TextDelta("\n Hello")]),
    "harmony, cut in a header": Case(
        "harmony",
        "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|chan",
        [ReasoningDelta("A"), TextDelta("<|start|>assistant<|chan")],
        reason="length",
    ),
    "granite": Case("granite", f"<|tool_call|>[{PARIS}]", [call(1, city="Paris")]),
    "granite, as a tag": Case("granite", f"<tool_call>[{PARIS}]", [call(1, city="Paris")]),
    "phi": Case("phi4_mini", f"<|tool_call|>[{PARIS}]<|/tool_call|>", [call(1, city="Paris")]),
    "nemotron": Case("nemotron", f"<TOOLCALL>[{PARIS}]</TOOLCALL>", [call(1, city="Paris")]),
    "tagged list": Case("tagged_list", f"<tool_calls>[{PARIS}]</tool_calls>\n", [call(1, city="Paris")]),
    "cohere, action": Case(
        "cohere",
        "<|START_THINKING|>Look.<|END_THINKING|><|START_ACTION|>[\n    "
        '{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}\n]<|END_ACTION|>',
        [ReasoningDelta("Look."), call(1, city="Paris")],
    ),
    "cohere, answer": Case("cohere", "<|START_RESPONSE|>Hello.<|END_RESPONSE|>", [TextDelta("Hello.")]),
    "seed": Case(
        "seed",
        "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>42</parameter>\n"
        "<parameter=days>2</parameter>\n<parameter=exact>True</parameter>\n</function>\n</seed:tool_call>",
        [ReasoningDelta("Hm."), call(1, city="42", days=2, exact=True)],
    ),
    "deepseek v4": Case(
        "deepseek_dsml",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_time">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
        [call(1, "get_time")],
    ),
    "llama 4, tag for code": Case(
        "llama3", '<|python_start|>{"name": "get_time", "parameters": {}}<|python_end|>', [call(1, "get_time")]
    ),
    "solar, call": Case(
        "solar",
        "<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>x1<|tool_call:name|>get_weather"
        '<|tool_call:args|>{"city": "Paris"}<|tool_call:end|>',
        [ReasoningDelta("Hm."), call(1, city="Paris")],
    ),
    "solar, answer": Case(
        "solar", "<|think|>Hm.<|end|><|begin|>assistant<|content|>Yes", [ReasoningDelta("Hm."), TextDelta("Yes")]
    ),
    "kimi": Case(
        "kimi_k2",
        "Ok.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris"}<|tool_call_end|><|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{}'
        "<|tool_call_end|><|tool_calls_section_end|>",
        [TextDelta("Ok."), call(1, city="Paris"), call(2, "get_time")],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_documented_output_splits_into_its_parts(case: Case) -> None:
    assert parse(case.syntax, case.text, in_reasoning=case.in_reasoning, reason=case.reason) == case.expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_parts_are_the_same_when_every_character_arrives_alone(case: Case) -> None:
    assert parse(case.syntax, list(case.text), in_reasoning=case.in_reasoning, reason=case.reason) == case.expected


@settings(deadline=None)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_the_parts_are_the_same_however_the_text_is_cut(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    text = data.draw(st.sampled_from([case.text, case.text * 2, case.text[: len(case.text) * 2 // 3]]))
    whole = parse(case.syntax, text, in_reasoning=case.in_reasoning)
    assert parse(case.syntax, cut(text, data), in_reasoning=case.in_reasoning) == whole


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]


FRAGMENTS = st.sampled_from(
    [
        *'{}[]":,;\\ \n`x=<>|',
        '"name"',
        '"get_weather"',
        '"arguments"',
        '"parameters"',
        PARIS,
        "</tool_call>",
        " to=functions.get_weather",
        "commentary",
        *{marker for make in SYNTAXES.values() for block in make().blocks for marker in (block.start, block.end)},
        *("<think>", "</think>", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "[ARGS]"),
        *("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "<|tool_call_argument_begin|>", "<|START_RESPONSE|>"),
    ]
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SYNTAXES)),
    st.lists(FRAGMENTS | st.text(max_size=5), max_size=20).map("".join),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["stop", "length"]),
    st.data(),
)
def test_arbitrary_text_is_read_without_raising_and_alike_however_it_is_cut(
    name: str, text: str, in_reasoning: bool, forced_call: bool, reason: FinishReason, data: st.DataObject
) -> None:
    whole = parse(name, text, in_reasoning=in_reasoning, forced_call=forced_call, reason=reason)
    pieces = parse(name, cut(text, data), in_reasoning=in_reasoning, forced_call=forced_call, reason=reason)
    assert pieces == whole


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SYNTAXES)),
    st.text(alphabet=st.characters(exclude_characters="<[{"), min_size=1),
    st.booleans(),
    st.data(),
)
def test_text_without_markers_comes_out_as_it_went_in(
    name: str, text: str, has_tools: bool, data: st.DataObject
) -> None:
    if name == "harmony" and text.lstrip().startswith("to="):
        return
    assert parse(name, cut(text, data), tools=TOOLS if has_tools else ()) == [TextDelta(text)]


@pytest.mark.parametrize("name", sorted(SYNTAXES))
@pytest.mark.parametrize(
    "text", ["a < b", "a [x] {", "if a <", "x <tool", "[", "{", "{}", '{"', "<|", "\n", " ", "a\n\n "]
)
def test_what_only_looks_like_a_marker_comes_out(name: str, text: str) -> None:
    assert parse(name, text) == [TextDelta(text)]


@pytest.mark.parametrize("name", sorted(set(SYNTAXES) - {"harmony", "cohere"}))
def test_without_tools_the_markers_of_calls_are_text(name: str) -> None:
    syntax = SYNTAXES[name]()
    text = render(syntax, [("get_weather", {"city": "Paris"})])
    assert parse(name, text, tools=()) == [TextDelta(text)]


def render(syntax: OutputSyntax, calls: Sequence[tuple[str, Any]]) -> str:
    written = [
        f"{syntax.call.before_name}{name}{syntax.call.before_arguments}{json.dumps(arguments)}{syntax.call.after_call}"
        for name, arguments in calls
    ]
    return syntax.call.begin + syntax.call.between.join(written) + syntax.call.end


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["get_weather", "get_time"]), st.dictionaries(st.text(), JSON_VALUES, max_size=3)),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(SYNTAXES)), CALLS, st.booleans(), st.data())
def test_calls_written_in_a_familys_form_are_read_back(
    name: str, calls: list[tuple[str, dict[str, Any]]], forced_call: bool, data: st.DataObject
) -> None:
    syntax = SYNTAXES[name]()
    calls = calls if syntax.call.parallel else calls[:1]
    expected = [
        ToolCall(id=f"call_{number}", name=tool, arguments=arguments)
        for number, (tool, arguments) in enumerate(calls, 1)
    ]
    assert parse(name, cut(render(syntax, calls), data), forced_call=forced_call) == expected


@pytest.mark.parametrize("name", sorted(name for name, make in SYNTAXES.items() if make().reasoning_start))
def test_a_forced_call_may_come_after_thinking(name: str) -> None:
    syntax = SYNTAXES[name]()
    text = render(syntax, [("get_weather", {"city": "Paris"})])
    deltas = parse(name, f"{syntax.reasoning_start}Hm.{syntax.reasoning_end}\n\n{text}", forced_call=True)
    assert deltas == [ReasoningDelta("Hm."), call(1, city="Paris")]
    deltas = parse(name, f"Hm.{syntax.reasoning_end}{text}", forced_call=True, in_reasoning=True)
    assert deltas == [ReasoningDelta("Hm."), call(1, city="Paris")]


@pytest.mark.parametrize("name", sorted(SYNTAXES))
def test_a_forced_call_that_departs_from_its_form_goes_to_the_ordinary_parser(name: str) -> None:
    assert parse(name, list("Sorry, I cannot."), forced_call=True) == [TextDelta("Sorry, I cannot.")]


def test_a_forced_call_may_have_a_name_that_json_escapes() -> None:
    tools = (ToolSpec(name='say "hi"'),)
    text = '<tool_call>\n{"name": "say \\"hi\\"", "arguments": {}}\n</tool_call>'
    assert parse("hermes", text, tools=tools, forced_call=True) == [call(1, 'say "hi"')]
    assert parse("hermes", text, tools=tools) == [call(1, 'say "hi"')]


@pytest.mark.parametrize("name", sorted(SYNTAXES))
@pytest.mark.parametrize("forced_call", [True, False])
def test_a_call_that_is_cut_stays_visible_as_an_invalid_call(name: str, forced_call: bool) -> None:
    syntax = SYNTAXES[name]()
    text = render(syntax, [("get_weather", {"city": "Paris"})])
    cut_text = text[: text.index("Paris") + 2]
    (delta,) = parse(name, cut_text, forced_call=forced_call, reason="length")
    assert isinstance(delta, InvalidToolCall)
    assert delta.arguments.endswith('{"city": "Pa')
    assert delta.name in ("get_weather", None)
    assert "cut" in delta.error or "ended" in delta.error


@pytest.mark.parametrize("name", sorted(set(SYNTAXES) - {"llama3"}))
def test_a_call_of_a_tool_that_was_not_offered_is_invalid_and_says_which_are(name: str) -> None:
    (delta,) = parse(name, render(SYNTAXES[name](), [("launch", {"x": 1})]))
    assert delta == InvalidToolCall(
        id="call_1",
        name="launch",
        arguments='{"x": 1}',
        error="No tool `launch` was offered; the tools are `get_weather`, `get_time`.",
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('{"city": Paris}', "not valid JSON"),
        ('{"city": "Paris",}', "not valid JSON"),
        ("{'city': 'Paris'}", "not valid JSON"),
        ('{"city": "a\nb"}', "not valid JSON"),
        ('{"city": NaN}', "`NaN` is not JSON"),
        ('["Paris"]', "not a JSON object"),
        ("null", "not a JSON object"),
        ('"Paris"', "JSON"),
    ],
)
@pytest.mark.parametrize("name", ["hermes", "mistral", "deepseek_v31", "harmony", "kimi_k2"])
def test_arguments_that_are_not_a_json_object_are_kept_as_they_came(name: str, arguments: str, error: str) -> None:
    call_syntax = SYNTAXES[name]().call
    text = (
        "".join((call_syntax.begin, call_syntax.before_name, "get_weather", call_syntax.before_arguments))
        + arguments
        + call_syntax.after_call
        + call_syntax.end
    )
    delta = parse(name, text)[0]
    assert isinstance(delta, InvalidToolCall)
    assert delta.name == "get_weather"
    assert arguments.strip('{}"') in delta.arguments
    assert error.lower() in delta.error.lower()


@pytest.mark.parametrize(
    "body", ["", "[]", "3", '"x"', '{"arguments": {}}', '{"name": 3}', "[" * 100_000, '{"name":' * 50_000, "x\x00"]
)
def test_a_block_that_holds_no_call_is_an_invalid_call(body: str) -> None:
    deltas = parse("hermes", f"<tool_call>{body}</tool_call>")
    assert [type(delta) for delta in deltas] == [InvalidToolCall]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("deepseek_v3", "<｜tool▁call▁begin｜>get_weather{}<｜tool▁call▁end｜>", "tool▁sep"),
        ("deepseek_dsml", "<｜DSML｜function_calls>get_weather</｜DSML｜function_calls>", "invoke"),
        (
            "deepseek_dsml",
            '<｜DSML｜function_calls><｜DSML｜invoke name="get_weather">Paris'
            "</｜DSML｜invoke></｜DSML｜function_calls>",
            "parameter",
        ),
        (
            "deepseek_dsml",
            '<｜DSML｜function_calls><｜DSML｜invoke name="get_weather">'
            '<｜DSML｜parameter name="days" string="false">two'
            "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
            "JSON",
        ),
        ("seed", "<seed:tool_call>get_time</seed:tool_call>", "function"),
        ("seed", "<seed:tool_call><function=get_time>x</function></seed:tool_call>", "parameter"),
        ("kimi_k2", "<|tool_call_begin|>functions.get_time:0<|tool_call_end|>", "argument_begin"),
        ("mistral", "[TOOL_CALLS]get_time{}", "[ARGS]"),
        ("solar", "<|tool_call:begin|>get_time<|tool_call:end|>", "name"),
        ("llama3", "<function=get_time</function>", "not closed"),
        ("harmony", "<|channel|>commentary to=functions.get_time<|end|>", "before the call was complete"),
        ("harmony", "<|channel|>commentary to=python<|message|>print(1)<|call|>", "No tool `python`"),
    ],
)
def test_a_call_without_one_of_its_marks_says_which(name: str, text: str, error: str) -> None:
    (delta,) = parse(name, text)
    assert isinstance(delta, InvalidToolCall)
    assert error in delta.error


def test_a_call_of_json_that_is_nested_deeply_is_read_or_refused() -> None:
    for depth in (10, 500, 900, 5_000):
        nested = "[" * depth + "]" * depth
        (delta,) = parse("hermes", f'<tool_call>{{"name": "nobody", "arguments": {nested}}}</tool_call>')
        assert isinstance(delta, InvalidToolCall)


def test_a_forced_call_is_complete_with_its_arguments() -> None:
    """The end of turn may stand for what closes a call."""
    assert parse("hermes", '<tool_call>\n{"name": "get_time", "arguments": {}', forced_call=True) == [
        call(1, "get_time")
    ]


def test_a_forced_call_whose_arguments_are_no_object_goes_to_the_ordinary_parser() -> None:
    (delta,) = parse("hermes", '<tool_call>\n{"name": "get_time", "arguments": [1]}\n</tool_call>', forced_call=True)
    assert isinstance(delta, InvalidToolCall) and "not a JSON object" in delta.error


def test_a_forced_call_with_the_name_of_no_tool_goes_to_the_ordinary_parser() -> None:
    (delta,) = parse("hermes", '<tool_call>\n{"name": "no", "arguments": {}}\n</tool_call>', forced_call=True)
    assert isinstance(delta, InvalidToolCall) and "No tool `no`" in delta.error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|end|><|channel|>final<|message|>Hi", [TextDelta("Hi")]),
        ("<|en", [TextDelta("<|en")]),
        ("Hi<|return|>", [TextDelta("Hi")]),
        ("<|channel|>final<|end|>", []),
        ("<|channel|>final odd header<|end|>", [TextDelta("<|channel|>final odd header")]),
        ("<|message|>Hi", [TextDelta("Hi")]),
        ("to= is a prefix", [TextDelta("to= is a prefix")]),
        (
            "<|channel|>analysis<|message|>A<|channel|>final<|message|>B",
            [ReasoningDelta("A"), TextDelta("B")],
        ),
        (
            "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>analysis<|message|>B<|end|>",
            [ReasoningDelta("A\n\nB")],
        ),
    ],
)
def test_harmony_messages_that_are_not_quite_right_lose_no_text(text: str, expected: list[Delta]) -> None:
    assert parse("harmony", text) == expected
    assert parse("harmony", list(text)) == expected


def test_a_string_that_is_never_closed_does_not_swallow_what_follows() -> None:
    broken = '{"name": "get_weather", "arguments": {"city": "Par}}'
    text = f"<tool_call>{broken}</tool_call>\nSo.\n<tool_call>{PARIS}</tool_call>"
    first, second, third = parse("hermes", text)
    assert isinstance(first, InvalidToolCall) and first.name == "get_weather"
    assert (second, third) == (TextDelta("So."), call(2, city="Paris"))


def test_calls_before_a_broken_one_stay_valid() -> None:
    text = render(SYNTAXES["deepseek_v3"](), [("get_weather", {"city": "Paris"})] * 2)
    first, second = parse("deepseek_v3", text[:-40], reason="length")
    assert first == call(1, city="Paris")
    assert isinstance(second, InvalidToolCall)


@pytest.mark.parametrize("code", ["import os", "print(1)", "get_weather.call(x)", "f(**y)", "(" * 5000, "a\x00"])
def test_code_behind_the_python_tag_is_an_invalid_call(code: str) -> None:
    (delta,) = parse("llama3", f"<|python_tag|>{code}")
    assert isinstance(delta, InvalidToolCall)
    assert delta.arguments.strip("\x00") in code


def test_ordinary_text_is_not_held_back() -> None:
    parser = SYNTAXES["hermes"]().parser(tools=TOOLS, in_reasoning=False)
    assert parser.feed("Hello") == [TextDelta("Hello")]
    assert parser.feed(" wor") == [TextDelta(" wor")]
    assert parser.feed("ld <") == [TextDelta("ld")]
    assert parser.feed("b") == [TextDelta(" <b")]


def test_json_that_is_no_call_is_released_at_its_first_key() -> None:
    parser = llama3_syntax().parser(tools=TOOLS, in_reasoning=False)
    assert parser.feed('{"na') == []
    assert parser.feed('tion": 1') == [TextDelta('{"nation": 1')]


def test_a_call_is_released_as_soon_as_it_is_complete() -> None:
    parser = SYNTAXES["hermes"]().parser(tools=TOOLS, in_reasoning=False, new_id=lambda: "id")
    assert parser.feed(f"<tool_call>{PARIS}") == []
    assert parser.feed("</tool_call>") == [ToolCall(id="id", name="get_weather", arguments={"city": "Paris"})]


def test_ids_are_unique_and_have_the_usual_form() -> None:
    parser = SYNTAXES["hermes"]().parser(tools=TOOLS, in_reasoning=False)
    deltas = parser.feed(f"<tool_call>{PARIS}</tool_call>" * 50)
    ids = {delta.id for delta in deltas if isinstance(delta, ToolCall)}
    assert len(ids) == 50
    assert all(len(item) == 29 and item.startswith("call_") and int(item[5:], 16) >= 0 for item in ids)


def test_long_output_in_small_pieces_takes_time_in_proportion() -> None:
    text = f'<tool_call>{{"name": "get_weather", "arguments": {{"city": "{"x" * 200_000}"}}}}</tool_call>'
    start = time.perf_counter()
    deltas = parse("hermes", [text[place : place + 4] for place in range(0, len(text), 4)])
    assert isinstance(deltas[0], ToolCall)
    assert time.perf_counter() - start < 20
