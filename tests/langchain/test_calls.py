"""Invoke, stream, and their async twins: one answer, four ways."""

import asyncio
import threading
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.outputs import LLMResult
from langchain_core.rate_limiters import InMemoryRateLimiter

from mlx_integrations import assembly
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.langchain.errors import GenerationError
from mlx_integrations.testing import FakeAnswer, FakeChatBackend
from mlx_integrations.types import InvalidToolCall, ToolCall
from tests.langchain.fakes import essence, fake_model, joined
from tests.scripts import ADD, BROKEN, EVERYTHING

ANSWERS = [
    pytest.param(EVERYTHING, id="everything"),
    pytest.param("Hello there.", id="text"),
    pytest.param("", id="nothing"),
    pytest.param(ADD, id="call"),
    pytest.param(FakeAnswer(reasoning="Only a thought."), id="reasoning"),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("output_version", [None, "v1"])
async def test_invoke_stream_and_their_async_twins_say_the_same(answer: Any, output_version: str | None) -> None:
    model, _ = fake_model(answer, output_version=output_version)
    invoked = model.invoke("Hi")
    assert essence(await model.ainvoke("Hi")) == essence(invoked)
    streamed = joined(list(model.stream("Hi")))
    assert essence(joined([chunk async for chunk in model.astream("Hi")])) == essence(streamed)
    if output_version is None:
        assert essence(message_chunk_to_message(streamed)) == essence(invoked)  # type: ignore[arg-type]
    assert streamed.text == invoked.text
    assert streamed.tool_calls == invoked.tool_calls
    assert streamed.usage_metadata == invoked.usage_metadata


texts = st.text(max_size=30)
arguments = st.dictionaries(texts, st.integers() | texts | st.none() | st.lists(texts, max_size=2), max_size=3)
answers = st.builds(
    FakeAnswer,
    text=texts,
    reasoning=texts,
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.uuids().map(str), name=st.sampled_from(["f", "g"]), arguments=arguments), max_size=3
    ).map(tuple),
    invalid_tool_calls=st.lists(
        st.builds(InvalidToolCall, id=st.uuids().map(str), name=st.just("f"), arguments=texts, error=texts), max_size=2
    ).map(tuple),
    cached_tokens=st.integers(0, 5),
)


@given(answer=answers)
def test_any_answer_is_the_same_whole_and_in_pieces(answer: FakeAnswer) -> None:
    model, _ = fake_model(answer)
    whole, pieces = model.invoke("Hi"), joined(list(model.stream("Hi")))
    assert essence(message_chunk_to_message(pieces)) == essence(whole)  # type: ignore[arg-type]
    assert [dict(call.arguments) for call in answer.tool_calls] == [call["args"] for call in whole.tool_calls]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        stream = model.stream_events("Hi", version="v3")
    assert stream.output.text == whole.text
    assert stream.output.tool_calls == whole.tool_calls
    assert [call["id"] for call in stream.output.invalid_tool_calls] == [call.id for call in answer.invalid_tool_calls]


def test_an_answer_has_every_part() -> None:
    message = fake_model(EVERYTHING)[0].invoke("Hi")
    assert message.content == EVERYTHING.text
    assert [call["args"] for call in message.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert message.invalid_tool_calls[0]["args"] == BROKEN.arguments
    assert message.invalid_tool_calls[0]["error"] == BROKEN.error
    assert message.additional_kwargs["reasoning_content"] == "Let me think."
    assert message.response_metadata == {
        "finish_reason": "tool_calls",
        "model_name": "fake",
        "model_provider": "mlx",
        "tokens_per_second": 0.0,
    }
    assert message.usage_metadata is not None
    usage = dict(message.usage_metadata)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]  # type: ignore[operator]
    assert usage["input_token_details"] == {"cache_read": 1}
    assert usage["output_token_details"] == {"reasoning": 3}


@pytest.mark.parametrize("output_version", [None, "v1"])
def test_reasoning_text_and_calls_are_content_blocks_in_this_order(output_version: str | None) -> None:
    model, _ = fake_model(EVERYTHING, output_version=output_version)
    for message in (model.invoke("Hi"), joined(list(model.stream("Hi")))):
        kinds = [block["type"] for block in message.content_blocks]
        assert kinds[:4] == ["reasoning", "text", "tool_call", "tool_call"]
        assert dict(message.content_blocks[0])["reasoning"] == "Let me think."


def test_only_the_last_chunk_carries_usage_and_the_end() -> None:
    chunks = list(fake_model(EVERYTHING)[0].stream("Hi"))
    assert [chunk.usage_metadata is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert "finish_reason" not in chunks[0].response_metadata
    assert chunks[-1].content == ""


def test_text_and_calls_never_share_a_chunk() -> None:
    for chunk in fake_model(EVERYTHING)[0].stream("Hi"):
        assert not (chunk.content and chunk.tool_call_chunks)


def test_calls_of_a_stream_are_numbered_one_by_one() -> None:
    chunks = list(fake_model(EVERYTHING)[0].stream("Hi"))
    indices = [call["index"] for chunk in chunks for call in chunk.tool_call_chunks]
    assert len(set(indices)) == len(indices) == 3


@pytest.mark.parametrize("arguments", ['{"a": 1, "b": ', '{"a": 1}', "", "[1", "nonsense", '"text"', '{"a": "\ud800'])
@pytest.mark.parametrize("output_version", [None, "v1"])
def test_an_invalid_call_stays_invalid_when_chunks_are_added(arguments: str, output_version: str | None) -> None:
    broken = InvalidToolCall(id="x", name=None, arguments=arguments, error="refused")
    model, _ = fake_model((ADD, broken), output_version=output_version)
    total = joined(list(model.stream("Hi")))
    assert [call["id"] for call in total.tool_calls] == [ADD.id]
    assert [call["id"] for call in total.invalid_tool_calls] == ["x"]
    exact = {"id": "x", "name": None, "args": arguments, "error": "refused"}
    assert total.additional_kwargs["invalid_tool_calls"] == [exact]
    assert model.invoke("Hi").additional_kwargs["invalid_tool_calls"] == [exact]


def test_a_long_invalid_call_does_not_take_long_to_add() -> None:
    broken = InvalidToolCall(id="x", name="f", arguments='{"a": "' + "x" * 200_000, error="refused")
    chunks = list(fake_model((broken,))[0].stream("Hi"))
    assert joined(chunks).invalid_tool_calls[0]["id"] == "x"


def test_events_of_version_3_end_with_the_same_message() -> None:
    model, _ = fake_model(EVERYTHING)
    stream = model.stream_events("Hi", version="v3")
    events = list(stream)
    assert events[0]["event"] == "message-start" and events[-1]["event"] == "message-finish"
    assert stream.output.text == EVERYTHING.text
    assert [call["id"] for call in stream.output.tool_calls] == ["call_1", "call_2"]
    assert [call["id"] for call in stream.output.invalid_tool_calls] == ["call_3"]
    assert stream.output.usage_metadata == model.invoke("Hi").usage_metadata


async def test_events_of_versions_2_and_3_come_from_the_stream() -> None:
    model, _ = fake_model(EVERYTHING)
    kinds = [event["event"] async for event in model.astream_events("Hi", version="v2")]
    assert kinds[0] == "on_chat_model_start" and kinds[-1] == "on_chat_model_end"
    assert kinds.count("on_chat_model_stream") > 3
    stream = await model.astream_events("Hi", version="v3")
    assert [event async for event in stream][-1]["event"] == "message-finish"
    assert (await stream.output).text == EVERYTHING.text


class Recorder(BaseCallbackHandler):
    """What LangChain tells its callbacks."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.chunks: list[Any] = []
        self.ends: list[LLMResult] = []
        self.errors: list[BaseException] = []

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        self.tokens.append(token)
        self.chunks.append(chunk)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.ends.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def test_callbacks_see_every_token_with_its_chunk_once() -> None:
    model, _ = fake_model("one two three")
    recorder = Recorder()
    list(model.stream("Hi", config={"callbacks": [recorder]}))
    assert "".join(recorder.tokens) == "one two three"
    assert all(isinstance(chunk.message, AIMessageChunk) for chunk in recorder.chunks)
    assert recorder.ends[0].generations[0][0].generation_info["finish_reason"] == "stop"  # type: ignore[index]


def test_invoke_tells_callbacks_about_tokens_only_when_it_streams() -> None:
    for streaming, expected in ((False, ""), (True, "one two three")):
        recorder = Recorder()
        fake_model("one two three", streaming=streaming)[0].invoke("Hi", config={"callbacks": [recorder]})
        assert "".join(recorder.tokens) == expected


def test_callbacks_see_an_error() -> None:
    recorder = Recorder()
    with pytest.raises(GenerationError):
        fake_model(GenerationError("it broke"))[0].invoke("Hi", config={"callbacks": [recorder]})
    assert isinstance(recorder.errors[0], GenerationError)


async def test_async_callbacks_see_every_token() -> None:
    seen: list[str] = []

    class AsyncRecorder(AsyncCallbackHandler):
        async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            seen.append(token)

    model, _ = fake_model("one two three")
    [_ async for _ in model.astream("Hi", config={"callbacks": [AsyncRecorder()]})]
    assert "".join(seen) == "one two three"


async def test_the_event_loop_goes_on_while_a_model_answers() -> None:
    """The backend waits for the ticker between its chunks: a blocked loop would wait for ever."""
    model, _ = fake_model("one two three")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    await model.ainvoke("Hi")
    after_invoke = ticks
    [_ async for _ in model.astream("Hi")]
    ticker.cancel()
    assert after_invoke >= 3 and ticks - after_invoke >= 3


async def test_async_calls_stay_on_the_threads_event_loop() -> None:
    threads: set[int] = set()

    class Watching(FakeChatBackend):
        async def astream(self, request: Any) -> Any:
            async for chunk in super().astream(request):
                threads.add(threading.get_ident())
                yield chunk

    model = ChatMLX(model="fake", backend=Watching(["one two"]))
    await model.ainvoke("Hi")
    [_ async for _ in model.astream("Hi")]
    await model.abatch(["Hi", "Ho"])
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("call", ["ainvoke", "astream"])
async def test_a_model_is_not_looked_for_on_the_event_loop(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def chat_backend(model: str, runtime: Any = None) -> FakeChatBackend:
        threads.append(threading.get_ident())
        return FakeChatBackend(["one two"])

    monkeypatch.setattr(assembly, "chat_backend", chat_backend)
    model = ChatMLX(model="own")
    if call == "ainvoke":
        await model.ainvoke("Hi")
    else:
        [_ async for _ in model.astream("Hi")]
    assert len(threads) == 1 and threads[0] != threading.get_ident()


def test_closing_a_stream_closes_the_backends() -> None:
    model, backend = fake_model("one two three")
    stream = model.stream("Hi")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert backend.closed == 1


async def test_closing_an_async_stream_closes_the_backends() -> None:
    model, backend = fake_model("one two three")
    stream = model.astream("Hi")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert backend.closed == 1


@pytest.mark.parametrize("call", ["ainvoke", "astream"])
async def test_cancelling_a_task_closes_the_backends_stream(call: str) -> None:
    model, backend = fake_model("one two three")
    backend._delay_seconds = 3600

    async def read() -> None:
        if call == "ainvoke":
            await model.ainvoke("Hi")
        else:
            [_ async for _ in model.astream("Hi")]

    task = asyncio.create_task(read())
    while not backend.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


def test_log_probabilities_have_openais_shape_and_add_up() -> None:
    model, _ = fake_model("one two", logprobs=True, top_logprobs=2)
    expected = [
        {
            "token": token,
            "logprob": -0.25,
            "top_logprobs": [{"token": token, "logprob": -0.25}, {"token": " rival0", "logprob": -2.0}],
        }
        for token in ("one", " two")
    ]
    assert model.invoke("Hi").response_metadata["logprobs"] == {"content": expected}
    assert joined(list(model.stream("Hi"))).response_metadata["logprobs"] == {"content": expected}
    assert "logprobs" not in fake_model("one")[0].invoke("Hi").response_metadata


def test_the_stop_string_that_ended_an_answer_is_named() -> None:
    message = fake_model("one two three")[0].invoke("Hi", stop=["two"])
    assert (message.content, message.response_metadata["stop_string"]) == ("one ", "two")


@pytest.mark.parametrize("disabled", [True, "tool_calling"])
def test_streaming_can_be_switched_off(disabled: Any) -> None:
    model, _ = fake_model("one two three", disable_streaming=disabled)
    bound = model.bind_tools([{"title": "f", "properties": {}}])
    (chunk,) = bound.stream("Hi")
    assert chunk.content == "one two three"


def test_a_rate_limiter_is_asked() -> None:
    asked = []

    class Limiter(InMemoryRateLimiter):
        def acquire(self, *, blocking: bool = True) -> bool:
            asked.append(blocking)
            return True

    model, _ = fake_model("one", rate_limiter=Limiter())
    model.invoke("Hi")
    list(model.stream("Hi"))
    assert asked == [True, True]


def test_an_answer_can_be_sent_back_as_history() -> None:
    for version in (None, "v1"):
        model, backend = fake_model(EVERYTHING, output_version=version)
        for answer in (model.invoke("Hi"), joined(list(model.stream("Hi")))):
            model.invoke([HumanMessage("Hi"), answer])
            sent = backend.requests[-1].messages[1]
            assert sent.reasoning == EVERYTHING.reasoning
            assert [(call.id, dict(call.arguments)) for call in sent.tool_calls] == [
                ("call_1", {"a": 1, "b": 2}),
                ("call_2", {"a": 3, "b": 4}),
            ]
            assert sent.content == f"{EVERYTHING.text}\n[invalid call of `add` ({BROKEN.error}): {BROKEN.arguments}]"


def test_arguments_of_any_characters_survive_a_stream() -> None:
    arguments = {"text": 'ü "quoted" \n 👩‍👩‍👧 \\', "deep": {"list": [1, None, True]}}
    model, _ = fake_model(ToolCall(id="1", name="f", arguments=arguments))
    assert joined(list(model.stream("Hi"))).tool_calls[0]["args"] == arguments


def test_a_message_of_an_answer_is_an_ai_message() -> None:
    assert type(fake_model("one")[0].invoke("Hi")) is AIMessage
