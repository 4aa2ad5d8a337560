"""A private text is given to a router at every entry point, with every fault, and looked for everywhere else.

It has to be at the local server, and nowhere else: not at the one that counts as a cloud, not at a tracing server, not
in a log, a cache file, an error or a report.
"""

import asyncio
import contextlib
import copy
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import langsmith
import pytest
from langchain.agents import create_agent
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel, Field, ValidationError

from mlx_integrations.errors import ConfigurationError, MLXIntegrationsError, PrivacyError
from mlx_integrations.langchain import ChatMLX, ChatRouter
from mlx_integrations.router import Policy, report_of
from mlx_integrations.router.policy import Deadlines
from tests.langchain.routing import LOCAL_ANSWER, TwoEndpoints, allow_network, two_endpoints
from tests.openai_server import OpenAIServer

CANARY = "the canary of the coal mine"
CARD = f"{CANARY}, 4111 1111 1111 1111"

FAULTS: dict[str, Callable[[OpenAIServer], object]] = {
    "none": lambda server: None,
    "500": lambda server: server.fail(status=500),
    "429": lambda server: server.fail(status=429),
    "401": lambda server: server.fail(status=401),
    "too long": lambda server: server.overflow(prompt_tokens=9, limit_tokens=1),
    "reset": lambda server: server.reset(),
    "cut": lambda server: server.cut(chunks=2),
    "silent end": lambda server: server.end_early(chunks=2),
    "broken call": lambda server: server.answer(tool_calls=[("add", '{"a": 1')], times=2),
    "stall": lambda server: server.stall(),
}
CONVERSATIONS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "tagged": ([HumanMessage(CANARY)], {"tags": ["private"]}),
    "found": ([HumanMessage(CARD)], {}),
    "found in a system message": ([SystemMessage(CARD), HumanMessage("Hello?")], {}),
    "found in the result of a tool": (
        [
            HumanMessage("Look it up."),
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}]),
            ToolMessage(CARD, tool_call_id="c1"),
        ],
        {},
    ),
    "after a private answer": (
        [AIMessage(CANARY, response_metadata={"privacy": "local_only"}), HumanMessage("And then?")],
        {},
    ),
    "said in metadata": ([HumanMessage(CANARY)], {"metadata": {"privacy": "local_only"}}),
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _invoke(router: Any, messages: list[Any], config: Any) -> object:
    return router.invoke(messages, config)


def _stream(router: Any, messages: list[Any], config: Any) -> object:
    return list(router.stream(messages, config))


def _batch(router: Any, messages: list[Any], config: Any) -> object:
    return router.batch([messages, messages], config)


def _ainvoke(router: Any, messages: list[Any], config: Any) -> object:
    return asyncio.run(router.ainvoke(messages, config))


def _astream(router: Any, messages: list[Any], config: Any) -> object:
    async def read() -> list[Any]:
        return [chunk async for chunk in router.astream(messages, config)]

    return asyncio.run(read())


def _with_tools(router: Any, messages: list[Any], config: Any) -> object:
    return router.bind_tools([add]).invoke(messages, config)


def _agent(router: Any, messages: list[Any], config: Any) -> object:
    return list(create_agent(router, [add]).stream({"messages": messages}, config, stream_mode="messages"))


def _structured(router: Any, messages: list[Any], config: Any) -> object:
    schema = {"title": "Sum", "type": "object", "properties": {"a": {"type": "integer"}}}
    return router.with_structured_output(schema).invoke(messages, config)


ENTRIES = [_invoke, _stream, _batch, _ainvoke, _astream, _with_tools, _agent, _structured]


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEndpoints]:
    allow_network(monkeypatch)
    with two_endpoints() as both:
        yield both


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__.strip("_"))
def test_a_private_text_stays_here(
    endpoints: TwoEndpoints,
    fault: str,
    entry: Callable[..., object],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Any,
) -> None:
    caplog.set_level(logging.DEBUG, logger="mlx_integrations")
    said: list[str] = []
    for mode in ("prefer_local", "prefer_cloud"):
        router = endpoints.router(mode=mode, deadlines=Deadlines(first_token=0.3) if fault == "stall" else Deadlines())
        for messages, config in CONVERSATIONS.values():
            FAULTS[fault](endpoints.local)
            try:
                entry(router, messages, dict(config))
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not quote
                said += [str(error), repr(error), repr(report_of(error)), repr(getattr(error, "__dict__", ""))]
    assert endpoints.local.saw(CANARY)
    assert not endpoints.cloud.saw(CANARY)
    assert endpoints.cloud.requests == []
    assert CANARY not in caplog.text
    assert not [text for text in said if CANARY in text]


def test_an_answer_to_a_private_call_keeps_the_conversation_here(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    answer = router.invoke("Hello?", {"tags": ["private"]})
    assert (answer.text, answer.response_metadata["privacy"]) == (LOCAL_ANSWER, "local_only")
    # The message that made it private was trimmed away since.
    again = router.invoke([answer, HumanMessage("And then?")])
    assert again.response_metadata["privacy"] == "local_only"
    chunks = list(router.stream([answer, HumanMessage("And then?")]))
    assert chunks[0].response_metadata["privacy"] == "local_only"
    assert add_ai_message_chunks(*chunks).response_metadata["privacy"] == "local_only"
    assert endpoints.cloud.requests == []


def test_an_answer_that_nobody_read_to_its_end_keeps_the_conversation_here(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    with closing(cast(Any, router.stream("Hello?", {"tags": ["private"]}))) as chunks:
        read = [next(chunks), next(chunks)]
    router.invoke([add_ai_message_chunks(*read), HumanMessage("And then?")])
    twice = [*router.stream("Hello?", {"tags": ["private"]}), *router.stream("Hello?", {"tags": ["private"]})]
    router.invoke([add_ai_message_chunks(*twice), HumanMessage("And then?")])
    assert endpoints.cloud.requests == []


def test_marks_count_for_every_conversation_of_a_call(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    conversations: list[list[BaseMessage]] = [[HumanMessage("Hello?")], [HumanMessage(CANARY)]]
    router.generate(conversations, tags=["private"])
    router.generate(conversations, metadata={"privacy": "local_only"})
    asyncio.run(router.agenerate(conversations, tags=["private"]))
    assert endpoints.cloud.requests == []
    assert len(endpoints.local.calls("chat")) == 6


class Falcons(BaseModel):
    """Projects."""

    name: str = Field(description="Such as Falcon")


_WORD = "So:\nFalcon\tis late"
HIDDEN: dict[str, tuple[list[BaseMessage], dict[str, Any]]] = {
    "stop string": ([HumanMessage("Hello?")], {"stop": ["\nFalcon"]}),
    "class of the answer": ([HumanMessage("Hello?")], {"response_format": Falcons}),
    "arguments of a call": (
        [
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": _WORD}, "id": "c1"}]),
            ToolMessage("3", tool_call_id="c1"),
        ],
        {},
    ),
    "call in the older form": (
        [AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": _WORD}}), HumanMessage("So?")],
        {},
    ),
    "name of a person": ([HumanMessage("Hello?", additional_kwargs={"name": "Falcon"})], {}),
    "description of a tool": (
        [HumanMessage("Hello?")],
        {"tools": [{"type": "function", "function": {"name": "add", "description": _WORD, "parameters": {}}}]},
    ),
}


@pytest.mark.parametrize(("messages", "options"), HIDDEN.values(), ids=HIDDEN)
def test_words_are_found_wherever_they_stand(
    messages: list[BaseMessage], options: dict[str, Any], endpoints: TwoEndpoints
) -> None:
    router = endpoints.router(mode="prefer_cloud", private_words=("falcon",))
    assert router.explain(messages, **options).order == ("local",)
    with contextlib.suppress(MLXIntegrationsError):  # the server does as it likes with tools and formats
        router.invoke(messages, **options)
    assert endpoints.local.requests
    assert endpoints.cloud.requests == []


def test_the_stop_strings_of_the_router_are_looked_at(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud", private_words=("falcon",)).model_copy(update={"stop": ["Falcon"]})
    router.invoke("Hello?")
    assert endpoints.cloud.requests == []


def test_a_copy_keeps_to_its_own_rules(endpoints: TwoEndpoints) -> None:
    router = endpoints.router(mode="prefer_cloud")
    router.invoke("Hello?")
    copies = [
        router.model_copy(update={"policy": Policy(mode="local_only")}),
        router.model_copy(update={"models": {"local": router.models["local"]}, "facts": {}}),
        router.model_copy(update={"callbacks": None}),
        copy.deepcopy(router),
    ]
    for copied in copies:
        copied.invoke(CANARY, {"tags": ["private"]})
        list(copied.stream(CANARY, {"tags": ["private"]}))
    for copied in copies[:2]:
        copied.invoke("Hello?")
    assert len(endpoints.cloud.requests) == 1
    assert copies[3].router is router.router
    with pytest.raises(ValidationError, match="frozen"):
        router.policy = Policy(mode="local_only")


def test_an_answer_in_any_form_may_be_text(endpoints: TwoEndpoints) -> None:
    assert endpoints.router().invoke("Hello?", response_format={"type": "text"}).text == LOCAL_ANSWER


class _Elsewhere(BaseCache):
    """A cache that is not in the memory of this process, as far as LangChain can tell."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def lookup(self, prompt: str, llm_string: str) -> None:
        self.seen.append(prompt)

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        self.seen.append(prompt)

    def clear(self, **kwargs: Any) -> None:
        self.seen.clear()


def test_private_calls_stay_out_of_caches_elsewhere(endpoints: TwoEndpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, router = _Elsewhere(), endpoints.router()
    monkeypatch.setattr("langchain_core.globals._llm_cache", cache)
    router.invoke(CANARY, {"tags": ["private"]})
    asyncio.run(router.ainvoke(CARD))
    assert cache.seen == []
    router.invoke("Hello?")
    assert cache.seen


def test_a_text_that_is_not_private_may_go(endpoints: TwoEndpoints) -> None:
    answer = endpoints.router(mode="prefer_cloud").invoke("Hello?")
    assert answer.response_metadata["router"]["answered_by"] == "cloud"
    assert "privacy" not in answer.response_metadata


def test_nobody_here_may_answer(endpoints: TwoEndpoints) -> None:
    router = ChatRouter(
        models={"cloud": endpoints.router().models["cloud"]},
        facts={"cloud": endpoints.router().facts["cloud"]},
        policy=Policy(allow_cloud=True),
    )
    with pytest.raises(PrivacyError) as caught:
        router.invoke(CARD)
    assert CANARY not in str(caught.value)
    assert endpoints.cloud.requests == []


def test_private_answers_in_the_cache_of_langchain_are_found_again(endpoints: TwoEndpoints) -> None:
    """LangChain's own cache belongs to the user: it is asked before any model is."""
    router = endpoints.router()
    router.cache = InMemoryCache()
    assert router.invoke(CARD).text == router.invoke(CARD).text == LOCAL_ANSWER
    assert len(endpoints.local.calls("chat")) == 1


class _Tracing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self._take()

    def do_PATCH(self) -> None:
        self._take()

    def do_GET(self) -> None:
        self._take()

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """LangSmith's tracing is on, and sends to this machine, uncompressed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tracing)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.delenv("LANGCHAIN_TRACING", raising=False)
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("LANGSMITH_API_KEY", "not-a-key")
    monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    langsmith.utils.get_env_var.cache_clear()  # type: ignore[attr-defined]
    langsmith.run_trees._CLIENT = None
    yield server.bodies  # type: ignore[attr-defined]
    _flush()
    langsmith.run_trees._CLIENT = None
    monkeypatch.undo()
    langsmith.utils.get_env_var.cache_clear()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def _flush() -> None:
    if (client := langsmith.run_trees._CLIENT) is not None:
        client.flush(timeout=20)
        client.cleanup()


# LangChain prepares the call of each handler before it awaits the first; the one that refuses leaves the rest behind.
@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*ahandle_event:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("entry", [_invoke, _stream, _ainvoke, _astream], ids=lambda entry: entry.__name__.strip("_"))
def test_a_private_call_is_refused_rather_than_traced(
    endpoints: TwoEndpoints, tracing: list[bytes], entry: Callable[..., object]
) -> None:
    router = endpoints.router()
    entry(router, [HumanMessage("an open question")], {})
    for messages, config in CONVERSATIONS.values():
        with pytest.raises(PrivacyError, match="tracing"):
            entry(router, messages, dict(config))
    _flush()
    sent = b"".join(tracing)
    assert b"an open question" in sent, "tracing works, or this test shows nothing"
    assert CANARY.encode() not in sent
    assert not endpoints.local.saw(CANARY)
    gc.collect()


def test_only_the_router_s_own_run_is_traced(endpoints: TwoEndpoints, tracing: list[bytes]) -> None:
    endpoints.local.fail(status=500)
    RunnableLambda[str, AIMessage](lambda text: endpoints.router().invoke(text)).invoke("an open question")
    _flush()
    sent = b"".join(tracing).decode("utf-8", "replace")
    assert "ChatRouter" in sent
    assert '"name":"ChatOpenAI"' not in sent.replace(" ", "")


def test_local_only_and_tracing_contradict_each_other(endpoints: TwoEndpoints, tracing: list[bytes]) -> None:
    with pytest.raises(ValueError, match="tracing"):
        ChatRouter(models={"mine": ChatMLX(model="demo")}, policy=Policy(mode="local_only"))
    assert issubclass(ConfigurationError, ValueError) and issubclass(PrivacyError, MLXIntegrationsError)


def test_tracing_that_is_switched_on_later_hears_nothing_of_a_router_that_stays_here(
    endpoints: TwoEndpoints, tracing: list[bytes]
) -> None:
    with langsmith.tracing_context(enabled=False):
        router = endpoints.router(mode="local_only")
        router.invoke("Hello?")
    with pytest.raises(PrivacyError):
        router.invoke(CANARY)
    _flush()
    assert not [body for body in tracing if CANARY.encode() in body]
