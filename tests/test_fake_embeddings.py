"""The embedding backend made of hashes keeps the contract of every backend, and its own promises."""

import asyncio
import hashlib

import numpy as np
import pytest

from mlx_integrations.errors import InvalidRequestError, QueueFullError
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult
from tests.contracts.embedding_backend import EmbeddingBackendContract


class TestFakeEmbeddingBackend(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        return FakeEmbeddingBackend()


class TestFakeEmbeddingBackendWithPrompts(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        return FakeEmbeddingBackend(
            dimensions=20, max_tokens=40, normalize=False, query_prompt="query: ", document_prompt="passage: "
        )


def embedded(backend: FakeEmbeddingBackend, *texts: str) -> EmbeddingResult:
    return EmbeddingResult.join(backend.stream(texts))


def test_texts_that_share_words_are_near_each_other() -> None:
    question, near, far = embedded(
        FakeEmbeddingBackend(dimensions=256),
        "Where does the cat sleep?",
        "The cat does sleep on the sofa.",
        "Interest rates rose by a quarter point.",
    ).vectors
    assert question @ near > 0.5 > 0.3 > question @ far


def test_vectors_are_hashes_of_words_and_so_the_same_on_every_machine() -> None:
    def word(text: str) -> list[float]:
        digest = hashlib.shake_128(f"5 {text}".encode()).digest(4)
        return [int.from_bytes(digest[at : at + 2], "little") / 32767.5 - 1 for at in (0, 2)]

    expected = np.mean([word("<s>"), word("hello"), word("!")], axis=0)
    backend = FakeEmbeddingBackend(dimensions=2, normalize=False, seed=5)
    assert embedded(backend, "Hello!").vectors[0] == pytest.approx(expected, abs=1e-6)


def test_other_seeds_are_other_weights_whatever_the_name() -> None:
    first, again, other = (
        FakeEmbeddingBackend(model_id=name, seed=seed) for name, seed in [("a", 0), ("b", 0), ("a", 1)]
    )
    assert np.array_equal(embedded(first, "x").vectors, embedded(again, "x").vectors)
    assert first.fingerprint().differences(again.fingerprint()) == ()
    assert first.fingerprint().differences(other.fingerprint()) == ("witness",)


def test_requests_are_recorded_as_far_as_they_were_read() -> None:
    backend = FakeEmbeddingBackend()
    options = EmbeddingOptions(side="query", batch_tokens=4)
    stream = backend.stream(["one two", "three four", "five"], options)
    next(stream)
    stream.close()
    backend.fingerprint()
    (request,) = backend.requests
    assert (request.options, request.texts, backend.closed) == (options, ["one two", "three four"], 1)


def test_streams_that_ended_are_not_counted_as_closed() -> None:
    backend = FakeEmbeddingBackend()
    stream = backend.stream(["a"])
    list(stream)
    stream.close()
    assert backend.closed == 0


async def test_tasks_that_were_cancelled_are_counted() -> None:
    backend = FakeEmbeddingBackend(delay_seconds=3600)

    async def read() -> None:
        async for _ in backend.astream(["a"]):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


def test_batches_keep_to_their_tokens_and_longer_texts_are_alone() -> None:
    texts = ["a b c", "a", "a b c d e f g h", "a", "a"]
    chunks = list(FakeEmbeddingBackend().stream(texts, EmbeddingOptions(batch_tokens=8)))
    assert [len(chunk.vectors) for chunk in chunks] == [2, 1, 2]


def test_an_error_is_raised_at_the_first_step() -> None:
    backend = FakeEmbeddingBackend(error=QueueFullError("busy"))
    with pytest.raises(QueueFullError, match="busy"):
        next(backend.stream(["a"]))


def test_a_side_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="`side` cannot be `both`"):
        list(FakeEmbeddingBackend().stream(["a"], EmbeddingOptions(side="both")))  # type: ignore[arg-type]
