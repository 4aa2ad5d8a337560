"""What holds for every `ChatBackend`, whoever answers: inherit `ChatBackendContract` and give it a `backend`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from mlx_integrations.errors import (
    ContextOverflowError,
    InvalidRequestError,
    RequestError,
    UnknownToolError,
    UnsupportedContentError,
)
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.types import (
    Attachment,
    ChatChunk,
    ChatMessage,
    ChatRequest,
    ChatResult,
    JsonSchemaFormat,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolSpec,
)

GREEDY = SamplingParams(temperature=0.0, seed=1, max_tokens=48)
ROOM_FOR_A_CALL_TOKENS = 256


class ChatBackendContract:
    """Inherit it, and override the fixture `backend`; the attributes are for models that need other words.

    Everything is asked greedily, so that answers can be compared. Arguments of tools are choices, so that a call has an
    end even for a model that writes noise.
    """

    writes_noise = False
    """Whether it is a model of random weights, whose bytes need not be characters."""

    question = "Hello! Who are you, and what can you do?"
    tool_question = "What is the weather in Paris?"
    tool = ToolSpec(
        name="get_weather",
        description="Look up the weather in a city.",
        parameters={"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    )
    other_tool = ToolSpec(
        name="add",
        description="Add two numbers.",
        parameters={
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [1, 2]}},
            "required": ["a", "b"],
        },
    )
    schema_question = "How is the weather? Answer as JSON."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"sky": {"enum": ["clear", "cloudy"]}, "rain": {"type": "boolean"}},
        "required": ["sky", "rain"],
        "additionalProperties": False,
    }

    @pytest.fixture
    def backend(self) -> ChatBackend:
        raise NotImplementedError("give the contract a backend")

    @pytest.fixture
    def request_(self) -> ChatRequest:
        return self._asking(self.question)

    def _asking(self, question: str) -> ChatRequest:
        return ChatRequest(messages=(ChatMessage(role="user", content=question),), sampling=GREEDY)

    def _with_tools(self, choice: ToolChoice) -> ChatRequest:
        request = _sampled(self._asking(self.tool_question), max_tokens=ROOM_FOR_A_CALL_TOKENS)
        tools = (self.tool, self.other_tool)
        # Not thinking first, because noise has no end of thought.
        return replace(request, tools=tools, tool_choice=choice, parallel_tool_calls=False, reasoning=False)

    def test_it_is_a_chat_backend_with_a_name_and_a_window(self, backend: ChatBackend) -> None:
        assert isinstance(backend, ChatBackend)
        assert backend.model_id
        assert backend.capabilities.context_window > 0

    def test_exactly_one_chunk_finishes_and_it_is_the_last(self, backend: ChatBackend, request_: ChatRequest) -> None:
        chunks = list(backend.stream(request_))
        assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    def test_the_answer_is_not_empty_and_is_its_pieces_joined(
        self, backend: ChatBackend, request_: ChatRequest
    ) -> None:
        chunks = list(backend.stream(request_))
        result = ChatResult.join(chunks)
        assert result.text == "".join(chunk.text for chunk in chunks)
        assert result.text.strip()

    def test_no_piece_of_text_is_broken_or_empty(self, backend: ChatBackend, request_: ChatRequest) -> None:
        for chunk in backend.stream(request_):
            assert self.writes_noise or "\ufffd" not in chunk.text
            chunk.text.encode("utf-8")
            assert chunk != ChatChunk()

    def test_a_greedy_answer_is_the_same_again(self, backend: ChatBackend, request_: ChatRequest) -> None:
        assert _said(_ask(backend, request_)) == _said(_ask(backend, request_))

    async def test_async_answers_as_sync_does(self, backend: ChatBackend, request_: ChatRequest) -> None:
        whole = ChatResult.join([chunk async for chunk in backend.astream(request_)])
        assert _said(whole) == _said(_ask(backend, request_))

    async def test_async_finishes_once_and_last(self, backend: ChatBackend, request_: ChatRequest) -> None:
        chunks = [chunk async for chunk in backend.astream(request_)]
        assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    def test_usage_counts_what_was_read_and_written(self, backend: ChatBackend, request_: ChatRequest) -> None:
        usage = _ask(backend, request_).finish.usage
        assert usage.prompt_tokens == backend.count_prompt_tokens(request_.messages)
        assert 0 < usage.completion_tokens <= (GREEDY.max_tokens or 0)
        assert 0 <= usage.cached_tokens <= usage.prompt_tokens
        assert 0 <= usage.reasoning_tokens <= usage.completion_tokens

    def test_the_finish_names_the_model_and_its_times(self, backend: ChatBackend, request_: ChatRequest) -> None:
        finish = _ask(backend, request_).finish
        assert finish.model_id == backend.model_id
        assert finish.prompt_seconds >= 0 and finish.generation_seconds >= 0

    def test_the_token_limit_ends_an_answer(self, backend: ChatBackend, request_: ChatRequest) -> None:
        result = _ask(backend, _sampled(request_, max_tokens=1))
        assert result.finish.usage.completion_tokens == 1
        assert result.finish.reason == "length"

    @pytest.mark.parametrize("width", [1, 3])
    def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(
        self, backend: ChatBackend, request_: ChatRequest, width: int
    ) -> None:
        text = _ask(backend, request_).text
        middle = len(text) // 2
        stop = text[middle : middle + width]
        result = _ask(backend, _sampled(request_, stop=(stop, "never said \x00")))
        assert result.text == text[: text.index(stop)]
        assert result.finish.reason == "stop"
        assert result.finish.stop_string == stop

    def test_a_stop_string_that_is_not_said_changes_nothing(self, backend: ChatBackend, request_: ChatRequest) -> None:
        result = _ask(backend, _sampled(request_, stop=("never said \x00",)))
        assert result.text == _ask(backend, request_).text
        assert result.finish.stop_string is None

    def test_a_stream_may_be_closed_early(self, backend: ChatBackend, request_: ChatRequest) -> None:
        expected = _ask(backend, request_).text
        for steps in (0, 1, 2):
            stream = backend.stream(request_)
            for _ in range(steps):
                next(stream)
            stream.close()
            assert list(stream) == []
        assert _ask(backend, request_).text == expected

    async def test_an_async_stream_may_be_closed_early(self, backend: ChatBackend, request_: ChatRequest) -> None:
        expected = _ask(backend, request_).text
        for steps in (0, 1, 2):
            stream = backend.astream(request_)
            for _ in range(steps):
                await anext(stream)
            await stream.aclose()
        assert ChatResult.join([chunk async for chunk in backend.astream(request_)]).text == expected

    async def test_a_task_that_reads_may_be_cancelled(self, backend: ChatBackend, request_: ChatRequest) -> None:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in backend.astream(request_):
                started.set()
                await asyncio.sleep(3600)

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await _aask(backend, request_)).text == (await _aask(backend, request_)).text

    def test_threads_get_the_answers_they_get_alone(self, backend: ChatBackend, request_: ChatRequest) -> None:
        other = self._asking(self.tool_question)
        expected = [_ask(backend, item).text for item in (request_, other)]
        with ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(lambda item: _ask(backend, item).text, [request_, other] * 2))
        assert texts == expected * 2

    async def test_tasks_get_the_answers_they_get_alone(self, backend: ChatBackend, request_: ChatRequest) -> None:
        other = self._asking(self.tool_question)
        expected = [(await _aask(backend, item)).text for item in (request_, other)]
        results = await asyncio.gather(*(_aask(backend, item) for item in [request_, other] * 2))
        assert [result.text for result in results] == expected * 2

    @pytest.mark.parametrize("flavour", ["sync", "async"])
    async def test_an_error_of_the_request_is_raised_at_the_first_step(
        self, backend: ChatBackend, flavour: str
    ) -> None:
        empty = ChatRequest(messages=())
        if flavour == "sync":
            stream: Generator[ChatChunk, None, None] = backend.stream(empty)
            with pytest.raises(RequestError):
                next(stream)
        else:
            astream: AsyncGenerator[ChatChunk, None] = backend.astream(empty)
            with pytest.raises(RequestError):
                await anext(astream)

    def test_no_messages_are_refused(self, backend: ChatBackend) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            _ask(backend, ChatRequest(messages=()))
        assert caught.value.field == "messages"

    @pytest.mark.parametrize(("field", "value"), [("temperature", -1.0), ("top_p", 2.0), ("max_tokens", 0)])
    def test_impossible_sampling_is_refused_by_name(
        self, backend: ChatBackend, request_: ChatRequest, field: str, value: float
    ) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            _ask(backend, _sampled(request_, **{field: value}))
        assert caught.value.field == field

    def test_a_tool_that_is_not_offered_is_refused_by_name(self, backend: ChatBackend) -> None:
        with pytest.raises(UnknownToolError) as caught:
            _ask(backend, self._with_tools(ToolChoice(mode="tool", name="launch_rocket")))
        assert caught.value.tool_name == "launch_rocket"
        assert set(caught.value.offered) == {self.tool.name, self.other_tool.name}

    def test_an_image_is_refused_by_a_model_that_reads_text(self, backend: ChatBackend) -> None:
        if backend.capabilities.vision:
            pytest.skip("this model reads images")
        image = Attachment(kind="image", mime_type="image/png", data=b"\x89PNG")
        message = ChatMessage(role="user", content="What is this?", attachments=(image,))
        with pytest.raises(UnsupportedContentError) as caught:
            _ask(backend, ChatRequest(messages=(message,), sampling=GREEDY))
        assert caught.value.kind == "image"

    def test_a_prompt_longer_than_the_window_is_refused_with_numbers(self, backend: ChatBackend) -> None:
        window = backend.capabilities.context_window
        with pytest.raises(ContextOverflowError) as caught:
            _ask(backend, self._asking("word " * (window + 1)))
        assert caught.value.prompt_tokens > caught.value.limit_tokens
        assert caught.value.limit_tokens <= window

    @pytest.mark.parametrize("mode", ["any", "tool"])
    def test_a_forced_call_is_of_an_offered_tool(self, backend: ChatBackend, mode: str) -> None:
        if not backend.capabilities.tools:
            pytest.skip("this model calls no tools")
        choice = ToolChoice(mode="tool", name=self.tool.name) if mode == "tool" else ToolChoice(mode="any")
        result = _ask(backend, self._with_tools(choice))
        assert result.finish.reason == "tool_calls"
        assert result.tool_calls and not result.invalid_tool_calls
        (call,) = result.tool_calls
        assert call.id
        assert mode == "any" or call.name == self.tool.name
        self._check_arguments(call)

    def test_calls_may_be_parallel_and_have_ids_of_their_own(self, backend: ChatBackend) -> None:
        if not backend.capabilities.tools:
            pytest.skip("this model calls no tools")
        request = replace(self._with_tools(ToolChoice(mode="any")), parallel_tool_calls=True)
        calls = _ask(backend, request).tool_calls
        ids = [call.id for call in calls]
        assert ids and all(ids) and len(set(ids)) == len(ids)
        for call in calls:
            self._check_arguments(call)

    def _check_arguments(self, call: ToolCall) -> None:
        (tool,) = (tool for tool in (self.tool, self.other_tool) if tool.name == call.name)
        assert set(call.arguments) >= set(tool.parameters["required"])

    def test_no_call_when_calls_are_ruled_out(self, backend: ChatBackend) -> None:
        result = _ask(backend, self._with_tools(ToolChoice(mode="none")))
        assert result.tool_calls == () and result.finish.reason != "tool_calls"

    def test_an_answer_is_held_to_its_schema(self, backend: ChatBackend) -> None:
        if not backend.capabilities.structured_output:
            pytest.skip("this backend cannot hold an answer to a schema")
        request = replace(self._asking(self.schema_question), output=JsonSchemaFormat(schema=self.schema))
        value = json.loads(_ask(backend, request).text)
        assert set(value) == {"sky", "rain"}
        assert value["sky"] in ("clear", "cloudy") and isinstance(value["rain"], bool)

    def test_log_probabilities_come_when_asked_for(self, backend: ChatBackend, request_: ChatRequest) -> None:
        assert _ask(backend, request_).logprobs == ()
        result = _ask(backend, _sampled(request_, logprobs=True, top_logprobs=2))
        assert result.logprobs
        assert len(result.logprobs) <= result.finish.usage.completion_tokens
        for item in result.logprobs:
            assert item.logprob <= 0
            assert len(item.top) == 2
            assert item.top[0][2] >= item.top[1][2]

    def test_text_is_counted_in_tokens(self, backend: ChatBackend) -> None:
        tokens = backend.tokenize("one two three")
        assert tokens and all(isinstance(token, int) for token in tokens)
        assert tokens == backend.tokenize("one two three")
        assert backend.tokenize("") == []

    def test_a_prompt_grows_with_its_messages_and_tools(self, backend: ChatBackend) -> None:
        one = (ChatMessage(role="user", content="Hello there."),)
        two = (*one, ChatMessage(role="assistant", content="Hello."), ChatMessage(role="user", content="And now?"))
        assert 0 < backend.count_prompt_tokens(one) < backend.count_prompt_tokens(two)
        if backend.capabilities.tools:
            assert backend.count_prompt_tokens(one) < backend.count_prompt_tokens(one, (self.tool,))


def _ask(backend: ChatBackend, request: ChatRequest) -> ChatResult:
    return ChatResult.join(backend.stream(request))


async def _aask(backend: ChatBackend, request: ChatRequest) -> ChatResult:
    return ChatResult.join([chunk async for chunk in backend.astream(request)])


def _sampled(request: ChatRequest, **options: object) -> ChatRequest:
    return replace(request, sampling=replace(request.sampling, **options))  # type: ignore[arg-type]


def _said(result: ChatResult) -> tuple[object, ...]:
    """What an answer says, without the times it took."""
    calls = [(call.name, call.arguments) for call in result.tool_calls]
    return result.text, result.reasoning, calls, result.finish.reason, result.finish.usage.completion_tokens
