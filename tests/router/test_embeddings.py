"""Routed embeddings: one space, whoever answers; nothing embedded twice, nothing sent where it may not go."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import (
    EmbeddingSpaceError,
    GenerationError,
    InvalidRequestError,
    ModelNotFoundError,
    PrivacyError,
    RemoteConnectionError,
    RouterError,
)
from mlx_integrations.fingerprint import WITNESS_TEXTS
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.router.embedding_space import EmbeddingCandidate
from mlx_integrations.router.embeddings import RoutedEmbeddingBackend
from mlx_integrations.router.policy import Policy
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingResult
from tests.contracts.embedding_backend import EmbeddingBackendContract
from tests.router.embedding_fakes import Flaky, candidate, vectors_of

BROKEN = GenerationError("it broke")
SMALL = EmbeddingOptions(batch_tokens=12)
TEXTS = [f"text number {number}" for number in range(30)]
CLOUD = Policy(allow_cloud=True)
WATCHED = Policy(allow_cloud=True, private_words=("secret",))


def routed(*candidates: EmbeddingCandidate, **options: Any) -> RoutedEmbeddingBackend:
    return RoutedEmbeddingBackend(candidates, **options)


def pair(first: EmbeddingBackend, second: EmbeddingBackend, **options: Any) -> RoutedEmbeddingBackend:
    return routed(candidate("first", first), candidate("second", second), **options)


class TestTwoOfOneSpace(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        return pair(FakeEmbeddingBackend(), FakeEmbeddingBackend(model_id="same weights"))


class TestWhereTheFirstNeverAnswers(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        revised: dict[str, Any] = {"revision": "abc", "query_prompt": "query: ", "document_prompt": "passage: "}
        return pair(Flaky(error=BROKEN, **revised), FakeEmbeddingBackend(**revised), window_seconds=0)


class TestWhereTheFirstAlwaysBreaksOff(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        first = Flaky(error=BROKEN, chunks=1, spares_witnesses=True)
        return pair(first, FakeEmbeddingBackend(), window_seconds=0)


class TestAlone(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        return routed(candidate("only", FakeEmbeddingBackend()))


# Going on where another one stopped


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.integers(0, 12), max_size=25),
    breaks=st.integers(0, 8),
    batch_tokens=st.integers(4, 40),
    is_async=st.booleans(),
)
def test_texts_that_are_answered_are_not_asked_again(
    words: list[int], breaks: int, batch_tokens: int, is_async: bool
) -> None:
    texts = [f"{number} " + "word " * count for number, count in enumerate(words)]
    options = EmbeddingOptions(batch_tokens=batch_tokens)
    first, second = Flaky(max_tokens=9), Flaky(max_tokens=9)
    backend = pair(first, second)
    backend.fingerprint()
    first.error, first.chunks = BROKEN, breaks

    async def everything() -> list[EmbeddingChunk]:
        return [chunk async for chunk in backend.astream(iter(texts), options)]

    chunks = asyncio.run(everything()) if is_async else list(backend.stream(iter(texts), options))
    alone = EmbeddingResult.join(FakeEmbeddingBackend(max_tokens=9).stream(texts, options))
    result = EmbeddingResult.join(chunks)
    assert np.array_equal(result.vectors, alone.vectors)
    assert (result.truncated, result.tokens) == (alone.truncated, alone.tokens)
    starts = [0, *itertools.accumulate(len(chunk.vectors) for chunk in chunks)]
    assert [chunk.first for chunk in chunks] == starts[:-1]
    if second.seen:
        answered = sum(len(chunk.vectors) for chunk in itertools.islice(chunks, breaks))
        assert second.seen == texts[answered:]


def test_the_source_is_read_once_and_no_further_than_needed() -> None:
    first, second = Flaky(), Flaky()
    backend = pair(first, second)
    backend.fingerprint()
    first.error, first.chunks = BROKEN, 2
    read: list[str] = []

    def source() -> Iterator[str]:
        for number in itertools.count():
            read.append(f"text {number}")
            yield read[-1]

    chunks = backend.stream(source(), SMALL)
    taken = [next(chunks) for _ in range(6)]
    chunks.close()
    assert read == list(dict.fromkeys(read))
    assert len(read) <= sum(len(chunk.vectors) for chunk in taken) + 8
    assert second.closed == 1


def test_progress_is_told_once_for_each_text() -> None:
    first = Flaky()
    backend = pair(first, Flaky())
    backend.fingerprint()
    first.error, first.chunks = BROKEN, 3
    steps: list[int] = []
    vectors_of(backend, TEXTS, replace(SMALL, on_progress=steps.append))
    assert sum(steps) == len(TEXTS)


def test_an_error_of_progress_is_the_callers_own() -> None:
    first, second = Flaky(), Flaky()

    def fail(count: int) -> None:
        raise LookupError("no such bar")

    with pytest.raises(LookupError, match="no such bar"):
        vectors_of(pair(first, second), TEXTS, EmbeddingOptions(on_progress=fail))
    assert second.seen == []


def test_an_error_of_the_source_asks_nobody_else() -> None:
    first, second = Flaky(), Flaky()

    def source() -> Iterator[str]:
        yield "one"
        raise LookupError("the database is gone")

    with pytest.raises(LookupError, match="the database is gone"):
        list(pair(first, second).stream(source()))
    assert second.calls == 0


def test_what_is_no_text_is_named_by_its_position_in_the_call() -> None:
    class Picky(Flaky):
        def stream(self, texts: Any, options: EmbeddingOptions = SMALL) -> Any:
            given = list(texts)
            if "bad" in given:
                name = f"texts[{given.index('bad')}]"
                raise InvalidRequestError(f"`{name}` is bad.", field=name)
            yield from super().stream(given, options)

    first = Flaky()
    backend = pair(first, Picky())
    backend.fingerprint()
    first.error, first.chunks = BROKEN, 1
    texts = ["a " * 12, "b " * 12, "bad"]
    first_only = len(next(FakeEmbeddingBackend().stream(texts, SMALL)).vectors)
    assert first_only == 1
    with pytest.raises(InvalidRequestError) as caught:
        list(backend.stream(texts, SMALL))
    assert caught.value.field == "texts[2]" and "texts[2]" in str(caught.value)


@pytest.mark.parametrize("error", [InvalidRequestError("no", field="x"), TypeError("a bug"), PrivacyError("no")])
def test_an_error_of_the_caller_asks_nobody_else(error: Exception) -> None:
    first, second = Flaky(), Flaky()
    backend = pair(first, second)
    backend.fingerprint()
    first.error = error
    with pytest.raises(type(error)) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value is error and second.seen == []


# One space


def test_other_vectors_are_refused_with_both_models_and_their_dimensions() -> None:
    first, second = Flaky(model_id="minilm", dimensions=384), Flaky(model_id="large", dimensions=1536)
    backend = pair(first, second)
    vectors_of(backend, TEXTS)
    first.error = BROKEN
    with pytest.raises(EmbeddingSpaceError) as caught:
        vectors_of(backend, TEXTS)
    error = caught.value
    for part in ("minilm", "384", "large", "1536"):
        assert part in str(error)
    assert error.wanted == {"name": "first", "model": "minilm", "dimensions": 384}
    assert error.offered == ({"name": "second", "model": "large", "dimensions": 1536},)
    assert error.__cause__ is BROKEN and error.fields[0] == "dimensions"
    assert second.seen == []


@pytest.mark.parametrize("has_failed_before", [False, True])
@pytest.mark.parametrize("same_name", [False, True])
def test_other_weights_of_equal_width_are_refused_whatever_they_are_called(
    has_failed_before: bool, same_name: bool
) -> None:
    first, second = Flaky(model_id="bge"), Flaky(model_id="bge" if same_name else "other", seed=1)
    backend = pair(first, second)
    if not has_failed_before:
        backend.fingerprint()
    first.error = BROKEN
    with pytest.raises(EmbeddingSpaceError) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value.fields == (("unseen",) if has_failed_before else ("witness",))
    assert second.seen == []


def test_nothing_is_mixed_into_a_call_that_has_begun() -> None:
    first, second = Flaky(), Flaky(seed=1)
    backend = pair(first, second)
    backend.fingerprint()
    first.error, first.chunks = BROKEN, 2
    stream = backend.stream(TEXTS, SMALL)
    chunks = [next(stream), next(stream)]
    with pytest.raises(EmbeddingSpaceError):
        next(stream)
    found = EmbeddingResult.join(chunks).vectors
    assert np.array_equal(found, vectors_of(FakeEmbeddingBackend(), TEXTS, SMALL)[: len(found)])
    assert len(found) < len(TEXTS) and second.seen == []


def test_declared_equal_is_verified_before_the_first_vector_and_remembered() -> None:
    first = Flaky(query_prompt="query: ")
    second = Flaky(model_id="elsewhere", query_prompt="query: ", document_prompt="")
    third = Flaky(model_id="liar", seed=2)
    backend = routed(
        candidate("first", first),
        candidate("liar", third, is_declared_equal=True),
        candidate("second", second, is_declared_equal=True),
    )
    vectors_of(backend, TEXTS)
    first.error = BROKEN
    assert np.array_equal(vectors_of(backend, TEXTS), vectors_of(FakeEmbeddingBackend(), TEXTS))
    assert third.seen == [] and second.seen == TEXTS
    asked = [request.texts for request in second.requests]
    assert asked[0] == list(WITNESS_TEXTS)
    vectors_of(backend, TEXTS)
    assert [request.texts for request in second.requests] == [*asked, TEXTS]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"normalize": False}, "normalize"),
        ({"dimensions": 16}, "dimensions"),
        ({"document_prompt": "x y z "}, "witness"),
    ],
)
def test_declared_equal_is_not_believed(other: dict[str, Any], field: str) -> None:
    first, second = Flaky(), Flaky(**other)
    backend = routed(candidate("first", first), candidate("second", second, is_declared_equal=True))
    backend.fingerprint()
    first.error = BROKEN
    with pytest.raises(EmbeddingSpaceError) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value.fields == (field,)
    assert second.seen == []


def test_declared_equal_allows_what_other_arithmetic_changes() -> None:
    class Rounded(Flaky):
        step = 0.02

        def _vectors(self, rows: Any, options: EmbeddingOptions) -> Any:
            vectors = super()._vectors(rows, options)
            return (np.round(vectors / self.step) * self.step).astype(np.float32)

    first, second = Flaky(), Rounded()
    backend = routed(candidate("first", first), candidate("second", second, is_declared_equal=True))
    strict = routed(candidate("first", first), candidate("second", second, is_declared_equal=True), min_cosine=0.9999)
    for one in (backend, strict):
        one.fingerprint()
    first.error = BROKEN
    assert len(vectors_of(backend, TEXTS)) == len(TEXTS)
    with pytest.raises(EmbeddingSpaceError):
        vectors_of(strict, TEXTS)


def test_queries_are_held_to_queries() -> None:
    first, second = Flaky(query_prompt="query: "), Flaky(model_id="no prompts")
    backend = routed(candidate("first", first), candidate("second", second, is_declared_equal=True))
    vectors_of(backend, TEXTS)
    first.error = BROKEN
    assert len(vectors_of(backend, TEXTS)) == len(TEXTS)
    with pytest.raises(EmbeddingSpaceError):
        vectors_of(backend, ["where?"], EmbeddingOptions(side="query"))
    assert "where?" not in second.seen


def test_who_comes_back_as_another_model_is_not_let_in_again() -> None:
    now = [0.0]
    first, second = Flaky(), Flaky()
    backend = pair(first, second, clock=lambda: now[0])
    expected = vectors_of(backend, TEXTS)
    first.error = BROKEN
    for _ in range(3):
        vectors_of(backend, TEXTS)
    first.error, first._seed = None, 7
    now[0] = 1e6
    assert np.array_equal(vectors_of(backend, TEXTS), expected)
    assert first.requests[-1].texts != TEXTS


def test_a_model_of_other_width_in_the_middle_of_a_stream_is_stopped() -> None:
    class Swapped(Flaky):
        def stream(self, texts: Any, options: EmbeddingOptions = SMALL) -> Any:
            for number, chunk in enumerate(super().stream(texts, options)):
                yield chunk if number == 0 else replace(chunk, vectors=np.ones((len(chunk.vectors), 8), np.float32))

    backend = pair(Swapped(), Flaky())
    assert np.array_equal(vectors_of(backend, TEXTS, SMALL), vectors_of(FakeEmbeddingBackend(), TEXTS))


def test_a_stream_that_ends_early_is_continued() -> None:
    class Short(Flaky):
        def stream(self, texts: Any, options: EmbeddingOptions = SMALL) -> Any:
            chunks = list(super().stream(texts, options))
            yield from chunks if len(chunks) == 1 else chunks[:1]

    backend = pair(Short(), Flaky())
    assert np.array_equal(vectors_of(backend, TEXTS, SMALL), vectors_of(FakeEmbeddingBackend(), TEXTS))


# Existing stores and new ones


def test_a_record_lets_a_fallback_answer_where_the_first_was_never_seen() -> None:
    record = FakeEmbeddingBackend(model_id="bge").fingerprint()
    missing = ModelNotFoundError("No `bge`.", model="bge")
    first, other, second = Flaky(error=missing), Flaky(seed=3), Flaky(model_id="bge elsewhere")
    backend = routed(candidate("first", first), candidate("other", other), candidate("second", second), record=record)
    assert np.array_equal(vectors_of(backend, TEXTS), vectors_of(FakeEmbeddingBackend(), TEXTS))
    assert (backend.chosen, other.seen) == ("second", [])
    assert backend.fingerprint() == record
    assert backend.identity() == replace(record, witness=())


def test_a_record_keeps_out_the_first_too() -> None:
    record = FakeEmbeddingBackend(seed=5).fingerprint()
    first = Flaky()
    for backend in (routed(candidate("first", first), record=record), pair(first, Flaky(), record=record)):
        with pytest.raises(EmbeddingSpaceError):
            vectors_of(backend, TEXTS)
    assert first.seen == []


def test_declared_equal_is_verified_by_a_record() -> None:
    record = replace(FakeEmbeddingBackend(query_prompt="q: ").fingerprint(), pooling="cls")
    dead = Flaky(error=BROKEN)

    def through(backend: EmbeddingBackend, side: Any) -> int:
        last = candidate("last", backend, is_declared_equal=True)
        return len(vectors_of(routed(candidate("dead", dead), last, record=record), TEXTS, EmbeddingOptions(side=side)))

    assert through(Flaky(), "document") == len(TEXTS)
    assert through(Flaky(query_prompt="q: "), "query") == len(TEXTS)
    for side, wrong in (("query", Flaky()), ("document", Flaky(seed=1)), ("document", Flaky(dimensions=64))):
        with pytest.raises(EmbeddingSpaceError):
            through(wrong, side)
        assert wrong.seen == []


def test_a_new_store_is_filled_by_the_first_who_can_and_by_nobody_else_later() -> None:
    local, cloud = Flaky(dimensions=8, error=BROKEN), Flaky(model_id="cloud", dimensions=12)
    backend = routed(candidate("local", local), candidate("cloud", cloud, "remote"), for_new_store=True, policy=CLOUD)
    assert backend.chosen is None
    assert vectors_of(backend, TEXTS).shape == (len(TEXTS), 12)
    assert [backend.chosen, backend.model_id, backend.fingerprint().dimensions] == ["cloud", "cloud", 12]
    local.error = None
    calls = local.calls
    assert vectors_of(backend, TEXTS).shape == (len(TEXTS), 12)
    assert local.calls == calls
    cloud.error = RemoteConnectionError("gone", endpoint="cloud")
    with pytest.raises(EmbeddingSpaceError) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value.wanted["name"] == "cloud" and local.seen == []


def test_two_threads_do_not_choose_two_spaces() -> None:
    for _ in range(20):
        barrier = threading.Barrier(2)

        class Sometimes(Flaky):
            def stream(self, texts: Any, options: EmbeddingOptions = SMALL, barrier: Any = barrier) -> Any:
                if threading.current_thread().name.endswith("_0") and not self.requests:
                    barrier.wait(timeout=20)
                    raise BROKEN
                yield from super().stream(texts, options)

        class Meets(Flaky):
            def stream(self, texts: Any, options: EmbeddingOptions = SMALL, barrier: Any = barrier) -> Any:
                yield from super().stream(texts, options)

        backend = pair(Sometimes(dimensions=8), Meets(dimensions=12), for_new_store=True)

        def embed(number: int, backend: RoutedEmbeddingBackend = backend, barrier: Any = barrier) -> int | None:
            if not threading.current_thread().name.endswith("_0"):
                barrier.wait(timeout=20)
            try:
                return int(vectors_of(backend, TEXTS).shape[1])
            except EmbeddingSpaceError:
                return None

        with ThreadPoolExecutor(2) as pool:
            widths = set(pool.map(embed, range(2))) - {None}
        assert len(widths) == 1


# Where texts may go


def test_a_cloud_is_asked_only_where_that_is_allowed() -> None:
    for options in ({}, {"policy": Policy(allow_cloud=True, mode="local_only")}, {"policy": CLOUD, "is_private": True}):
        local, cloud = Flaky(), Flaky()
        backend = routed(candidate("local", local), candidate("cloud", cloud, "remote"), **options)
        backend.fingerprint()
        local.error = BROKEN
        with pytest.raises(PrivacyError if "is_private" in options else RouterError):
            vectors_of(backend, TEXTS)
        assert cloud.calls == 0


def test_no_fallback_means_none() -> None:
    first, second = Flaky(), Flaky()
    backend = pair(first, second, allow_fallback=False)
    backend.fingerprint()
    first.error = BROKEN
    with pytest.raises(RouterError) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value.__cause__ is BROKEN
    assert dict(caught.value.attempts)["second"] == "a fallback is not allowed"
    assert second.calls == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_a_private_text_stays_here_in_the_middle_of_a_call(is_async: bool) -> None:
    texts = [*TEXTS[:10], "a secret", *TEXTS[10:]]
    cloud, local = Flaky(), Flaky()
    backend = routed(candidate("cloud", cloud, "remote"), candidate("local", local), policy=WATCHED)

    async def everything() -> EmbeddingResult:
        return EmbeddingResult.join([chunk async for chunk in backend.astream(iter(texts), SMALL)])

    found = asyncio.run(everything()).vectors if is_async else vectors_of(backend, iter(texts), SMALL)
    assert np.array_equal(found, vectors_of(FakeEmbeddingBackend(), texts))
    assert (cloud.seen, local.seen) == (texts[:10], texts[10:])


def test_a_private_text_that_nobody_here_can_embed_is_refused() -> None:
    cloud, local = Flaky(), Flaky(seed=1)
    backend = routed(candidate("cloud", cloud, "remote"), candidate("local", local), policy=WATCHED)
    with pytest.raises(PrivacyError) as caught:
        vectors_of(backend, [*TEXTS[:3], "a secret", "more"])
    assert (caught.value.because, caught.value.candidates) == (("a word of your list",), ("cloud",))
    assert "text 3" in str(caught.value)
    assert cloud.seen == TEXTS[:3] and local.seen == []


def test_a_private_text_is_not_sent_when_the_local_model_fails() -> None:
    local, cloud = Flaky(), Flaky()
    backend = routed(candidate("local", local), candidate("cloud", cloud, "remote"), policy=WATCHED)
    backend.fingerprint()
    local.error = BROKEN
    with pytest.raises(PrivacyError) as caught:
        vectors_of(backend, ["a secret"])
    assert caught.value.__cause__ is BROKEN
    assert cloud.seen == []


def test_where_a_model_is_counts_when_it_is_asked() -> None:
    where: list[Any] = ["loopback"]
    server, local = Flaky(), Flaky()
    at_an_address = replace(candidate("server", server, "loopback"), locate=lambda: where[0])
    backend = routed(at_an_address, candidate("local", local))
    assert len(vectors_of(backend, TEXTS)) == len(TEXTS)
    where[0], seen = "remote", len(server.seen)
    vectors_of(backend, ["somewhere else"])
    assert (len(server.seen), local.seen) == (seen, ["somewhere else"])
    with pytest.raises(PrivacyError):
        vectors_of(routed(at_an_address, is_private=True), TEXTS)
    assert len(server.seen) == seen


def test_nothing_is_sent_where_the_network_is_switched_off() -> None:
    local, cloud = Flaky(), Flaky()
    offline = Policy(allow_cloud=True, is_offline=True)
    backend = routed(candidate("local", local), candidate("cloud", cloud, "remote"), policy=offline)
    backend.fingerprint()
    local.error = BROKEN
    with pytest.raises(RouterError, match="switched off"):
        vectors_of(backend, TEXTS)
    assert cloud.calls == 0


# Breakers


def test_a_dead_model_is_left_alone_after_three_calls_and_tried_by_one() -> None:
    now = [0.0]
    first, second = Flaky(), Flaky()
    backend = pair(first, second, clock=lambda: now[0], window_seconds=30)
    backend.fingerprint()
    first.error, first.calls = BROKEN, 0
    for _ in range(10):
        vectors_of(backend, TEXTS)
    assert first.calls == 3
    now[0] = 31
    for _ in range(5):
        vectors_of(backend, TEXTS)
    assert first.calls == 4
    first.error, now[0] = None, 62
    seen = len(second.seen)
    vectors_of(backend, TEXTS)
    assert len(second.seen) == seen


def test_a_stream_that_is_closed_early_leaves_no_probe_behind() -> None:
    now = [0.0]
    first, second = Flaky(), Flaky()
    backend = pair(first, second, clock=lambda: now[0], window_seconds=30)
    backend.fingerprint()
    first.error = BROKEN
    for _ in range(3):
        vectors_of(backend, TEXTS)
    first.error, now[0] = None, 31
    chunks = backend.stream(TEXTS, SMALL)
    next(chunks)
    chunks.close()
    calls = second.calls
    vectors_of(backend, TEXTS)
    assert second.calls == calls


def test_when_everybody_fails_all_are_listed_and_the_first_is_the_cause() -> None:
    first, second = Flaky(), Flaky()
    backend = pair(first, second)
    vectors_of(backend, TEXTS)
    first.error, second.error = BROKEN, MemoryError()
    with pytest.raises(RouterError) as caught:
        vectors_of(backend, TEXTS)
    assert caught.value.attempts == (
        ("first", "it failed (GenerationError)"),
        ("second", "out of memory (MemoryError)"),
    )
    assert caught.value.__cause__ is BROKEN


# Set up wrongly


@pytest.mark.parametrize(
    ("candidates", "options", "field"),
    [
        ([], {}, "candidates"),
        ([("a", "in-process"), ("a", "in-process")], {}, "candidates"),
        ([("a", "remote"), ("b", "in-process")], {}, "candidates"),
        ([("a", "remote")], {"policy": CLOUD, "is_private": True}, "candidates"),
        ([("a", "in-process")], {"min_cosine": 0.0}, "min_cosine"),
        (
            [("a", "in-process")],
            {"for_new_store": True, "record": FakeEmbeddingBackend().fingerprint()},
            "for_new_store",
        ),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_made(
    candidates: list[tuple[str, Any]], options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        routed(*(candidate(name, Flaky(), location) for name, location in candidates), **options)
    assert caught.value.field == field
