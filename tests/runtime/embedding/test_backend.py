"""The scheduler of embeddings: chat goes on, requests share batches, each fails alone, and memory is accounted for."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import (
    GenerationError,
    InsufficientMemoryError,
    ModelInUseError,
    ModelLoadError,
    RuntimeClosedError,
)
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.embedding.backend import MLXEmbeddingBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatResult, EmbeddingChunk, EmbeddingOptions, EmbeddingResult
from tests.runtime.conftest import TinyModel, ask
from tests.runtime.embedding.conftest import SentenceFolder

TEXTS = [f"text number {number} " + "and more of it " * (number % 7) for number in range(40)]


@pytest.fixture
def bert(sentence_folder: SentenceFolder, runtime: Runtime) -> MLXEmbeddingBackend:
    return runtime.embedding(sentence_folder("bert-mean-normalize"))


def _lane(runtime: Runtime, backend: MLXEmbeddingBackend) -> Any:
    return runtime._slots[backend.path, "embedding"].lane


def _batches(lane: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that the lane computes from now on."""
    sizes: list[int] = []
    stages = lane._network.stages

    def counted(ids: Any, *arguments: Any) -> Any:
        sizes.append(len(ids))
        return stages(ids, *arguments)

    monkeypatch.setattr(lane._network, "stages", counted)
    return sizes


def _vectors(backend: MLXEmbeddingBackend, texts: list[str], **options: Any) -> Any:
    return EmbeddingResult.join(backend.stream(texts, EmbeddingOptions(**options))).vectors


def test_one_backend_serves_every_caller_of_a_folder(bert: MLXEmbeddingBackend, runtime: Runtime) -> None:
    assert runtime.embedding(str(bert.path)) is bert
    assert bert.runtime is runtime
    assert runtime.models() == ()
    bert.fingerprint()
    (loaded,) = runtime.models()
    assert (loaded.path, loaded.kind, loaded.is_batched) == (bert.path, "embedding", True)
    assert loaded.active_requests == 0
    assert runtime.loads == 1


def test_texts_are_batched_by_tokens(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _vectors(bert, TEXTS)
    sizes = _batches(_lane(runtime, bert), monkeypatch)
    assert np.abs(_vectors(bert, TEXTS, batch_tokens=60) - whole).max() <= 1e-6
    assert sum(sizes) == len(TEXTS) and len(sizes) > 5
    sizes.clear()
    _vectors(bert, TEXTS)
    assert len(sizes) < 5


def test_requests_that_wait_together_share_batches(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [_vectors(bert, [text]) for text in TEXTS]
    sizes = _batches(_lane(runtime, bert), monkeypatch)
    hold = _hold_worker()
    found: dict[int, Any] = {}

    def embed(at: int) -> None:
        found[at] = _vectors(bert, [TEXTS[at]])

    threads = [threading.Thread(target=embed, args=(at,)) for at in range(len(TEXTS))]
    for thread in threads:
        thread.start()
    _until(lambda: runtime._open_requests == len(TEXTS))
    hold.set()
    for thread in threads:
        thread.join(60)
    assert len(sizes) < len(TEXTS) / 2, sizes
    assert all(np.abs(found[at] - alone[at]).max() <= 1e-6 for at in found) and len(found) == len(TEXTS)


def _hold_worker() -> threading.Event:
    """Keep the worker thread waiting until the event is set."""
    hold, held = threading.Event(), threading.Event()

    def wait() -> None:
        held.set()
        hold.wait(30)

    get_worker().call(wait)
    held.wait(30)
    return hold


def _until(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def test_chat_goes_on_while_texts_are_embedded(
    bert: MLXEmbeddingBackend, tiny_model: TinyModel, runtime: Runtime
) -> None:
    chat = MLXChatBackend(tiny_model("llama"), runtime=runtime)
    before = ChatResult.join(chat.stream(ask(max_tokens=30)))
    seen: list[str] = []
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            seen.append(ChatResult.join(chat.stream(ask(max_tokens=30))).text)

    talking = threading.Thread(target=talk)
    talking.start()
    _until(lambda: len(seen) > 0)
    vectors = _vectors(bert, TEXTS * 60)  # long enough for several answers
    answers = len(seen)
    stop.set()
    talking.join(60)
    assert set(seen) == {before.text}
    assert answers > 1, "the chat waited for all the texts"
    assert np.abs(vectors[: len(TEXTS)] - _vectors(bert, TEXTS)).max() <= 1e-6


@pytest.mark.parametrize("kind", ["batched", "serial"])
def test_nothing_of_a_chat_is_being_computed_while_a_batch_is(
    bert: MLXEmbeddingBackend, tiny_model: TinyModel, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Two computations at once would share the cores badly: the next token is waited for before a batch goes on."""
    from mlx_integrations.runtime._mlx import mx
    from mlx_integrations.runtime.chat.serial_lane import SerialLane

    chat = MLXChatBackend(tiny_model("llama"), runtime=runtime)
    runtime.load(chat.path)
    expected = _vectors(bert, TEXTS)
    slot: Any = runtime._slots[chat.path, "chat"]
    if kind == "serial":
        slot.lane = SerialLane(slot.lane._model, prefill_step_tokens=16)
    stream = slot.lane._generator.stream if kind == "batched" else None
    seen: list[str] = []

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            seen.append(what)
            return function(*arguments)

        return run

    def wait(waited: Any = None, *, synchronize: Callable[[Any], None] = mx.synchronize) -> None:
        synchronize(waited)
        if waited is stream:
            seen.append("waited")

    lane = _lane(runtime, bert)
    monkeypatch.setattr(mx, "synchronize", wait)
    monkeypatch.setattr(slot.lane, "step", noted("token", slot.lane.step))
    monkeypatch.setattr(lane, "_advance", noted("stage", lane._advance))
    answer = chat.stream(ask(max_tokens=1500))
    next(answer)
    assert np.abs(_vectors(bert, TEXTS) - expected).max() <= 1e-6
    answer.close()
    pairs = list(pairwise(seen))
    assert ("waited", "stage") in pairs, "they did not run at the same time"
    assert ("token", "stage") not in pairs


def test_batches_become_small_while_others_are_at_work(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a foreground step leaves room for a few rows at a time, the lane finds out how many."""
    bert.fingerprint()
    lane = _lane(runtime, bert)
    sizes = _batches(lane, monkeypatch)
    monkeypatch.setattr(lane, "_pace", lambda: 1e-6)
    crowded = _vectors(bert, TEXTS * 8)
    late = sizes[len(sizes) // 2 :]
    assert sum(late) / len(late) < 2, "no stage is as fast as that, so rows go alone"
    monkeypatch.setattr(lane, "_pace", lambda: None)
    sizes.clear()
    assert np.abs(crowded - _vectors(bert, TEXTS * 8)).max() <= 1e-6
    assert len(sizes) < 20


def test_a_large_batch_is_cut_anew_when_others_begin(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _vectors(bert, TEXTS)
    lane = _lane(runtime, bert)
    sizes = _batches(lane, monkeypatch)
    paces = iter([None])
    # The first step starts a large batch and ends after one stage; from then on there is no time for such a one.
    monkeypatch.setattr("mlx_integrations.runtime.embedding.lane._ALONE_SECONDS", 0.0)
    monkeypatch.setattr(lane, "_pace", lambda: next(paces, 1e-6))
    assert np.abs(_vectors(bert, TEXTS) - expected).max() <= 1e-6
    assert sizes[0] > 10 and sum(sizes) == len(TEXTS) + sizes[0]


def test_a_failing_batch_fails_its_requests_and_no_others(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert.fingerprint()
    lane = _lane(runtime, bert)
    stages = lane._network.stages

    def failing(*arguments: Any) -> Iterator[Any]:
        raise RuntimeError("no more memory")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(lane._network, "stages", failing)
        with pytest.raises(GenerationError, match="no more memory"):
            _vectors(bert, TEXTS)
    assert lane._network.stages == stages
    assert _vectors(bert, TEXTS).shape == (40, bert.capabilities.dimensions)
    assert runtime.models()[0].active_requests == 0


def test_vectors_that_are_no_numbers_are_an_error(
    bert: MLXEmbeddingBackend, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert.fingerprint()
    lane = _lane(runtime, bert)
    stages = lane._network.stages

    def poisoned(*arguments: Any) -> Iterator[Any]:
        for array in stages(*arguments):
            yield array * float("nan")

    monkeypatch.setattr(lane._network, "stages", poisoned)
    with pytest.raises(GenerationError, match="not finite"):
        _vectors(bert, ["a text"])


def test_unloading_is_refused_while_texts_wait_or_ends_them(bert: MLXEmbeddingBackend, runtime: Runtime) -> None:
    hold = _hold_worker()
    errors: list[Exception] = []

    def embed() -> None:
        try:
            _vectors(bert, TEXTS)
        except RuntimeClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=embed)
    thread.start()
    _until(lambda: runtime._open_requests == 1)
    # All of these run in one go, after the request was admitted and before it is stepped.
    refused = get_worker().call(runtime._unload, bert.path, False)
    ended = get_worker().call(runtime._unload, bert.path, True)
    hold.set()
    thread.join(60)
    assert isinstance(refused.exception(), ModelInUseError)
    assert ended.result() is True
    assert "was unloaded" in str(errors[0])
    assert runtime.models() == ()
    assert len(_vectors(bert, TEXTS)) == len(TEXTS), "the next request loads it again"


def test_a_closed_stream_lets_go_of_the_model(bert: MLXEmbeddingBackend, runtime: Runtime) -> None:
    stream = bert.stream(iter(TEXTS * 100))
    next(stream)
    stream.close()
    _until(lambda: runtime.models()[0].active_requests == 0)
    assert runtime.unload(bert.path)


def test_a_model_that_does_not_fit_is_refused_with_numbers(sentence_folder: SentenceFolder) -> None:
    small = Runtime(RuntimeSettings(memory_budget_bytes=10_000))
    backend = small.embedding(sentence_folder("bert-dense"))
    with pytest.raises(InsufficientMemoryError) as caught:
        backend.fingerprint()
    assert caught.value.needed_bytes == backend.model.weight_bytes(as_float32=True)
    small.close()


def test_a_folder_may_serve_both_kinds(tiny_model: TinyModel, runtime: Runtime, tmp_path: Path) -> None:
    """A chat model and an embedding model in one process, loaded through one engine and counted apart."""
    chat = MLXChatBackend(tiny_model("llama"), runtime=runtime)
    runtime.load(chat.path)
    runtime.load(chat.path)
    assert [model.kind for model in runtime.models()] == ["chat"]
    with pytest.raises(ModelLoadError, match="chat template"):
        runtime.load(chat.path, kind="embedding")


def test_a_lease_keeps_an_embedding_model(bert: MLXEmbeddingBackend, runtime: Runtime) -> None:
    with runtime.lease(bert.path, kind="embedding"), pytest.raises(ModelInUseError):
        runtime.unload(bert.path)
    assert runtime.unload(bert.path)


def test_an_unloaded_idle_model_comes_back(sentence_folder: SentenceFolder) -> None:
    now = [0.0]
    runtime = Runtime(RuntimeSettings(idle_unload_seconds=10), clock=lambda: now[0])
    backend = runtime.embedding(sentence_folder("bert-cls"))
    first = _vectors(backend, TEXTS[:3])
    now[0] = 11.0
    get_worker().call(runtime._unload_idle).result()
    assert runtime.models() == ()
    assert np.array_equal(first, _vectors(backend, TEXTS[:3]))
    assert runtime.loads == 2
    runtime.close()


def test_progress_is_told_batch_by_batch(bert: MLXEmbeddingBackend) -> None:
    steps: list[int] = []
    options = EmbeddingOptions(batch_tokens=60, on_progress=steps.append)
    chunks: list[EmbeddingChunk] = list(bert.stream(TEXTS, options))
    assert sum(steps) == len(TEXTS) and len(steps) > len(chunks)


def test_the_fingerprint_does_not_depend_on_the_side_that_asks(bert: MLXEmbeddingBackend) -> None:
    assert bert.fingerprint(EmbeddingOptions(side="query")) is bert.fingerprint()
    assert bert.fingerprint(EmbeddingOptions(dimensions=8)).dimensions == 8
    assert bert.fingerprint().revision is not None


def test_other_weights_under_the_same_name_have_another_fingerprint(
    sentence_folder: SentenceFolder, runtime: Runtime
) -> None:
    one = runtime.embedding(sentence_folder("bert-cls"), model_id="same")
    other = runtime.embedding(sentence_folder("qwen3-lasttoken"), model_id="same")
    again = Runtime().embedding(sentence_folder("bert-cls"), model_id="another name")
    assert "witness" in one.fingerprint().differences(other.fingerprint())
    assert one.fingerprint().differences(again.fingerprint()) == ()
