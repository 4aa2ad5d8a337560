"""A chat backend that answers from a script.

    backend = FakeChatBackend(["Hello there.", ToolCall(id="1", name="search", arguments={"query": "mlx"})])
    llm = ChatMLX(model="fake", backend=backend)

A scripted answer is a text, one tool call or several, a `FakeAnswer`, a whole `ChatResult`, an exception to raise, or a
function of the request that returns one of these. After the last answer the script starts again.
"""

import asyncio
import json
import math
import re
import threading
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass

from mlx_integrations.errors import (
    ContextOverflowError,
    InvalidRequestError,
    UnknownToolError,
    UnsupportedContentError,
)
from mlx_integrations.types import (
    ChatChunk,
    ChatMessage,
    ChatRequest,
    ChatResult,
    Finish,
    FinishReason,
    InvalidToolCall,
    ModelCapabilities,
    SamplingParams,
    TokenLogprob,
    ToolCall,
    ToolSpec,
    Usage,
)

__all__ = ["FakeAnswer", "FakeChatBackend", "Script"]

_TOKEN = re.compile(r"\s*\S+|\s+$")
_DEFAULT_CAPABILITIES = ModelCapabilities(context_window=32_768, tools=True, reasoning=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswer:
    """One scripted answer, in parts. `finish_reason` follows from the parts when not given."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0


Call = ToolCall | InvalidToolCall
Answer = str | Call | Sequence[Call] | FakeAnswer | ChatResult | Exception
Script = Answer | Callable[[ChatRequest], Answer]


class FakeChatBackend:
    """A `ChatBackend` that answers from a script.

    Text is streamed word by word, and a word is a token: counts are exact and the same on every machine. Requests are
    refused for the reasons that any backend has: no messages, an unknown tool, attachments, too long a prompt. Stop
    strings and `max_tokens` cut the scripted text.

    Args:
        responses: The script, in order; it starts again after the last answer.
        model_id: The name it is known by.
        capabilities: What it claims to be able to do.
        delay_seconds: Pause before every chunk.

    Attributes:
        requests: Every request, in order of arrival.
        closed: Streams that were closed or cancelled before they ended.
    """

    def __init__(
        self,
        responses: Sequence[Script] = ("Hello!",),
        *,
        model_id: str = "fake",
        capabilities: ModelCapabilities = _DEFAULT_CAPABILITIES,
        delay_seconds: float = 0.0,
    ) -> None:
        if isinstance(responses, str) or not responses:
            raise InvalidRequestError("`responses` must be a list of at least one answer.", field="responses")
        self.requests: list[ChatRequest] = []
        self.closed = 0
        self._responses = tuple(responses)
        self._model_id = model_id
        self._capabilities = capabilities
        self._delay_seconds = delay_seconds
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name it is known by."""
        return self._model_id

    @property
    def capabilities(self) -> ModelCapabilities:
        """What it claims to be able to do."""
        return self._capabilities

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer the request with the next entry of the script."""
        finished = False
        try:
            for chunk in self._answer(request):
                if self._delay_seconds:
                    time.sleep(self._delay_seconds)
                finished = chunk.finish is not None
                yield chunk
        except GeneratorExit:
            self._count_closed(finished)
            raise

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops."""
        finished = False
        try:
            for chunk in self._answer(request):
                await asyncio.sleep(self._delay_seconds)
                finished = chunk.finish is not None
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            self._count_closed(finished)
            raise

    def tokenize(self, text: str) -> list[int]:
        """One id for each word; equal words have equal ids."""
        return [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _words(text)]

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Words of the contents, calls and tools, and one for each message."""
        return len(messages) + sum(len(_words(text)) for text in _prompt_texts(messages, tools))

    def _count_closed(self, finished: bool) -> None:
        if not finished:
            with self._lock:
                self.closed += 1

    def _answer(self, request: ChatRequest) -> list[ChatChunk]:
        self._check(request)
        with self._lock:
            script = self._responses[len(self.requests) % len(self._responses)]
            self.requests.append(request)
        answer = script(request) if callable(script) else script
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, ChatResult):
            return _chunks_of_result(answer)
        return self._chunks(request, _as_parts(answer))

    def _check(self, request: ChatRequest) -> None:
        if not request.messages:
            raise InvalidRequestError("A request needs at least one message.", field="messages")
        _check_sampling(request.sampling)
        offered = [tool.name for tool in request.tools]
        choice = request.tool_choice
        if choice.mode == "tool" and choice.name not in offered:
            raise UnknownToolError(f"No tool is called `{choice.name}`.", tool_name=str(choice.name), offered=offered)
        kinds = [item.kind for message in request.messages for item in message.attachments]
        if kinds and not (self.capabilities.vision and set(kinds) == {"image"}):
            raise UnsupportedContentError(f"`{self.model_id}` cannot read a part of kind `{kinds[0]}`.", kind=kinds[0])
        tokens, limit = self.count_prompt_tokens(request.messages, request.tools), self.capabilities.context_window
        if tokens > limit:
            raise ContextOverflowError(
                f"The prompt has {tokens} tokens and the window {limit}.", prompt_tokens=tokens, limit_tokens=limit
            )

    def _chunks(self, request: ChatRequest, answer: FakeAnswer) -> list[ChatChunk]:
        sampling = request.sampling
        text, stop_string = _cut_at_stop(answer.text, sampling.stop)
        words = _words(text)
        cut = sampling.max_tokens is not None and len(words) > sampling.max_tokens
        if cut:
            words, stop_string = words[: sampling.max_tokens], None
        thoughts = _words(answer.reasoning)
        calls: tuple[Call, ...] = (*answer.tool_calls, *answer.invalid_tool_calls)
        reason: FinishReason = "length" if cut else answer.finish_reason or ("tool_calls" if calls else "stop")
        usage = Usage(
            prompt_tokens=self.count_prompt_tokens(request.messages, request.tools),
            completion_tokens=len(thoughts) + len(words) + sum(len(_words(_call_text(call))) for call in calls),
            cached_tokens=answer.cached_tokens,
            reasoning_tokens=len(thoughts),
        )
        chunks = [ChatChunk(reasoning=word) for word in thoughts]
        chunks += [ChatChunk(text=word, logprobs=_logprobs(request, word)) for word in words]
        chunks += [ChatChunk(tool_calls=(call,)) for call in answer.tool_calls]
        chunks += [ChatChunk(invalid_tool_calls=(call,)) for call in answer.invalid_tool_calls]
        finish = Finish(reason=reason, usage=usage, model_id=self.model_id, stop_string=stop_string)
        return [*chunks, ChatChunk(finish=finish)]


def _check_sampling(sampling: SamplingParams) -> None:
    ranges = {"temperature": (0.0, math.inf), "top_p": (0.0, 1.0), "max_tokens": (1, math.inf)}
    for name, (lowest, highest) in ranges.items():
        value = getattr(sampling, name)
        if value is not None and not lowest <= value <= highest:
            raise InvalidRequestError(f"`{name}` cannot be `{value}`.", field=name)


def _words(text: str) -> list[str]:
    """Words with the blanks before them: joined, they are the text again."""
    return _TOKEN.findall(text)


def _call_text(call: Call) -> str:
    arguments = call.arguments if isinstance(call, InvalidToolCall) else json.dumps(dict(call.arguments))
    return f"{call.name} {arguments}"


def _prompt_texts(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> list[str]:
    texts = [text for message in messages for text in (message.content, message.reasoning or "")]
    texts += [_call_text(call) for message in messages for call in message.tool_calls]
    return texts + [f"{tool.name} {tool.description} {json.dumps(dict(tool.parameters))}" for tool in tools]


def _cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    found = [(text.index(string), string) for string in stop if string and string in text]
    if not found:
        return text, None
    position, string = min(found)
    return text[:position], string


def _logprobs(request: ChatRequest, word: str) -> tuple[TokenLogprob, ...]:
    if not request.sampling.logprobs:
        return ()
    token_id = zlib.crc32(word.encode("utf-8", "surrogatepass"))
    rivals = [(word, token_id, -0.25), *((f" rival{rank}", rank, -2.0 - rank) for rank in range(20))]
    top = tuple(rivals[: request.sampling.top_logprobs])
    return (TokenLogprob(token=word, token_id=token_id, logprob=-0.25, top=top),)


def _as_parts(answer: str | Call | Sequence[Call] | FakeAnswer) -> FakeAnswer:
    if isinstance(answer, FakeAnswer):
        return answer
    if isinstance(answer, str):
        return FakeAnswer(text=answer)
    calls = (answer,) if isinstance(answer, ToolCall | InvalidToolCall) else tuple(answer)
    return FakeAnswer(
        tool_calls=tuple(call for call in calls if isinstance(call, ToolCall)),
        invalid_tool_calls=tuple(call for call in calls if isinstance(call, InvalidToolCall)),
    )


def _chunks_of_result(result: ChatResult) -> list[ChatChunk]:
    chunks = [ChatChunk(reasoning=word) for word in _words(result.reasoning)]
    chunks += [ChatChunk(text=word) for word in _words(result.text)]
    rest = ChatChunk(
        tool_calls=result.tool_calls, invalid_tool_calls=result.invalid_tool_calls, logprobs=result.logprobs
    )
    return [*chunks, rest, ChatChunk(finish=result.finish)]
