"""Two endpoints on this machine, one of which plays the cloud, behind one `RouterLLM`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import openai
import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool
from pydantic import PrivateAttr

from mlx_integrations import assembly
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.llama_index import MLXLLM, ModelFacts, RouterLLM
from mlx_integrations.router.policy import Policy
from mlx_integrations.settings import Settings
from tests.hub import go_online
from tests.openai_server import OpenAIServer, Recorded, Reply

__all__ = ["CLOUD_ANSWER", "LOCAL_ANSWER", "SECRET_KEY", "ClientLLM", "Kind", "TwoEndpoints", "two_endpoints"]

LOCAL_ANSWER = "alpha beta gamma delta"
CLOUD_ANSWER = "one two three four"
SECRET_KEY = "sk-canary-of-the-key"  # not a key of anything
Kind = Literal["ours", "foreign"]


class ClientLLM(FunctionCallingLLM):
    """A model as other packages write them: on OpenAI's client, which repeats requests, with its objects in answers."""

    model: str = "test-model"
    api_base: str
    max_retries: int = 3
    calls_functions: bool = True
    default_headers: dict[str, str] | None = None
    _client: openai.OpenAI = PrivateAttr()
    _aclient: openai.AsyncOpenAI = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        given: dict[str, Any] = {
            "base_url": self.api_base,
            "api_key": SECRET_KEY,
            "max_retries": self.max_retries,
            "timeout": 20,
        }
        self._client, self._aclient = openai.OpenAI(**given), openai.AsyncOpenAI(**given)

    @classmethod
    def class_name(cls) -> str:
        return "ClientLLM"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=8000,
            is_chat_model=True,
            is_function_calling_model=self.calls_functions,
            model_name=self.model,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        answer: Any = self._client.chat.completions.create(**self._body(messages, kwargs))
        return _whole(answer)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        answer: Any = await self._aclient.chat.completions.create(**self._body(messages, kwargs))
        return _whole(answer)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        chunks: Any = self._client.chat.completions.create(**self._body(messages, kwargs), stream=True)

        def responses() -> ChatResponseGen:
            growing = _Growing()
            for chunk in chunks:
                yield growing.add(chunk)

        return responses()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        chunks: Any = await self._aclient.chat.completions.create(**self._body(messages, kwargs), stream=True)

        async def responses() -> ChatResponseAsyncGen:
            growing = _Growing()
            async for chunk in chunks:
                yield growing.add(chunk)

        return responses()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        raise NotImplementedError

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return {
            "messages": list(chat_history or []),
            "tools": [tool.metadata.to_openai_tool() for tool in tools],
            "tool_choice": "required" if tool_required else "auto",
            **kwargs,
        }

    def _body(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model, "messages": [_sent(message) for message in messages], **kwargs}


def _sent(message: ChatMessage) -> dict[str, Any]:
    # As several packages do: whatever is in `additional_kwargs` is sent along.
    sent = {"role": message.role.value, "content": message.content or "", **message.additional_kwargs}
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    return {**sent, "tool_calls": [call.model_dump() for call in calls]} if calls else sent


def _whole(answer: Any) -> ChatResponse:
    message = answer.choices[0].message
    extra = {"tool_calls": message.tool_calls} if message.tool_calls else {}
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=message.content or "", additional_kwargs=extra),
        raw=answer,
    )


class _Growing:
    """Text and calls so far; the calls are where they were before there were blocks."""

    def __init__(self) -> None:
        self._text = ""
        self._calls: list[dict[str, Any]] = []

    def add(self, chunk: Any) -> ChatResponse:
        delta = chunk.choices[0].delta if chunk.choices else None
        text = (delta.content if delta else None) or ""
        self._text += text
        for part in (delta.tool_calls if delta else None) or ():
            while len(self._calls) <= part.index:
                self._calls.append({"id": None, "function": {"name": "", "arguments": ""}})
            call = self._calls[part.index]
            call["id"] = part.id or call["id"]
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""
        calls = [{**call, "function": dict(call["function"])} for call in self._calls]
        extra = {"tool_calls": calls} if calls else {}
        message = ChatMessage(role=MessageRole.ASSISTANT, content=self._text, additional_kwargs=extra)
        return ChatResponse(message=message, delta=text, raw=chunk)


@dataclass
class TwoEndpoints:
    """The servers, and routers over both."""

    local: OpenAIServer
    cloud: OpenAIServer
    policy: dict[str, Any] = field(default_factory=lambda: {"allow_cloud": True})

    def llm(self, url: str, kind: Kind = "ours", **options: Any) -> LLM:
        """A model that asks one of them."""
        if kind == "foreign":
            return ClientLLM(api_base=url, **options)
        backend = OpenAIChatBackend(base_url=url, model="test-model", api_key=SECRET_KEY)
        return MLXLLM("test-model", backend=backend, **options)

    def router(self, kind: Kind = "ours", *, local_url: str | None = None, **policy: Any) -> RouterLLM:
        """A router that asks `local` first; what listens at `cloud` counts as being elsewhere."""
        return RouterLLM(
            llms={
                "local": self.llm(local_url or self.local.base_url, kind),
                "cloud": self.llm(self.cloud.base_url, kind),
            },
            policy=Policy(**{**self.policy, **policy}),
            facts={"cloud": ModelFacts(is_local=False)},
        )


def _answer(text: str) -> Any:
    def otherwise(request: Recorded) -> Reply:
        # The way that models with tools behave: a call first, then a text about its result.
        tools = request.body.get("tools")
        if tools and request.body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[(tools[0]["function"]["name"], {"a": 2, "b": 3})])
        return Reply(text=text)

    return otherwise


@contextmanager
def two_endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    """Start both, and let the router ask endpoints that count as elsewhere: tests run offline otherwise."""
    go_online(monkeypatch)
    monkeypatch.setattr(assembly, "_settings", Settings(offline=False))
    with (
        OpenAIServer(otherwise=_answer(LOCAL_ANSWER)) as local,
        OpenAIServer(otherwise=_answer(CLOUD_ANSWER)) as cloud,
    ):
        yield TwoEndpoints(local, cloud)
