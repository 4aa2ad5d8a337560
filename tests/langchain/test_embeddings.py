"""`MLXEmbeddings` over an embedding model made of hashes: what is asked of the backend, and what comes back."""

import asyncio
import copy
import itertools
import logging
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core import exceptions
from langchain_core.load import dumpd, dumps, load, loads
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import ValidationError

from mlx_integrations import assembly
from mlx_integrations.adapters.embedding_calls import MAX_POSITIONS, Truncation
from mlx_integrations.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError, QueueFullError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain import MLXEmbeddings
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

TEXTS = ["The cat sat on the mat.", "", "你好，世界", "The cat sat on the mat."]
PLAIN = EmbeddingOptions()
PROMPTS: dict[str, Any] = {"query_prompt": "query: ", "document_prompt": "passage: "}


def fake_embeddings(**options: Any) -> tuple[MLXEmbeddings, FakeEmbeddingBackend]:
    backend = FakeEmbeddingBackend(max_tokens=16, **PROMPTS)
    return MLXEmbeddings(model="fake", backend=backend, **options), backend


def direct(backend: FakeEmbeddingBackend, texts: list[str], **options: Any) -> list[list[float]]:
    vectors = EmbeddingResult.join(backend.stream(texts, EmbeddingOptions(**options))).vectors
    return list(vectors.tolist())


def test_documents_and_queries_are_the_backends_vectors_of_their_side() -> None:
    embeddings, backend = fake_embeddings()
    assert embeddings.embed_documents(TEXTS) == direct(backend, TEXTS, side="document")
    assert embeddings.embed_query(TEXTS[0]) == direct(backend, TEXTS[:1], side="query")[0]
    assert embeddings.embed_query(TEXTS[0]) != embeddings.embed_documents(TEXTS)[0]
    assert type(embeddings.embed_query("x")) is list and type(embeddings.embed_query("x")[0]) is float


async def test_async_is_the_same() -> None:
    embeddings, _ = fake_embeddings()
    assert await embeddings.aembed_documents(TEXTS) == embeddings.embed_documents(TEXTS)
    assert await embeddings.aembed_query("a") == embeddings.embed_query("a")
    assert [vector async for vector in embeddings.alazy_embed_documents(TEXTS)] == embeddings.embed_documents(TEXTS)
    assert np.array_equal((await embeddings.aembed(TEXTS)).vectors, embeddings.embed(TEXTS).vectors)


async def test_nothing_is_nothing_and_an_empty_text_is_a_text() -> None:
    embeddings, backend = fake_embeddings()
    assert embeddings.embed_documents([]) == await embeddings.aembed_documents([]) == []
    assert embeddings.embed([]).vectors.shape == (0, 0)
    assert embeddings.embed_query("") == direct(backend, [""], side="query")[0]


def test_every_option_reaches_the_backend() -> None:
    options: dict[str, Any] = {"dimensions": 8, "normalize": False, "batch_tokens": 5}
    embeddings, backend = fake_embeddings(query_prompt="ask: ", document_prompt="", **options)
    embeddings.embed_query("a")
    embeddings.embed_documents(["a"])
    assert [request.options for request in backend.requests] == [
        EmbeddingOptions(side="query", prompt="ask: ", **options),
        EmbeddingOptions(side="document", prompt="", **options),
    ]


def test_vectors_come_with_their_counts() -> None:
    embeddings, backend = fake_embeddings()
    result = embeddings.embed(["one two", "word " * 99], side="query")
    assert result.vectors.shape == (2, 32) and result.vectors.dtype == np.float32
    assert result.tokens == len(["<s>", "query", ":", "one", "two"]) + 16
    assert result.truncated == (1,)
    assert backend.requests[0].options.side == "query"


def test_an_iterator_is_read_as_its_vectors_are_taken() -> None:
    embeddings, backend = fake_embeddings(batch_tokens=16)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "some words"

    vectors = embeddings.lazy_embed_documents(endless())
    assert read == 0
    first = list(itertools.islice(vectors, 10))
    assert first == direct(FakeEmbeddingBackend(**PROMPTS), ["some words"] * 10)
    assert 10 <= read <= 20
    vectors.close()
    assert backend.closed == 1


async def test_an_async_iterator_that_is_closed_ends_the_work() -> None:
    embeddings, backend = fake_embeddings(batch_tokens=16)
    async with aclosing(embeddings.alazy_embed_documents(itertools.repeat("some words"))) as vectors:
        assert len([vector async for vector, _ in _enumerated(vectors, 10)]) == 10
    assert backend.closed == 1


async def _enumerated(items: Any, count: int) -> Any:
    async for item in items:
        yield item, count
        count -= 1
        if not count:
            return


async def test_cancelling_a_call_ends_the_work() -> None:
    backend = FakeEmbeddingBackend(delay_seconds=3600)
    task = asyncio.create_task(MLXEmbeddings(model="fake", backend=backend).aembed_documents(["a"]))
    while not backend.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


async def test_an_event_loop_goes_on_while_texts_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_threads(*_: Any) -> Any:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(asyncio, "to_thread", no_threads)
    embeddings = MLXEmbeddings(model="fake", backend=FakeEmbeddingBackend(delay_seconds=0.001), batch_tokens=8)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await embeddings.aembed_documents(["one two three"] * 20)
    await embeddings.aembed_query("one")
    ticking.cancel()
    assert ticks >= 20


def test_threads_share_a_model() -> None:
    embeddings, _ = fake_embeddings()
    expected = embeddings.embed_documents(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(embeddings.embed_documents, [TEXTS] * 8)) == [expected] * 8


# What is refused


@pytest.mark.parametrize("other", [None, 7, b"x", ["x"]])
async def test_what_is_no_text_is_refused_by_its_position(other: Any) -> None:
    embeddings, _ = fake_embeddings()
    for call in (embeddings.embed_documents, embeddings.embed):
        with pytest.raises(InvalidRequestError) as caught:
            call(["a", other])
        assert caught.value.field == "texts[1]"
        assert isinstance(caught.value, exceptions.ModelInvalidRequestError)
    with pytest.raises(InvalidRequestError) as caught:
        await embeddings.aembed_documents(["a", "b", other])
    assert caught.value.field == "texts[2]"


async def test_a_query_that_is_no_text_is_refused() -> None:
    embeddings, backend = fake_embeddings()
    nothing: Any = None
    with pytest.raises(exceptions.ModelInvalidRequestError, match="`text` is `None`"):
        embeddings.embed_query(nothing)
    with pytest.raises(exceptions.ModelInvalidRequestError, match="`text` is `None`"):
        await embeddings.aembed_query(nothing)
    assert backend.requests == []


def test_one_text_is_no_list_of_documents() -> None:
    with pytest.raises(InvalidRequestError, match=r"Use `\[text\]`"):
        fake_embeddings()[0].embed_documents("one text")


def test_more_dimensions_than_the_model_has_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="`dimensions` cannot be 33"):
        fake_embeddings(dimensions=33)[0].embed_query("a")


@pytest.mark.parametrize("name", ["dimensions", "batch_tokens"])
def test_impossible_numbers_are_refused_when_constructing(name: str) -> None:
    impossible: dict[str, Any] = {name: 0}
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        MLXEmbeddings(model="fake", **impossible)


async def test_an_error_of_the_backend_is_langchains_too_on_every_path() -> None:
    embeddings = MLXEmbeddings(model="fake", backend=FakeEmbeddingBackend(error=QueueFullError("busy")))
    for call in (embeddings.embed_query, lambda text: list(embeddings.lazy_embed_documents([text]))):
        with pytest.raises(exceptions.ModelRateLimitError) as caught:
            call("a")
        assert isinstance(caught.value, QueueFullError)
    for acall in (embeddings.aembed_query("a"), embeddings.aembed_documents(["a"]), embeddings.aembed(["a"])):
        with pytest.raises(exceptions.ModelRateLimitError):
            await acall


@pytest.mark.parametrize(
    ("typo", "meant"), [("dimension", "dimensions"), ("normalise", "normalize"), ("show_progres", "show_progress")]
)
def test_a_misspelt_option_is_refused_with_the_right_one(typo: str, meant: str) -> None:
    misspelt: dict[str, Any] = {typo: True}
    with pytest.raises(ValidationError, match=f"Did you mean `{meant}`"):
        MLXEmbeddings(model="fake", **misspelt)


# Texts that are too long

LONG = "word " * 99


def test_texts_that_were_cut_are_told_once_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Truncation] = []
    embeddings, _ = fake_embeddings(on_truncated=told.append, batch_tokens=20)
    embeddings.embed_documents(["short", LONG, "short", LONG])
    embeddings.embed_query("short")
    embeddings.embed_query(LONG)
    assert told == [
        Truncation(model="fake", side="document", count=2, positions=(1, 3), texts=4, max_tokens=16),
        Truncation(model="fake", side="query", count=1, positions=(0,), texts=1, max_tokens=16),
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.messages[0].startswith("2 of 4 texts were longer than the 16 tokens that `fake` reads")
    assert "first of them is text 1" in caplog.messages[0]


async def test_async_calls_tell_too() -> None:
    told: list[Truncation] = []
    embeddings, _ = fake_embeddings(on_truncated=told.append)
    await embeddings.aembed_documents([LONG])
    await embeddings.aembed_query(LONG)
    assert [item.side for item in told] == ["document", "query"]


def test_a_call_given_up_tells_of_the_texts_it_had() -> None:
    told: list[Truncation] = []
    embeddings, _ = fake_embeddings(on_truncated=told.append, batch_tokens=16)
    vectors = embeddings.lazy_embed_documents(itertools.repeat(LONG))
    next(vectors)
    assert told == []
    vectors.close()
    assert (told[0].count, told[0].texts) == (1, 1)


def test_however_many_texts_are_cut_their_report_stays_small() -> None:
    told: list[Truncation] = []
    embeddings, _ = fake_embeddings(on_truncated=told.append)
    embeddings.embed_documents([LONG] * 500)
    assert told[0].count == 500
    assert told[0].positions == tuple(range(MAX_POSITIONS))


def test_reports_of_concurrent_calls_do_not_mix() -> None:
    told: dict[int, list[Truncation]] = {}
    embeddings, _ = fake_embeddings(
        on_truncated=lambda report: told.setdefault(threading.get_ident(), []).append(report), batch_tokens=16
    )
    start = threading.Barrier(4)

    def call(number: int) -> tuple[int, int]:
        start.wait()
        embeddings.embed_documents([LONG] * number + ["short"] * 50)
        return threading.get_ident(), number

    with ThreadPoolExecutor(4) as pool:
        for thread, number in pool.map(call, [1, 2, 3, 4]):
            assert [(report.count, report.texts) for report in told[thread]] == [(number, number + 50)]


# Progress


def test_progress_is_told_on_stderr_and_only_for_documents(capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, _ = fake_embeddings(show_progress=True)
    embeddings.embed_query("a")
    assert capsys.readouterr() == ("", "")
    embeddings.embed_documents(["a"] * 7)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Embedded 7 texts in ") and err.endswith(" texts/s.\n")


def test_progress_is_told_of_a_failed_call(capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[Any] = ["one two three"] * 9 + [None]
    with pytest.raises(InvalidRequestError):
        fake_embeddings(show_progress=True, batch_tokens=20)[0].embed_documents(texts)
    assert capsys.readouterr().err.startswith("Embedded 6 of 10 texts in ")


# Fingerprints


def test_a_fingerprint_is_the_backends_with_the_options_of_the_model() -> None:
    embeddings, backend = fake_embeddings(dimensions=8)
    assert embeddings.fingerprint() == backend.fingerprint(EmbeddingOptions(dimensions=8))
    assert embeddings.fingerprint() is embeddings.fingerprint()
    assert fake_embeddings()[0].fingerprint().digest() != embeddings.fingerprint().digest()


def test_each_prompt_is_in_the_fingerprint_by_itself() -> None:
    plain = fake_embeddings()[0].fingerprint()
    ask = fake_embeddings(query_prompt="ask: ")[0].fingerprint()
    find = fake_embeddings(document_prompt="find: ")[0].fingerprint()
    both = fake_embeddings(query_prompt="ask: ", document_prompt="find: ")[0].fingerprint()
    assert (ask.query_prompt, ask.document_prompt) == ("ask: ", "passage: ")
    assert (find.query_prompt, find.document_prompt) == ("query: ", "find: ")
    assert (both.query_prompt, both.document_prompt) == ("ask: ", "find: ")
    assert plain.differences(ask) == ("query_prompt",)
    assert ask.witness == plain.witness != find.witness == both.witness


def test_a_changed_option_changes_the_fingerprint() -> None:
    embeddings, _ = fake_embeddings()
    first = embeddings.fingerprint()
    embeddings.dimensions = 4
    assert embeddings.fingerprint().dimensions == 4
    assert embeddings.model_copy(update={"dimensions": None}).fingerprint() == first


async def test_a_fingerprint_is_looked_up_once_off_the_event_loop() -> None:
    threads: list[int] = []

    class Slow(FakeEmbeddingBackend):
        def fingerprint(self, options: EmbeddingOptions = PLAIN) -> EmbeddingFingerprint:
            threads.append(threading.get_ident())
            return super().fingerprint(options)

    embeddings = MLXEmbeddings(model="fake", backend=Slow())
    assert await embeddings.afingerprint() == await embeddings.afingerprint() == embeddings.fingerprint()
    assert len(threads) == 1 and threads[0] != threading.get_ident()


def test_tokens_are_counted_for_text_splitters() -> None:
    embeddings, backend = fake_embeddings()
    assert embeddings.get_num_tokens("one two") == 5 == backend.count_tokens(["one two"])[0]
    splitter = RecursiveCharacterTextSplitter(chunk_size=16, chunk_overlap=0, length_function=embeddings.get_num_tokens)
    parts = splitter.split_text("a few words " * 50)
    assert len(parts) > 1
    assert embeddings.embed(parts).truncated == ()


# Names, files, copies

FULL: dict[str, Any] = {
    "model": "minilm-l6-v2",
    "dimensions": 64,
    "normalize": False,
    "batch_tokens": 512,
    "query_prompt": "query: ",
    "document_prompt": "",
    "show_progress": True,
}


def test_other_names_for_the_same_options_are_understood(tmp_path: Path) -> None:
    same = MLXEmbeddings(model_name="a", show_progress_bar=True, api_key="x", base_url="y", max_retries=2, timeout=9)  # type: ignore[call-arg]
    assert same == MLXEmbeddings(model="a", show_progress=True)
    assert same.model_name == "a"
    assert MLXEmbeddings(model=tmp_path).model == str(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="given twice"):
        MLXEmbeddings(model="a", model_name="b")  # type: ignore[call-arg]


def test_a_name_says_what_was_set() -> None:
    assert repr(MLXEmbeddings(model="a", dimensions=3)) == "MLXEmbeddings(model='a', dimensions=3)"
    assert "Fake" not in repr(fake_embeddings()[0])


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_model_comes_back_from_a_file() -> None:
    model = MLXEmbeddings(**FULL)
    namespaces = ["mlx_integrations"]
    assert loads(dumps(model), allowed_objects=[MLXEmbeddings], valid_namespaces=namespaces) == model
    assert load(dumpd(model), allowed_objects=[MLXEmbeddings], valid_namespaces=namespaces) == model
    assert dumpd(model)["kwargs"] == {name: value for name, value in FULL.items() if value is not None}


def test_what_was_given_by_hand_is_not_written_to_a_file() -> None:
    model, _ = fake_embeddings(on_truncated=print, runtime=threading.Lock())
    assert dumpd(model)["kwargs"] == {"model": "fake"}


def test_a_model_survives_pickling_also_after_use() -> None:
    model = MLXEmbeddings(**FULL)
    model._lookup._found = ("x", threading.Lock(), FakeEmbeddingBackend())
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert again._lookup._found is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: model.model_copy(deep=True)])
def test_copies_are_equal_and_share_the_backend(copied: Any) -> None:
    model, backend = fake_embeddings(runtime=threading.Lock(), dimensions=4)
    model.fingerprint()
    twin = copied(model)
    assert twin == model
    assert twin.backend is backend and twin.runtime is model.runtime
    assert twin.fingerprint() == model.fingerprint()


# Where the model comes from


def test_constructing_a_model_loads_nothing() -> None:
    code = (
        "import sys\n"
        "from mlx_integrations.langchain import MLXEmbeddings\n"
        "model = MLXEmbeddings(model='no-such-model')\n"
        "repr(model), model == MLXEmbeddings(model='no-such-model'), model.model_copy()\n"
        "names = ('mlx', 'mlx_lm', 'langchain', 'langchain_classic', 'numpy')\n"
        "print([name for name in names if name in sys.modules], MLXEmbeddings(), 'mlx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[] model='minilm-l6-v2' False", done.stderr


def test_importing_it_costs_little_more_than_langchains_own() -> None:
    code = (
        "from langchain_core.embeddings import Embeddings\n"
        "import time; start = time.perf_counter()\n"
        "import mlx_integrations.langchain.embeddings\n"
        "print((time.perf_counter() - start) * 1000)\n"
    )
    milliseconds = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert milliseconds < 100


def test_a_model_that_is_not_here_is_named_when_it_is_asked() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        MLXEmbeddings(model="no-such-model").embed_query("a")
    assert caught.value.model == "no-such-model"


class Rooms:
    """Stands for the assembly: makes backends, and knows the shared runtime."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []
        self.runtime = object()

    def embedding_backend(self, model: str, runtime: Any = None) -> FakeEmbeddingBackend:
        self.made.append((model, runtime))
        return FakeEmbeddingBackend(model_id=model)

    def get_runtime(self) -> Any:
        return self.runtime


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Rooms:
    made = Rooms()
    monkeypatch.setattr(assembly, "embedding_backend", made.embedding_backend)
    monkeypatch.setattr(assembly, "get_runtime", made.get_runtime)
    return made


async def test_a_model_is_looked_up_once(rooms: Rooms) -> None:
    embeddings = MLXEmbeddings(model="a")
    embeddings.embed_query("x")
    await embeddings.aembed_documents(["x"])
    embeddings.fingerprint()
    assert rooms.made == [("a", rooms.runtime)]


async def test_an_event_loop_does_not_look_for_the_model(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    find = rooms.embedding_backend

    def embedding_backend(model: str, runtime: Any = None) -> FakeEmbeddingBackend:
        threads.append(threading.get_ident())
        return find(model, runtime)

    monkeypatch.setattr(assembly, "embedding_backend", embedding_backend)
    embeddings = MLXEmbeddings(model="a")
    for _ in range(2):
        await embeddings.aembed_query("x")
    assert len(threads) == 1 and threads[0] != threading.get_ident()


def test_a_fingerprint_has_the_name_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = FakeEmbeddingBackend(model_id="the first name that was given")
    monkeypatch.setattr(assembly, "embedding_backend", lambda model, runtime=None: shared)
    monkeypatch.setattr(assembly, "get_runtime", lambda: None)
    embeddings = MLXEmbeddings(model="a")
    assert embeddings.fingerprint().model == "a"
    assert embeddings.model_copy(update={"model": "b"}).fingerprint().model == "b"
    assert MLXEmbeddings(model="a", backend=shared).fingerprint() == shared.fingerprint()


def test_a_new_model_name_or_runtime_is_looked_up_again(rooms: Rooms) -> None:
    embeddings = MLXEmbeddings(model="a")
    embeddings.embed_query("x")
    embeddings.model_copy(update={"model": "b"}).embed_query("x")
    first = rooms.runtime
    rooms.runtime = object()  # as it is after the shared runtime was closed
    embeddings.embed_query("x")
    private = object()
    MLXEmbeddings(model="a", runtime=private).embed_query("x")
    assert rooms.made == [("a", first), ("b", first), ("a", rooms.runtime), ("a", private)]


def test_the_assembly_asks_the_runtime_for_the_folder(tmp_path: Path) -> None:
    class Answering(Runtime):
        def embedding(self, path: str | Path, *, model_id: str | None = None) -> Any:
            return FakeEmbeddingBackend(model_id=f"{path} as {model_id}")

    backend = assembly.embedding_backend(str(tmp_path), runtime=Answering())
    assert backend.model_id == f"{tmp_path} as {tmp_path}"


def with_settings(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    settings = Settings(**values)
    monkeypatch.setattr(assembly, "get_settings", lambda: settings)


def test_a_model_left_out_is_the_default_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MLXEmbeddings().model == "minilm-l6-v2"
    with_settings(monkeypatch, embedding={"default": "bge-small"})
    assert MLXEmbeddings() == MLXEmbeddings(model="bge-small")


def test_a_model_by_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    with_settings(monkeypatch, embedding={"profiles": {"projects": {"model": "bge-small", "dimensions": 128}}})
    assert MLXEmbeddings.from_profile("projects") == MLXEmbeddings(model="bge-small", dimensions=128)
    assert MLXEmbeddings.from_profile("user_profile") == MLXEmbeddings(model="minilm-l6-v2")
    changed = MLXEmbeddings.from_profile("projects", dimensions=64, show_progress=True)
    assert changed == MLXEmbeddings(model="bge-small", dimensions=64, show_progress=True)


def test_an_unknown_profile_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match="no embedding profile `project`") as caught:
        MLXEmbeddings.from_profile("project")
    assert "Did you mean `projects`?" in caught.value.hint


def test_memory_does_not_grow_with_the_number_of_texts() -> None:
    embeddings, _ = fake_embeddings(batch_tokens=512)
    peaks = []
    for count in (1_000, 20_000):
        tracemalloc.start()
        assert sum(1 for _ in embeddings.lazy_embed_documents("text" for _ in range(count))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    of_the_record = 8 * 20_000  # the fake backend remembers what it read
    assert peaks[1] < 1.5 * peaks[0] + of_the_record
