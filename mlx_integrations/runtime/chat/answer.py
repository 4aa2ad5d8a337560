"""One answer, from token events to chunks: detokenise, split reasoning and calls, match stop strings. Pure, no MLX.

Runs in the caller's thread or on its event loop. `feed` gives the chunks of one event; `is_done` says that the answer
is complete, be it that the model ended it or that a stop string did.
"""

import time
from collections.abc import Callable, Sequence

from mlx_integrations.errors import GenerationError, MLXIntegrationsError
from mlx_integrations.runtime.chat.detokenize import Detokenizer
from mlx_integrations.runtime.chat.json_schema import check_answer
from mlx_integrations.runtime.chat.rows import EndEvent, Event, FailEvent, StartEvent, TokenEvent
from mlx_integrations.runtime.chat.stopping import StopMatcher
from mlx_integrations.runtime.chat.syntax import Delta, OutputParser, ReasoningDelta, TextDelta
from mlx_integrations.types import (
    ChatChunk,
    Finish,
    FinishReason,
    InvalidToolCall,
    JsonSchemaFormat,
    OutputFormat,
    TokenLogprob,
    ToolCall,
    Usage,
)

__all__ = ["Answer"]


class Answer:
    """Assembles one answer.

    Args:
        model_id: Goes into `Finish`.
        prompt_tokens: Length of the prompt.
        detokenizer: For this answer.
        parser: For this answer.
        stops: Strings that end it.
        decode: Token ids to text, for log-probabilities.
        output: The format the answer was held to.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        *,
        model_id: str,
        prompt_tokens: int,
        detokenizer: Detokenizer,
        parser: OutputParser,
        stops: Sequence[str],
        decode: Callable[[Sequence[int]], str],
        output: OutputFormat | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model_id = model_id
        self._prompt_tokens = prompt_tokens
        self._detokenizer = detokenizer
        self._parser = parser
        self._stop = StopMatcher(stops)
        self._decode = decode
        self._output = output
        self._clock = clock
        self._started = self._first = self._last = clock()
        self._tokens = 0
        self._reasoning_tokens = 0
        self._cached_tokens = 0
        self._has_calls = False
        self._text: list[str] = []
        self.is_done = False
        """The answer is complete; nothing more needs to be generated."""

    def feed(self, event: Event) -> list[ChatChunk]:
        """The chunks that an event completes; the last chunk of an answer carries `finish`.

        Raises:
            MLXIntegrationsError: The answer will not come, or breaks the format it was held to.
        """
        match event:
            case StartEvent(cached_tokens=cached_tokens):
                self._cached_tokens = cached_tokens
                return []
            case TokenEvent():
                return self._token(event)
            case EndEvent(reason=reason):
                return self._end(reason)
            case FailEvent(error=error):
                self.is_done = True
                if isinstance(error, GenerationError):
                    error.partial_text = "".join(self._text)
                if isinstance(error, MLXIntegrationsError):
                    raise error
                raise GenerationError(f"The model failed: {error}.", partial_text="".join(self._text)) from error

    def _token(self, event: TokenEvent) -> list[ChatChunk]:
        self._last = self._clock()
        if not self._tokens:
            self._first = self._last
        self._tokens += 1
        logprobs = (self._logprob(event),) if event.logprob is not None else ()
        text = self._detokenizer.add(event.token_id)
        chunks = self._chunks(self._parser.feed(text), logprobs) if text or logprobs else []
        if self._stop.matched is not None:
            chunks.append(self._finish("stop"))
        return chunks

    def _end(self, reason: FinishReason) -> list[ChatChunk]:
        rest = self._detokenizer.flush()
        deltas = [*(self._parser.feed(rest) if rest else []), *self._parser.finish(reason)]
        chunks = self._chunks(deltas, ())
        if self._stop.matched is not None:
            chunks.append(self._finish("stop"))
            return chunks
        if held := self._stop.flush():
            self._text.append(held)
            chunks.append(ChatChunk(text=held))
        if reason == "stop" and isinstance(self._output, JsonSchemaFormat) and not self._has_calls:
            check_answer("".join(self._text), self._output.schema)
        if reason == "stop" and self._has_calls:
            reason = "tool_calls"
        chunks.append(self._finish(reason))
        return chunks

    def _finish(self, reason: FinishReason) -> ChatChunk:
        self.is_done = True
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._tokens,
            cached_tokens=self._cached_tokens,
            reasoning_tokens=self._reasoning_tokens,
        )
        return ChatChunk(
            finish=Finish(
                reason=reason,
                usage=usage,
                model_id=self._model_id,
                prompt_seconds=self._first - self._started,
                generation_seconds=self._last - self._first,
                stop_string=self._stop.matched,
            )
        )

    def _chunks(self, deltas: Sequence[Delta], logprobs: tuple[TokenLogprob, ...]) -> list[ChatChunk]:
        chunks: list[ChatChunk] = []
        for delta in deltas:
            match delta:
                case TextDelta(text=text):
                    shown = self._stop.feed(text)
                    self._text.append(shown)
                    if shown:
                        chunks.append(ChatChunk(text=shown, logprobs=logprobs))
                        logprobs = ()
                    if self._stop.matched is not None:
                        break
                case ReasoningDelta(text=text):
                    self._reasoning_tokens = self._tokens  # thinking comes first
                    chunks.append(ChatChunk(reasoning=text, logprobs=logprobs))
                    logprobs = ()
                case ToolCall():
                    self._has_calls = True
                    chunks.append(ChatChunk(tool_calls=(delta,)))
                case InvalidToolCall():
                    self._has_calls = True
                    chunks.append(ChatChunk(invalid_tool_calls=(delta,)))
        if logprobs:
            chunks.append(ChatChunk(logprobs=logprobs))
        return chunks

    def _logprob(self, event: TokenEvent) -> TokenLogprob:
        assert event.logprob is not None
        return TokenLogprob(
            token=self._decode([event.token_id]),
            token_id=event.token_id,
            logprob=event.logprob,
            top=tuple((self._decode([token_id]), token_id, value) for token_id, value in event.top),
        )
