"""`RoutedEmbeddings` over models of this package, others of LangChain, and a server that speaks OpenAI's protocol."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import Field, SecretStr

from mlx_integrations.assembly import get_settings, use_settings
from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
from mlx_integrations.errors import (
    ConfigurationError,
    EmbeddingMismatchError,
    EmbeddingSpaceError,
    GenerationError,
    InvalidRequestError,
    PrivacyError,
    RouterError,
)
from mlx_integrations.langchain import MLXEmbeddings, RoutedEmbeddings, guarded, verify_store
from mlx_integrations.manager.locate import locate
from mlx_integrations.router.policy import Policy
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.openai_server import OpenAIServer
from tests.router.embedding_fakes import Flaky

MINILM = "minilm-l6-v2"
BROKEN = GenerationError("it broke")
TEXTS = ["The library opens at nine.", "The museum is closed on Mondays.", "A tram costs two euros.", ""]
CANARY = "canary-7f3a"


def over(backend: FakeEmbeddingBackend, **options: Any) -> MLXEmbeddings:
    return MLXEmbeddings(model="fake", backend=backend, **options)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(models=("embed",), dimensions=384) as running:
        yield running


def remote(server: OpenAIServer) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="embed",
        api_key=SecretStr("none"),
        base_url=server.base_url,
        max_retries=0,
        check_embedding_ctx_length=False,
    )


class Elsewhere(DeterministicFakeEmbedding):
    """A model that nobody can tell where it computes; notes what it is asked."""

    asked: list[str] = Field(default_factory=list)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.extend(texts)
        return super().embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return super().embed_query(text)


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RoutedEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"models": {"first": over(FakeEmbeddingBackend()), "second": over(FakeEmbeddingBackend())}}


class TestIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RoutedEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        broken = over(Flaky(error=BROKEN, revision="abc"))
        return {"models": {"first": broken, "second": over(FakeEmbeddingBackend(revision="abc"))}}


class TestIntegrationOnMiniLM(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RoutedEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "models": {"missing": MLXEmbeddings(model="not-here"), "here": MLXEmbeddings(model=MINILM)},
            "space": RECORD,
        }


RECORD = MLXEmbeddings(model=MINILM).fingerprint()


def test_real_vectors_go_on_with_real_vectors() -> None:
    """The same weights under two names: one in the runtime, one behind a backend that breaks off."""
    alone = MLXEmbeddings(model=MINILM)
    routed = RoutedEmbeddings(
        {"missing": MLXEmbeddings(model="not-here"), "path": MLXEmbeddings(model=str(locate(MINILM)))},
        space=alone.fingerprint(),
    )
    assert np.allclose(routed.embed_documents(TEXTS), alone.embed_documents(TEXTS), atol=1e-6)
    assert np.allclose(asyncio.run(routed.aembed_query("trams?")), alone.embed_query("trams?"), atol=1e-6)
    assert routed.chosen == "path"
    other = RoutedEmbeddings([over(FakeEmbeddingBackend(dimensions=384))], space=alone.fingerprint())
    with pytest.raises(EmbeddingSpaceError):
        other.embed_documents(TEXTS)


@pytest.mark.parametrize("is_async", [False, True])
def test_documents_and_queries_keep_the_prompts_of_each_model(is_async: bool) -> None:
    first, second = Flaky(), Flaky()
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
    routed = RoutedEmbeddings({"first": over(first, **prompts), "second": over(second, **prompts)})
    expected = over(FakeEmbeddingBackend(), **prompts)
    for error in (None, BROKEN):
        routed.fingerprint()
        first.error = error
        if is_async:
            found = asyncio.run(routed.aembed_documents(TEXTS)), asyncio.run(routed.aembed_query("where?"))
        else:
            found = routed.embed_documents(TEXTS), routed.embed_query("where?")
        assert found == (expected.embed_documents(TEXTS), expected.embed_query("where?"))
    assert second.seen


def test_a_store_made_by_one_model_opens_with_the_routed_one_and_with_nobody_else(tmp_path: Path) -> None:
    first = Flaky()
    alone = over(first)
    store = guarded(InMemoryVectorStore(alone))
    store.add_texts(TEXTS)
    path = tmp_path / "notes.json"
    store.dump(str(path))

    def opened(embeddings: Embeddings) -> InMemoryVectorStore:
        return guarded(InMemoryVectorStore.load(str(path), embeddings), path=path)

    first.error = BROKEN
    routed = RoutedEmbeddings({"first": alone, "second": over(FakeEmbeddingBackend(model_id="same"))}, space=path)
    assert verify_store(opened(routed)) == over(FakeEmbeddingBackend()).fingerprint()
    assert opened(routed).similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
    first.error = None
    plain = RoutedEmbeddings({"first": alone, "second": over(FakeEmbeddingBackend(model_id="same"))})
    assert opened(plain).similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
    with pytest.raises(EmbeddingMismatchError):
        verify_store(opened(RoutedEmbeddings([over(FakeEmbeddingBackend(seed=1))])))


def test_a_cloud_of_another_width_fills_only_a_new_store(server: OpenAIServer, tmp_path: Path) -> None:
    server.dimensions = 64
    local = Flaky(error=BROKEN)
    models = {"mac": over(local), "cloud": remote(server)}
    routed = RoutedEmbeddings(models, for_new_store=True)
    store = guarded(InMemoryVectorStore(routed))
    store.add_texts(TEXTS[:3])
    path = tmp_path / "new.json"
    store.dump(str(path))
    assert routed.chosen == "cloud"
    local.error = None
    assert len(routed.embed_query("one")) == 64
    again = RoutedEmbeddings(models, space=path)
    opened = guarded(InMemoryVectorStore.load(str(path), again), path=path)
    assert opened.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
    assert local.seen == []
    seen = len(server.requests)
    local.error = None
    routed_to_mac = RoutedEmbeddings(models)
    routed_to_mac.fingerprint()
    local.error = BROKEN
    with pytest.raises(EmbeddingSpaceError) as caught:
        routed_to_mac.embed_documents([CANARY])
    assert "32 dimensions" in str(caught.value) and "64 dimensions" in str(caught.value)
    assert len(server.requests) > seen and not server.saw(CANARY)


def test_the_same_weights_behind_a_server_take_over(server: OpenAIServer) -> None:
    first = OpenAIEmbeddingBackend(model="embed", base_url=server.base_url)
    routed = RoutedEmbeddings({"ours": MLXEmbeddings(model="embed", backend=first), "theirs": remote(server)})
    expected = routed.embed_documents(TEXTS[:3])
    with OpenAIServer(models=("other",)) as nobody:
        dead = OpenAIEmbeddingBackend(model="embed", base_url=nobody.base_url)
        again = RoutedEmbeddings(
            {"dead": MLXEmbeddings(model="embed", backend=dead), "theirs": remote(server)}, space=routed.fingerprint()
        )
        assert np.allclose(again.embed_documents(TEXTS[:3]), expected, atol=1e-6)


# Where texts may go


def private_cases() -> list[dict[str, Any]]:
    return [
        {"private": True, "allow_cloud": True},
        {"allow_cloud": False},
        {"allow_cloud": True, "allow_fallback": False},
    ]


@pytest.mark.parametrize("options", private_cases())
@pytest.mark.parametrize("how", ["documents", "query", "adocuments", "aquery", "lazy", "fingerprint"])
def test_what_may_not_leave_never_does(options: dict[str, Any], how: str, caplog: pytest.LogCaptureFixture) -> None:
    cloud = Elsewhere(size=32)
    routed = RoutedEmbeddings(
        {"mac": over(Flaky(error=BROKEN)), "cloud": cloud}, for_new_store=True, same_space=True, **options
    )
    calls: dict[str, Any] = {
        "documents": lambda: routed.embed_documents([CANARY]),
        "query": lambda: routed.embed_query(CANARY),
        "adocuments": lambda: asyncio.run(routed.aembed_documents([CANARY])),
        "aquery": lambda: asyncio.run(routed.aembed_query(CANARY)),
        "lazy": lambda: list(routed.lazy_embed_documents(iter([CANARY]))),
        "fingerprint": routed.fingerprint,
    }
    with pytest.raises((PrivacyError, RouterError)) as caught:
        calls[how]()
    assert cloud.asked == []
    assert CANARY not in f"{caught.value!r} {caught.value} {caplog.text}"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_text_in_which_something_private_is_found_stays_here(is_async: bool) -> None:
    cloud = Elsewhere(size=32)
    models = {"mac": over(Flaky(error=BROKEN)), "cloud": cloud}
    routed = RoutedEmbeddings(models, for_new_store=True, policy=Policy(allow_cloud=True))
    texts = ["harmless", f"{CANARY} 4111 1111 1111 1111", "more"]
    with pytest.raises(PrivacyError) as caught:
        asyncio.run(routed.aembed_documents(texts)) if is_async else routed.embed_documents(texts)
    assert caught.value.because == ("a credit card number",)
    assert not any(CANARY in text or text == "more" for text in cloud.asked)
    assert CANARY not in str(caught.value)


def test_what_is_said_of_where_a_model_is_is_checked(server: OpenAIServer) -> None:
    assert RoutedEmbeddings([remote(server)], private=True).embed_query("a")
    for unknown in (Elsewhere(size=8), remote_named("http://models.example.test/v1")):
        with pytest.raises(InvalidRequestError, match="can never be asked"):
            RoutedEmbeddings({"cloud": unknown}, private=True)
        with pytest.raises(InvalidRequestError, match="can never be asked"):
            RoutedEmbeddings([RoutedEmbeddings([unknown], allow_cloud=True)])
    mine = RoutedEmbeddings({"mine": Elsewhere(size=8)}, private=True, local=("mine",))
    assert len(mine.embed_query("a")) == 8


def remote_named(address: str) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(model="embed", api_key=SecretStr("none"), base_url=address)


# Profiles


@pytest.fixture
def profiles() -> Iterator[None]:
    before = get_settings()
    allowing: Any = {"letters": {"model": "not-here", "allow_fallback": True}, "diary": {"model": "not-here"}}
    use_settings(Settings(offline=False, embedding={"profiles": allowing}, router={"allow_cloud": True}))
    yield
    use_settings(before)


@pytest.mark.usefixtures("profiles")
def test_a_profile_decides_whether_anybody_else_may_embed() -> None:
    cloud = Elsewhere(size=8)
    letters = RoutedEmbeddings.from_profile("letters", {"cloud": cloud}, for_new_store=True)
    assert len(letters.embed_query("a")) == 8 and letters.chosen == "cloud"
    asked = len(cloud.asked)
    for diary in (
        RoutedEmbeddings.from_profile("diary", {"cloud": cloud}, for_new_store=True),
        RoutedEmbeddings.from_profile("letters", {"cloud": cloud}, for_new_store=True, allow_fallback=False),
        RoutedEmbeddings.from_profile("letters", {"cloud": cloud}, for_new_store=True, allow_cloud=False),
        RoutedEmbeddings.from_profile("letters", {"cloud": cloud}, for_new_store=True, private=True),
        RoutedEmbeddings.from_profile(
            "letters",
            {"cloud": cloud},
            for_new_store=True,
            policy=Policy(allow_cloud=True, private_profiles=frozenset({"letters"})),
        ),
    ):
        with pytest.raises((RouterError, PrivacyError)):
            diary.embed_query(CANARY)
    assert len(cloud.asked) == asked
    with pytest.raises(ConfigurationError, match="allows no fallback"):
        RoutedEmbeddings.from_profile("diary", {"cloud": cloud}, allow_fallback=True)
    with pytest.raises(ConfigurationError, match="no embedding profile"):
        RoutedEmbeddings.from_profile("leters", {"cloud": cloud})


# Set up wrongly


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"models": []}, "models"),
        ({"models": [over(FakeEmbeddingBackend()), over(FakeEmbeddingBackend())]}, "models"),
        ({"models": {"a": "text-embedding-3-small"}}, "models"),
        ({"models": [over(FakeEmbeddingBackend())], "same_space": ("b",)}, "same_space"),
        ({"models": [over(FakeEmbeddingBackend())], "local": ("b",)}, "local"),
        ({"models": [over(FakeEmbeddingBackend())], "space": "nowhere"}, "space"),
        ({"models": [over(FakeEmbeddingBackend())], "space": RECORD, "for_new_store": True}, "for_new_store"),
        ({"models": [over(FakeEmbeddingBackend())], "alow_cloud": True}, "alow_cloud"),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_made(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RoutedEmbeddings(**arguments)
    assert caught.value.field == field


def test_what_is_no_text_is_refused_by_its_position() -> None:
    routed = RoutedEmbeddings([over(FakeEmbeddingBackend())])
    texts: list[Any] = ["a", None]
    with pytest.raises(InvalidRequestError) as caught:
        routed.embed_documents(texts)
    assert caught.value.field == "texts[1]"
    with pytest.raises(InvalidRequestError):
        routed.embed_query(texts[1])
