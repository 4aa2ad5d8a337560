"""Embeddings of an endpoint: in order, counted, and believed only if there is one for each text."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mlx_integrations import errors
from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
from mlx_integrations.errors import ContextOverflowError, InvalidRequestError, RemoteStreamError
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult
from tests.openai_server import OpenAIServer

KEY = "sk-canary-0123456789"
TEXTS = ["one", "two words", "three words here"]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def backend(server: OpenAIServer) -> Iterator[OpenAIEmbeddingBackend]:
    backend = OpenAIEmbeddingBackend(base_url=server.base_url, model="test-model", api_key=KEY, endpoint="house")
    yield backend
    backend.close()


def embed(backend: OpenAIEmbeddingBackend, texts: list[str], **options: Any) -> EmbeddingResult:
    return EmbeddingResult.join(backend.stream(texts, EmbeddingOptions(**options)))


def test_vectors_are_put_in_the_order_of_their_texts(server: OpenAIServer, backend: OpenAIEmbeddingBackend) -> None:
    expected = embed(backend, TEXTS)
    server.edit_embeddings = lambda data: data[::-1]
    assert np.array_equal(embed(backend, TEXTS).vectors, expected.vectors)
    assert expected.tokens == 6, "as the endpoint counted"


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data[:-1],
        lambda data: data + data[:1],
        lambda data: [{**data[0], "index": 1}, *data[1:]],
        lambda data: [{**item, "index": None} for item in data],
        lambda data: [{**data[0], "embedding": [1.0]}, *data[1:]],
        lambda data: [{**item, "embedding": None} for item in data],
        lambda data: [{**item, "embedding": ["a"] * 8} for item in data],
        lambda data: [{**item, "embedding": "no base64!"} for item in data],
        lambda data: [{**item, "embedding": "AAAA"} for item in data],
        lambda data: [{**item, "embedding": [float("nan")] * 8} for item in data],
        lambda data: [],
    ],
)
def test_what_is_not_one_vector_for_each_text_is_not_believed(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend, edit: Callable[[Any], Any]
) -> None:
    embed(backend, ["first"])
    server.edit_embeddings = edit
    with pytest.raises(RemoteStreamError, match="`house` sent"):
        embed(backend, TEXTS)


def test_vectors_of_another_width_than_was_said_are_not_believed(server: OpenAIServer) -> None:
    backend = OpenAIEmbeddingBackend(base_url=server.base_url, model="test-model", api_key=KEY, dimensions=7)
    with pytest.raises(RemoteStreamError, match="8 coordinates instead of 7"):
        embed(backend, ["a"])
    backend.close()


def test_openai_itself_is_asked_for_the_short_encoding(server: OpenAIServer) -> None:
    plain = OpenAIEmbeddingBackend(base_url=server.base_url, model="test-model", api_key=KEY)
    short = OpenAIEmbeddingBackend(base_url=server.base_url, model="test-model", api_key=KEY, kind="openai")
    assert np.allclose(embed(plain, TEXTS).vectors, embed(short, TEXTS).vectors, atol=1e-7)
    assert [call.body["encoding_format"] for call in server.calls("embeddings")] == ["float", "base64"]
    plain.close()
    short.close()


def test_batches_are_requests(server: OpenAIServer, backend: OpenAIEmbeddingBackend) -> None:
    embed(backend, ["abcd"] * 600)
    embed(backend, ["abcd" * 3, "abcd", "abcd", "abcd" * 9], batch_tokens=4)
    assert [len(call.body["input"]) for call in server.calls("embeddings")] == [256, 256, 88, 2, 1, 1]


def test_an_empty_text_is_sent_as_a_blank(server: OpenAIServer, backend: OpenAIEmbeddingBackend) -> None:
    embed(backend, ["", "\ud800"])
    assert server.calls("embeddings")[0].body["input"] == [" ", "\ufffd"]


def test_the_width_is_asked_for_once_and_only_if_it_is_needed(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend
) -> None:
    assert server.requests == []
    assert [backend.capabilities.dimensions for _ in range(3)] == [8, 8, 8]
    assert len(server.requests) == 1


async def test_event_loops_ask_for_the_width_without_waiting_in_them(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend
) -> None:
    chunks = [chunk async for chunk in backend.astream(TEXTS, EmbeddingOptions(dimensions=3))]
    assert chunks[0].vectors.shape == (3, 3)
    await backend.aclose()


def test_a_fingerprint_names_the_endpoint_and_shows_its_vectors(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend
) -> None:
    found = backend.fingerprint()
    assert (found.model, found.dimensions, found.pooling) == ("house/test-model", 8, "")
    assert len(found.witness) == 4
    asked = len(server.requests)
    assert backend.fingerprint(EmbeddingOptions(side="query")) == found and len(server.requests) == asked
    with OpenAIServer() as other:
        same = OpenAIEmbeddingBackend(base_url=other.base_url, model="test-model", endpoint="elsewhere")
        assert same.fingerprint().differences(found) == (), "the same vectors are the same, whoever makes them"
        same.close()


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (401, None, "RemoteAuthenticationError"),
        (404, None, "RemoteModelNotFoundError"),
        (429, None, "RemoteRateLimitError"),
        (503, None, "RemoteServerError"),
        (400, "context_length_exceeded", "ContextOverflowError"),
    ],
)
async def test_failures_are_those_of_chats(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend, status: int, code: str | None, name: str
) -> None:
    server.fail(status=status, code=code, message=f"key {KEY}", on="embeddings", times=2)
    for _ in range(2):
        with pytest.raises(getattr(errors, name)) as caught:
            embed(backend, ["a"])
        assert KEY not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    server.fail(status=status, code=code, on="embeddings")
    with pytest.raises(getattr(errors, name)):
        [_ async for _ in backend.astream(["a"])]
    await backend.aclose()


def test_a_text_that_the_endpoint_finds_too_long_overflows_with_numbers(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend
) -> None:
    server.fail(
        status=400, message="maximum context length is 8192 tokens, however you requested 9000", on="embeddings"
    )
    with pytest.raises(ContextOverflowError) as caught:
        embed(backend, ["a"])
    assert (caught.value.prompt_tokens, caught.value.limit_tokens) == (9000, 8192)


def test_a_failure_in_the_middle_comes_after_the_vectors_before_it(
    server: OpenAIServer, backend: OpenAIEmbeddingBackend
) -> None:
    embed(backend, ["warm"])
    stream = backend.stream(itertools.repeat("abcd"), EmbeddingOptions(batch_tokens=2))
    assert next(stream).first == 0
    server.reset(on="embeddings")
    with pytest.raises(errors.RemoteConnectionError):
        next(stream)


@pytest.mark.parametrize("options", [{"dimensions": 0}, {"max_tokens": 0}])
def test_impossible_sizes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        OpenAIEmbeddingBackend(base_url="http://localhost:1/v1", model="m", **options)
