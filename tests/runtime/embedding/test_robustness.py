"""What goes wrong in one place stays there: full queues, cancelled and failing requests, exits, forks, interrupts."""

import asyncio
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import ContextOverflowError, GenerationError, QueueFullError, UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.identity import revision_of
from mlx_integrations.runtime.embedding.jobs import DoneEvent, EmbeddingJob, RowsEvent
from mlx_integrations.runtime.embedding.text import Tokens
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.tasks import FailEvent
from mlx_integrations.runtime.worker import Worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult
from tests.runtime.embedding.conftest import SentenceFolder
from tests.runtime.embedding.sentence_models import assemble, edit, on_worker


def _until(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def _is_idle(runtime: Runtime) -> bool:
    return runtime._open_requests == 0 and all(model.active_requests == 0 for model in runtime.models())


# The engine around a lane


def test_a_model_without_an_engine_pushes_no_other_one_out(sentence_folder: SentenceFolder, tmp_path: Path) -> None:
    unknown = assemble("bert-max", tmp_path / "unknown")
    edit(unknown / "config.json", model_type="some_new_kind")
    known = sentence_folder("bert-cls")
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=150_000))
    try:
        runtime.load(known, kind="embedding")
        with pytest.raises(UnsupportedArchitectureError, match="some_new_kind"):
            runtime.load(unknown, kind="embedding")
        assert [model.path for model in runtime.models()] == [known]
    finally:
        runtime.close()


def test_a_folder_with_the_name_of_a_file_is_no_part_of_a_model(tmp_path: Path) -> None:
    folder = assemble("bert-max", tmp_path / "model")
    before = revision_of(folder)
    (folder / "runs.json").mkdir()
    assert revision_of(folder) == before


@pytest.fixture
def narrow() -> Iterator[Runtime]:
    """A runtime that lets in one request at a time."""
    runtime = Runtime(RuntimeSettings(max_batch_size=1, max_queued_requests=0))
    yield runtime
    runtime.close()


def test_a_long_stream_needs_only_one_place(narrow: Runtime, sentence_folder: SentenceFolder) -> None:
    backend = narrow.embedding(sentence_folder("bert-cls"))
    refused: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(3000):
            # The first portion is under way, and the worker is kept from finishing it.
            if number == 1500:
                narrow._worker.call(time.sleep, 0.5)
                with pytest.raises(QueueFullError):
                    list(backend.stream(["another"]))
                refused.append(number)
            yield f"text {number}"

    backend.fingerprint()
    narrow._worker.call(time.sleep, 0.5)
    assert [len(chunk.vectors) for chunk in backend.stream(texts())] == [1024, 1024, 952]
    assert refused == [1500]


def test_a_request_gives_its_place_back_before_its_end_is_told() -> None:
    order: list[str] = []
    job = EmbeddingJob(rows=[], pad_id=0, batch_tokens=1, post=lambda event: order.append(type(event).__name__))

    def give_back() -> None:
        order.append("given back")
        raise RuntimeError("a bug")

    job.on_end.append(give_back)
    with pytest.raises(RuntimeError, match="a bug"):
        job.end(DoneEvent())
    assert order == ["given back", "DoneEvent"]


def test_whoever_has_a_result_may_send_the_next_request(narrow: Runtime, sentence_folder: SentenceFolder) -> None:
    backend = narrow.embedding(sentence_folder("bert-cls"))
    for _ in range(200):
        list(backend.stream(["a text"]))


async def test_cancelled_at_any_moment_requests_leave_nothing_behind(
    runtime: Runtime, sentence_folder: SentenceFolder
) -> None:
    backends = [runtime.embedding(sentence_folder(name)) for name in ("bert-cls", "qwen3-lasttoken")]
    expected = [EmbeddingResult.join(backend.stream(["some text"])).vectors for backend in backends]
    dice = random.Random(1)

    async def embed(which: int, count: int, pause_seconds: float) -> None:
        texts = ["some text", *(f"text {number} " * dice.randint(0, 20) for number in range(count))]
        options = EmbeddingOptions(batch_tokens=dice.choice((50, 500, 4096)))
        first = None
        async for chunk in backends[which].astream(iter(texts), options):
            first = chunk.vectors[:1] if first is None else first
            await asyncio.sleep(pause_seconds)
        assert first is not None and np.abs(first - expected[which]).max() <= 1e-5

    tasks = []
    for _ in range(60):
        job = embed(dice.randrange(2), dice.choice((0, 5, 200, 1500)), dice.choice((0.0, 0.01)))
        tasks.append(asyncio.create_task(job))
        await asyncio.sleep(dice.random() * 0.03)
        dice.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    await asyncio.to_thread(_until, lambda: _is_idle(runtime))
    lanes: list[Any] = [slot.lane for slot in runtime._slots.values()]
    assert [(len(lane._jobs), len(lane._batches)) for lane in lanes] == [(0, 0), (0, 0)]


def test_background_steps_share_what_the_others_leave_them() -> None:
    worker = Worker("never started")
    worker.set_step("chat", lambda: True)
    worker._steps["chat"].seconds.append(0.1)
    worker.set_step("one", lambda: True, is_background=True)
    alone = worker.background_seconds()
    worker.set_step("another", lambda: True, is_background=True)
    assert alone and worker.background_seconds() == pytest.approx(alone / 2)


# The lane, on a network that computes nothing


class _Network:
    """Notes the batches that it is given; a row's vector is its first token."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.poison: int | None = None
        self.error: Exception | None = None

    def stages(self, ids: Sequence[Sequence[int]], _prompt_tokens: Sequence[int], _pad_id: int) -> Iterator[Any]:
        from mlx_integrations.runtime._mlx import mx

        self.batches.append((len(ids), max(map(len, ids))))
        yield mx.zeros((1,))
        if self.error is not None:
            raise self.error
        yield mx.zeros((1,))
        values = [float("nan") if row[0] == self.poison else float(row[0]) for row in ids]
        yield mx.array(values)[:, None]


class _Lane:
    """A lane driven stage by stage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlx_integrations.runtime.embedding import lane

        monkeypatch.setattr(lane, "_ALONE_SECONDS", 0.0)
        self.pace: float | None = None
        self.network = _Network()
        self.ended: list[int] = []
        self.events: dict[int, list[Any]] = {}
        self.lane: Any = lane.EmbeddingLane(self.network, pace=lambda: self.pace)  # type: ignore[arg-type]

    def add(self, number: int, lengths: Sequence[int], batch_tokens: int = 4096) -> EmbeddingJob:
        events = self.events[number] = []
        rows = [Tokens((number,) * length, 0, length) for length in lengths]
        job = EmbeddingJob(rows=rows, pad_id=0, batch_tokens=batch_tokens, post=events.append)
        job.on_end.append(lambda: self.ended.append(number))
        self.lane.add(job)
        return job

    def step(self) -> bool:
        return bool(on_worker(self.lane.step))

    def finish(self) -> None:
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("the lane goes on for ever")

    def count(self, number: int) -> int:
        """Vectors that a request was given, all of them its own."""
        batches = [event.vectors for event in self.events[number] if isinstance(event, RowsEvent)]
        vectors = np.concatenate(batches) if batches else np.zeros((0, 1))
        assert (vectors == number).all()
        return len(vectors)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> _Lane:
    on_worker(lambda: None)
    return _Lane(monkeypatch)


def test_rows_that_were_given_back_wait_in_their_place(driven: _Lane) -> None:
    """Out of order, a short row would decide how many long ones go together."""
    first = driven.add(1, [5] * 100)
    driven.add(2, [500] * 100 + [5] * 300)
    driven.step()
    (batch,) = driven.lane._batches
    assert (len(batch.rows), batch.padded_tokens) == (400, 2000)
    first.cancel()
    batch.stage_seconds, driven.pace = 1.0, 0.01
    driven.step()
    driven.pace = None
    driven.finish()
    assert max(rows * tokens for rows, tokens in driven.network.batches) <= 4096
    assert driven.count(2) == 400 and driven.count(1) == 0


def test_a_question_passes_documents_between_two_of_their_stages(driven: _Lane) -> None:
    driven.add(1, [100] * 400)
    driven.add(2, [100] * 400)
    driven.step()
    driven.add(3, [10])
    while 3 not in driven.ended:
        driven.step()
    assert driven.network.batches == [(40, 100), (1, 10)]
    assert driven.count(1) == driven.count(2) == 0
    driven.finish()
    assert [driven.count(number) for number in (1, 2, 3)] == [400, 400, 1]
    assert all(driven.events[number][-1] == DoneEvent() for number in (1, 2, 3))


def test_no_number_of_questions_keeps_documents_for_ever(driven: _Lane) -> None:
    driven.add(1, [100] * 40)
    for number in range(2, 200):
        driven.add(number, [10])
        driven.step()
        if 1 in driven.ended:
            break
    assert number < 40
    assert len(driven.ended) > 2, "questions went on meanwhile"


def test_what_passes_is_small_however_much_of_it_there_is(driven: _Lane) -> None:
    driven.add(1, [100] * 40)
    driven.step()
    for number in range(2, 802):
        driven.add(number, [10])
    driven.step()
    assert driven.network.batches == [(40, 100), (200, 10)]
    driven.finish()
    assert sorted(driven.ended) == list(range(1, 802))


def test_a_batch_is_cut_quickly_from_many_requests(driven: _Lane) -> None:
    for number in range(200):
        driven.add(number, [20] * 1024)

    def seconds() -> float:
        started = time.perf_counter()
        driven.lane._start(0.01)
        return time.perf_counter() - started

    # A step of a chat model takes about as long; looking at all 200,000 rows takes two seconds.
    assert min(on_worker(seconds) for _ in range(5)) < 0.1


def test_a_text_without_a_vector_fails_its_own_request_only(driven: _Lane) -> None:
    driven.network.poison = 2
    driven.add(1, [5] * 3)
    driven.add(2, [5])
    driven.finish()
    assert driven.network.batches == [(4, 5)]
    assert driven.count(1) == 3 and driven.events[1][-1] == DoneEvent()
    (failed,) = driven.events[2]
    assert isinstance(failed, FailEvent) and isinstance(failed.error, GenerationError)


def test_a_failure_after_the_layers_is_told_too(driven: _Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that raised would never be called again, and its requests would wait for ever."""
    driven.add(1, [5])
    with monkeypatch.context() as patched:
        patched.setattr("mlx_integrations.runtime.embedding.lane._to_numpy", lambda array: None)
        driven.finish()
    (failed,) = driven.events[1]
    assert isinstance(failed.error, GenerationError)
    driven.add(2, [5])
    driven.finish()
    assert driven.count(2) == 1


def test_requests_of_a_failing_batch_have_errors_of_their_own(driven: _Lane) -> None:
    """An error is changed by whoever catches it, and its traceback would keep the weights in memory."""
    driven.network.error = ContextOverflowError("too long", prompt_tokens=9, limit_tokens=5, hint="cut it")
    driven.add(1, [5])
    driven.add(2, [5])
    driven.finish()
    errors = [driven.events[number][0].error for number in (1, 2)]
    assert errors[0] is not errors[1]
    for error in errors:
        assert (type(error), error.limit_tokens, error.hint) == (ContextOverflowError, 5, "cut it")
        assert error.__traceback__ is None and error.__context__ is None


# The process

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import Worker, _release_mlx

runtime = Runtime()
backend = runtime.embedding(sys.argv[1])

def texts():
    number = 0
    while True:
        number += 1
        yield f"text {number} " * (number % 20)

def leave_when_idle():
    deadline = time.monotonic() + 60
    while runtime._open_requests or any(model.active_requests for model in runtime.models()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    print(len(list(backend.stream(["again"]))))
"""


def run(code: str, model: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(model)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    return done.returncode, done.stdout.strip(), done.stderr


CASES = {
    "a stream is open at the end of the script": ("next(backend.stream(texts()))", ""),
    "a daemon thread embeds at the end of the script": (
        """
        def embed():
            for _ in backend.stream(texts()):
                started.set()
        started = threading.Event()
        threading.Thread(target=embed, daemon=True).start()
        started.wait()
        """,
        "",
    ),
    "a thread begins when the main thread has ended": (
        """
        def embed():
            threading.main_thread().join()
            print(sum(len(chunk.vectors) for chunk in backend.stream(f"text {number}" for number in range(3000))))
        threading.Thread(target=embed).start()
        """,
        "3000",
    ),
    "the event loop ends in mid-stream": (
        """
        async def main():
            await anext(backend.astream(texts()))
        asyncio.run(main())
        leave_when_idle()
        """,
        "1",
    ),
    "the event loop is closed under a stream": (
        """
        loop = asyncio.new_event_loop()
        stream = backend.astream(texts())
        loop.run_until_complete(anext(stream))
        loop.close()
        leave_when_idle()
        """,
        "1",
    ),
    "the user interrupts a thread that waits": (
        """
        stream = backend.stream(texts())
        next(stream)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            for _ in stream:
                pass
        except KeyboardInterrupt:
            leave_when_idle()
        """,
        "1",
    ),
    "the user interrupts an event loop": (
        """
        async def main():
            async for _ in backend.astream(texts()):
                if not timers:
                    timers.append(threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)))
                    timers[0].start()
        timers = []
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            leave_when_idle()
        """,
        "1",
    ),
    "the worker stops under a lease": (
        """
        worker = Worker("another", on_stop=_release_mlx)
        with Runtime(worker=worker).lease(sys.argv[1], kind="embedding"):
            worker.close()
        """,
        "",
    ),
    "a child is forked while other threads hold locks": (
        """
        list(backend.stream(["a text"]))
        def hold():
            with backend._lock, runtime._lock:
                held.set()
                release.wait()
        held, release = threading.Event(), threading.Event()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        child = os.fork()
        if child == 0:
            try:
                list(backend.stream(["a text"]))
            except Exception as error:
                os._exit(7 if type(error).__name__ == "RuntimeClosedError" else 8)
            os._exit(9)
        deadline = time.monotonic() + 60
        while not (status := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        if not status[0]:
            os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(status[1]) if status[0] else "the child hangs")
        release.set()
        """,
        "7",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_the_process_goes_on_or_ends_cleanly_when(what: str, sentence_folder: SentenceFolder) -> None:
    code, expected = CASES[what]
    assert run(code, sentence_folder("bert-cls")) == (0, expected, "")
