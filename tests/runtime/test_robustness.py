"""What goes wrong in one place stays there: failing stores, kept errors, wrong vocabularies, interrupted callers."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import GenerationError, InsufficientMemoryError, InvalidRequestError, RuntimeClosedError
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.folder import read_folder
from mlx_integrations.runtime.worker import Worker, get_worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatResult
from tests.runtime.conftest import TinyModel, ask

LONG = "Explain the event loop, the queue and the worker. " * 6


def _active_bytes() -> int:
    def read() -> int:
        import mlx.core as mx

        gc.collect()
        mx.clear_cache()
        return int(mx.get_active_memory())

    return get_worker().call(read).result()


def _lane(runtime: Runtime) -> Any:
    return next(iter(runtime._slots.values())).lane


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_tokens_that_the_model_does_not_have_are_refused(tiny_model: TinyModel, runtime: Runtime) -> None:
    """Out of bounds in MLX, they would end the process or read another array's memory."""
    backend = MLXChatBackend(tiny_model("llama", name="fewer_tokens", vocab_size=900), runtime=runtime)
    assert backend.text.vocabulary_size > 900
    neighbour = backend.stream(ask("a b c", max_tokens=60))
    next(neighbour)
    for wrong in ({"logit_bias": {950: 5.0}}, {"top_k": 950, "temperature": 1.0}):
        with pytest.raises(InvalidRequestError):
            next(backend.stream(ask("a b c", **wrong)))
    word = backend.text.decode([950])
    with pytest.raises(InvalidRequestError, match="token 9"):
        next(backend.stream(ask(word * 3)))
    assert ChatResult.join(neighbour).finish.reason in ("length", "stop")


def test_a_prefix_that_cannot_be_kept_harms_no_answer(llama: MLXChatBackend, runtime: Runtime) -> None:
    runtime.load(llama.path)

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    get_worker().call(setattr, _lane(runtime)._prefixes, "put", fail).result()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda n: ChatResult.join(llama.stream(ask(LONG, max_tokens=5 + n))), range(3)))
    assert [result.finish.usage.completion_tokens for result in results] == [5, 6, 7]
    _until(lambda: not runtime.models()[0].active_requests)


def test_every_row_gets_an_error_of_its_own(llama: MLXChatBackend, runtime: Runtime) -> None:
    streams = [llama.stream(ask(f"number {n}", max_tokens=2000)) for n in range(2)]
    shown = [next(stream).text for stream in streams]
    lane = _lane(runtime)

    def fail() -> None:
        raise RuntimeError("out of memory")

    get_worker().call(setattr, lane._generator, "next", fail).result()
    errors = []
    for stream in streams:
        with pytest.raises(GenerationError) as caught:
            list(stream)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert [error.partial_text.startswith(text) for error, text in zip(errors, shown, strict=True)] == [True, True]


def test_a_kept_error_keeps_no_memory(tiny_model: TinyModel, runtime: Runtime) -> None:
    path = tiny_model("llama", name="wide", hidden_size=512, intermediate_size=2048)
    before = _active_bytes()
    backend = MLXChatBackend(path, runtime=runtime)
    list(backend.stream(ask(max_tokens=2)))
    lane = _lane(runtime)
    weights = lane._model

    def fail() -> None:
        assert weights is not None
        raise RuntimeError("out of memory")

    get_worker().call(setattr, lane._generator, "next", fail).result()
    del lane
    kept: list[Exception] = []
    try:
        list(backend.stream(ask(max_tokens=2)))
    except GenerationError as error:
        kept.append(error)
    weights = None
    runtime.unload(path)
    assert kept
    assert _active_bytes() - before < read_folder(path).weight_bytes(as_float32=True) * 0.1


def test_kept_prefixes_of_a_recurrent_model_hold_no_batch(tiny_model: TinyModel, runtime: Runtime) -> None:
    backend = MLXChatBackend(tiny_model("recurrent"), runtime=runtime)
    list(backend.stream(ask(LONG, max_tokens=2)))
    get_worker().call(_lane(runtime).clear_prefixes).result()
    before = _active_bytes()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: ChatResult.join(backend.stream(ask(f"{n} {LONG}", max_tokens=8))), range(16)))
    _until(lambda: not runtime.models()[0].active_requests)
    accounted = _lane(runtime).prefix_bytes
    assert accounted > 0
    assert _active_bytes() - before < accounted * 2


def test_asking_what_is_loaded_needs_no_mlx() -> None:
    assert Runtime(worker=Worker("idle")).models() == ()


def test_a_load_that_can_never_fit_unloads_nothing(tiny_model: TinyModel) -> None:
    small, wide = tiny_model("llama"), tiny_model("llama", name="wide", hidden_size=512, intermediate_size=2048)
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=read_folder(small).weight_bytes(as_float32=True) * 2))
    list(MLXChatBackend(small, runtime=runtime).stream(ask(LONG, max_tokens=2)))
    with pytest.raises(InsufficientMemoryError):
        runtime.load(wide)
    assert [model.path for model in runtime.models()] == [small]
    runtime.close()


def test_weights_and_prefixes_stay_within_the_budget_together(tiny_model: TinyModel) -> None:
    path = tiny_model()
    weights = read_folder(path).weight_bytes(as_float32=True)
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=weights + 40_000, prefix_cache_bytes=10**9))
    backend = MLXChatBackend(path, runtime=runtime)
    for n in range(6):
        list(backend.stream(ask(f"{n} {LONG}", max_tokens=2)))
        assert runtime._used_bytes() <= weights + 40_000
    runtime.close()


def test_models_cannot_be_loaded_into_a_closed_runtime(tiny_model: TinyModel) -> None:
    runtime = Runtime()
    runtime.load(tiny_model())
    runtime.close()
    for use in (runtime.load, lambda path: runtime.lease(path).__enter__()):
        with pytest.raises(RuntimeClosedError):
            use(tiny_model())


def test_a_model_that_was_only_loaded_idles_out_too(tiny_model: TinyModel) -> None:
    runtime = Runtime(RuntimeSettings(idle_unload_seconds=0.1))
    busy = MLXChatBackend(tiny_model("qwen3"), runtime=runtime).stream(ask(max_tokens=4000))
    next(busy)
    runtime.load(tiny_model())
    _until(lambda: [model.path for model in runtime.models()] == [tiny_model("qwen3")])
    busy.close()
    runtime.close()


def test_a_runtime_that_nobody_holds_frees_its_models(tiny_model: TinyModel) -> None:
    before = _active_bytes()
    runtime = Runtime(RuntimeSettings(idle_unload_seconds=1000))
    runtime.load(tiny_model("llama", name="wide", hidden_size=512, intermediate_size=2048))
    assert _active_bytes() > before + 1_000_000
    gone = weakref.ref(runtime)
    del runtime
    gc.collect()
    assert gone() is None
    _until(lambda: _active_bytes() < before + 100_000)


@pytest.fixture
def interrupted_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the caller waits for the load: the first wait for a future is interrupted."""
    from concurrent.futures import Future

    wait = Future.result
    interruptions = [KeyboardInterrupt]

    def result(self: "Future[Any]", timeout: float | None = None) -> Any:
        if interruptions and threading.current_thread() is threading.main_thread():
            raise interruptions.pop()
        return wait(self, timeout)

    monkeypatch.setattr(Future, "result", result)


def test_an_interrupted_lease_is_given_back(
    tiny_model: TinyModel, runtime: Runtime, request: pytest.FixtureRequest
) -> None:
    path = tiny_model()
    runtime.load(path)
    request.getfixturevalue("interrupted_wait")
    with pytest.raises(KeyboardInterrupt), runtime.lease(path):
        pytest.fail("the lease was interrupted")
    _until(lambda: runtime.models()[0].active_requests == 0)
    assert runtime.unload(path)


def test_a_second_interrupt_at_exit_does_not_abort_the_process(tiny_model: TinyModel, tmp_path: Path) -> None:
    from tests.runtime.test_process import run

    done = run(
        """
        import _thread, atexit
        stream = backend.stream(request)
        next(stream)
        # Functions registered later run earlier: the interrupt arrives while the worker is being stopped.
        def slow():
            time.sleep(0.5)
        runtime._worker.post(slow)
        threading.Timer(0.2, _thread.interrupt_main).start()
        """,
        tiny_model(),
    )
    assert done.returncode == 0, done.stderr
