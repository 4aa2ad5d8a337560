"""The scripted backend keeps the contract of every backend, and its script."""

import asyncio
import json
from typing import Any

import pytest

from mlx_integrations.errors import GenerationError, InvalidRequestError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.testing import FakeAnswer, FakeChatBackend, Script
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    Finish,
    InvalidToolCall,
    SamplingParams,
    ToolCall,
    Usage,
)
from tests.contracts.chat_backend import ChatBackendContract

HELLO = ChatRequest(messages=(ChatMessage(role="user", content="Hello."),))
ARGUMENTS: dict[str, dict[str, Any]] = {"get_weather": {"city": "Paris"}, "add": {"a": 1, "b": 2}}


def sensible(request: ChatRequest) -> FakeAnswer:
    """Answers as a model would that always does what it is told."""
    if request.output is not None:
        return FakeAnswer(text=json.dumps({"sky": "clear", "rain": False}))
    if request.tool_choice.mode in ("any", "tool"):
        name = request.tool_choice.name or request.tools[0].name
        return FakeAnswer(tool_calls=(ToolCall(id="call_1", name=name, arguments=ARGUMENTS[name]),))
    return FakeAnswer(text=f"You said {request.messages[-1].content!r}, and I say 你好, naïve 👩‍👩‍👧 friend.")


class TestFakeChatBackend(ChatBackendContract):
    @pytest.fixture
    def backend(self) -> ChatBackend:
        return FakeChatBackend([sensible])


def said(backend: FakeChatBackend) -> ChatResult:
    return ChatResult.join(backend.stream(HELLO))


CALL = ToolCall(id="1", name="search", arguments={"query": "mlx"})
BROKEN = InvalidToolCall(id="2", name="search", arguments="{", error="it ends too early")


@pytest.mark.parametrize(
    ("script", "text", "calls", "reason"),
    [
        ("Good morning.", "Good morning.", (), "stop"),
        (CALL, "", (CALL,), "tool_calls"),
        ((CALL, CALL), "", (CALL, CALL), "tool_calls"),
        (FakeAnswer(text="Wait. ", tool_calls=(CALL,)), "Wait. ", (CALL,), "tool_calls"),
        (lambda request: f"{len(request.messages)} message", "1 message", (), "stop"),
    ],
)
def test_a_script_may_be_written_in_several_forms(
    script: Script, text: str, calls: tuple[ToolCall, ...], reason: str
) -> None:
    result = said(FakeChatBackend([script]))
    assert (result.text, result.tool_calls, result.finish.reason) == (text, calls, reason)


def test_a_call_that_was_refused_can_be_scripted() -> None:
    result = said(FakeChatBackend([(CALL, BROKEN)]))
    assert result.tool_calls == (CALL,) and result.invalid_tool_calls == (BROKEN,)


def test_a_whole_result_can_be_scripted() -> None:
    finish = Finish(reason="length", usage=Usage(prompt_tokens=3, completion_tokens=2), model_id="other")
    result = ChatResult(
        text="a b", reasoning="c d", tool_calls=(CALL,), invalid_tool_calls=(), logprobs=(), finish=finish
    )
    assert said(FakeChatBackend([result])) == result


def test_an_exception_in_the_script_is_raised() -> None:
    with pytest.raises(GenerationError, match="it broke"):
        said(FakeChatBackend([GenerationError("it broke")]))


def test_the_script_goes_on_with_every_request_and_starts_again() -> None:
    backend = FakeChatBackend(["one", "two"])
    assert [said(backend).text for _ in range(3)] == ["one", "two", "one"]
    assert backend.requests == [HELLO] * 3


def test_text_comes_word_by_word() -> None:
    chunks = list(FakeChatBackend(["one  two\nthree "]).stream(HELLO))
    assert [chunk.text for chunk in chunks] == ["one", "  two", "\nthree", " ", ""]


def test_reasoning_comes_before_the_text_and_is_counted() -> None:
    result = said(FakeChatBackend([FakeAnswer(reasoning="hm hm", text="Yes.", cached_tokens=1)]))
    assert (result.reasoning, result.text) == ("hm hm", "Yes.")
    assert (result.finish.usage.reasoning_tokens, result.finish.usage.completion_tokens) == (2, 3)
    assert result.finish.usage.cached_tokens == 1


def test_streams_that_were_closed_are_counted_and_finished_ones_are_not() -> None:
    backend = FakeChatBackend(["one two three"])
    said(backend)
    assert backend.closed == 0
    stream = backend.stream(HELLO)
    next(stream)
    stream.close()
    assert backend.closed == 1
    finished = backend.stream(HELLO)
    for chunk in finished:
        if chunk.finish:
            break
    finished.close()
    assert backend.closed == 1


async def test_tasks_that_were_cancelled_are_counted() -> None:
    backend = FakeChatBackend(["one two three"], delay_seconds=3600)

    async def read() -> None:
        async for _ in backend.astream(HELLO):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


def test_stop_and_limit_cut_the_script() -> None:
    request = ChatRequest(messages=HELLO.messages, sampling=SamplingParams(max_tokens=2))
    result = ChatResult.join(FakeChatBackend(["one two three"]).stream(request))
    assert (result.text, result.finish.reason) == ("one two", "length")


@pytest.mark.parametrize("responses", [[], "a text"])
def test_a_script_has_to_be_a_list_of_something(responses: list[Script]) -> None:
    with pytest.raises(InvalidRequestError, match="at least one answer"):
        FakeChatBackend(responses)
