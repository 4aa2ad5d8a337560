"""`RouterLLM` as a LlamaIndex model: what stays here, what is reported, agents and engines, objects, misuse."""

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import BaseModel, Field, ValidationError

from mlx_integrations import assembly
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.errors import ConfigurationError, InvalidRequestError, PrivacyError, RouterError, UnknownToolError
from mlx_integrations.llama_index import MLXLLM, ModelFacts, RouterLLM
from mlx_integrations.llama_index.routing.calls import CANDIDATE_TAG
from mlx_integrations.router.policy import Deadlines, Policy
from mlx_integrations.settings import Settings
from mlx_integrations.settings.sections import EndpointSettings, RouterSettings
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ModelCapabilities
from tests.llama_index.fakes import ADD_TOOL, MULTIPLY_TOOL, fake_embedding, fake_llm
from tests.llama_index.routing import (
    CLOUD_ANSWER,
    LOCAL_ANSWER,
    SECRET_KEY,
    ClientLLM,
    Kind,
    TwoEndpoints,
    two_endpoints,
)
from tests.openai_server import OpenAIServer
from tests.resolving import moving_host

CANARY = "canary-7f3a91"
KINDS: list[Kind] = ["ours", "foreign"]


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    with two_endpoints(monkeypatch) as both:
        yield both


def _said(role: str, content: str, **extra: Any) -> ChatMessage:
    return ChatMessage(role=role, content=content, additional_kwargs=extra)


# What stays here

Call = Callable[[RouterLLM, list[ChatMessage]], Any]


def _astream(router: RouterLLM, messages: list[ChatMessage]) -> Any:
    async def call() -> list[Any]:
        return [answer async for answer in await router.astream_chat(messages, privacy="local_only")]

    return asyncio.run(call())


PRIVATE: dict[str, Call] = {
    "option": lambda router, messages: router.chat(messages, privacy="local_only"),
    "tag": lambda router, messages: router.chat(messages, tags=["private"]),
    "stream": lambda router, messages: list(router.stream_chat(messages, privacy="local_only")),
    "async stream": _astream,
    "tools": lambda router, messages: router.chat_with_tools([ADD_TOOL], chat_history=messages, privacy="local_only"),
    "mark": lambda router, messages: router.chat([*messages, _said("user", "And?", privacy="local_only")]),
    "secret": lambda router, messages: router.chat([*messages, _said("user", "IBAN DE89370400440532013000")]),
    "result of a tool": lambda router, messages: router.chat(
        [*messages, _said("tool", "IBAN DE89370400440532013000", tool_call_id="call_1")]
    ),
}
FAULTS: dict[str, Callable[[OpenAIServer], object]] = {
    "500": lambda server: server.fail(status=500, times=4),
    "cut": lambda server: server.cut(chunks=0, times=4),
    "silence": lambda server: server.stall(times=4),
}


@pytest.mark.parametrize("way", PRIVATE)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_private_never_reaches_the_cloud(
    endpoints: TwoEndpoints, caplog: pytest.LogCaptureFixture, way: str, fault: str
) -> None:
    FAULTS[fault](endpoints.local)
    router = endpoints.router(mode="prefer_cloud", deadlines=Deadlines(first_token=0.2))
    with pytest.raises(RouterError) as caught:
        PRIVATE[way](router, [_said("system", CANARY), _said("user", f"Who is {CANARY}?")])
    assert endpoints.local.saw(CANARY)
    assert endpoints.cloud.requests == []
    assert CANARY not in str(caught.value) + repr(caught.value) + caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_to_a_private_call_keeps_the_conversation_here(endpoints: TwoEndpoints, kind: Kind) -> None:
    router = endpoints.router(kind, mode="prefer_cloud")
    question = _said("user", CANARY)
    *_, last = router.stream_chat([question], privacy="local_only")
    assert last.message.additional_kwargs["privacy"] == last.additional_kwargs["privacy"] == "local_only"
    assert router.complete("Hello?").text == CLOUD_ANSWER
    router.chat([question, last.message, _said("user", "And?")])
    # The same without its mark, as chat engines write answers down.
    router.chat([question, _said("assistant", LOCAL_ANSWER), _said("user", "And?")])
    assert len(endpoints.cloud.calls("chat")) == 1 and not endpoints.cloud.saw(CANARY)
    assert not endpoints.local.saw("local_only")


def test_tags_around_an_engine_keep_it_here(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    index = VectorStoreIndex.from_documents([Document(text=f"The plan is {CANARY}.")], embed_model=fake_embedding())
    engine = index.as_query_engine(llm=router)
    with instrument_tags({"privacy": "local_only"}):
        assert str(engine.query("What is the plan?")) == LOCAL_ANSWER
        stream = router.stream_complete(CANARY)
    with instrument_tags({"private": True}):
        assert router.complete(CANARY).text == LOCAL_ANSWER
    assert [answer.text for answer in stream][-1] == LOCAL_ANSWER  # read when nothing is around it any more
    assert endpoints.cloud.requests == []
    assert str(engine.query("Again?")) == CLOUD_ANSWER


def test_nobody_may_answer(endpoints: TwoEndpoints) -> None:
    cloud = RouterLLM(
        llms={"cloud": endpoints.llm(endpoints.cloud.base_url)},
        policy=Policy(allow_cloud=True),
        facts={"cloud": ModelFacts(is_local=False)},
    )
    with pytest.raises(PrivacyError):
        cloud.chat([_said("user", CANARY)], privacy="local_only")
    with pytest.raises(PrivacyError):
        list(RouterLLM(llms=cloud.llms, facts=cloud.facts).stream_complete(CANARY))
    assert endpoints.cloud.requests == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_that_moves_away_is_noticed(
    endpoints: TwoEndpoints, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    moving_host(monkeypatch, "mac.test", addresses := ["127.0.0.1"])
    url = endpoints.local.base_url.replace("127.0.0.1", "mac.test")
    router = RouterLLM(llms={"mac": endpoints.llm(url, kind)})
    assert router.complete("Hello?", privacy=True).text == LOCAL_ANSWER
    addresses.append("203.0.113.7")
    for call in (router.complete, lambda prompt, **options: list(router.stream_complete(prompt, **options))):
        with pytest.raises(PrivacyError, match="not on it any more"):
            call(CANARY, privacy=True)
    assert not endpoints.local.saw(CANARY)


def test_an_endpoint_behind_a_model_of_ours_is_where_its_address_is(endpoints: TwoEndpoints) -> None:
    def backend(url: str) -> OpenAIChatBackend:
        return OpenAIChatBackend(base_url=url, model="m", api_key=SECRET_KEY)

    router = RouterLLM(
        llms={
            "demo": MLXLLM("demo"),
            "server": MLXLLM("m", backend=backend(endpoints.local.base_url)),
            "listed": MLXLLM("m", backend=backend("http://192.168.77.5:8080/v1")),
            "elsewhere": MLXLLM("m", backend=backend("https://192.0.2.1/v1")),
            "passed on": MLXLLM("qwen:cloud", backend=backend(endpoints.local.base_url)),
            "client": ClientLLM(api_base=endpoints.local.base_url),
            "unknown": MockLLM(),
            "vouched for": MockLLM(),
        },
        facts={"vouched for": ModelFacts(is_local=True)},
        local_hosts=("192.168.77.0/24",),
    )
    assert {name: item.location for name, item in router.router.roster.candidates.items()} == {
        "demo": "in-process",
        "server": "loopback",
        "listed": "listed",
        "elsewhere": "remote",
        "passed on": "remote",
        "client": "loopback",
        "unknown": "remote",
        "vouched for": "listed",
    }


# What is reported


class _Events(BaseEventHandler):
    seen: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.seen.append(event)

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.seen if CANDIDATE_TAG not in event.tags]


def test_a_copy_keeps_to_its_own_rules(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    router.complete("Hello?")
    router.model_copy(update={"policy": Policy(mode="local_only")}).complete(CANARY)
    router.model_copy(update={"llms": {"local": router.llms["local"]}, "facts": {}}).complete(CANARY)
    assert len(endpoints.cloud.requests) == 1
    assert router.model_copy(update={"system_prompt": "Be brief."}).router is router.router
    with pytest.raises(ValidationError, match="frozen"):
        router.policy = Policy(mode="local_only")


def test_words_behind_line_breaks_are_found(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud", private_words=("falcon",))
    router.chat([_said("user", "Hello?")], stop=["\nFalcon"])
    assert endpoints.cloud.requests == []


@pytest.fixture
def events() -> Iterator[_Events]:
    handler, root = _Events(), get_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_and_events_report_one_call(endpoints: TwoEndpoints, events: _Events, kind: Kind) -> None:
    debug, counter = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler()
    outer = CallbackManager([debug, counter])
    router = endpoints.router(kind)
    router.callback_manager = outer
    for llm in router.llms.values():
        llm.callback_manager = outer
    endpoints.local.fail(status=500)
    router.chat([_said("user", "Hello?")])
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1
    assert counter.completion_llm_token_count == len(CLOUD_ANSWER.split())
    assert events.names() == ["LLMChatStartEvent", "LLMChatEndEvent"]
    tagged = [event for event in events.seen if CANDIDATE_TAG in event.tags]
    # Other packages' models send events of their own accord; this package's do not when they are candidates.
    assert {event.tags[CANDIDATE_TAG] for event in tagged} == ({"local", "cloud"} if kind == "foreign" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_reports_what_it_shows(endpoints: TwoEndpoints, events: _Events, kind: Kind) -> None:
    endpoints.local.cut(chunks=0)
    shown = list(endpoints.router(kind).stream_chat([_said("user", "Hello?")]))
    own = [event for event in events.seen if CANDIDATE_TAG not in event.tags]
    deltas = [event.response.delta for event in own if type(event).__name__ == "LLMChatInProgressEvent"]  # type: ignore[attr-defined]
    assert deltas == [answer.delta for answer in shown]
    assert "".join(delta or "" for delta in deltas) == CLOUD_ANSWER


def test_an_answer_says_who_gave_it_and_what_it_took(endpoints: TwoEndpoints) -> None:
    response = endpoints.router("foreign").chat([_said("user", "Hello?")])
    report = response.additional_kwargs["router"]
    assert response.raw["router"] == report and json.dumps(report)
    assert (report["answered_by"], len(report["attempts"])) == ("local", 1)
    assert response.raw["finish_reason"] == "stop"
    assert response.raw["usage"]["completion_tokens"] == len(LOCAL_ANSWER.split())
    assert report["attempts"][0]["usage"]["completion_tokens"] == len(LOCAL_ANSWER.split())


def test_it_is_explained_without_asking(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    assert router.explain("Hello?").order == ("local", "cloud")
    assert router.explain([_said("user", "Hello?")], tools=[ADD_TOOL], tags=["private"]).order == ("local",)
    with pytest.raises(InvalidRequestError, match="no task `sumarize`"):
        router.explain("Hello?", task="sumarize")
    assert endpoints.local.requests == endpoints.cloud.requests == []


def test_a_call_names_who_goes_first(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    assert router.complete("Hello?", model="cloud").text == CLOUD_ANSWER
    assert router.explain("Hello?", model="cloud").order == ("cloud", "local")
    assert router.explain("Hello?", model="cloud", privacy=True).order == ("local",)


def test_settings_make_a_router(endpoints: TwoEndpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = EndpointSettings(base_url=endpoints.local.base_url, model="test-model")
    settings = Settings(offline=False, endpoints={"mac": mac}, router=RouterSettings(order=("mac",)))
    monkeypatch.setattr(assembly, "_settings", settings)
    router = RouterLLM.from_settings()
    assert list(router.llms) == ["demo", "mac"]
    assert router.complete("Hello?").text == LOCAL_ANSWER


def test_no_key_is_shown(endpoints: TwoEndpoints) -> None:
    router = endpoints.router("foreign")
    shown = repr(router) + str(router) + json.dumps(router.to_dict()) + str(router.to_payload())
    assert SECRET_KEY not in shown


# Tools


async def test_an_agent_uses_a_tool_although_the_first_model_fails(endpoints: TwoEndpoints) -> None:
    for kind in KINDS:
        endpoints.local.cut(chunks=1, tool_calls=[("add", {"a": 2, "b": 3})])
        handler = FunctionAgent(tools=[ADD_TOOL], llm=endpoints.router(kind)).run("2 + 3?")
        called = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        answer: Any = await handler
        assert [(event.tool_name, str(event.tool_output)) for event in called] == [("add", "5")]
        # The cloud has called the tool, and the first model speaks about the result.
        assert str(answer) == LOCAL_ANSWER
        assert answer.raw["router"]["answered_by"] == "local"


async def test_a_private_agent_stays_here(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    with instrument_tags({"privacy": "local_only"}):
        handler = FunctionAgent(tools=[ADD_TOOL], llm=router).run(f"2 + 3 for {CANARY}?")
    assert str(await handler) == LOCAL_ANSWER
    assert endpoints.cloud.requests == []


@pytest.mark.parametrize(
    ("options", "names", "choice"),
    [
        ({}, ["add", "multiply"], "auto"),
        ({"tool_required": True}, ["add", "multiply"], "required"),
        ({"tool_choice": "multiply"}, ["multiply"], "required"),
        ({"tool_choice": "none"}, None, None),
    ],
)
def test_models_of_other_packages_are_told_what_to_call(
    endpoints: TwoEndpoints, options: dict[str, Any], names: list[str] | None, choice: str | None
) -> None:
    endpoints.router("foreign").chat_with_tools([ADD_TOOL, MULTIPLY_TOOL], "2 * 3?", **options)
    body = endpoints.local.calls("chat")[0].body
    offered = body.get("tools")
    assert (None if offered is None else [tool["function"]["name"] for tool in offered]) == names
    assert body.get("tool_choice") == choice
    if offered:
        assert offered[-1]["function"]["parameters"]["required"] == ["a", "b"]


def test_a_model_that_calls_no_functions_is_passed_over(endpoints: TwoEndpoints) -> None:
    without = endpoints.llm(endpoints.local.base_url, "foreign", calls_functions=False)
    router = RouterLLM(llms={"without": without, "with": endpoints.llm(endpoints.cloud.base_url, "foreign")})
    assert router.metadata.is_function_calling_model
    response = router.chat_with_tools([ADD_TOOL], "2 + 3?")
    assert response.additional_kwargs["router"]["answered_by"] == "with"
    assert router.complete("Hello?").text == LOCAL_ANSWER
    assert not RouterLLM(llms=[without]).metadata.is_function_calling_model


def test_only_the_first_call_is_kept_where_one_is_wanted(endpoints: TwoEndpoints) -> None:
    router = endpoints.router("foreign")
    twice = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]
    endpoints.local.answer(tool_calls=twice, times=2)
    both = router.chat_with_tools([ADD_TOOL], "Add.", allow_parallel_tool_calls=True)
    assert len(router.get_tool_calls_from_response(both)) == 2
    assert str(router.predict_and_call([ADD_TOOL], "Add.")) == "3"


def test_a_call_is_the_same_whoever_made_it(endpoints: TwoEndpoints) -> None:
    for kind in KINDS:
        message = endpoints.router(kind).chat_with_tools([ADD_TOOL], "2 + 3?").message
        (block,) = message.blocks
        assert isinstance(block, ToolCallBlock)
        assert (block.tool_name, block.tool_kwargs, message.additional_kwargs) == ("add", {"a": 2, "b": 3}, {})


# Objects


class Person(BaseModel):
    """A person."""

    name: str
    age: int


BO = {"name": "Bo", "age": 3}


def _script_object(server: OpenAIServer, kind: Kind, value: dict[str, Any]) -> None:
    if kind == "foreign":
        server.answer(tool_calls=[("Person", value)])
    else:
        server.answer(json.dumps(value))


@pytest.mark.parametrize("kind", KINDS)
async def test_objects_are_asked_for_in_each_models_own_way(endpoints: TwoEndpoints, kind: Kind) -> None:
    router, prompt = endpoints.router(kind), PromptTemplate("Who is {who}?")
    for _ in range(5):
        _script_object(endpoints.local, kind, BO)
    wanted = Person(name="Bo", age=3)
    assert router.structured_predict(Person, prompt, who="Bo") == wanted
    assert await router.astructured_predict(Person, prompt, who="Bo") == wanted
    assert list(router.stream_structured_predict(Person, prompt, who="Bo"))[-1] == wanted
    stream = await router.astream_structured_predict(Person, prompt, who="Bo")
    assert [value async for value in stream][-1] == wanted
    assert router.as_structured_llm(Person).complete("Who is Bo?").raw == wanted
    body = endpoints.local.calls("chat")[0].body
    assert ("response_format" in body, "tools" in body) == ((True, False) if kind == "ours" else (False, True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_such_object_is_asked_for_elsewhere(endpoints: TwoEndpoints, kind: Kind) -> None:
    if kind == "foreign":
        endpoints.local.answer(tool_calls=[("Person", {"name": "Bo"})], times=2)
    else:
        endpoints.local.answer('{"name": "Bo"', times=2)
    _script_object(endpoints.cloud, kind, BO)
    router = endpoints.router(kind)
    assert router.structured_predict(Person, PromptTemplate("Who?")) == Person(name="Bo", age=3)
    assert len(endpoints.local.calls("chat")) == 2


# Being a component


def test_models_in_this_process_answer_first(endpoints: TwoEndpoints) -> None:
    fake, backend = fake_llm("From here.")
    cloud = endpoints.llm(endpoints.cloud.base_url, "foreign")
    router = RouterLLM(
        llms={"missing": MLXLLM("no-such-model"), "fake": fake, "cloud": cloud},
        policy=Policy(allow_cloud=True),
        facts={"cloud": ModelFacts(is_local=False)},
        system_prompt="Be short.",
    )
    response = router.complete("Hello?", temperature=0.2, task="chat")
    assert response.text == "From here." and response.raw["router"]["answered_by"] == "fake"
    assert [message.role for message in backend.requests[0].messages] == ["system", "user"]
    assert backend.requests[0].sampling.temperature == 0.2
    assert router.metadata.context_window == fake.metadata.context_window
    considered = {item["name"]: item for item in response.raw["router"]["considered"]}
    assert not considered["missing"]["is_taken"]


def test_a_router_can_be_a_candidate_of_another(endpoints: TwoEndpoints) -> None:
    inner = RouterLLM(llms={"fake": fake_llm("From here.")[0]})
    outer = RouterLLM(llms={"router": inner}, facts={"router": ModelFacts(is_local=True)})
    assert list(outer.stream_complete("Hello?"))[-1].text == "From here."


def test_a_prompt_is_counted_where_its_size_leaves_open_whether_it_fits() -> None:
    backend = FakeChatBackend(["Small."], capabilities=ModelCapabilities(context_window=400))
    router = RouterLLM(llms={"small": MLXLLM("small", backend=backend), "large": fake_llm("Large.")[0]})
    fits, does_not = "word " * 150, "a b c d e f g " * 40  # 750 and 560 characters, 150 and 280 tokens
    assert [router.complete(prompt, max_tokens=150).text for prompt in (fits, does_not)] == ["Small.", "Large."]


def test_a_model_that_says_no_reason_is_complete_when_it_ends() -> None:
    router = RouterLLM(llms=[MockLLM(max_tokens=3)], facts={"MockLLM": ModelFacts(is_local=True)})
    assert router.complete("Hello?").text == "text text text"
    assert list(router.stream_complete("Hello?"))[-1].raw["finish_reason"] == "stop"


def test_a_router_is_saved_and_made_again(endpoints: TwoEndpoints) -> None:
    policy = Policy(mode="prefer_cloud", allow_cloud=True, tasks={"code": ("cloud",)}, deadlines=Deadlines(total=9.0))
    facts = {"cloud": ModelFacts(is_local=False, tasks=frozenset({"code"}), input_price=1.0)}
    cloud = endpoints.llm(endpoints.cloud.base_url, "foreign")
    router = RouterLLM(llms={"local": MLXLLM("demo", temperature=0.5), "cloud": cloud}, policy=policy, facts=facts)
    data = json.loads(router.to_json())
    assert data["class_name"] == router.class_name() == "RouterLLM"
    with pytest.raises(ConfigurationError, match="`cloud` cannot be made"):
        RouterLLM.from_dict(data)
    again = RouterLLM.from_dict(data, llms={"cloud": cloud})
    assert (again.policy, again.facts, list(again.llms)) == (policy, facts, ["local", "cloud"])
    assert again.llms["local"].to_dict() == router.llms["local"].to_dict()
    assert again.complete("Hello?").text == CLOUD_ANSWER


def test_copies_share_what_was_found_out_and_pickles_do_not(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    router.complete("Hello?")
    assert copy.deepcopy(router).router is router.router
    unpickled = pickle.loads(pickle.dumps(RouterLLM(llms={"demo": MLXLLM("demo")})))
    assert unpickled.explain("Hello?").order == ("demo",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"llms": {}}, "at least one model"),
        ({"llms": {"local": "demo"}}, "`local` is a `str`"),
        ({"llms": [MLXLLM("demo"), MLXLLM("demo")]}, "Two of the models are called `demo`"),
        ({"llms": [MLXLLM("demo")], "policy": Policy(order=("demi",))}, "`demi` in `order` does not exist"),
        ({"llms": [MLXLLM("demo")], "facts": {"demi": ModelFacts()}}, "Did you mean `demo`"),
    ],
)
def test_misuse_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RouterLLM(**given)
    assert message in f"{caught.value} {caught.value.hint}"


def test_errors_of_construction_show_no_key() -> None:
    llm = ClientLLM(api_base="http://127.0.0.1:9/v1", default_headers={"Authorization": SECRET_KEY})
    for given in ({"polcy": Policy()}, {"facts": {"x": ModelFacts()}}, {"system_prompt": 7}):
        with pytest.raises(ValueError, match=r"policy|facts|system_prompt") as caught:
            RouterLLM(llms=[llm], **given)
        assert SECRET_KEY not in str(caught.value)


def test_a_bad_call_is_refused_before_anybody_is_asked(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    with pytest.raises(UnknownToolError):
        router.stream_chat_with_tools([ADD_TOOL], "2 + 3?", tool_choice="divide")
    with pytest.raises(InvalidRequestError):
        router.chat([_said("user", "Hello?")], response_format="json")
    with pytest.raises(InvalidRequestError, match="neither yes nor no"):
        router.complete("Hello?", privacy="local-only")
    with pytest.raises(InvalidRequestError, match="Did you mean `cloud`"):
        router.stream_complete("Hello?", model="clout")
    assert endpoints.local.requests == []
