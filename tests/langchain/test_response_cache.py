"""The two caches of answers: LangChain's own in front of ours."""

from langchain_core.caches import InMemoryCache

from mlx_integrations.langchain import ChatMLX
from mlx_integrations.router.cached_backend import CachedBackend
from mlx_integrations.router.response_cache import MemoryResponses
from mlx_integrations.testing import FakeChatBackend


def test_a_cached_backend_answers_chats_streams_and_tools_once() -> None:
    inner = FakeChatBackend([lambda request: f"{len(inner.requests)} with {len(request.tools)} tools"])
    llm = ChatMLX(model="fake", backend=CachedBackend(inner, MemoryResponses()), temperature=0)
    tool = {"name": "add", "description": "", "parameters": {"type": "object", "properties": {}}}
    for _ in range(2):
        assert llm.invoke("Hello.").text == "1 with 0 tools"
        assert "".join(chunk.text for chunk in llm.stream("Hello.")) == "1 with 0 tools"
        assert llm.bind_tools([tool]).invoke("Hello.").text == "2 with 1 tools"
        assert llm.invoke("Hello.", seed=1).text == "3 with 0 tools"
    assert len(inner.requests) == 3


def test_behind_langchains_cache_ours_is_asked_only_for_what_is_not_known_there() -> None:
    inner = FakeChatBackend(["one", "two"])
    backend = CachedBackend(inner, MemoryResponses())
    llm = ChatMLX(model="fake", backend=backend, temperature=0, cache=InMemoryCache())
    assert [llm.invoke("Hello.").text for _ in range(3)] == ["one"] * 3
    assert (backend.counts.hits, backend.counts.misses) == (0, 1)
    assert "".join(chunk.text for chunk in llm.stream("Hello.")) == "one"
    assert (backend.counts.hits, len(inner.requests)) == (1, 1)


def test_langchains_cache_alone_keeps_sampled_answers_and_is_not_asked_by_streams() -> None:
    inner = FakeChatBackend(["one", "two"])
    llm = ChatMLX(model="fake", backend=inner, temperature=1, cache=InMemoryCache())
    assert [llm.invoke("Hello.").text for _ in range(2)] == ["one", "one"]
    assert "".join(chunk.text for chunk in llm.stream("Hello.")) == "two"
