"""Answers that are objects: three methods, every kind of schema, and errors instead of `None`."""

import enum
import json
from typing import Annotated, Any, Literal, TypedDict

import pydantic.v1
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation
from pydantic import BaseModel, Field

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.langchain.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.langchain.formats import json_schema
from mlx_integrations.langchain.structured import StructuredOutputParser
from mlx_integrations.testing import FakeAnswer
from mlx_integrations.types import InvalidToolCall, JsonObjectFormat, JsonSchemaFormat, ToolCall, ToolChoice
from tests.langchain.fakes import add, fake_model
from tests.scripts import ADD


class Mood(enum.Enum):
    HAPPY = "happy"
    SAD = "sad"


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(ge=0)
    mood: Mood = Mood.HAPPY
    kind: Literal["adult", "child"] = "adult"
    friends: list["Person"] = []


class OldPerson(pydantic.v1.BaseModel):
    """A person."""

    name: str
    age: int


class TypedPerson(TypedDict):
    """A person."""

    name: Annotated[str, ..., "What they are called."]
    age: int


SCHEMA: dict[str, Any] = {
    "title": "Person",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
DATA = {"name": "Ada", "age": 36}
SCHEMAS = [Person, OldPerson, TypedPerson, SCHEMA]


def scripted(method: str, data: dict[str, Any] = DATA, name: str = "Person") -> Any:
    return ToolCall(id="1", name=name, arguments=data) if method == "function_calling" else json.dumps(data)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: getattr(schema, "__name__", "dict"))
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_every_kind_of_schema_goes_with_every_method(schema: Any, method: Any) -> None:
    name = schema.__name__ if isinstance(schema, type) else "Person"
    model, backend = fake_model(scripted(method, name=name))
    structured = model.with_structured_output(schema, method=method)
    is_class = schema in (Person, OldPerson)
    expected = schema(**DATA) if is_class else DATA
    assert structured.invoke("Who?") == expected
    assert await structured.ainvoke("Who?") == expected
    streamed = list(structured.stream("Who?"))
    assert streamed[-1] == expected
    assert not is_class or len(streamed) == 1
    assert [part async for part in structured.astream("Who?")] == streamed
    request = backend.requests[0]
    if method == "function_calling":
        assert request.tool_choice == ToolChoice(mode="tool", name=name)
        assert request.parallel_tool_calls is False
        assert set(request.tools[0].parameters["properties"]) >= {"name", "age"}
    else:
        assert isinstance(request.output, JsonSchemaFormat)
        described = request.output.schema.get("$defs", {}).get("Person", request.output.schema)
        assert set(described["properties"]) >= {"name", "age"}


def test_enums_literals_and_recursion_are_in_the_schema() -> None:
    schema = json_schema(Person)
    assert schema["$defs"]["Mood"]["enum"] == ["happy", "sad"]
    model, _ = fake_model(json.dumps({**DATA, "mood": "sad", "kind": "child", "friends": [{"name": "Bo", "age": 3}]}))
    person = model.with_structured_output(Person).invoke("Who?")
    assert (person.mood, person.kind, person.friends[0].name) == (Mood.SAD, "child", "Bo")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "function", "function": {"name": "Person", "parameters": SCHEMA}},
        {"name": "Person", "input_schema": SCHEMA},
        {key: value for key, value in SCHEMA.items() if key != "title"},
    ],
)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_schema_may_be_a_tool_or_have_no_title(schema: dict[str, Any], method: Any) -> None:
    name = "response" if "type" in schema and "properties" in schema else "Person"
    model, _ = fake_model(scripted(method, name=name))
    assert model.with_structured_output(schema, method=method).invoke("Who?") == DATA


def test_json_mode_needs_no_schema() -> None:
    model, backend = fake_model('{"any": "thing"}')
    assert model.with_structured_output(method="json_mode").invoke("Who?") == {"any": "thing"}
    assert backend.requests[0].output == JsonObjectFormat()


def test_a_dictionary_grows_while_it_streams() -> None:
    model, _ = fake_model('{"name": "Ada Lovelace", "age": 36}')
    parts = list(model.with_structured_output(SCHEMA).stream("Who?"))
    assert parts == [{}, {"name": "Ada"}, {"name": "Ada Lovelace"}, {"name": "Ada Lovelace", "age": 36}]


@pytest.mark.parametrize("schema", [Person, SCHEMA])
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
async def test_an_answer_that_was_cut_is_an_error_with_what_there_is(schema: Any, method: Any) -> None:
    model, _ = fake_model('{"name": "Ada Lovelace", "age": 36}', max_tokens=3)
    structured = model.with_structured_output(schema, method=method)
    for call in (structured.invoke, lambda text: list(structured.stream(text))):
        with pytest.raises(TruncatedOutputError, match="token limit") as caught:
            call("Who?")
        assert caught.value.partial_text == caught.value.llm_output == '{"name": "Ada Lovelace",'
    with pytest.raises(TruncatedOutputError):
        await structured.ainvoke("Who?")
    with pytest.raises(TruncatedOutputError):
        [_ async for _ in structured.astream("Who?")]


def test_a_call_that_was_cut_is_an_error_with_what_there_is() -> None:
    broken = InvalidToolCall(id="1", name="Person", arguments='{"name": "Ada', error="it ends too early")
    answer = FakeAnswer(invalid_tool_calls=(broken,), finish_reason="length")
    structured = fake_model(answer)[0].with_structured_output(Person, method="function_calling")
    for call in (structured.invoke, lambda text: list(structured.stream(text))):
        with pytest.raises(TruncatedOutputError) as caught:
            call("Who?")
        assert caught.value.partial_text == '{"name": "Ada'


@pytest.mark.parametrize(
    ("answer", "method", "reason"),
    [
        ("I am Ada.", "json_schema", "not JSON"),
        ("", "json_schema", "not JSON"),
        ('{"name": "Ada"}', "json_schema", "not a `Person`"),
        ('{"name": "Ada", "age": -1}', "json_mode", "not a `Person`"),
        ("I am Ada.", "function_calling", "did not call `Person`"),
        (ToolCall(id="1", name="Person", arguments={"name": "Ada"}), "function_calling", "not a `Person`"),
        ((InvalidToolCall(id="1", name="Person", arguments="{", error="oh"),), "function_calling", "not accepted: oh"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_an_error(answer: Any, method: Any, reason: str) -> None:
    structured = fake_model(answer)[0].with_structured_output(Person, method=method)
    for call in (structured.invoke, lambda text: list(structured.stream(text))):
        with pytest.raises(InvalidOutputError, match=reason) as caught:
            call("Who?")
        assert isinstance(caught.value, OutputParserException)
        assert not caught.value.is_retryable


def test_the_message_can_be_had_beside_the_object() -> None:
    result = fake_model(json.dumps(DATA))[0].with_structured_output(Person, include_raw=True).invoke("Who?")
    assert result["raw"].text == json.dumps(DATA)
    assert (result["parsed"], result["parsing_error"]) == (Person(name="Ada", age=36), None)


async def test_beside_the_message_an_error_is_a_value() -> None:
    structured = fake_model("I am Ada.")[0].with_structured_output(Person, include_raw=True)
    for result in (structured.invoke("Who?"), await structured.ainvoke("Who?")):
        assert result["raw"].text == "I am Ada." and result["parsed"] is None
        assert isinstance(result["parsing_error"], InvalidOutputError)


def test_with_tools_a_call_takes_the_place_of_the_object() -> None:
    model, backend = fake_model(ADD, json.dumps(DATA))
    structured = model.with_structured_output(Person, tools=[add], include_raw=True)
    called, answered = structured.invoke("Who?"), structured.invoke("Who?")
    assert called["parsed"] is None and called["parsing_error"] is None
    assert called["raw"].tool_calls[0]["name"] == "add"
    assert answered["parsed"] == Person(name="Ada", age=36)
    assert backend.requests[0].tools and backend.requests[0].output
    assert backend.requests[0].tool_choice == ToolChoice()


def test_options_of_a_call_can_be_given_too() -> None:
    model, backend = fake_model(json.dumps(DATA))
    model.with_structured_output(Person, temperature=0.1).invoke("Who?")
    assert backend.requests[0].sampling.temperature == 0.1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"schema": Person, "method": "guess"}, "method"),
        ({"schema": None}, "schema"),
        ({"schema": {"description": "nothing"}}, "schema"),
        ({"schema": Person, "method": "function_calling", "tools": [add]}, "tools"),
        ({"schema": Person, "temprature": 1}, "temprature"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fake_model()[0].with_structured_output(**arguments)
    assert caught.value.field == field


def test_a_trace_shows_the_schema() -> None:
    seen: list[Any] = []

    from langchain_core.callbacks import BaseCallbackHandler

    class Watching(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, options: Any = None, **kwargs: Any) -> None:
            seen.append(options["ls_structured_output_format"])

    structured = fake_model(json.dumps(DATA))[0].with_structured_output(SCHEMA)
    structured.invoke("Who?", config={"callbacks": [Watching()]})
    list(structured.stream("Who?", config={"callbacks": [Watching()]}))
    assert [item["schema"]["title"] for item in seen] == ["Person", "Person"]
    assert seen[0]["kwargs"]["method"] == "json_schema"


def test_streaming_switched_off_changes_no_object() -> None:
    model, _ = fake_model(json.dumps(DATA), disable_streaming=True)
    assert list(model.with_structured_output(Person).stream([HumanMessage("Who?")])) == [Person(name="Ada", age=36)]


def test_the_parser_reads_a_text_on_its_own() -> None:
    parser = StructuredOutputParser(target=Person)
    assert parser.parse(json.dumps(DATA)) == Person(name="Ada", age=36)
    assert StructuredOutputParser().parse_result([Generation(text='{"a": [1')], partial=True) == {"a": [1]}
    assert StructuredOutputParser().parse_result([Generation(text="}")], partial=True) is None
    assert StructuredOutputParser().parse_result([Generation(text="nonsense")], partial=True) is None
