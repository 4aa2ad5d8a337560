"""`ChatRouter` as a LangChain chat model: what it is made of, what it tells, and what frameworks see of it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.language_models import FakeListChatModel
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError

from mlx_integrations import assembly
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.errors import (
    ConfigurationError,
    InvalidOutputError,
    InvalidRequestError,
    PrivacyError,
    RouterError,
)
from mlx_integrations.langchain import ChatMLX, ChatRouter, ModelFacts
from mlx_integrations.router import Policy, report_of
from mlx_integrations.settings import Settings
from tests.langchain.routing import CLOUD_ANSWER, LOCAL_ANSWER, TwoEndpoints, allow_network, chat_openai, two_endpoints
from tests.resolving import moving_host

DEMO_SAYS = "I am the mlx-integrations demo model"


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    allow_network(monkeypatch)
    with two_endpoints() as both:
        yield both


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class City(BaseModel):
    """A city."""

    name: str
    country: str


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


class Counter(BaseCallbackHandler):
    """Counts what callbacks are told."""

    def __init__(self) -> None:
        self.starts: list[UUID] = []
        self.parents: list[UUID | None] = []
        self.tokens = ""
        self.ends: list[LLMResult] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.starts.append(run_id)
        self.parents.append(kwargs.get("parent_run_id"))

    def on_llm_new_token(self, token: str | list[Any], **kwargs: Any) -> None:
        self.tokens += token if isinstance(token, str) else ""

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.ends.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def test_the_local_model_answers_and_says_so(endpoints: TwoEndpoints) -> None:
    router = ChatRouter(
        models={"mine": ChatMLX(model="demo"), "cloud": chat_openai(endpoints.cloud.base_url)},
        policy=Policy(allow_cloud=True),
        facts={"cloud": ModelFacts(is_local=False)},
    )
    answer = router.invoke("Who are you?")
    assert answer.text.startswith(DEMO_SAYS)
    told = answer.response_metadata["router"]
    assert (told["answered_by"], told["cost_usd"]) == ("mine", 0.0)
    assert [item["name"] for item in told["considered"]] == ["mine", "cloud"]
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] > 5
    assert endpoints.cloud.requests == []


def test_a_missing_local_model_is_not_even_asked(endpoints: TwoEndpoints) -> None:
    router = ChatRouter(
        models={"mine": ChatMLX(model="nobody/has-this"), "cloud": chat_openai(endpoints.cloud.base_url)},
        policy=Policy(allow_cloud=True),
        facts={"cloud": ModelFacts(is_local=False)},
    )
    answer = router.invoke("Hello?")
    told = answer.response_metadata["router"]
    assert (answer.text, told["answered_by"]) == (CLOUD_ANSWER, "cloud")
    (skipped,) = [item for item in told["considered"] if not item["is_taken"]]
    assert skipped["name"] == "mine" and "not" in skipped["reason"]


def test_nothing_goes_to_a_cloud_that_is_not_allowed(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=500)
    with pytest.raises(RouterError) as caught:
        endpoints.router(allow_cloud=False).invoke("Hello?")
    assert caught.value.attempts[0][0] == "local"
    assert (report := report_of(caught.value)) is not None
    assert [attempt.candidate for attempt in report.attempts] == ["local"]
    assert endpoints.cloud.requests == []


def test_one_run_is_seen_and_tokens_count_once(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=500)
    router, counter = endpoints.router(), Counter()
    with get_usage_metadata_callback() as usage:
        answer = RunnableLambda[str, AIMessage](lambda text: router.invoke(text)).invoke(
            "Hello?", {"callbacks": [counter]}
        )
    assert answer.text == CLOUD_ANSWER
    assert len(counter.starts) == len(counter.ends) == 1
    assert counter.parents[0] is not None and counter.errors == []
    assert sum(item["output_tokens"] for item in usage.usage_metadata.values()) == 4


def test_callbacks_of_a_candidate_hear_nothing(endpoints: TwoEndpoints) -> None:
    counter = Counter()
    model = chat_openai(endpoints.local.base_url, callbacks=[counter])
    router = ChatRouter(models={"it": model})
    assert router.invoke("Hello?").text == LOCAL_ANSWER
    assert "".join(str(chunk.text) for chunk in router.stream("Hello?")) == LOCAL_ANSWER
    assert counter.starts == counter.ends == []


def test_tokens_reach_callbacks_once(endpoints: TwoEndpoints) -> None:
    endpoints.local.cut(chunks=0)
    counter = Counter()
    chunks = list(endpoints.router().stream("Hello?", {"callbacks": [counter]}))
    assert "".join(str(chunk.text) for chunk in chunks) == counter.tokens == CLOUD_ANSWER
    assert len(counter.starts) == len(counter.ends) == 1


def test_chunks_add_up_to_one_message_with_one_report(endpoints: TwoEndpoints) -> None:
    first, *others = endpoints.router().stream("Hello?")
    assert isinstance(first, AIMessageChunk)
    whole: Any = sum(others, first)
    assert whole.text == LOCAL_ANSWER
    assert whole.chunk_position == "last"
    assert whole.response_metadata["router"]["answered_by"] == "local"
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata["output_tokens"] == 4
    assert whole.id is not None


def test_tokens_of_failed_attempts_are_reported(endpoints: TwoEndpoints) -> None:
    endpoints.local.cut(chunks=2)
    answer = endpoints.router(guarantee="complete").stream("Hello?")
    *_, last = answer
    failed, answered = last.response_metadata["router"]["attempts"]
    assert failed["usage"]["completion_tokens"] == 2 and failed["is_usage_estimated"]
    assert answered["usage"]["completion_tokens"] == 4 and not answered["is_usage_estimated"]


async def test_events_of_every_version_tell_of_one_model(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=503)
    events = [event async for event in endpoints.router().astream_events("Hello?", version="v2")]
    assert [event["event"] for event in events].count("on_chat_model_start") == 1
    texts = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(texts) == CLOUD_ANSWER
    stream = endpoints.router().stream_events("Hello?", version="v3")
    assert "".join(stream.text) == LOCAL_ANSWER


def test_structured_output_from_whoever_answers(endpoints: TwoEndpoints) -> None:
    endpoints.local.answer(tool_calls=[("City", {"name": "Lisbon"})], times=2)  # twice against the schema
    endpoints.cloud.answer(tool_calls=[("City", {"name": "Lisbon", "country": "Portugal"})])
    assert endpoints.router().with_structured_output(City).invoke("Where?") == City(name="Lisbon", country="Portugal")


def test_structured_output_by_the_demo_model() -> None:
    router = ChatRouter(models={"mine": ChatMLX(model="demo", temperature=0)})
    made = router.with_structured_output(Person, method="json_schema").invoke(
        "Extract the person: Clara Lang is 36 years old and lives in Lisbon."
    )
    assert made == Person(name="Clara Lang", age=36, city="Lisbon")


def test_an_answer_that_is_not_the_json_that_was_asked_for(endpoints: TwoEndpoints) -> None:
    wanted = endpoints.router().with_structured_output(City, method="json_schema")
    endpoints.cloud.answer('{"name": "Oslo", "country": "Norway"}')
    assert wanted.invoke("Where?") == City(name="Oslo", country="Norway")
    with pytest.raises((InvalidOutputError, RouterError)):
        wanted.invoke("Where?")


def test_an_agent_calls_tools_of_whoever_answers(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=500)
    agent: Any = create_agent(endpoints.router(), [add])
    done = agent.invoke({"messages": [("user", "2 + 3?")]})
    _, asked, result, said = done["messages"]
    assert (asked.tool_calls[0]["args"], result.content) == ({"a": 2, "b": 3}, "5")
    assert asked.response_metadata["router"]["answered_by"] == "cloud"
    assert said.response_metadata["router"]["answered_by"] == "local"


def test_options_reach_the_candidate_and_those_of_the_router_do_not(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    router.invoke("Hello?", task="code", language="en", temperature=0.5, max_tokens=7, stop=["x"])
    (request,) = endpoints.local.calls("chat")
    body = request.body
    assert (body["temperature"], body["stop"]) == (0.5, ["x"])
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert not {"task", "language", "privacy"} & body.keys()


def test_options_of_the_router_are_for_whoever_answers(endpoints: TwoEndpoints) -> None:
    made = endpoints.router()
    router = ChatRouter(models=made.models, facts=made.facts, temperature=0.3, max_tokens=9, stop=["y"], timeout=60)
    router.invoke("Hello?")
    router.invoke("Hello?", temperature=0.4, stop=["z"])
    first, second = (request.body for request in endpoints.local.calls("chat"))
    assert (first["temperature"], first["stop"]) == (0.3, ["y"])
    assert (second["temperature"], second["stop"]) == (0.4, ["z"])
    assert router.policy.deadlines.total == 60


def test_a_prompt_that_is_too_long_is_counted_before_anybody_is_asked(endpoints: TwoEndpoints) -> None:
    made = endpoints.router(mode="prefer_local")
    models = {"mine": ChatMLX(model="demo"), "cloud": made.models["cloud"]}
    router = ChatRouter(models=models, facts=made.facts, policy=made.policy)
    answer = router.invoke("word " * 1500)
    told = answer.response_metadata["router"]
    assert [attempt["candidate"] for attempt in told["attempts"]] == ["cloud"]
    (skipped,) = [item["reason"] for item in told["considered"] if not item["is_taken"]]
    assert "long" in skipped or "window" in skipped


def test_a_client_does_not_ask_again_on_its_own(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=500, times=3)
    endpoints.router().invoke("Hello?")
    assert len(endpoints.local.calls("chat")) == 1


def test_the_model_that_was_given_keeps_its_retries(endpoints: TwoEndpoints) -> None:
    model = chat_openai(endpoints.local.base_url, max_retries=2)
    ChatRouter(models={"it": model})
    endpoints.local.fail(status=500)
    assert model.invoke("Hello?").text == LOCAL_ANSWER


def test_a_user_s_preference_for_a_task(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(tasks={"code": ("cloud",)})
    assert router.invoke("Hello?").text == LOCAL_ANSWER
    assert router.invoke("Hello?", task="code").text == CLOUD_ANSWER
    assert router.invoke("Hello?", {"metadata": {"task": "code"}}).text == CLOUD_ANSWER
    chunks = router.stream("Hello?", {"metadata": {"task": "code"}})
    assert "".join(str(chunk.text) for chunk in chunks) == CLOUD_ANSWER


def test_an_address_that_moves_away_is_noticed(endpoints: TwoEndpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    moving_host(monkeypatch, "mac.test", addresses := ["127.0.0.1"])
    router = ChatRouter(models={"mac": chat_openai(endpoints.local.base_url.replace("127.0.0.1", "mac.test"))})
    assert router.invoke("Hello?", privacy=True).text == LOCAL_ANSWER
    addresses.append("203.0.113.7")
    with pytest.raises(PrivacyError, match="not on it any more"):
        router.invoke("Hello again?", privacy=True)
    assert not endpoints.local.saw("again")


def test_a_call_can_name_who_goes_first(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    assert router.invoke("Hello?", model="cloud").text == CLOUD_ANSWER
    assert router.invoke("Hello?", {"tags": ["private"]}, model="cloud").text == LOCAL_ANSWER
    with pytest.raises(InvalidRequestError, match="Did you mean `cloud`"):
        router.invoke("Hello?", model="clod")


_SETTINGS = """
[models]
default = "demo"

[router]
allow_cloud = true
[router.tasks]
code = ["cloud"]

[endpoints.cloud]
kind = "openai"
base_url = "{address}"
model = "test-model"
api_key_env = "A_KEY"
forwards = true
"""


def test_the_router_of_the_settings(endpoints: TwoEndpoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mlxi.toml").write_text(_SETTINGS.format(address=endpoints.cloud.base_url), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_KEY", "sk-anything")
    monkeypatch.setattr(assembly, "_settings", Settings())
    router = ChatRouter.from_settings()
    assert router.invoke("Who are you?").text.startswith(DEMO_SAYS)
    assert endpoints.cloud.requests == []
    coder = router.invoke("Who are you?", task="code")
    assert (coder.text, coder.response_metadata["router"]["answered_by"]) == (CLOUD_ANSWER, "cloud")
    monkeypatch.delenv("A_KEY")
    with pytest.raises(ConfigurationError, match="A_KEY"):
        ChatRouter.from_settings()


def test_an_endpoint_that_is_away_is_not_called(endpoints: TwoEndpoints) -> None:
    endpoints.local.fail(status=503, on="models", times=99)
    endpoints.local.fail(status=503, on="health", times=99)
    backend = OpenAIChatBackend(base_url=endpoints.local.base_url, model="test-model", api_key="x")
    cloud = endpoints.router().models["cloud"]
    router = ChatRouter(models={"studio": ChatMLX(model="test-model", backend=backend), "other": cloud})
    try:
        assert router.watch_endpoints(interval_seconds=60) == ("studio",)
        until = time.monotonic() + 30
        while router.router.roster.states()["studio"].blocked_seconds == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert router.invoke("Hello?").text == CLOUD_ANSWER
    finally:
        router.router.close()
    assert endpoints.local.calls("chat") == []


def test_explaining_asks_nobody(endpoints: TwoEndpoints) -> None:
    plan = endpoints.router().explain("My card is 4111 1111 1111 1111.", tools=[add])
    assert plan.order == ("local",)
    assert "4111" not in repr(plan)
    assert endpoints.local.requests == endpoints.cloud.requests == []


def test_a_plan_is_explained_as_it_would_be_carried_out(endpoints: TwoEndpoints) -> None:
    router = endpoints.router()
    assert router.explain("Hello?", model="cloud").order == ("cloud", "local")
    with pytest.raises(InvalidRequestError, match="none of the models"):
        router.explain("Hello?", model="clod")
    models = {"mine": ChatMLX(model="demo"), "cloud": router.models["cloud"]}
    made = ChatRouter(models=models, facts=router.facts, policy=router.policy)
    assert made.explain("word " * 1500).order == ("cloud",)
    assert endpoints.local.requests == endpoints.cloud.requests == []


def test_an_unknown_model_in_this_process_needs_somebody_to_vouch_for_it() -> None:
    fake = FakeListChatModel(responses=["Hello."])
    with pytest.raises((PrivacyError, RouterError)):
        ChatRouter(models={"it": fake}).invoke("Hello?")
    router = ChatRouter(models={"it": fake}, facts={"it": ModelFacts(is_local=True)})
    assert router.invoke("Hello?").text == "Hello."
    assert "".join(str(chunk.text) for chunk in router.stream("Hello?")) == "Hello."


def test_a_backend_given_by_hand_is_where_its_address_says(endpoints: TwoEndpoints) -> None:
    backend = OpenAIChatBackend(base_url=endpoints.local.base_url, model="test-model", api_key="x")
    answer = ChatRouter(models={"it": ChatMLX(model="test-model", backend=backend)}).invoke("Hello?")
    assert answer.text == LOCAL_ANSWER
    elsewhere = OpenAIChatBackend(base_url="https://192.0.2.1/v1", model="test-model", api_key="x")
    with pytest.raises((PrivacyError, RouterError)):
        ChatRouter(models={"it": ChatMLX(model="test-model", backend=elsewhere)}).invoke("Hello?")


def test_a_slip_in_what_is_said_of_privacy_lets_nothing_leave(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    for said in ("local-only", "local_onyl", "yes", 1):
        with pytest.raises(InvalidRequestError, match="neither yes nor no"):
            router.invoke("Hello?", privacy=said)
        with pytest.raises(InvalidRequestError, match="neither yes nor no"):
            router.invoke("Hello?", {"metadata": {"privacy": said}})
    assert endpoints.cloud.requests == []
    for said in ("local_only", "private", True):
        assert router.invoke("Hello?", privacy=said).text == LOCAL_ANSWER
    assert router.invoke("My card is 4111 1111 1111 1111.", privacy=False).text == CLOUD_ANSWER


def test_what_a_user_says_of_a_backend_counts(endpoints: TwoEndpoints) -> None:
    """One at loopback may pass on what it is asked, and one of your own in this process has no address."""
    from mlx_integrations.assembly import chat_backend
    from mlx_integrations.cloud.chat import OpenAIChatBackend
    from mlx_integrations.router.cached_backend import CachedBackend
    from mlx_integrations.router.response_cache import MemoryResponses

    proxy = ChatMLX(
        model="test-model", backend=OpenAIChatBackend(base_url=endpoints.local.base_url, model="test-model")
    )
    with pytest.raises(PrivacyError):
        ChatRouter(models={"it": proxy}, facts={"it": ModelFacts(is_local=False)}).invoke("Hello?")
    assert endpoints.local.requests == []
    with pytest.raises(PrivacyError):
        ChatRouter(models={"it": ChatMLX(model="demo")}, facts={"it": ModelFacts(is_local=False)}).invoke("Hello?")
    cached = ChatMLX(model="demo", backend=CachedBackend(chat_backend("demo"), MemoryResponses()))
    with pytest.raises(PrivacyError):
        ChatRouter(models={"it": cached}).invoke("Who are you?")
    router = ChatRouter(models={"it": cached}, facts={"it": ModelFacts(is_local=True)})
    assert router.invoke("Who are you?").text.startswith(DEMO_SAYS)


def test_annotations_can_be_resolved() -> None:
    """LangChain's own wrappers read them, and drop what they cannot resolve."""
    for method in (ChatRouter.bind_tools, ChatRouter.with_structured_output):
        assert "return" in get_type_hints(method)


def test_a_copy_and_a_pickle_route_as_well(endpoints: TwoEndpoints) -> None:
    copied = endpoints.router().model_copy()
    assert copied.invoke("Hello?").text == LOCAL_ANSWER


def test_the_cache_key_tells_routers_apart(endpoints: TwoEndpoints) -> None:
    one, other = endpoints.router(), endpoints.router(mode="prefer_cloud")
    assert one._get_llm_string() == endpoints.router()._get_llm_string() != other._get_llm_string()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": {}}, "at least one model"),
        ({"models": [ChatMLX(model="demo"), ChatMLX(model="demo")]}, "Two of the models are called `demo`"),
        ({"models": {"a": "demo"}}, "not a chat model"),
        ({"models": {"local": ChatMLX(model="demo")}, "facts": {"lokal": ModelFacts()}}, "Did you mean `local`"),
        (
            {"models": {"local": ChatMLX(model="demo")}, "policy": Policy(tasks={"code": ("lokal",)})},
            "Did you mean `local`",
        ),
        ({"models": {"local": ChatMLX(model="demo")}, "local_hosts": ("no host!",)}, "is no host"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChatRouter(**options)


def test_no_key_shows(endpoints: TwoEndpoints) -> None:
    from tests.langchain.routing import SECRET_KEY

    router = endpoints.router()
    endpoints.local.fail(status=401)
    endpoints.cloud.fail(status=401)
    with pytest.raises(RouterError) as caught:
        router.invoke([HumanMessage("Hello?")])
    shown = f"{router!r} {caught.value} {caught.value!r} {router.router.roster.states()} {report_of(caught.value)}"
    assert SECRET_KEY not in shown


def test_it_is_a_chat_model_without_surprises(endpoints: TwoEndpoints) -> None:
    router: BaseChatModel = endpoints.router()
    assert isinstance(router.invoke([("user", "Hello?")]), AIMessage)
    assert [answer.text for answer in router.batch(["a", "b", "c"])] == [LOCAL_ANSWER] * 3
    assert (
        ChatRouter(models={"a": chat_openai("http://192.0.2.1"), "b": ChatMLX(model="demo")}).get_num_tokens("one two")
        > 0
    )
