"""Loaded models: leases, budget, idle unload, failing loads, closing."""

import gc
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import (
    ContextOverflowError,
    GenerationError,
    InsufficientMemoryError,
    ModelInUseError,
    ModelLoadError,
    QueueFullError,
    RuntimeClosedError,
    UnsupportedArchitectureError,
)
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.folder import read_folder
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatResult
from tests.runtime.conftest import TinyModel, ask
from tests.tiny_models import build_model


def _active_bytes() -> int:
    def read() -> int:
        import mlx.core as mx

        gc.collect()
        return int(mx.get_active_memory())

    return get_worker().call(read).result()


def _settled(runtime: Runtime) -> None:
    """Wait until the worker has noticed that the requests are over."""
    deadline = time.monotonic() + 5
    while any(model.active_requests for model in runtime.models()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_model_is_loaded_once_however_many_ask_for_it(tiny_model: TinyModel, runtime: Runtime) -> None:
    backends = [MLXChatBackend(tiny_model(), runtime=runtime) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ChatResult.join(backends[n % 2].stream(ask(f"number {n}"))), range(8)))
    assert runtime.loads == 1


def test_two_models_answer_in_turn_on_the_same_thread(tiny_model: TinyModel, runtime: Runtime) -> None:
    backends = [MLXChatBackend(tiny_model(name), runtime=runtime) for name in ("llama", "recurrent")]
    alone = [ChatResult.join(backend.stream(ask(max_tokens=60))).text for backend in backends]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda backend: ChatResult.join(backend.stream(ask(max_tokens=60))).text, backends))
    assert together == alone
    assert {model.path.name for model in runtime.models()} == {"llama", "recurrent"}


def test_unload_frees_the_weights(tiny_model: TinyModel, runtime: Runtime) -> None:
    path = tiny_model("llama", name="wide", hidden_size=512, intermediate_size=2048)
    before = _active_bytes()
    runtime.load(path)
    loaded = _active_bytes()
    assert loaded - before >= read_folder(path).weight_bytes(as_float32=True) * 0.99
    assert runtime.unload(path)
    assert _active_bytes() - before < (loaded - before) * 0.01
    assert not runtime.unload(path)


def test_the_weights_in_memory_are_what_the_folder_promised(tiny_model: TinyModel, runtime: Runtime) -> None:
    path = tiny_model()
    runtime.load(path)
    assert runtime.models()[0].weight_bytes == read_folder(path).weight_bytes(as_float32=True)


def test_unload_refuses_while_requests_run_and_force_ends_them(llama: MLXChatBackend, runtime: Runtime) -> None:
    stream = llama.stream(ask(max_tokens=4000))
    next(stream)
    with pytest.raises(ModelInUseError):
        runtime.unload(llama.path)
    assert runtime.unload(llama.path, force=True)
    with pytest.raises(RuntimeClosedError, match="unloaded"):
        list(stream)


def test_a_lease_keeps_a_model_loaded(tiny_model: TinyModel, runtime: Runtime) -> None:
    path = tiny_model()
    with runtime.lease(path):
        assert runtime.models()[0].active_requests == 1
        with pytest.raises(ModelInUseError):
            runtime.unload(path)
    assert runtime.models()[0].active_requests == 0


def test_a_load_beyond_the_budget_is_refused_with_the_numbers(tiny_model: TinyModel) -> None:
    path = tiny_model()
    needed = read_folder(path).weight_bytes(as_float32=True)
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=needed - 1))
    with pytest.raises(InsufficientMemoryError) as caught:
        list(MLXChatBackend(path, runtime=runtime).stream(ask()))
    assert (caught.value.needed_bytes, caught.value.budget_bytes) == (needed, needed - 1)
    assert "memory_budget_bytes" in caught.value.hint
    runtime.close()


def test_the_least_recently_used_idle_model_makes_room(tiny_model: TinyModel) -> None:
    paths = [tiny_model(name) for name in ("llama", "qwen3", "recurrent")]
    sizes = [read_folder(path).weight_bytes(as_float32=True) for path in paths]
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=sizes[0] + sizes[1]))
    runtime.load(paths[0])
    runtime.load(paths[1])
    runtime.load(paths[0])  # used again: now the second is the oldest
    runtime.load(paths[2])
    assert {model.path for model in runtime.models()} == {paths[0], paths[2]}
    with runtime.lease(paths[0]), runtime.lease(paths[2]), pytest.raises(InsufficientMemoryError, match="in use"):
        runtime.load(paths[1])
    runtime.close()


def test_an_idle_model_is_unloaded_after_its_time(tiny_model: TinyModel) -> None:
    runtime = Runtime(RuntimeSettings(idle_unload_seconds=0.2))
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    list(backend.stream(ask(max_tokens=2)))
    assert runtime.models()
    deadline = time.monotonic() + 10
    while runtime.models():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    list(backend.stream(ask(max_tokens=2)))
    assert runtime.loads == 2
    runtime.close()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return build_model(tmp_path / "broken")


def test_a_missing_folder_and_missing_files_are_named(tmp_path: Path, broken: Path, runtime: Runtime) -> None:
    with pytest.raises(ModelLoadError, match="not a folder"):
        MLXChatBackend(tmp_path / "nowhere", runtime=runtime)
    (broken / "model.safetensors").rename(broken / "weights.bin")
    with pytest.raises(ModelLoadError, match=r"no model\*\.safetensors \(it has \.bin files\)"):
        MLXChatBackend(broken, runtime=runtime)
    (broken / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        MLXChatBackend(broken, runtime=runtime)


@pytest.mark.parametrize("cut_bytes", [3, 100, 5000, 200_000])
def test_a_cut_safetensors_file_is_found_before_loading(broken: Path, cut_bytes: int, runtime: Runtime) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut_bytes])
    with pytest.raises(ModelLoadError, match=r"not a whole safetensors file") as caught:
        MLXChatBackend(broken, runtime=runtime)
    assert "download it again" in caught.value.hint


def test_weights_that_do_not_fit_the_configuration_fail_that_request_alone(
    broken: Path, llama: MLXChatBackend, runtime: Runtime
) -> None:
    config = (broken / "config.json").read_text()
    (broken / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    neighbour = llama.stream(ask(max_tokens=50))
    first = next(neighbour)
    with pytest.raises(ModelLoadError, match="could not be loaded"):
        list(MLXChatBackend(broken, runtime=runtime).stream(ask()))
    assert ChatResult.join([first, *neighbour]).finish.usage.completion_tokens == 50


def test_an_unknown_architecture_is_named(broken: Path, runtime: Runtime) -> None:
    config = (broken / "config.json").read_text()
    (broken / "config.json").write_text(config.replace('"llama"', '"quantum_llama"'))
    with pytest.raises(UnsupportedArchitectureError) as caught:
        list(MLXChatBackend(broken, runtime=runtime).stream(ask()))
    assert caught.value.model_type == "quantum_llama"


def test_a_damaged_tokenizer_is_a_load_error(broken: Path, runtime: Runtime) -> None:
    (broken / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelLoadError, match="tokenizer"):
        list(MLXChatBackend(broken, runtime=runtime).stream(ask()))


def test_a_very_long_prompt_is_refused_with_its_length(llama: MLXChatBackend) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        next(llama.stream(ask("word " * 200_000)))
    assert caught.value.prompt_tokens > 200_000
    assert caught.value.limit_tokens == 4096
    assert f"{caught.value.prompt_tokens:,} tokens" in str(caught.value)


def test_too_many_requests_are_refused(tiny_model: TinyModel) -> None:
    runtime = Runtime(RuntimeSettings(max_batch_size=1, max_queued_requests=1))
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    streams = [backend.stream(ask(max_tokens=3000)) for _ in range(3)]
    next(streams[0])
    done = threading.Thread(target=lambda: next(streams[1]))
    done.start()
    deadline = time.monotonic() + 5
    while runtime._open_requests < 2:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    with pytest.raises(QueueFullError):
        next(streams[2])
    streams[0].close()
    done.join(20)
    assert not done.is_alive()
    streams[1].close()
    runtime.close()


@pytest.fixture
def failing_step(llama: MLXChatBackend, runtime: Runtime) -> None:
    """The model's next forward pass raises, once: no input makes a healthy model do that."""
    runtime.load(llama.path)

    def sabotage() -> None:
        lane: Any = next(iter(runtime._slots.values())).lane
        healthy = lane._generator.next

        def fail() -> None:
            lane._generator.next = healthy
            raise RuntimeError("out of memory")

        lane._generator.next = fail

    get_worker().call(sabotage).result()


@pytest.mark.usefixtures("failing_step")
def test_a_failing_step_is_a_retryable_error_and_the_next_request_works(llama: MLXChatBackend) -> None:
    with pytest.raises(GenerationError, match="out of memory") as caught:
        list(llama.stream(ask()))
    assert caught.value.is_retryable
    assert ChatResult.join(llama.stream(ask())).finish.usage.completion_tokens == 20


def test_a_closed_runtime_says_so(tiny_model: TinyModel) -> None:
    runtime = Runtime()
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    stream = backend.stream(ask(max_tokens=4000))
    next(stream)
    runtime.close()
    with pytest.raises(RuntimeClosedError):
        list(stream)
    with pytest.raises(RuntimeClosedError):
        next(backend.stream(ask()))


def test_requests_leave_no_lease_behind(llama: MLXChatBackend, runtime: Runtime) -> None:
    for n in range(3):
        list(llama.stream(ask(max_tokens=3)))
        stream = llama.stream(ask(f"again {n}", max_tokens=500))
        next(stream)
        stream.close()
    _settled(runtime)
    assert runtime._open_requests == 0


def test_models_are_freed_with_their_folder_gone(tiny_model: TinyModel, tmp_path: Path, runtime: Runtime) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model(), copy)
    runtime.load(copy)
    shutil.rmtree(copy)
    assert runtime.unload(copy)
