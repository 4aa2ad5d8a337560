"""Every form of a call: complete, chat, streamed, async, and what they have in common."""

import asyncio
import gc
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.types import BaseOutputParser
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field

from mlx_integrations import errors
from mlx_integrations.testing import FakeAnswer
from mlx_integrations.types import ChatRequest
from tests.llama_index.fakes import fake_llm
from tests.scripts import ADD, EVERYTHING

HELLO = [ChatMessage(role="user", content="Hi")]
TEXT = "One two three."


def test_complete_and_chat_ask_the_same() -> None:
    llm, backend = fake_llm(TEXT)
    assert llm.complete("Hi").text == llm.chat(HELLO).message.content == TEXT
    assert backend.requests[0] == backend.requests[1]


async def test_every_form_gives_the_same_text() -> None:
    llm, backend = fake_llm(TEXT)
    texts = [
        llm.complete("Hi").text,
        llm.chat(HELLO).message.content,
        [piece.text for piece in llm.stream_complete("Hi")][-1],
        [piece.message.content for piece in llm.stream_chat(HELLO)][-1],
        (await llm.acomplete("Hi")).text,
        (await llm.achat(HELLO)).message.content,
        [piece.text async for piece in await llm.astream_complete("Hi")][-1],
        [piece.message.content async for piece in await llm.astream_chat(HELLO)][-1],
    ]
    assert texts == [TEXT] * 8
    assert len({str(request) for request in backend.requests}) == 1


def test_deltas_add_up_and_every_response_holds_what_came_before() -> None:
    pieces = list(fake_llm(TEXT)[0].stream_chat(HELLO))
    assert "".join(piece.delta or "" for piece in pieces) == TEXT
    assert [piece.message.content for piece in pieces] == ["One", "One two", "One two three.", TEXT]
    assert [piece.raw is None for piece in pieces] == [True, True, True, False]


def essence(response: ChatResponse) -> dict[str, Any]:
    return {"blocks": response.message.blocks, "kwargs": response.message.additional_kwargs, "raw": response.raw}


async def test_the_last_response_of_a_stream_is_the_whole_answer() -> None:
    llm, _ = fake_llm(EVERYTHING)
    whole = llm.chat(HELLO)
    streamed = list(llm.stream_chat(HELLO))[-1]
    astreamed = [piece async for piece in await llm.astream_chat(HELLO)][-1]
    assert essence(whole) == essence(streamed) == essence(astreamed) == essence(await llm.achat(HELLO))
    assert whole.additional_kwargs == streamed.additional_kwargs


def test_an_answer_says_what_it_took_and_why_it_ended() -> None:
    response = fake_llm(EVERYTHING)[0].chat(HELLO)
    assert response.raw["model"] == "fake" and response.raw["finish_reason"] == "tool_calls"
    usage = response.raw["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 1}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert response.additional_kwargs == {
        name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }


def test_thoughts_and_calls_are_blocks() -> None:
    blocks = fake_llm(EVERYTHING)[0].chat(HELLO).message.blocks
    assert isinstance(blocks[0], ThinkingBlock) and blocks[0].content == "Let me think." and blocks[0].num_tokens == 3
    calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
    assert [(call.tool_call_id, call.tool_kwargs) for call in calls] == [
        ("call_1", {"a": 1, "b": 2}),
        ("call_2", {"a": 3, "b": 4}),
    ]


def test_new_thoughts_are_where_agents_look_for_them() -> None:
    pieces = list(fake_llm(FakeAnswer(reasoning="a b", text="c"))[0].stream_chat(HELLO))
    assert [piece.additional_kwargs.get("thinking_delta") for piece in pieces] == ["a", " b", None, None]
    assert fake_llm(FakeAnswer(reasoning="a b", text="c"))[0].complete("Hi").additional_kwargs["thinking"] == "a b"


def test_log_probabilities_name_the_token_first() -> None:
    response = fake_llm("One two")[0].chat(HELLO, logprobs=True, top_logprobs=2)
    assert response.logprobs is not None
    assert [[item.token for item in token] for token in response.logprobs] == [["One", " rival0"], [" two", " rival0"]]
    assert response.logprobs[0][0].logprob == -0.25
    assert fake_llm("One")[0].chat(HELLO).logprobs is None


async def test_closing_a_stream_frees_the_model() -> None:
    llm, backend = fake_llm("word " * 50)
    pieces = llm.stream_chat(HELLO)
    next(pieces)
    pieces.close()
    del pieces
    gc.collect()
    assert backend.closed == 1
    apieces = await llm.astream_complete("Hi")
    await anext(apieces)
    await apieces.aclose()
    del apieces
    gc.collect()
    await asyncio.sleep(0.01)
    assert backend.closed == 2


async def test_cancelling_a_task_stops_the_answer() -> None:
    llm, backend = fake_llm("word " * 500)
    backend._delay_seconds = 0.01
    task = asyncio.create_task(llm.achat(HELLO))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


async def test_the_event_loop_goes_on_while_a_model_answers() -> None:
    llm, backend = fake_llm("word " * 30)
    backend._delay_seconds = 0.005
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await llm.acomplete("Hi")
    ticker.cancel()
    assert ticks > 20


def test_the_system_prompt_goes_first_and_only_once() -> None:
    llm, backend = fake_llm(system_prompt="Be brief.")
    llm.chat(HELLO)
    llm.complete("Hi")
    llm.predict(PromptTemplate("Hi"))
    for request in backend.requests:
        assert [(message.role, message.content) for message in request.messages] == [
            ("system", "Be brief."),
            ("user", "Hi"),
        ]
    llm.chat([ChatMessage(role="system", content="Other."), *HELLO])
    assert [message.content for message in backend.requests[-1].messages] == ["Other.", "Hi"]


def test_writers_of_prompts_are_heeded() -> None:
    def conversation(messages: Any) -> str:
        return " / ".join(f"{message.role.value}: {message.content}" for message in messages)

    llm, backend = fake_llm(messages_to_prompt=conversation, completion_to_prompt=lambda prompt: f"<{prompt}>")
    llm.chat([ChatMessage(role="system", content="S"), *HELLO])
    llm.complete("Hi")
    llm.complete("Hi", formatted=True)
    assert [[message.content for message in request.messages] for request in backend.requests] == [
        ["system: S / user: Hi"],
        ["<Hi>"],
        ["Hi"],
    ]


class Shouting(BaseOutputParser):
    def parse(self, output: str) -> Any:
        return output.upper()

    def format(self, query: str) -> str:
        return query + " (quietly)"


async def test_an_output_parser_is_heeded() -> None:
    llm, backend = fake_llm(output_parser=Shouting())
    assert llm.predict(PromptTemplate("Hi")) == await llm.apredict(PromptTemplate("Hi")) == "HELLO THERE."
    assert backend.requests[0].messages[0].content == "Hi (quietly)"


async def test_predict_and_stream_of_llama_index_work() -> None:
    llm, _ = fake_llm(TEXT)
    prompt = PromptTemplate("Tell me of {topic}")
    assert "".join(llm.stream(prompt, topic="cats")) == TEXT
    assert "".join([piece async for piece in await llm.astream(prompt, topic="cats")]) == TEXT


def test_callbacks_and_token_counts_hear_of_calls() -> None:
    debug, counter = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler(tokenizer=str.split)
    llm, _ = fake_llm("One two three")
    llm.callback_manager = CallbackManager([debug, counter])
    llm.chat(HELLO)
    list(llm.stream_complete("Hi"))
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 2
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (4, 6)


class Recorder(BaseEventHandler):
    names: list[str] = Field(default_factory=list)
    payloads: list[dict[str, Any]] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.names.append(event.class_name())
        if hasattr(event, "model_dict"):
            self.payloads.append(event.model_dict)


@pytest.fixture
def recorder() -> Any:
    made = Recorder()
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(made)
    yield made
    dispatcher.event_handlers.remove(made)


async def test_events_tell_of_every_form(recorder: Recorder) -> None:
    llm, _ = fake_llm("One two", temperature=0.5)
    llm.chat(HELLO)
    assert recorder.names == ["LLMChatStartEvent", "LLMChatEndEvent"]
    (payload,) = recorder.payloads
    assert (payload["class_name"], payload["temperature"]) == ("MLXLLM", 0.5) and "backend" not in payload
    recorder.names.clear()
    [piece async for piece in await llm.astream_complete("Hi")]
    assert recorder.names == ["LLMCompletionStartEvent", *["LLMCompletionInProgressEvent"] * 3, "LLMCompletionEndEvent"]


@pytest.fixture
def spans() -> Any:
    made, dispatcher = SimpleSpanHandler(), get_dispatcher()
    dispatcher.add_span_handler(made)
    yield made
    dispatcher.span_handlers.remove(made)


class Answer(BaseModel):
    text: str


async def test_every_form_is_a_span_that_ends(spans: SimpleSpanHandler) -> None:
    llm, _ = fake_llm('{"text": "a"}')
    prompt = PromptTemplate("Hi")
    llm.chat(HELLO)
    await llm.acomplete("Hi")
    list(llm.stream_complete("Hi"))
    [piece async for piece in await llm.astream_chat(HELLO)]
    llm.structured_predict(Answer, prompt)
    await llm.astructured_predict(Answer, prompt)
    list(llm.stream_structured_predict(Answer, prompt))
    [piece async for piece in await llm.astream_structured_predict(Answer, prompt)]
    with pytest.raises(errors.InvalidRequestError):
        llm.chat([])
    ended = [span.id_.partition("-")[0] for span in spans.completed_spans]
    forms = "chat acomplete stream_complete astream_chat structured_predict astructured_predict"
    forms += " stream_structured_predict astream_structured_predict"
    assert {f"MLXLLM.{form}" for form in forms.split()} <= set(ended)
    assert [span.id_.partition("-")[0] for span in spans.dropped_spans] == ["MLXLLM.chat"]
    assert spans.open_spans == {}


async def test_errors_come_out_of_every_form_as_they_are() -> None:
    llm, _ = fake_llm(errors.GenerationError("it broke"))
    for call in (lambda: llm.complete("Hi"), lambda: llm.chat(HELLO), lambda: list(llm.stream_chat(HELLO))):
        with pytest.raises(errors.GenerationError, match="it broke"):
            call()
    with pytest.raises(errors.GenerationError):
        await llm.achat(HELLO)
    with pytest.raises(errors.GenerationError):
        [piece async for piece in await llm.astream_chat(HELLO)]


def test_a_prompt_that_is_too_long_says_by_how_much() -> None:
    with pytest.raises(errors.ContextOverflowError) as caught:
        fake_llm()[0].complete("word " * 40_000)
    assert caught.value.prompt_tokens > caught.value.limit_tokens


def test_a_call_may_be_answered_by_what_was_asked() -> None:
    def answer(request: ChatRequest) -> str:
        return request.messages[-1].content[::-1]

    assert fake_llm(answer)[0].complete("abc").text == "cba"
    assert fake_llm(ADD)[0].chat(HELLO).message.role is MessageRole.ASSISTANT
