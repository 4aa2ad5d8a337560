"""What can be said when a model is made, bound or called, and how it reaches the backend."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from langchain_core.runnables import ConfigurableField, RunnableLambda
from pydantic import BaseModel, ValidationError

from mlx_integrations import assembly
from mlx_integrations.errors import InvalidRequestError, UnknownToolError
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import (
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    SamplingParams,
    ToolChoice,
)
from tests.langchain.fakes import add, fake_model
from tests.scripts import ADD

EVERY_SAMPLING_OPTION: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "xtc_probability": 0.2,
    "xtc_threshold": 0.3,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.4,
    "frequency_penalty": 0.6,
    "logit_bias": {5: -1.0},
    "seed": 7,
    "max_tokens": 9,
    "stop": ["END"],
    "logprobs": True,
    "top_logprobs": 3,
}


def sampled(options: dict[str, Any]) -> SamplingParams:
    return SamplingParams(**{**options, "stop": tuple(options.get("stop", ()))})


def test_every_sampling_option_is_a_field() -> None:
    assert set(EVERY_SAMPLING_OPTION) == {item.name for item in fields(SamplingParams)}
    model, backend = fake_model(**EVERY_SAMPLING_OPTION)
    model.invoke("Hi")
    assert backend.requests[0].sampling == sampled(EVERY_SAMPLING_OPTION)


def test_every_sampling_option_can_be_given_for_one_call_or_bound() -> None:
    model, backend = fake_model(temperature=1.0, max_tokens=100, stop=["STOP"])
    model.invoke("Hi", **EVERY_SAMPLING_OPTION)
    model.bind(**EVERY_SAMPLING_OPTION).invoke("Hi")
    list(model.stream("Hi", **EVERY_SAMPLING_OPTION))
    model.invoke("Hi")
    expected = sampled(EVERY_SAMPLING_OPTION)
    assert [request.sampling for request in backend.requests[:3]] == [expected] * 3
    assert backend.requests[3].sampling == SamplingParams(temperature=1.0, max_tokens=100, stop=("STOP",))


def test_nothing_said_means_what_the_model_says() -> None:
    model, backend = fake_model()
    model.invoke("Hi")
    assert backend.requests[0].sampling == SamplingParams()
    assert (backend.requests[0].reasoning, backend.requests[0].template_options) == (None, {})


def test_none_for_one_call_means_the_models_own_value() -> None:
    model, backend = fake_model(temperature=0.3, stop=["x"])
    model.invoke("Hi", stop=None, temperature=None)
    assert backend.requests[0].sampling == SamplingParams(temperature=0.3, stop=("x",))


def test_an_empty_stop_list_switches_the_models_own_off() -> None:
    model, backend = fake_model(stop=["x"])
    model.invoke("Hi", stop=[])
    assert backend.requests[0].sampling.stop == ()


def test_reasoning_and_template_options_reach_the_request() -> None:
    model, backend = fake_model(reasoning=True, template_options={"today": "Monday"})
    model.invoke("Hi")
    model.invoke("Hi", reasoning=False, template_options={"today": "Tuesday"})
    assert [(item.reasoning, item.template_options) for item in backend.requests] == [
        (True, {"today": "Monday"}),
        (False, {"today": "Tuesday"}),
    ]


@pytest.mark.parametrize("name", ["model", "model_name", "model_id"])
def test_the_model_has_the_names_that_others_give_it(name: str) -> None:
    named: dict[str, Any] = {name: "demo"}
    model = ChatMLX(**named)
    assert (model.model, model.model_name) == ("demo", "demo")


def test_a_model_can_be_a_path() -> None:
    options: dict[str, Any] = {"model": Path("models") / "own"}
    assert ChatMLX(**options).model == str(Path("models") / "own")


@pytest.mark.parametrize(
    ("alias", "value", "name"), [("max_completion_tokens", 5, "max_tokens"), ("stop_sequences", ["x"], "stop")]
)
def test_aliases_are_understood_everywhere(alias: str, value: Any, name: str) -> None:
    expected = sampled({name: value})
    model, backend = fake_model(**{alias: value})
    model.invoke("Hi")
    plain, other = fake_model()
    plain.invoke("Hi", **{alias: value})
    assert backend.requests[0].sampling == other.requests[0].sampling == expected


def test_a_single_stop_string_is_a_list_of_one() -> None:
    model, backend = fake_model(stop="x")
    model.invoke("Hi")
    model.bind(stop="y").invoke("Hi")
    assert [request.sampling.stop for request in backend.requests] == [("x",), ("y",)]


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="`max_tokens` is given twice"):
        ChatMLX(model="demo", max_tokens=1, max_completion_tokens=2)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("typo", "meant"), [("temprature", "temperature"), ("max_token", "max_tokens"), ("topp", "top_p")]
)
def test_a_misspelt_option_is_refused_with_the_right_one(typo: str, meant: str) -> None:
    misspelt: dict[str, Any] = {typo: 1}
    with pytest.raises(ValidationError, match=f"Did you mean `{meant}`"):
        ChatMLX(model="demo", **misspelt)
    model, backend = fake_model()
    wrong: list[Callable[[], Any]] = [
        lambda: model.invoke("Hi", **misspelt),
        lambda: list(model.stream("Hi", **misspelt)),
        lambda: model.bind(**misspelt).invoke("Hi"),
        lambda: model.bind_tools([add], **misspelt),
    ]
    for call in wrong:
        with pytest.raises(InvalidRequestError, match=f"Did you mean `{meant}`") as caught:
            call()
        assert caught.value.field == typo
    assert backend.requests == []


def test_an_option_that_resembles_none_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidRequestError, match="`temperature`"):
        fake_model()[0].invoke("Hi", quux=1)


def test_a_value_of_the_wrong_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="`temperature` cannot be `'hot'`") as caught:
        fake_model()[0].invoke("Hi", temperature="hot")
    assert caught.value.field == "temperature"


def test_options_of_a_connection_are_accepted_and_mean_nothing() -> None:
    model = ChatMLX(model="demo", timeout=60, max_retries=2, api_key="x", base_url="http://localhost")  # type: ignore[call-arg]
    assert model == ChatMLX(model="demo")


def test_one_call_can_be_answered_by_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    other = FakeChatBackend(["from the other"], model_id="other")
    asked: list[tuple[str, Any]] = []

    def chat_backend(model: str, runtime: Any = None) -> ChatBackend:
        asked.append((model, runtime))
        return other

    monkeypatch.setattr(assembly, "chat_backend", chat_backend)
    model, _ = fake_model("from the first")
    assert model.invoke("Hi").content == "from the first"
    answer = model.invoke("Hi", model="other")
    assert (answer.content, answer.response_metadata["model_name"]) == ("from the other", "other")
    assert ChatMLX(model="own", runtime="private").bind(model_name="bound").invoke("Hi").content == "from the other"
    assert asked == [("other", None), ("bound", "private")]


def test_a_trace_names_the_model_and_values_of_the_call() -> None:
    model = ChatMLX(model="demo", temperature=0.1, max_tokens=5, stop=["x"])
    assert model._get_ls_params() == {
        "ls_provider": "mlx",
        "ls_model_type": "chat",
        "ls_model_name": "demo",
        "ls_temperature": 0.1,
        "ls_max_tokens": 5,
        "ls_stop": ["x"],
    }
    params = model._get_ls_params(stop=["y"], model="other", temperature=0.9, max_completion_tokens=7)
    assert (params["ls_model_name"], params["ls_temperature"]) == ("other", 0.9)
    assert (params["ls_max_tokens"], params["ls_stop"]) == (7, ["y"])


def test_tools_bound_by_hand_by_bind_tools_or_by_a_call_are_the_same() -> None:
    model, backend = fake_model()
    dictionary = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}
    model.bind_tools([dictionary], tool_choice="any").invoke("Hi")
    model.bind(tools=[dictionary], tool_choice="required").invoke("Hi")
    model.invoke("Hi", tools=[dictionary], tool_choice="any")
    assert len({(item.tools[0].name, item.tool_choice.mode) for item in backend.requests}) == 1


def test_bound_tools_and_their_choice_reach_the_request() -> None:
    model, backend = fake_model(ADD)
    model.bind_tools([add], tool_choice="add", parallel_tool_calls=False, strict=True).invoke("Hi")
    (request,) = backend.requests
    assert request.tools[0].name == "add"
    assert request.tool_choice == ToolChoice(mode="tool", name="add")
    assert request.parallel_tool_calls is False


def test_no_tools_at_all_can_be_bound() -> None:
    model, backend = fake_model()
    model.bind_tools([], tool_choice=None, strict=True, ls_structured_output_format={}).invoke("Hi")
    assert backend.requests[0].tools == ()


def test_an_unknown_tool_is_refused_when_it_is_bound() -> None:
    with pytest.raises(UnknownToolError) as caught:
        fake_model()[0].bind_tools([add], tool_choice="multiply")
    assert caught.value.offered == ("add",)


class Weather(BaseModel):
    """The weather."""

    sky: str


SCHEMA = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonObjectFormat()),
        ({"type": "regex", "pattern": "[ab]+"}, RegexFormat(pattern="[ab]+")),
        (
            {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}},
            JsonSchemaFormat(schema=SCHEMA, name="weather"),
        ),
        ({"type": "json_schema", "schema": SCHEMA, "name": "w"}, JsonSchemaFormat(schema=SCHEMA, name="w")),
        (Weather, JsonSchemaFormat(schema=Weather.model_json_schema(), name="Weather")),
    ],
)
def test_a_response_format_becomes_an_output_format(response_format: Any, expected: Any) -> None:
    model, backend = fake_model('{"sky": "blue"}')
    model.bind_tools([], response_format=response_format).invoke("Hi")
    model.invoke("Hi", response_format=response_format)
    assert [request.output for request in backend.requests] == [expected] * 2


@pytest.mark.parametrize("response_format", [{"type": "xml"}, {"type": "json_schema"}, {"type": "regex"}, "json", 3])
def test_a_response_format_of_another_form_is_refused(response_format: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fake_model()[0].bind_tools([], response_format=response_format)
    assert caught.value.field == "response_format"


def test_tools_and_a_response_format_go_together() -> None:
    model, backend = fake_model()
    model.bind_tools([add], response_format=Weather).invoke("Hi")
    assert backend.requests[0].tools and isinstance(backend.requests[0].output, JsonSchemaFormat)


@pytest.mark.parametrize("method", ["bind_tools", "with_structured_output"])
def test_annotations_resolve_at_run_time(method: str) -> None:
    """`with_fallbacks` asks for them, and drops the fallbacks of what it cannot resolve."""
    function: Callable[..., Any] = getattr(ChatMLX, method)
    assert "return" in get_type_hints(function)


def test_fallbacks_survive_tools_and_schemas() -> None:
    broken, _ = fake_model(RuntimeError("it broke"))
    good, backend = fake_model('{"sky": "blue"}')
    assert broken.with_fallbacks([good]).bind_tools([add]).invoke("Hi").content == '{"sky": "blue"}'
    structured = broken.with_fallbacks([good]).with_structured_output(Weather)
    assert structured.invoke("Hi") == Weather(sky="blue")
    assert backend.requests[0].tools and backend.requests[1].output


def test_fields_can_be_configured_at_run_time() -> None:
    model, backend = fake_model()
    configurable = model.configurable_fields(temperature=ConfigurableField(id="heat"))
    configurable.invoke("Hi", config={"configurable": {"heat": 0.7}})
    assert backend.requests[0].sampling.temperature == 0.7


def test_a_model_is_part_of_a_chain() -> None:
    model, _ = fake_model("one two")
    assert (RunnableLambda(str.upper) | model | (lambda message: message.text)).invoke("hi") == "one two"
