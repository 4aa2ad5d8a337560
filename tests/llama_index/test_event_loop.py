"""What an event loop is spared: finding a model, and reading what it can do, happen in other threads."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel

from mlx_integrations.llama_index import MLXLLM, MLXEmbedding
from mlx_integrations.testing import FakeAnswer, FakeChatBackend, FakeEmbeddingBackend
from mlx_integrations.types import ChatRequest, ModelCapabilities, ToolCall
from tests.llama_index.fakes import ADD_TOOL

HELLO = [ChatMessage(content="Hi")]
PROMPT = PromptTemplate("Hi")
EITHER = FakeAnswer(text='{"total": 3}', tool_calls=(ToolCall(id="1", name="add", arguments={"a": 1, "b": 2}),))
"""An object to those who ask for one, a call to those who offer a tool."""


class Answer(BaseModel):
    total: int


class WatchedChat:
    """Notes which threads ask what the model can do: the first time, its tokenizer is loaded for that."""

    def __init__(self, *responses: Any) -> None:
        self.asked_by: list[threading.Thread] = []
        self._inner = FakeChatBackend(responses or ('{"total": 3}',))

    @property
    def capabilities(self) -> ModelCapabilities:
        self.asked_by.append(threading.current_thread())
        return self._inner.capabilities

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WatchedRuntime:
    """Notes which threads look for a model: that reads its files, and hashes those of a packaged one."""

    def __init__(self, backend: WatchedChat | FakeEmbeddingBackend) -> None:
        self.looked_up_by: list[threading.Thread] = []
        self._backend = backend

    def chat(self, path: Path, *, model_id: str) -> Any:
        self.looked_up_by.append(threading.current_thread())
        return self._backend

    embedding = chat


async def drained(pieces: Any) -> None:
    async for _ in await pieces:
        pass


ASKING_NOTHING: dict[str, Callable[[MLXLLM], Awaitable[Any]]] = {
    "achat": lambda llm: llm.achat(HELLO),
    "acomplete": lambda llm: llm.acomplete("Hi"),
    "astream_chat": lambda llm: drained(llm.astream_chat(HELLO)),
    "astream_complete": lambda llm: drained(llm.astream_complete("Hi")),
    "achat_with_tools": lambda llm: llm.achat_with_tools([ADD_TOOL], "Hi"),
    "astream_chat_with_tools": lambda llm: drained(llm.astream_chat_with_tools([ADD_TOOL], "Hi")),
    "astructured_predict": lambda llm: llm.astructured_predict(Answer, PROMPT),
    "as_structured_llm": lambda llm: llm.as_structured_llm(Answer).achat(HELLO),
    "astream_structured_predict": lambda llm: drained(llm.astream_structured_predict(Answer, PROMPT)),
}
ASKING_FIRST: dict[str, Callable[[MLXLLM], Awaitable[Any]]] = {
    "apredict": lambda llm: llm.apredict(PROMPT),
    "astream": lambda llm: drained(llm.astream(PROMPT)),
    "apredict of a structured llm": lambda llm: llm.as_structured_llm(Answer).apredict(PROMPT),
    "apredict_and_call": lambda llm: llm.apredict_and_call([ADD_TOOL], "1 + 2?"),
}


@pytest.mark.parametrize("call", ASKING_NOTHING.values(), ids=ASKING_NOTHING)
async def test_a_call_looks_nothing_up_on_the_loop(call: Callable[[MLXLLM], Awaitable[Any]]) -> None:
    backend = WatchedChat()
    runtime = WatchedRuntime(backend)
    await call(MLXLLM("demo", runtime=runtime))
    assert len(runtime.looked_up_by) == 1
    assert threading.current_thread() not in [*runtime.looked_up_by, *backend.asked_by]


@pytest.mark.parametrize("call", ASKING_FIRST.values(), ids=ASKING_FIRST)
async def test_where_llama_index_reads_metadata_they_are_known(call: Callable[[MLXLLM], Awaitable[Any]]) -> None:
    backend = WatchedChat(EITHER)
    runtime = WatchedRuntime(backend)
    llm = MLXLLM("demo", runtime=runtime)
    await call(llm)
    assert len(runtime.looked_up_by) == 1
    assert threading.current_thread() not in [*runtime.looked_up_by, backend.asked_by[0]]
    before = len(backend.asked_by)
    await call(llm)
    assert set(backend.asked_by[before:]) <= {threading.current_thread()}


class AsyncOnly(WatchedChat):
    """Cannot answer those who wait for it."""

    def stream(self, request: ChatRequest) -> Any:
        raise AssertionError("an async call waits for its answer")


@pytest.mark.parametrize(
    "call", [*ASKING_NOTHING.values(), *ASKING_FIRST.values()], ids=[*ASKING_NOTHING, *ASKING_FIRST]
)
async def test_an_async_call_is_async_down_to_the_backend(call: Callable[[MLXLLM], Awaitable[Any]]) -> None:
    backend: Any = AsyncOnly(EITHER)
    await call(MLXLLM("fake", backend=backend))
    assert len(backend.requests) == 1


async def test_the_loop_comes_round_between_the_tokens_of_the_demo_model() -> None:
    """While it waits for the next one: a call that kept the loop would let nobody else count."""
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    pieces = await MLXLLM("demo", temperature=0).astream_chat(HELLO)
    await anext(pieces)
    counter = asyncio.create_task(count())
    later = [piece async for piece in pieces]
    counter.cancel()
    assert len(later) > 3 and rounds > 3


@pytest.mark.parametrize("method", ["aget_text_embedding", "aget_query_embedding", "aget_text_embedding_batch"])
async def test_an_embedding_model_is_not_looked_up_on_the_loop(method: str) -> None:
    runtime = WatchedRuntime(FakeEmbeddingBackend())
    model = MLXEmbedding("minilm-l6-v2", runtime=runtime)
    await getattr(model, method)(["Hi"] if method.endswith("batch") else "Hi")
    await model.afingerprint()
    assert len(runtime.looked_up_by) == 1 and threading.current_thread() not in runtime.looked_up_by
