"""Every fault of a first candidate, at every entry point: one answer, or an error that says what was shown of it.

Real servers, real connections, and LangChain's own client of OpenAI in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool

from mlx_integrations.errors import PartialResponseError
from mlx_integrations.langchain.chat_router import ChatRouter, ModelFacts
from mlx_integrations.router.policy import Deadlines
from mlx_integrations.router.report import report_of
from tests.langchain.routing import CLOUD_ANSWER, LOCAL_ANSWER, TwoEndpoints, allow_network, two_endpoints
from tests.openai_server import OpenAIServer, refused_address

When = Literal["before", "middle", "caller"]


@dataclass(frozen=True)
class Fault:
    """What the first server does, and when: before anything is shown, in the middle, or because of the caller."""

    play: Callable[[OpenAIServer], object]
    when: When
    outcomes: frozenset[str]
    policy: dict[str, Any] = field(default_factory=dict)


def _fault(when: When, *outcomes: str, **policy: Any) -> Callable[[Callable[[OpenAIServer], object]], Fault]:
    return lambda play: Fault(play, when, frozenset(outcomes), policy)


FAULTS: dict[str, Fault] = {
    "401": _fault("before", "authentication")(lambda server: server.fail(status=401)),
    "404": _fault("before", "missing_model")(lambda server: server.fail(status=404)),
    "429": _fault("before", "rate_limit")(lambda server: server.fail(status=429)),
    "429, come back later": _fault("before", "rate_limit")(lambda server: server.fail(status=429, retry_after=30)),
    "500": _fault("before", "unavailable")(lambda server: server.fail(status=500)),
    "503": _fault("before", "unavailable")(lambda server: server.fail(status=503)),
    "reset": _fault("before", "unavailable", "failed")(lambda server: server.reset()),
    "too long": _fault("before", "context_overflow")(lambda server: server.overflow(prompt_tokens=99, limit_tokens=9)),
    "role, then cut": _fault("before", "cut", "unavailable", "failed")(lambda server: server.cut(chunks=0)),
    "role, then the end": _fault("before", "cut", "unavailable")(lambda server: server.end_early(chunks=0)),
    "role, then an error": _fault("before", "failed", "unavailable")(lambda server: server.error_after(chunks=0)),
    "silence": _fault("before", "timeout", deadlines=Deadlines(first_token=0.3))(lambda server: server.stall()),
    "cut in the text": _fault("middle", "cut", "unavailable", "failed")(lambda server: server.cut(chunks=2)),
    "end in the text": _fault("middle", "cut", "unavailable")(lambda server: server.end_early(chunks=2)),
    "error in the text": _fault("middle", "failed", "unavailable")(lambda server: server.error_after(chunks=2)),
    "garbage in the text": _fault("middle", "cut", "failed", "unavailable")(
        lambda server: server.garbage_after(chunks=2)
    ),
    "silence in the text": _fault("middle", "stall", deadlines=Deadlines(between_tokens=0.3))(
        lambda server: server.stall(chunks=2)
    ),
    "a bad request": _fault("caller", "invalid_request")(lambda server: server.fail(status=400)),
}
SHOWN = "one two"  # what a server of ours has said after two chunks


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    allow_network(monkeypatch)
    with two_endpoints() as both:
        yield both


def _invoke(router: ChatRouter) -> list[AIMessage]:
    return [router.invoke("Hello?")]


def _stream(router: ChatRouter) -> list[AIMessage]:
    return list(router.stream("Hello?"))


def _batch(router: ChatRouter) -> list[AIMessage]:
    return router.batch(["Hello?"])


def _ainvoke(router: ChatRouter) -> list[AIMessage]:
    async def call() -> list[AIMessage]:
        return [await router.ainvoke("Hello?")]

    return asyncio.run(call())


def _astream(router: ChatRouter) -> list[AIMessage]:
    async def call() -> list[AIMessage]:
        return [chunk async for chunk in router.astream("Hello?")]

    return asyncio.run(call())


WHOLE = {"invoke": _invoke, "ainvoke": _ainvoke, "batch": _batch}
LIVE = {"stream": _stream, "astream": _astream}


def _text(messages: list[AIMessage]) -> str:
    return "".join(str(message.text) for message in messages)


def _outcomes(message: AIMessage) -> list[str]:
    attempts: list[dict[str, Any]] = message.response_metadata["router"]["attempts"]
    return [attempt["outcome"] for attempt in attempts]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("entry", [*WHOLE, *LIVE])
def test_one_answer_or_an_error_that_says_what_was_shown(endpoints: TwoEndpoints, name: str, entry: str) -> None:
    fault = FAULTS[name]
    for _ in range(2):  # an endpoint that is unavailable is asked twice, if it counts as elsewhere
        fault.play(endpoints.local)
    router = endpoints.router(**fault.policy)
    call = {**WHOLE, **LIVE}[entry]
    if fault.when == "caller":
        with pytest.raises(Exception, match="it failed"):
            call(router)
        assert endpoints.cloud.requests == []
    elif fault.when == "middle" and entry in LIVE:
        with pytest.raises(PartialResponseError) as caught:
            call(router)
        assert caught.value.partial_text.strip() == SHOWN
        assert (report := report_of(caught.value)) is not None
        assert {attempt.outcome for attempt in report.attempts} <= fault.outcomes
        assert endpoints.cloud.requests == []
    else:
        answer = call(router)
        assert _text(answer) == CLOUD_ANSWER
        assert _outcomes(answer[-1])[-1] == "answered"
        assert set(_outcomes(answer[-1])[:-1]) <= fault.outcomes
        assert len(endpoints.local.calls("chat")) == 1


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.when == "middle"])
@pytest.mark.parametrize("entry", LIVE)
def test_a_stream_that_waits_for_the_end_is_rescued(endpoints: TwoEndpoints, name: str, entry: str) -> None:
    fault = FAULTS[name]
    fault.play(endpoints.local)
    answer = LIVE[entry](endpoints.router(**fault.policy, guarantee="complete"))
    assert _text(answer) == CLOUD_ANSWER
    assert _outcomes(answer[-1])[-1] == "answered"


@pytest.mark.parametrize("entry", [*WHOLE, *LIVE])
def test_nobody_is_there(endpoints: TwoEndpoints, entry: str) -> None:
    with refused_address() as address:
        assert _text({**WHOLE, **LIVE}[entry](endpoints.router(local_url=address))) == CLOUD_ANSWER


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOL_FAULTS: dict[str, Callable[[OpenAIServer], object]] = {
    "cut": lambda server: server.cut(chunks=2, tool_calls=[("add", {"a": 2, "b": 3})]),
    "end": lambda server: server.end_early(chunks=2, tool_calls=[("add", {"a": 2, "b": 3})]),
    "half of the arguments": lambda server: server.answer(tool_calls=[("add", '{"a": 2, "b": 3')]),
    "not an object": lambda server: server.answer(tool_calls=[("add", "[2, 3]")]),
    "against the schema": lambda server: server.answer(tool_calls=[("add", {"a": "two", "b": 3})]),
    "no such tool": lambda server: server.answer(tool_calls=[("subtract", {"a": 2, "b": 3})]),
}


@pytest.mark.parametrize("name", TOOL_FAULTS)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["invoke", "stream"])
def test_no_broken_call_of_a_tool_is_let_through(endpoints: TwoEndpoints, name: str, is_streamed: bool) -> None:
    for _ in range(2):  # one on this machine may try again once
        TOOL_FAULTS[name](endpoints.local)
    bound = endpoints.router().bind_tools([add])
    if is_streamed:
        first, *others = bound.stream("2 + 3?")
        assert isinstance(first, AIMessageChunk)
        answer: Any = sum(others, first)
    else:
        answer = bound.invoke("2 + 3?")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("add", {"a": 2, "b": 3})]
    assert answer.invalid_tool_calls == []
    assert answer.response_metadata["router"]["answered_by"] == "cloud"


def test_a_broken_call_is_repaired_by_asking_again_at_temperature_0(endpoints: TwoEndpoints) -> None:
    endpoints.local.answer(tool_calls=[("add", '{"a": 2')])
    answer = endpoints.router().bind_tools([add]).invoke("2 + 3?")
    assert answer.tool_calls[0]["args"] == {"a": 2, "b": 3}
    assert answer.response_metadata["router"]["answered_by"] == "local"
    first, second = endpoints.local.calls("chat")
    assert (first.body.get("temperature"), second.body["temperature"]) == (None, 0)
    assert endpoints.cloud.requests == []


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.when != "caller"])
def test_an_agent_shows_one_text_and_no_other(endpoints: TwoEndpoints, name: str) -> None:
    fault = FAULTS[name]
    agent = create_agent(endpoints.router(**fault.policy), [add])
    fault.play(endpoints.local)
    shown, error = _shown(agent, "Hello?")
    if fault.when == "middle":
        assert (shown.strip(), type(error).__mro__[1]) == (SHOWN, PartialResponseError)
    else:
        # The cloud's model calls the tool, and whoever is asked next speaks about the result.
        assert error is None
        assert shown in (LOCAL_ANSWER, CLOUD_ANSWER)


def _shown(agent: Any, question: str) -> tuple[str, Exception | None]:
    """The text that a person sees while an agent works, and how it ended."""
    shown = ""
    try:
        for chunk, _ in agent.stream({"messages": [("user", question)]}, stream_mode="messages"):
            if isinstance(chunk, AIMessage):
                shown += str(chunk.text)
    except PartialResponseError as error:
        return shown, error
    return shown, None


@pytest.mark.parametrize("entry", LIVE)
def test_another_model_may_write_on_if_it_can_and_the_user_wants_that(endpoints: TwoEndpoints, entry: str) -> None:
    endpoints.local.cut(chunks=2, text="alpha beta gamma delta")
    endpoints.cloud.answer(" gamma delta")
    made = endpoints.router(continue_text=True)
    facts = {"cloud": ModelFacts(is_local=False, can_continue=True)}
    answer = LIVE[entry](ChatRouter(models=made.models, policy=made.policy, facts=facts))
    assert " ".join(_text(answer).split()) == "alpha beta gamma delta"
    (request,) = endpoints.cloud.calls("chat")
    assert request.body["messages"][-1]["role"] == "assistant"
    assert request.body["messages"][-1]["content"].split() == ["alpha", "beta"]
    assert [attempt["is_continuation"] for attempt in answer[-1].response_metadata["router"]["attempts"]] == [
        False,
        True,
    ]


async def test_the_event_loop_turns_while_nobody_answers(endpoints: TwoEndpoints) -> None:
    endpoints.local.stall(times=2)
    router = endpoints.router(deadlines=Deadlines(first_token=0.3))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counter = asyncio.ensure_future(count())
    assert (await router.ainvoke("Hello?")).text == CLOUD_ANSWER
    assert "".join([str(chunk.text) async for chunk in router.astream("Hello?")]) == CLOUD_ANSWER
    counter.cancel()
    assert turns > 5


async def test_a_task_that_is_cancelled_ends_the_request(endpoints: TwoEndpoints) -> None:
    endpoints.local.stall(chunks=1)
    router = endpoints.router()
    seen = asyncio.Event()

    async def read() -> None:
        async for chunk in router.astream("Hello?"):
            if chunk.text:
                seen.set()

    reader: Awaitable[None] = asyncio.ensure_future(read())
    await asyncio.wait_for(seen.wait(), 10)
    reader.cancel()  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError):
        await reader
    (request,) = endpoints.local.calls("chat")
    assert await asyncio.to_thread(request.done.wait, 10)
    assert request.client_left
    assert endpoints.cloud.requests == []
    assert router.router.roster.states()["local"].in_flight == 0
