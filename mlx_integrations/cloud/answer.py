"""An answer as it comes from an endpoint, piece by piece, as `ChatChunk`s. Pure; sync and async share it.

Output flow: text and thoughts go out at once. Parts of tool calls are kept until the answer is over, and go out only if
their arguments are a whole JSON object. The last chunk waits for the end of the stream, because usage comes after the
finish reason. An answer that does not say why it ended is not accepted.
"""

import json
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.cloud.estimates import estimated_tokens
from mlx_integrations.errors import InvalidOutputError, RemoteContentPolicyError, RemoteStreamError
from mlx_integrations.types import (
    ChatChunk,
    ChatRequest,
    Finish,
    FinishReason,
    InvalidToolCall,
    JsonSchemaFormat,
    TokenLogprob,
    ToolCall,
    Usage,
)

__all__ = ["Answer"]

# https://developers.openai.com/api/reference/resources/chat; `function_call` is the older name.
_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_UNKNOWN_TOKEN_ID: Final = -1  # the protocol names tokens by their text only


@dataclass(slots=True)
class _Call:
    """A tool call while its parts come in."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


class Answer:
    """Assembles one answer.

    Args:
        request: What was asked.
        model_id: Goes into `Finish`.
        endpoint: The endpoint's name, for messages.
        prompt_tokens: What the prompt is taken to have if the endpoint does not count.
        clock: Seconds that only go up.
        new_id: Makes ids for calls that come without one.
    """

    def __init__(
        self,
        *,
        request: ChatRequest,
        model_id: str,
        endpoint: str,
        prompt_tokens: int,
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: f"call_{uuid.uuid4().hex[:24]}",
    ) -> None:
        self._request = request
        self._model_id = model_id
        self._endpoint = endpoint
        self._prompt_tokens = prompt_tokens
        self._clock = clock
        self._new_id = new_id
        self._started = clock()
        self._first: float | None = None
        self._last = self._started
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[_Call] = []
        self._reason: str | None = None
        self._stop_string: str | None = None
        self._usage: Any = None

    @property
    def text(self) -> str:
        """What has been said so far."""
        return "".join(self._text)

    def feed(self, event: Any) -> ChatChunk | None:
        """Take one event of the stream.

        Args:
            event: A `ChatCompletionChunk` of the openai client; fields that a server leaves out are `None` there.

        Returns:
            What it says, if it says something.
        """
        self._usage = getattr(event, "usage", None) or self._usage
        choices = _list(event, "choices")
        if not choices:
            return None
        choice = choices[0]
        self._reason = _text(choice, "finish_reason") or self._reason
        # vLLM says which stop string it was: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
        if (stop := getattr(choice, "stop_reason", None)) in self._request.sampling.stop:
            self._stop_string = stop
        delta = getattr(choice, "delta", None)
        text = _text(delta, "content")
        # DeepSeek, vLLM and LM Studio write `reasoning_content`; OpenRouter, Ollama and mlx_lm.server `reasoning`.
        thoughts = _text(delta, "reasoning_content") or _text(delta, "reasoning")
        self._refusal.append(_text(delta, "refusal"))
        for part in _list(delta, "tool_calls"):
            self._add(part)
        logprobs = _logprobs(choice)
        if text or thoughts or logprobs or self._calls:
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first
        if not (text or thoughts or logprobs):
            return None
        self._text.append(text)
        self._thoughts.append(thoughts)
        return ChatChunk(text=text, reasoning=thoughts, logprobs=logprobs)

    def end(self) -> list[ChatChunk]:
        """The stream is over: the calls, and the chunk that carries `finish`.

        Raises:
            RemoteStreamError: It does not say why it ended.
            RemoteContentPolicyError: The endpoint stopped it.
            InvalidOutputError: It is not what was demanded.
        """
        if self._reason is None:
            raise RemoteStreamError(
                f"The answer of `{self._endpoint}` ended without a finish reason.",
                endpoint=self._endpoint,
                partial_text=self.text,
            )
        if self._reason == "content_filter" or any(self._refusal):
            raise RemoteContentPolicyError(
                f"`{self._endpoint}` stopped its answer because of its rules.", endpoint=self._endpoint
            )
        reason = _REASONS.get(self._reason)
        if reason is None:
            raise RemoteStreamError(
                f"The answer of `{self._endpoint}` ended for a reason that is not known: `{self._reason:.40}`.",
                endpoint=self._endpoint,
                partial_text=self.text,
            )
        calls = [self._accept(call, is_cut=reason == "length") for call in self._calls]
        if calls and reason == "stop":
            reason = "tool_calls"
        self._check(reason)
        chunks = [
            ChatChunk(tool_calls=(call,)) if isinstance(call, ToolCall) else ChatChunk(invalid_tool_calls=(call,))
            for call in calls
        ]
        return [*chunks, ChatChunk(finish=self._finish(reason))]

    def _add(self, part: Any) -> None:
        """Take a part of a call. Some servers give every call the same index, so that only ids tell them apart."""
        index, call_id = getattr(part, "index", None), _text(part, "id")
        before = [call for call in self._calls if index is None or call.index == index]
        call = before[-1] if before else None
        if call is None or (call_id and call.id not in ("", call_id)):
            call = _Call(index=index)
            self._calls.append(call)
        function = getattr(part, "function", None)
        call.id = call.id or call_id
        call.name = call.name or _text(function, "name")
        call.arguments += _text(function, "arguments")

    def _accept(self, call: _Call, *, is_cut: bool) -> ToolCall | InvalidToolCall:
        call_id, offered = call.id or self._new_id(), [tool.name for tool in self._request.tools]
        error = ""
        arguments: Any = {}
        try:
            # A call without parameters may come without arguments, unless the limit took them away.
            if call.arguments or is_cut:
                arguments = json.loads(call.arguments, parse_constant=_refuse_constant)
        except ValueError as exc:
            error = f"The arguments are not JSON: {exc}."
        if not error and not isinstance(arguments, dict):
            error = "The arguments are not a JSON object."
        if not error and call.name not in offered:
            tools = ", ".join(f"`{name}`" for name in offered)
            error = f"No tool `{call.name}` was offered{f'; the tools are {tools}' if tools else ''}."
        if error:
            return InvalidToolCall(id=call_id, name=call.name or None, arguments=call.arguments, error=error)
        return ToolCall(id=call_id, name=call.name, arguments=arguments)

    def _check(self, reason: FinishReason) -> None:
        """What was demanded is checked, because not every endpoint enforces it."""
        if reason != "stop":
            return
        if self._request.tool_choice.mode in ("any", "tool"):
            raise InvalidOutputError(
                f"`{self._endpoint}` was told to call a tool, and did not.",
                partial_text=self.text,
                hint="Choose a model that knows `tool_choice`.",
            )
        output = self._request.output
        if output is None:
            return
        try:
            value = json.loads(self.text)
        except ValueError as exc:
            raise InvalidOutputError("The answer is not JSON.", partial_text=self.text) from exc
        if isinstance(output, JsonSchemaFormat):
            _check_schema(value, output.schema, self.text)

    def _finish(self, reason: FinishReason) -> Finish:
        first = self._last if self._first is None else self._first
        return Finish(
            reason=reason,
            usage=self._counted(),
            model_id=self._model_id,
            prompt_seconds=first - self._started,
            generation_seconds=self._last - first,
            stop_string=self._stop_string,
        )

    def _counted(self) -> Usage:
        """What the endpoint counted, or an estimate if it did not."""
        given = self._usage
        prompt, completion = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
        if prompt is None or completion is None:
            written = "".join([*self._text, *self._thoughts, *(call.name + call.arguments for call in self._calls)])
            return Usage(
                prompt_tokens=self._prompt_tokens,
                completion_tokens=estimated_tokens(written),
                reasoning_tokens=estimated_tokens("".join(self._thoughts)),
            )
        cached = _count(getattr(given, "prompt_tokens_details", None), "cached_tokens") or 0
        thought = _count(getattr(given, "completion_tokens_details", None), "reasoning_tokens") or 0
        return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, reasoning_tokens=thought)


def _check_schema(value: Any, schema: Any, text: str) -> None:
    import jsonschema

    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as exc:
        raise InvalidOutputError(
            f"The answer does not satisfy the schema at `{exc.json_path}`.", partial_text=text
        ) from exc


# The openai client checks nothing of what a server sends: a field may be of any kind.


def _list(item: Any, name: str) -> Sequence[Any]:
    value = getattr(item, name, None)
    return value if isinstance(value, list) else ()


def _number(item: Any, name: str) -> float:
    value = getattr(item, name, None)
    return float(value) if isinstance(value, int | float) else -math.inf


def _text(item: Any, name: str) -> str:
    value = getattr(item, name, None)
    return value if isinstance(value, str) else ""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is no JSON")


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if type(value) is int and value >= 0 else None


def _logprobs(choice: Any) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=_text(item, "token"),
            token_id=_UNKNOWN_TOKEN_ID,
            logprob=_number(item, "logprob"),
            top=tuple(
                (_text(rival, "token"), _UNKNOWN_TOKEN_ID, _number(rival, "logprob"))
                for rival in _list(item, "top_logprobs")
            ),
        )
        for item in _list(getattr(choice, "logprobs", None), "content")
    )
