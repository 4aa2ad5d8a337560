"""What a grammar allows: forced, named, parallel and automatic calls, formats, thinking first; what it refuses."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher

from mlx_integrations.errors import (
    InvalidOutputError,
    InvalidRequestError,
    UnknownToolError,
    UnsupportedSchemaError,
)
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.chat.grammar import GrammarCompiler, answer_grammar
from mlx_integrations.runtime.chat.json_schema import check_answer, grammar_schema
from mlx_integrations.runtime.chat.syntax import OutputSyntax
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    SamplingParams,
    ToolChoice,
    ToolSpec,
)
from tests.runtime.conftest import TinyModel

ADD = ToolSpec(
    name="add",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a"],
    },
)
CITY = ToolSpec(
    name="weather",
    parameters={"type": "object", "properties": {"city": {"enum": ["Paris", "東京"]}}, "required": ["city"]},
)
ASK = ChatRequest(
    messages=(ChatMessage(role="user", content="go on"),),
    sampling=SamplingParams(temperature=1.0, seed=1, max_tokens=300),
    reasoning=False,
)
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 5}}\n</tool_call>'


@pytest.fixture
def compiler(llama: MLXChatBackend) -> GrammarCompiler:
    return llama.text.compiler


@pytest.fixture
def syntax(llama: MLXChatBackend) -> OutputSyntax:
    return llama.text.syntax


def accepts(compiler: GrammarCompiler, lark: str | None, text: str) -> bool:
    """Whether the grammar takes all of `text` as a complete answer."""
    assert lark is not None
    matcher = compiler.compile(lark)
    ids = compiler._tokenizer.tokenize_str(text, parse_special=True)
    return bool(matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting())


def grammar(
    compiler: GrammarCompiler, syntax: OutputSyntax, *, in_reasoning: bool = False, **changes: Any
) -> str | None:
    return answer_grammar(replace(ASK, **changes), syntax, compiler, may_think=True, in_reasoning=in_reasoning)


def test_a_forced_call_is_a_call_and_nothing_else(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    lark = grammar(compiler, syntax, tools=(ADD, CITY), tool_choice=ToolChoice(mode="any"))
    assert accepts(compiler, lark, CALL)
    assert accepts(compiler, lark, CALL + "\n" + CALL)
    for wrong in ("hello", "hello " + CALL, CALL.replace("add", "subtract"), CALL.replace("5", "500"), CALL[:-3]):
        assert not accepts(compiler, lark, wrong)


def test_a_named_tool_is_called_once(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    lark = grammar(compiler, syntax, tools=(ADD, CITY), tool_choice=ToolChoice(mode="tool", name="weather"))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "東京"}}\n</tool_call>'
    assert accepts(compiler, lark, call)
    assert not accepts(compiler, lark, CALL)
    assert not accepts(compiler, lark, call + "\n" + call)


def test_parallel_calls_can_be_switched_off(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    for mode in ("any", "auto"):
        choice = ToolChoice(mode=mode)
        one = grammar(compiler, syntax, tools=(ADD,), tool_choice=choice, parallel_tool_calls=False)
        assert accepts(compiler, one, CALL)
        assert not accepts(compiler, one, CALL + "\n" + CALL)


def test_with_auto_a_call_that_is_begun_becomes_a_whole_one(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    lark = grammar(compiler, syntax, tools=(ADD,))
    for fine in ("", "just text", "text first\n" + CALL, CALL, CALL + "\n" + CALL):
        assert accepts(compiler, lark, fine), fine
    for wrong in (CALL[:-3], "<tool_call>oh", CALL.replace("add", "nothing"), CALL.replace("5", '"five"')):
        assert not accepts(compiler, lark, wrong), wrong


def test_with_auto_and_a_format_the_answer_is_a_call_or_the_format(
    compiler: GrammarCompiler, syntax: OutputSyntax
) -> None:
    lark = grammar(compiler, syntax, tools=(ADD,), output=JsonSchemaFormat(schema=ADD.parameters))
    assert accepts(compiler, lark, CALL)
    assert accepts(compiler, lark, '{"a": 7}')
    assert not accepts(compiler, lark, "text")


def test_with_none_there_is_no_grammar(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    assert grammar(compiler, syntax, tools=(ADD,), tool_choice=ToolChoice(mode="none")) is None
    assert grammar(compiler, syntax) is None


@pytest.mark.parametrize("in_reasoning", [True, False])
def test_thinking_may_come_before_a_forced_call(
    compiler: GrammarCompiler, syntax: OutputSyntax, in_reasoning: bool
) -> None:
    lark = grammar(
        compiler,
        syntax,
        in_reasoning=in_reasoning,
        tools=(ADD,),
        tool_choice=ToolChoice(mode="any"),
        reasoning=None,
    )
    thought = "let me see: {braces} and\nlines</think>\n\n"
    assert accepts(compiler, lark, (thought if in_reasoning else "<think>" + thought) + CALL)
    assert accepts(compiler, lark, CALL) != in_reasoning
    assert not accepts(compiler, lark, "<think>" + thought)


def test_a_regex_is_anchored_and_may_hold_slashes(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    for pattern in ("[0-9]{2}/[0-9]{2}", "^[0-9]{2}/[0-9]{2}$", r"[0-9]{2}\/[0-9]{2}", "[0-9]{2}[/][0-9]{2}"):
        lark = grammar(compiler, syntax, output=RegexFormat(pattern=pattern))
        assert accepts(compiler, lark, "12/34")
        assert not accepts(compiler, lark, "12/345")
        assert not accepts(compiler, lark, "a12/34")


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"\d+ \$", "5 $", "5 "),
        (r"\d+ \\$", "5 \\", "5 $"),
        (r"\\/x", "\\/x", "/x"),
        (r"\^a", "^a", "a"),
        ("^yes|no$", "no", "noo"),
        ("one\ntwo", "one\ntwo", "one two"),
    ],
)
def test_escapes_of_a_regex_stay(
    compiler: GrammarCompiler, syntax: OutputSyntax, pattern: str, right: str, wrong: str
) -> None:
    lark = grammar(compiler, syntax, output=RegexFormat(pattern=pattern))
    assert accepts(compiler, lark, right)
    assert not accepts(compiler, lark, wrong)


def test_a_regex_may_follow_thinking(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    lark = grammar(compiler, syntax, output=RegexFormat(pattern="^yes$"), in_reasoning=True)
    assert accepts(compiler, lark, "well</think>\nyes")
    assert not accepts(compiler, lark, "well</think>\nyes, no")


def test_a_json_object_may_hold_anything(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    lark = grammar(compiler, syntax, output=JsonObjectFormat())
    assert accepts(compiler, lark, '{"a": [1, {"b": null}], "c": "d"}')
    assert not accepts(compiler, lark, "[1]")


def test_regex_answers_match_on_a_random_model(llama: MLXChatBackend) -> None:
    request = replace(ASK, output=RegexFormat(pattern="(yes|no), [0-9]{3} times"))
    text = ChatResult.join(llama.stream(request)).text
    assert text.split(",")[0] in ("yes", "no")
    assert text.endswith(" times")


def test_a_forced_tool_that_was_not_offered_is_named(llama: MLXChatBackend) -> None:
    request = replace(ASK, tools=(ADD,), tool_choice=ToolChoice(mode="tool", name="subtract"))
    with pytest.raises(UnknownToolError) as caught:
        next(llama.stream(request))
    assert caught.value.tool_name == "subtract"
    assert caught.value.offered == ("add",)


@pytest.mark.parametrize(
    "changes",
    [
        {"tool_choice": ToolChoice(mode="any")},
        {"tools": (ADD,), "tool_choice": ToolChoice(mode="any"), "output": JsonObjectFormat()},
        {"tools": (ToolSpec(name=""),)},
    ],
)
def test_contradictions_are_refused(llama: MLXChatBackend, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        next(llama.stream(replace(ASK, **changes)))


UNSUPPORTED: list[tuple[Mapping[str, Any], str]] = [
    ({"type": "object", "properties": {"a": {"not": {"type": "null"}}}}, "`not` at $.properties.a"),
    ({"type": "array", "uniqueItems": True}, "`uniqueItems` at $"),
    ({"if": {"type": "null"}, "then": {}}, "`if` at $"),
    ({"$defs": {"X": {"anyOf": [{"contains": {}}]}}}, "`contains` at $.$defs.X.anyOf[0]"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "strin"}, "Invalid type"),
]


@pytest.mark.parametrize(("schema", "words"), UNSUPPORTED, ids=[words for _, words in UNSUPPORTED])
def test_what_cannot_be_enforced_is_named_before_any_token(
    llama: MLXChatBackend, schema: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedSchemaError) as caught:
        next(llama.stream(replace(ASK, output=JsonSchemaFormat(schema=schema))))
    assert words in str(caught.value)
    tool = ToolSpec(name="t", parameters={"type": "object", "properties": {"p": schema}})
    with pytest.raises(UnsupportedSchemaError):
        next(llama.stream(replace(ASK, tools=(tool,), tool_choice=ToolChoice(mode="any"))))


def test_a_broken_regex_is_an_error_of_the_request(llama: MLXChatBackend) -> None:
    with pytest.raises(UnsupportedSchemaError, match="regex"):
        next(llama.stream(replace(ASK, output=RegexFormat(pattern="([a-z"))))


def test_a_tool_that_cannot_be_enforced_does_not_stop_an_ordinary_answer(llama: MLXChatBackend) -> None:
    tool = ToolSpec(name="t", parameters={"type": "object", "properties": {"p": {"not": {}}}})
    assert ChatResult.join(llama.stream(replace(ASK, tools=(tool,)))).finish.usage.completion_tokens > 0


LOOK_AHEAD = {"type": "string", "pattern": "(?=a)b"}
WIDE = {"type": "object", "properties": {f"property_{number}": {"type": "integer"} for number in range(2000)}}


@pytest.mark.parametrize("schema", [{"not": {}}, LOOK_AHEAD, WIDE, {"type": "integer", "minimum": 5, "maximum": 3}])
def test_with_auto_a_tool_that_cannot_be_enforced_takes_any_object_and_the_others_are_held(
    llama: MLXChatBackend, compiler: GrammarCompiler, syntax: OutputSyntax, schema: dict[str, Any]
) -> None:
    parameters = {"type": "object", "properties": {"p": schema}, "required": ["p"]}
    tools = (ToolSpec(name="loose", parameters=WIDE if schema is WIDE else parameters), ADD)
    loose = '<tool_call>\n{"name": "loose", "arguments": {"p": [1]}}\n</tool_call>'
    lark = grammar(compiler, syntax, tools=tools)
    assert accepts(compiler, lark, "text")
    assert accepts(compiler, lark, loose)
    assert accepts(compiler, lark, loose + "\n" + CALL)
    assert not accepts(compiler, lark, CALL.replace("5", "500"))
    either = grammar(compiler, syntax, tools=tools, output=JsonObjectFormat())
    assert accepts(compiler, either, loose)
    assert not accepts(compiler, either, CALL.replace("5", "500"))
    with pytest.raises(UnsupportedSchemaError, match="tool `loose`"):
        grammar(compiler, syntax, tools=tools, tool_choice=ToolChoice(mode="any"))


def test_an_ordinary_answer_survives_tools_that_are_too_much_together(
    llama: MLXChatBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lark: str) -> None:
        raise UnsupportedSchemaError("too much")

    compiler = llama.text.compiler
    compiler.check_schema(grammar_schema(ADD.parameters))
    monkeypatch.setattr(compiler, "compile", refuse)
    assert llama._matcher(replace(ASK, tools=(ADD,)), in_reasoning=False) is None
    with pytest.raises(UnsupportedSchemaError):
        llama._matcher(replace(ASK, tools=(ADD,), tool_choice=ToolChoice(mode="any")), in_reasoning=False)


@pytest.mark.parametrize("format", ["colour", "password", "path", "binary", "json-string", "regex", "int32", "byte"])
def test_a_format_that_is_not_known_is_an_annotation(
    compiler: GrammarCompiler, syntax: OutputSyntax, format: str
) -> None:
    """JSON Schema 2020-12 has formats as annotations: who does not know one ignores it."""
    schema = {"type": "object", "properties": {"p": {"type": "string", "format": format}}, "required": ["p"]}
    lark = grammar(compiler, syntax, output=JsonSchemaFormat(schema=schema))
    assert accepts(compiler, lark, '{"p": "anything"}')
    assert not accepts(compiler, lark, '{"p": 1}')


@pytest.mark.parametrize(
    ("format", "right"),
    [
        ("date", "2020-01-31"),
        ("date-time", "2020-01-31T12:00:00Z"),
        ("time", "12:00:00Z"),
        ("duration", "P1D"),
        ("email", "a@b.org"),
        ("hostname", "b.org"),
        ("ipv4", "127.0.0.1"),
        ("ipv6", "::1"),
        ("uri", "https://b.org/"),
        ("uuid", "01234567-89ab-4cde-8f01-23456789abcd"),
    ],
)
def test_a_format_that_is_known_is_enforced(
    compiler: GrammarCompiler, syntax: OutputSyntax, format: str, right: str
) -> None:
    lark = grammar(compiler, syntax, output=JsonSchemaFormat(schema={"type": "string", "format": format}))
    assert accepts(compiler, lark, f'"{right}"')
    assert not accepts(compiler, lark, '"no, !"')


def test_a_property_may_be_called_format() -> None:
    schema = {"type": "object", "properties": {"format": {"type": "string"}}, "required": ["format"]}
    assert json.loads(grammar_schema(schema))["properties"] == schema["properties"]


def test_a_branch_that_cannot_be_enforced_gives_way_to_one_that_can(
    compiler: GrammarCompiler, syntax: OutputSyntax
) -> None:
    """The `Decimal` of pydantic 2.12."""
    written = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}
    decimal = {"anyOf": [{"type": "number"}, written, {"type": "null"}]}
    schema = {"type": "object", "properties": {"total": decimal}, "required": ["total"]}
    lark = grammar(compiler, syntax, output=JsonSchemaFormat(schema=schema))
    assert accepts(compiler, lark, '{"total": 12.5}')
    assert accepts(compiler, lark, '{"total": null}')
    assert not accepts(compiler, lark, '{"total": "12.5"}')
    with pytest.raises(UnsupportedSchemaError, match="look-around"):
        grammar(compiler, syntax, output=JsonSchemaFormat(schema=written))


A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
COMPOSED: dict[str, tuple[dict[str, Any], str]] = {
    "allOf of a $ref and more": ({"$defs": {"A": A}, "allOf": [{"$ref": "#/$defs/A"}, B]}, '{"a": 1, "b": 2}'),
    "allOf beside properties": ({"$defs": {"A": A}, "allOf": [{"$ref": "#/$defs/A"}], **B}, '{"b": 1, "a": 2}'),
    "anyOf of objects": ({**A, "anyOf": [B, {"properties": {"c": {}}, "required": ["c"]}]}, '{"a": 1, "b": 2}'),
    "oneOf of required": ({**A, "oneOf": [{"required": ["b"]}, {"required": ["c"]}]}, '{"a": 1, "c": 2}'),
    "$ref with siblings": ({"$defs": {"A": A}, "$ref": "#/$defs/A", **B}, '{"b": 2, "a": 1}'),
    "$ref behind a $ref": (
        {"$defs": {"A": {"$ref": "#/$defs/A~1b"}, "A/b": A}, "allOf": [{"$ref": "#/$defs/A"}, B]},
        '{"a": 1, "b": 2}',
    ),
    "$ref to a property": (
        {"type": "object", "properties": {"x": A, "y": {"$ref": "#/properties/x", **B}}, "required": ["y"]},
        '{"y": {"b": 1, "a": 2}}',
    ),
    "$ref to an anchor": ({"$defs": {"A": {"$anchor": "here", **A}}, "$ref": "#here", **B}, '{"b": 2, "a": 1}'),
    "objects inside both parts": (
        {"allOf": [{"properties": {"o": A}, "required": ["o"]}, {"properties": {"o": B}}]},
        '{"o": {"a": 1, "b": 2}}',
    ),
    "required beyond properties": ({**A, "required": ["a", "z"]}, '{"a": 1, "z": 2}'),
}


def _other_order(answer: str) -> str:
    value = json.loads(answer)
    inner = value.get("y", value)
    turned = dict(reversed(inner.items()))
    return json.dumps({"y": turned} if "y" in value else turned)


@pytest.mark.parametrize("name", COMPOSED)
def test_closing_objects_does_not_make_a_schema_impossible(
    compiler: GrammarCompiler, syntax: OutputSyntax, name: str
) -> None:
    schema, answer = COMPOSED[name]
    jsonschema.validate(json.loads(answer), schema)
    lark = grammar(compiler, syntax, output=JsonSchemaFormat(schema=schema))
    assert any(accepts(compiler, lark, text) for text in (answer, _other_order(answer)))


def test_a_reference_with_a_description_stays_closed() -> None:
    schema = {
        "$defs": {"A": A},
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/A", "description": "An A."}, "y": {"allOf": [{"$ref": "#/$defs/A"}]}},
    }
    closed = json.loads(grammar_schema(schema))
    assert closed["additionalProperties"] is False
    assert closed["$defs"]["A"]["additionalProperties"] is False


def test_a_tool_whose_parameters_are_a_reference_is_closed(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    tool = ToolSpec(name="add", parameters={"$defs": {"A": A}, "$ref": "#/$defs/A"})
    lark = grammar(compiler, syntax, tools=(tool,), tool_choice=ToolChoice(mode="any"))
    assert accepts(compiler, lark, CALL)
    assert not accepts(compiler, lark, CALL.replace('"a": 5', '"a": 5, "z": 1'))


def test_what_is_too_deep_or_contains_itself_is_refused() -> None:
    cyclic: dict[str, Any] = {"type": "array"}
    cyclic["items"] = cyclic
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(1200):
        deep = {"type": "object", "properties": {"a": deep}}
    for schema in (cyclic, deep):
        with pytest.raises(UnsupportedSchemaError, match="contains itself"):
            grammar_schema(schema)


def test_too_many_properties_are_refused_before_any_token(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    with pytest.raises(UnsupportedSchemaError, match="too much"):
        grammar(compiler, syntax, output=JsonSchemaFormat(schema=WIDE), reasoning=None)


def test_a_schema_is_tried_once(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    compile_once = compiler.compile

    def compile_and_note(lark: str) -> LLMatcher:
        tried.append(lark)
        return compile_once(lark)

    monkeypatch.setattr(compiler, "compile", compile_and_note)
    for _ in range(3):
        compiler.check_schema(grammar_schema(ADD.parameters))
    assert len(tried) == 1


def test_unique_items_false_asks_for_nothing() -> None:
    assert json.loads(grammar_schema({"type": "array", "uniqueItems": False}))["type"] == "array"


def test_objects_that_list_their_properties_are_closed_but_for_all_of() -> None:
    closed = json.loads(grammar_schema({"type": "object", "properties": {"a": {"properties": {"b": {}}}}}))
    assert closed["additionalProperties"] is False
    assert closed["properties"]["a"]["additionalProperties"] is False
    parts: list[dict[str, Any]] = [{"properties": {"a": {}}}, {"properties": {"b": {}}}]
    assert all("additionalProperties" not in part for part in json.loads(grammar_schema({"allOf": parts}))["allOf"])
    free = {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}
    assert json.loads(grammar_schema(free))["additionalProperties"] == {"type": "integer"}


def test_a_truncated_call_surfaces_as_invalid(llama: MLXChatBackend) -> None:
    request = replace(
        ASK,
        tools=(CITY,),
        tool_choice=ToolChoice(mode="any"),
        sampling=SamplingParams(temperature=1.0, seed=1, max_tokens=8),
    )
    result = ChatResult.join(llama.stream(request))
    assert result.finish.reason == "length"
    assert not result.tool_calls
    assert result.invalid_tool_calls[0].error
    assert result.invalid_tool_calls[0].arguments


def test_a_truncated_schema_answer_says_length(llama: MLXChatBackend) -> None:
    request = replace(
        ASK,
        output=JsonSchemaFormat(schema=CITY.parameters),
        sampling=SamplingParams(temperature=1.0, seed=1, max_tokens=3),
    )
    assert ChatResult.join(llama.stream(request)).finish.reason == "length"


def test_answers_are_checked_against_the_original_schema() -> None:
    assert check_answer('{"a": 1}', ADD.parameters) == {"a": 1}
    with pytest.raises(InvalidOutputError, match=r"\$\.a"):
        check_answer('{"a": 100}', ADD.parameters)
    with pytest.raises(InvalidOutputError, match="not JSON"):
        check_answer('{"a": ', ADD.parameters)


def test_answers_are_checked_as_the_grammar_reads_the_schema() -> None:
    for number, step in (("0.07", 0.01), ("0.3", 0.1), ("1e300", 0.5), ("7", 1), ("1.0", 1)):
        check_answer(number, {"type": "number", "multipleOf": step})
    with pytest.raises(InvalidOutputError, match="multiple of"):
        check_answer("0.075", {"multipleOf": 0.01})
    assert check_answer("3", {"oneOf": [{"type": "integer"}, {"type": "number"}]}) == 3
    assert check_answer('[1, "x"]', {"items": [{"type": "integer"}]}) == [1, "x"]
    with pytest.raises(InvalidOutputError):
        check_answer('["x"]', {"items": [{"type": "integer"}]})
    with pytest.raises(InvalidOutputError):
        check_answer('"3"', {"oneOf": [{"type": "integer"}, {"type": "number"}]})


def test_patterns_that_python_does_not_read_are_left_to_the_grammar() -> None:
    for regex in (r"^\p{Lu}+$", "^[[:alpha:]]+$"):
        assert check_answer('"ABC"', {"type": "string", "pattern": regex}) == "ABC"
        by_name = {"patternProperties": {regex: {"type": "integer"}, "^b": {"type": "null"}}}
        assert check_answer('{"ABC": 1}', {**by_name, "additionalProperties": False}) == {"ABC": 1}
        with pytest.raises(InvalidOutputError):
            check_answer('{"b": 1}', by_name)
    with pytest.raises(InvalidOutputError):
        check_answer('"ABC"', {"pattern": "^a"})


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400", "[" * 5000])
def test_what_json_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(InvalidOutputError):
        check_answer(text, {})


def test_a_padded_vocabulary_is_masked_to_its_end(tiny_model: TinyModel, runtime: Runtime) -> None:
    """Some models have more logits than their configuration says; those tokens are never allowed."""
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    backend.text.vocabulary_size = 1000
    request = replace(ASK, output=JsonSchemaFormat(schema=ADD.parameters))
    assert json.loads(ChatResult.join(backend.stream(request)).text)["a"] in range(100)


def test_a_model_that_does_not_think_is_not_allowed_to_begin(compiler: GrammarCompiler, syntax: OutputSyntax) -> None:
    request = replace(ASK, output=JsonObjectFormat(), reasoning=None)
    thoughtless = answer_grammar(request, syntax, compiler, may_think=False, in_reasoning=False)
    thinking = answer_grammar(request, syntax, compiler, may_think=True, in_reasoning=False)
    answer = "<think>well</think>\n{}"
    assert accepts(compiler, thinking, answer)
    assert not accepts(compiler, thoughtless, answer)
    assert accepts(compiler, thoughtless, "{}")
