"""What a grammar allows: forced, named, parallel and automatic calls, formats, thinking first; what it refuses."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

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
    for pattern in ("[0-9]{2}/[0-9]{2}", "^[0-9]{2}/[0-9]{2}$", r"[0-9]{2}\/[0-9]{2}"):
        lark = grammar(compiler, syntax, output=RegexFormat(pattern=pattern))
        assert accepts(compiler, lark, "12/34")
        assert not accepts(compiler, lark, "12/345")
        assert not accepts(compiler, lark, "a12/34")


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
    ({"type": "string", "format": "colour"}, "colour"),
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
