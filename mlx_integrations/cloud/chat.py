"""`OpenAIChatBackend`: a chat model behind an endpoint that speaks the protocol of OpenAI.

A request is checked and written in the caller's thread (`request.py`), sent by the openai client without retries, and
its stream read by one `Answer` (`answer.py`), whether threads or an event loop wait for it. What goes wrong is
translated once (`failures.py`). Who retries, and who is asked instead, others decide.
"""

import time
from collections.abc import AsyncGenerator, Callable, Container, Generator, Mapping, Sequence
from typing import Any, Final

from mlx_integrations.cloud.answer import Answer
from mlx_integrations.cloud.client import ApiKey, Connection
from mlx_integrations.cloud.estimates import estimated_pieces, estimated_prompt_tokens
from mlx_integrations.cloud.failures import Asked, Failure, client_errors, translated
from mlx_integrations.cloud.presets import find_preset
from mlx_integrations.cloud.request import request_body
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities, ToolSpec

__all__ = ["OpenAIChatBackend", "capabilities_of"]

_WINDOW_TOKENS: Final = 128_000  # the protocol has no way to ask


def capabilities_of(
    options: Container[str], *, context_window: int = _WINDOW_TOKENS, vision: bool = False
) -> ModelCapabilities:
    """What a model behind an endpoint is taken to be able to do, as far as its endpoint lets it.

    Args:
        options: What the endpoint understands.
        context_window: Tokens of prompt and answer together.
        vision: Whether the model reads images.
    """
    return ModelCapabilities(
        context_window=context_window,
        tools="tools" in options,
        reasoning="reasoning" in options,
        structured_output="json_schema" in options,
        vision=vision,
    )


class OpenAIChatBackend:
    """Chats with a model behind an endpoint; implements `ChatBackend`.

    Tokens are estimated, except those in `usage` of an answer whose endpoint counts them. Ids of tokens in
    log-probabilities are -1: the protocol has none. Which stop string ended an answer is known from vLLM only.

    Args:
        base_url: Where the endpoint is; where its kind usually is if `None`.
        model: The model's name there.
        api_key: Its key, or what gets one. Never taken from the environment here.
        kind: Which options it knows: a name of `PRESETS`.
        options: Options that it knows besides, as names or as names to fields of the request.
        capabilities: What the model can do; what its endpoint lets it otherwise, with a window of 128,000
            tokens.
        endpoint: What messages call it; its host otherwise.
        model_id: The name this backend is known by; `model` otherwise.
        timeout_seconds: The longest silence that is waited out, before the first byte and between two.
        connect_seconds: How long it may take to reach it.
        clock: Seconds that only go up.
        wall_clock: Seconds since 1970.

    Raises:
        ConfigurationError: The address is none, there is no such kind, or the key cannot be one.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key: ApiKey | str | None = None,
        kind: str = "compatible",
        options: Mapping[str, str] | Sequence[str] = (),
        capabilities: ModelCapabilities | None = None,
        endpoint: str | None = None,
        model_id: str | None = None,
        timeout_seconds: float = 600.0,
        connect_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        preset = find_preset(kind)
        self._connection = Connection(
            base_url=preset.base_url if base_url is None else base_url,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            connect_seconds=connect_seconds,
            name=endpoint,
        )
        more = options if isinstance(options, Mapping) else {name: name for name in options}
        self._options = {**preset.options, **more}
        self._model = model
        self._model_id = model_id or model
        self._capabilities = capabilities or capabilities_of(self._options)
        self._clock = clock
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        return f"OpenAIChatBackend(model={self._model!r}, base_url={self.base_url!r})"

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        return self._model_id

    @property
    def model(self) -> str:
        """What the endpoint calls the model."""
        return self._model

    @property
    def base_url(self) -> str:
        """Where the endpoint is."""
        return self._connection.base_url

    @property
    def connection(self) -> Connection:
        """The way to the endpoint."""
        return self._connection

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model is taken to be able to do."""
        return self._capabilities

    def tokenize(self, text: str) -> list[int]:
        """A number for each token that `text` is taken to have: as many as are estimated, and none the model knows."""
        return estimated_pieces(text)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens that messages and tools are taken to have."""
        return estimated_prompt_tokens(messages, tools)

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer in pieces; the last one carries `finish`. Closing the generator closes the connection.

        Raises:
            RequestError: The request can never succeed as written.
            RemoteError: The endpoint could not do it.
        """
        body, answer, asked = self._prepare(request)
        key = self._connection.key()
        client = self._connection.client()
        has_begun, failure = False, None
        try:
            with client.chat.completions.create(**self._call(body, key)) as events:
                has_begun = True
                for event in events:
                    if (chunk := answer.feed(event)) is not None:
                        yield chunk
        except client_errors() as exc:
            failure = self._failure(exc, asked, key, answer, has_begun=has_begun)
        if failure is not None:
            raise failure.error from failure.cause  # out here, where no context hangs on to what was in its way
        yield from answer.end()

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops; never blocks one."""
        body, answer, asked = self._prepare(request)
        key = await self._connection.akey()
        client = self._connection.async_client()
        has_begun, failure = False, None
        try:
            async with await client.chat.completions.create(**self._call(body, key)) as events:
                has_begun = True
                async for event in events:
                    if (chunk := answer.feed(event)) is not None:
                        yield chunk
        except client_errors() as exc:
            failure = self._failure(exc, asked, key, answer, has_begun=has_begun)
        if failure is not None:
            raise failure.error from failure.cause  # out here, where no context hangs on to what was in its way
        for chunk in answer.end():
            yield chunk

    def close(self) -> None:
        """Close connections that threads used. The backend can be used again."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close connections of the running event loop and of threads. The backend can be used again."""
        await self._connection.aclose()

    def _prepare(self, request: ChatRequest) -> tuple[dict[str, Any], Answer, Asked]:
        name = self._connection.name
        body = request_body(request, endpoint=name, options=self._options, capabilities=self._capabilities)
        prompt_tokens = estimated_prompt_tokens(request.messages, request.tools)
        answer = Answer(
            request=request,
            model_id=self._model_id,
            endpoint=name,
            prompt_tokens=prompt_tokens,
            clock=self._clock,
        )
        asked = Asked(
            endpoint=name,
            address=self.base_url,
            model=self._model,
            prompt_tokens=prompt_tokens,
            limit_tokens=self._capabilities.context_window,
        )
        return body, answer, asked

    def _call(self, body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        """Arguments for the openai client; everything but the essentials goes past its own checks."""
        rest = {name: value for name, value in body.items() if name != "messages"}
        return {
            "model": self._model,
            "messages": body["messages"],
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": rest,
            "extra_headers": self._connection.headers(key),
        }

    def _failure(self, error: Exception, asked: Asked, key: str | None, answer: Answer, *, has_begun: bool) -> Failure:
        return translated(error, asked, key=key, now=self._wall_clock(), partial_text=answer.text, has_begun=has_begun)
