"""Every fault of a first candidate, at every entry point: one answer, or an error that says what was shown of it.

Real servers and real connections; the models are this package's own, and one written as other packages write them.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from mlx_integrations.errors import PartialResponseError
from mlx_integrations.llama_index import RouterLLM
from mlx_integrations.router.policy import Deadlines
from mlx_integrations.router.report import report_of
from tests.llama_index.fakes import ADD_TOOL
from tests.llama_index.routing import CLOUD_ANSWER, Kind, TwoEndpoints, two_endpoints
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
    "429": _fault("before", "rate_limit")(lambda server: server.fail(status=429, retry_after=30)),
    "500": _fault("before", "unavailable")(lambda server: server.fail(status=500)),
    "reset": _fault("before", "unavailable", "failed")(lambda server: server.reset()),
    "too long": _fault("before", "context_overflow")(lambda server: server.overflow(prompt_tokens=99, limit_tokens=9)),
    "role, then the end": _fault("before", "cut")(lambda server: server.end_early(chunks=0)),
    "silence": _fault("before", "timeout", deadlines=Deadlines(first_token=0.3))(lambda server: server.stall()),
    "cut in the text": _fault("middle", "cut", "unavailable", "failed")(lambda server: server.cut(chunks=2)),
    "end in the text": _fault("middle", "cut")(lambda server: server.end_early(chunks=2)),
    "error in the text": _fault("middle", "failed", "unavailable")(lambda server: server.error_after(chunks=2)),
    "silence in the text": _fault("middle", "stall", deadlines=Deadlines(between_tokens=0.3))(
        lambda server: server.stall(chunks=2)
    ),
    "a bad request": _fault("caller", "invalid_request")(lambda server: server.fail(status=400)),
}
SHOWN = "one two"  # what a server of ours has said after two chunks
QUESTION = [ChatMessage(role="user", content="Hello?")]
Answered = tuple[str, dict[str, Any]]


def _complete(router: RouterLLM) -> Answered:
    answer = router.complete("Hello?")
    return answer.text, answer.additional_kwargs["router"]


def _chat(router: RouterLLM) -> Answered:
    answer = router.chat(QUESTION)
    return answer.message.content or "", answer.additional_kwargs["router"]


def _acomplete(router: RouterLLM) -> Answered:
    answer = asyncio.run(router.acomplete("Hello?"))
    return answer.text, answer.additional_kwargs["router"]


def _achat(router: RouterLLM) -> Answered:
    answer = asyncio.run(router.achat(QUESTION))
    return answer.message.content or "", answer.additional_kwargs["router"]


def _stream_complete(router: RouterLLM) -> Answered:
    return _shown(list(router.stream_complete("Hello?")))


def _stream_chat(router: RouterLLM) -> Answered:
    return _shown(list(router.stream_chat(QUESTION)))


def _astream_complete(router: RouterLLM) -> Answered:
    async def call() -> list[Any]:
        return [answer async for answer in await router.astream_complete("Hello?")]

    return _shown(asyncio.run(call()))


def _astream_chat(router: RouterLLM) -> Answered:
    async def call() -> list[Any]:
        return [answer async for answer in await router.astream_chat(QUESTION)]

    return _shown(asyncio.run(call()))


def _shown(answers: list[Any]) -> Answered:
    """What a stream adds up to, by what is new in it; the whole text, which it repeats, has to be the same."""
    text = "".join(answer.delta or "" for answer in answers)
    last = answers[-1]
    assert (last.message.content if isinstance(last, ChatResponse) else last.text) == text
    assert all("router" not in answer.additional_kwargs for answer in answers[:-1])
    return text, last.additional_kwargs["router"]


WHOLE = {"complete": _complete, "chat": _chat, "acomplete": _acomplete, "achat": _achat}
LIVE = {
    "stream_complete": _stream_complete,
    "stream_chat": _stream_chat,
    "astream_complete": _astream_complete,
    "astream_chat": _astream_chat,
}
FORMS = {**WHOLE, **LIVE}
# Completions are chats with one message: once the models are of this package, chats tell all about the others.
CASES = [(form, "ours") for form in FORMS] + [(form, "foreign") for form in FORMS if form.endswith("chat")]


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    with two_endpoints(monkeypatch) as both:
        yield both


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize(("form", "kind"), CASES)
def test_one_answer_or_an_error_that_says_what_was_shown(
    endpoints: TwoEndpoints, name: str, form: str, kind: Kind
) -> None:
    fault = FAULTS[name]
    fault.play(endpoints.local)
    router, call = endpoints.router(kind, **fault.policy), FORMS[form]
    if fault.when == "caller":
        with pytest.raises(Exception, match="it failed"):
            call(router)
        assert endpoints.cloud.requests == []
    elif fault.when == "middle" and form in LIVE:
        with pytest.raises(PartialResponseError) as caught:
            call(router)
        assert caught.value.partial_text.strip() == SHOWN
        assert (report := report_of(caught.value)) is not None
        assert {attempt.outcome for attempt in report.attempts} <= fault.outcomes
        assert endpoints.cloud.requests == []
    else:
        text, report_said = call(router)
        assert text == CLOUD_ANSWER
        outcomes = [attempt["outcome"] for attempt in report_said["attempts"]]
        assert outcomes[-1] == "answered"
        # Who asks for a whole answer finds the connection broken, whatever was to become of a stream.
        assert set(outcomes[:-1]) <= fault.outcomes | ({"unavailable", "failed", "cut"} if form in WHOLE else set())
    assert len(endpoints.local.calls("chat")) == 1


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.when == "middle"])
@pytest.mark.parametrize("form", ["stream_chat", "astream_complete"])
def test_a_stream_that_waits_for_the_end_is_rescued(endpoints: TwoEndpoints, name: str, form: str) -> None:
    fault = FAULTS[name]
    fault.play(endpoints.local)
    text, report = LIVE[form](endpoints.router(**fault.policy, guarantee="complete"))
    assert (text, report["answered_by"]) == (CLOUD_ANSWER, "cloud")


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_nobody_is_there(endpoints: TwoEndpoints, form: str, kind: Kind) -> None:
    with refused_address() as address:
        assert FORMS[form](endpoints.router(kind, local_url=address))[0] == CLOUD_ANSWER


TOOL_FAULTS: dict[str, Callable[[OpenAIServer], object]] = {
    "cut": lambda server: server.cut(chunks=2, tool_calls=[("add", {"a": 2, "b": 3})]),
    "end": lambda server: server.end_early(chunks=2, tool_calls=[("add", {"a": 2, "b": 3})]),
    "half of the arguments": lambda server: server.answer(tool_calls=[("add", '{"a": 2, "b": 3')]),
    "not an object": lambda server: server.answer(tool_calls=[("add", "[2, 3]")]),
    "against the schema": lambda server: server.answer(tool_calls=[("add", {"a": "two", "b": 3})]),
    "no such tool": lambda server: server.answer(tool_calls=[("subtract", {"a": 2, "b": 3})]),
}


@pytest.mark.parametrize("name", TOOL_FAULTS)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("kind", ["ours", "foreign"])
def test_no_broken_call_of_a_tool_is_let_through(
    endpoints: TwoEndpoints, name: str, is_streamed: bool, kind: Kind
) -> None:
    for _ in range(2):  # one on this machine may try again once
        TOOL_FAULTS[name](endpoints.local)
    router = endpoints.router(kind)
    if is_streamed:
        *before, response = router.stream_chat_with_tools([ADD_TOOL], "2 + 3?")
        assert all(not router.get_tool_calls_from_response(piece, error_on_no_tool_call=False) for piece in before)
    else:
        response = router.chat_with_tools([ADD_TOOL], "2 + 3?")
    (call,) = router.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 2, "b": 3})
    assert response.additional_kwargs["router"]["answered_by"] == "cloud"


@pytest.mark.parametrize("kind", ["ours", "foreign"])
def test_a_broken_call_is_repaired_by_asking_again_at_temperature_0(endpoints: TwoEndpoints, kind: Kind) -> None:
    endpoints.local.answer(tool_calls=[("add", '{"a": 2')])
    response = endpoints.router(kind).chat_with_tools([ADD_TOOL], "2 + 3?")
    assert response.additional_kwargs["router"]["answered_by"] == "local"
    first, second = endpoints.local.calls("chat")
    assert (first.body.get("temperature"), second.body["temperature"]) == (None, 0)
    assert endpoints.cloud.requests == []


@pytest.mark.parametrize("kind", ["ours", "foreign"])
async def test_a_task_that_is_cancelled_ends_the_request(endpoints: TwoEndpoints, kind: Kind) -> None:
    endpoints.local.stall(chunks=1)
    router = endpoints.router(kind)
    seen = asyncio.Event()

    async def read() -> None:
        async for answer in await router.astream_chat(QUESTION):
            if answer.delta:
                seen.set()

    reader = asyncio.ensure_future(read())
    await asyncio.wait_for(seen.wait(), 10)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    (request,) = endpoints.local.calls("chat")
    assert await asyncio.to_thread(request.done.wait, 10)
    assert request.client_left
    assert endpoints.cloud.requests == []
    assert router.router.roster.states()["local"].in_flight == 0
