"""What holds for every `EmbeddingBackend`: inherit `EmbeddingBackendContract` and give it a `backend`."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.fingerprint import WITNESS_COORDINATES, WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions, EmbeddingResult

PLAIN = EmbeddingOptions()
TEXTS = [
    "The cat sat on the mat.",
    "",
    "A",
    "Hello 👩‍👩‍👧 there, and good morning to you all!",
    "你好，世界",
    "def add(a, b):\n    return a + b\n",
    "   ",
    "Something rather longer than the rest, so that batches have to be padded: one two three four five six seven.",
    "The cat sat on the mat.",
]
NO_TEXTS: list[Any] = [None, 7, b"bytes", ["a list"], 1.5]


class EmbeddingBackendContract:
    """Inherit it, and override the fixture `backend`; the attributes are for backends that compute differently."""

    tolerance = 1e-5
    """How far a vector may be from the one that its text has alone."""
    read_ahead_texts = 10_000
    """How many texts may be read before the first vectors are out."""
    prompt_is_pooled = True
    """Whether a prompt counts as the beginning of the text; models with `include_prompt: false` leave it out."""
    impossible: ClassVar[list[tuple[str, int]]] = [("dimensions", 0), ("dimensions", -1), ("batch_tokens", 0)]

    @pytest.fixture
    def backend(self) -> EmbeddingBackend:
        raise NotImplementedError("give the contract a backend")

    def test_it_is_an_embedding_backend_that_says_what_it_does(self, backend: EmbeddingBackend) -> None:
        assert isinstance(backend, EmbeddingBackend)
        assert backend.model_id
        known = backend.capabilities
        assert known.dimensions > 0 and known.max_tokens > 0 and known.pooling
        assert known.similarity in ("cosine", "dot", "euclidean", "manhattan")

    def test_vectors_are_finite_float32_of_the_stated_width(self, backend: EmbeddingBackend) -> None:
        vectors = _embed(backend, TEXTS)
        assert vectors.shape == (len(TEXTS), backend.capabilities.dimensions)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        if backend.capabilities.normalize:
            assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_every_text_has_the_vector_that_it_has_alone(self, backend: EmbeddingBackend) -> None:
        together = _embed(backend, TEXTS)
        for position, text in enumerate(TEXTS):
            self._same(together[position], _embed(backend, [text])[0])
        self._same(together[0], together[-1])
        assert np.abs(together[0] - together[3]).max() > 10 * self.tolerance, "different texts"

    def test_chunks_follow_one_another_and_cover_every_text(self, backend: EmbeddingBackend) -> None:
        chunks = list(backend.stream(TEXTS * 3, EmbeddingOptions(batch_tokens=16)))
        kept = [chunk.vectors.copy() for chunk in chunks]
        starts = [0, *itertools.accumulate(len(chunk.vectors) for chunk in chunks)]
        assert [chunk.first for chunk in chunks] == starts[:-1]
        assert starts[-1] == 3 * len(TEXTS)
        assert all(len(chunk.vectors) for chunk in chunks)
        assert all(np.array_equal(chunk.vectors, copy) for chunk, copy in zip(chunks, kept, strict=True))

    def test_tokens_are_what_was_read(self, backend: EmbeddingBackend) -> None:
        counts = backend.count_tokens(TEXTS)
        assert len(counts) == len(TEXTS) and all(type(count) is int for count in counts)
        read = sum(min(count, backend.capabilities.max_tokens) for count in counts)
        assert EmbeddingResult.join(backend.stream(TEXTS)).tokens == read
        assert counts[0] == counts[-1] > counts[1]

    def test_no_texts_make_no_chunks(self, backend: EmbeddingBackend) -> None:
        assert list(backend.stream([])) == []
        assert backend.count_tokens([]) == []

    async def test_no_texts_make_no_chunks_for_event_loops(self, backend: EmbeddingBackend) -> None:
        assert [chunk async for chunk in backend.astream([])] == []

    async def test_async_embeds_as_sync_does(self, backend: EmbeddingBackend) -> None:
        options = EmbeddingOptions(batch_tokens=16)
        theirs = EmbeddingResult.join([chunk async for chunk in backend.astream(TEXTS, options)])
        ours = EmbeddingResult.join(backend.stream(TEXTS, options))
        self._same(theirs.vectors, ours.vectors)
        assert (theirs.tokens, theirs.truncated) == (ours.tokens, ours.truncated)

    @pytest.mark.parametrize("kind", [list, tuple, iter, dict.fromkeys], ids=["list", "tuple", "iterator", "dict"])
    def test_texts_may_be_any_iterable(self, backend: EmbeddingBackend, kind: Any) -> None:
        self._same(_embed(backend, kind(TEXTS[:5])), _embed(backend, TEXTS[:5]))

    # What is no text

    @pytest.mark.parametrize("other", NO_TEXTS, ids=lambda other: type(other).__name__)
    def test_what_is_no_text_is_refused_by_its_position(self, backend: EmbeddingBackend, other: Any) -> None:
        for texts in (["a", "b", "c", other, "d"], iter(["a", "b", "c", other])):
            with pytest.raises(InvalidRequestError) as caught:
                list(backend.stream(texts))
            assert caught.value.field == "texts[3]"
            assert "texts[3]" in str(caught.value)

    async def test_what_is_no_text_is_refused_for_event_loops(self, backend: EmbeddingBackend) -> None:
        texts: list[Any] = ["a", None, "b"]
        with pytest.raises(InvalidRequestError) as caught:
            [_ async for _ in backend.astream(texts)]
        assert caught.value.field == "texts[1]"

    def test_what_is_no_text_is_not_counted(self, backend: EmbeddingBackend) -> None:
        texts: list[Any] = ["a", "b", None]
        with pytest.raises(InvalidRequestError) as caught:
            backend.count_tokens(texts)
        assert caught.value.field == "texts[2]"

    def test_nothing_is_read_after_what_is_no_text(self, backend: EmbeddingBackend) -> None:
        source = Counted(["a", "b", None, "c", "d"])
        with pytest.raises(InvalidRequestError):
            list(backend.stream(source))
        assert source.read == 3

    def test_one_text_is_not_taken_for_a_list_of_letters(self, backend: EmbeddingBackend) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            list(backend.stream("one text"))
        assert caught.value.field == "texts"

    def test_half_a_character_is_embedded_or_refused_by_its_position(self, backend: EmbeddingBackend) -> None:
        refused = None
        try:
            assert np.isfinite(_embed(backend, ["a", "half \ud83d of it"])).all()
        except InvalidRequestError as error:
            refused = error.field
        assert refused in (None, "texts[1]")

    def test_a_failing_source_fails_the_stream_and_nothing_else(self, backend: EmbeddingBackend) -> None:
        def source() -> Iterator[str]:
            yield "a"
            raise LookupError("the database is gone")

        with pytest.raises(LookupError, match="the database is gone"):
            list(backend.stream(source()))
        assert len(_embed(backend, ["a"])) == 1

    # Options

    def test_impossible_options_are_refused_by_name_at_the_first_step(self, backend: EmbeddingBackend) -> None:
        above = ("dimensions", backend.capabilities.dimensions + 1)
        for name, value in [*self.impossible, above]:
            options = replace(PLAIN, **{name: value})  # type: ignore[arg-type]
            source = Counted(["a"])
            stream = backend.stream(source, options)
            with pytest.raises(InvalidRequestError) as caught:
                next(stream)
            assert (caught.value.field, source.read) == (name, 0)
            with pytest.raises(InvalidRequestError):
                list(backend.stream([], options))

    async def test_impossible_options_are_refused_for_event_loops(self, backend: EmbeddingBackend) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            await anext(backend.astream(["a"], EmbeddingOptions(dimensions=0)))
        assert caught.value.field == "dimensions"

    @pytest.mark.parametrize("normalize", [True, False])
    def test_fewer_dimensions_are_the_first_ones(self, backend: EmbeddingBackend, normalize: bool) -> None:
        width = backend.capabilities.dimensions // 2
        raw = _embed(backend, TEXTS, EmbeddingOptions(normalize=False))
        short = _embed(backend, TEXTS, EmbeddingOptions(dimensions=width, normalize=normalize))
        assert short.shape == (len(TEXTS), width)
        self._same(short, _normal(raw[:, :width]) if normalize else raw[:, :width])

    def test_vectors_are_normal_or_not_as_asked(self, backend: EmbeddingBackend) -> None:
        raw = _embed(backend, TEXTS, EmbeddingOptions(normalize=False))
        self._same(_embed(backend, TEXTS, EmbeddingOptions(normalize=True)), _normal(raw))
        own = backend.capabilities.normalize
        self._same(_embed(backend, TEXTS), _embed(backend, TEXTS, EmbeddingOptions(normalize=own)))

    @pytest.mark.parametrize("batch_tokens", [1, 7, 64, 100_000])
    def test_vectors_do_not_depend_on_how_texts_are_batched(self, backend: EmbeddingBackend, batch_tokens: int) -> None:
        self._same(_embed(backend, TEXTS, EmbeddingOptions(batch_tokens=batch_tokens)), _embed(backend, TEXTS))

    def test_each_side_has_its_own_prompt(self, backend: EmbeddingBackend) -> None:
        known = backend.capabilities
        for side, prompt in (("query", known.query_prompt), ("document", known.document_prompt)):
            asked = EmbeddingOptions(side=side)  # type: ignore[arg-type]
            self._same(_embed(backend, TEXTS, asked), _embed(backend, TEXTS, EmbeddingOptions(prompt=prompt)))
            assert backend.count_tokens(TEXTS, asked) == backend.count_tokens(TEXTS, EmbeddingOptions(prompt=prompt))

    def test_a_prompt_is_put_before_every_text(self, backend: EmbeddingBackend) -> None:
        prompt, none = EmbeddingOptions(prompt="search for: "), EmbeddingOptions(prompt="")
        texts = [text for text in TEXTS if text.strip()]
        prompted = [f"search for: {text}" for text in texts]
        assert backend.count_tokens(texts, prompt) == backend.count_tokens(prompted, none)
        assert np.abs(_embed(backend, texts, prompt) - _embed(backend, texts, none)).max() > 10 * self.tolerance
        if self.prompt_is_pooled:
            self._same(_embed(backend, texts, prompt), _embed(backend, prompted, none))

    def test_progress_is_told_until_every_text_is_done(self, backend: EmbeddingBackend) -> None:
        steps: list[int] = []
        _embed(backend, TEXTS, EmbeddingOptions(on_progress=steps.append, batch_tokens=16))
        assert sum(steps) == len(TEXTS) and min(steps) > 0

    def test_texts_that_are_too_long_are_cut_and_reported(self, backend: EmbeddingBackend) -> None:
        limit = backend.capabilities.max_tokens
        long = "word " * (limit + 1)
        texts = ["short", long, "", long + "more", "short"]
        result = EmbeddingResult.join(backend.stream(texts))
        assert result.truncated == (1, 3)
        counts = backend.count_tokens(texts)
        assert [position for position, count in enumerate(counts) if count > limit] == [1, 3]
        self._same(result.vectors[1], result.vectors[3])
        fitting = [text for text, count in zip(TEXTS, backend.count_tokens(TEXTS), strict=True) if count <= limit]
        assert EmbeddingResult.join(backend.stream(fitting)).truncated == ()

    # Reading, closing, cancelling

    def test_an_endless_source_is_read_only_as_far_as_needed(self, backend: EmbeddingBackend) -> None:
        source = Counted(itertools.cycle(["a", "some words"]))
        stream = backend.stream(source)
        assert next(stream).first == 0
        assert source.read <= self.read_ahead_texts
        second = next(stream)
        assert second.first > 0
        stream.close()
        read = source.read
        assert list(stream) == []
        assert read == source.read <= 2 * self.read_ahead_texts

    def test_nothing_is_read_before_the_first_step(self, backend: EmbeddingBackend) -> None:
        source = Counted(["a"])
        backend.stream(source)
        assert source.read == 0

    def test_a_stream_may_be_closed_early(self, backend: EmbeddingBackend) -> None:
        expected = _embed(backend, TEXTS)
        for steps in (0, 1, 2):
            stream = backend.stream(itertools.cycle(TEXTS), EmbeddingOptions(batch_tokens=16))
            for _ in range(steps):
                next(stream)
            stream.close()
            assert list(stream) == []
        self._same(_embed(backend, TEXTS), expected)

    async def test_an_async_stream_may_be_closed_early(self, backend: EmbeddingBackend) -> None:
        expected = _embed(backend, TEXTS)
        for steps in (0, 1, 2):
            stream = backend.astream(itertools.cycle(TEXTS), EmbeddingOptions(batch_tokens=16))
            for _ in range(steps):
                await anext(stream)
            await stream.aclose()
        self._same(await _aembed(backend, TEXTS), expected)

    async def test_a_task_that_reads_may_be_cancelled(self, backend: EmbeddingBackend) -> None:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in backend.astream(itertools.cycle(TEXTS)):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self._same(await _aembed(backend, TEXTS), await _aembed(backend, TEXTS))

    def test_threads_get_the_vectors_they_get_alone(self, backend: EmbeddingBackend) -> None:
        calls = [(TEXTS, PLAIN), (TEXTS[3:5], EmbeddingOptions(dimensions=2)), ([], PLAIN)] * 3
        expected = [_embed(backend, *call) for call in calls]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda call: _embed(backend, *call), calls))
        for got, wanted in zip(found, expected, strict=True):
            self._same(got, wanted)

    async def test_tasks_get_the_vectors_they_get_alone(self, backend: EmbeddingBackend) -> None:
        calls = [(TEXTS, PLAIN), (TEXTS[3:5], EmbeddingOptions(dimensions=2)), ([], PLAIN)] * 3
        expected = [await _aembed(backend, *call) for call in calls]
        found = await asyncio.gather(*(_aembed(backend, *call) for call in calls))
        for got, wanted in zip(found, expected, strict=True):
            self._same(got, wanted)

    # Fingerprints

    def test_a_fingerprint_says_how_vectors_are_made(self, backend: EmbeddingBackend) -> None:
        known, found = backend.capabilities, backend.fingerprint()
        assert (found.model, found.dimensions, found.max_tokens) == (
            backend.model_id,
            known.dimensions,
            known.max_tokens,
        )
        assert (found.pooling, found.normalize) == (known.pooling, known.normalize)
        assert (found.query_prompt, found.document_prompt) == (known.query_prompt, known.document_prompt)
        shape = (len(WITNESS_TEXTS), min(WITNESS_COORDINATES, known.dimensions))
        assert np.shape(found.witness) == shape
        self._same(_embed(backend, WITNESS_TEXTS)[:, : shape[1]], np.array(found.witness))

    def test_a_fingerprint_stays_the_same(self, backend: EmbeddingBackend) -> None:
        first = backend.fingerprint()
        same_use = EmbeddingOptions(side="query", batch_tokens=9, on_progress=lambda _: None)
        for again in (backend.fingerprint(), backend.fingerprint(same_use)):
            assert again == first
            assert (again.digest(), again.differences(first)) == (first.digest(), ())
        assert EmbeddingFingerprint.from_dict(json.loads(json.dumps(first.to_dict()))) == first

    def test_an_identity_is_the_fingerprint_without_its_witness(self, backend: EmbeddingBackend) -> None:
        for options in (PLAIN, EmbeddingOptions(side="query", dimensions=2, prompt="to be found: ", batch_tokens=9)):
            identity, fingerprint = backend.identity(options), backend.fingerprint(options)
            assert identity == replace(fingerprint, witness=())
            assert identity.digest() == fingerprint.digest()

    @pytest.mark.parametrize(
        ("options", "different"),
        [
            (EmbeddingOptions(dimensions=2), {"dimensions"}),
            (EmbeddingOptions(prompt="to be found: "), {"query_prompt", "document_prompt"}),
        ],
        ids=["dimensions", "prompt"],
    )
    def test_another_use_has_another_fingerprint(
        self, backend: EmbeddingBackend, options: EmbeddingOptions, different: set[str]
    ) -> None:
        first, other = backend.fingerprint(), backend.fingerprint(options)
        assert first.digest() != other.digest()
        assert different <= set(first.differences(other))
        changed = {item.name for item in fields(first) if getattr(first, item.name) != getattr(other, item.name)}
        assert changed <= different | {"witness"}

    def test_normal_vectors_have_another_fingerprint_than_raw_ones(self, backend: EmbeddingBackend) -> None:
        normal, raw = (backend.fingerprint(EmbeddingOptions(normalize=value)) for value in (True, False))
        assert "normalize" in normal.differences(raw)
        assert normal.digest() != raw.digest()

    def test_the_fingerprint_of_an_impossible_use_is_refused(self, backend: EmbeddingBackend) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            backend.fingerprint(EmbeddingOptions(dimensions=backend.capabilities.dimensions + 1))
        assert caught.value.field == "dimensions"

    def _same(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        assert found.shape == expected.shape
        assert np.allclose(found, expected, rtol=0, atol=self.tolerance)


class Counted:
    """An iterator that knows how much of it was read."""

    def __init__(self, items: Any) -> None:
        self._items = iter(items)
        self.read = 0

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self.read += 1
        return item


def _embed(backend: EmbeddingBackend, texts: Any, options: EmbeddingOptions = PLAIN) -> NDArray[np.float32]:
    return EmbeddingResult.join(backend.stream(texts, options)).vectors


async def _aembed(backend: EmbeddingBackend, texts: Any, options: EmbeddingOptions = PLAIN) -> NDArray[np.float32]:
    chunks: list[EmbeddingChunk] = [chunk async for chunk in backend.astream(texts, options)]
    return EmbeddingResult.join(chunks).vectors


def _normal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    normal: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normal
