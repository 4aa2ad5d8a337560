"""Models whose caches cannot be merged: one request after another, with the same answers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlx_integrations.errors import GenerationError
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.types import ChatResult, JsonSchemaFormat, SamplingParams
from tests.runtime.chat.schemas import SCHEMAS
from tests.runtime.conftest import TinyModel, ask
from tests.tiny_models import build_model


@pytest.fixture
def serial(tiny_model: TinyModel, runtime: Runtime) -> MLXChatBackend:
    """The llama of the batched tests, put on a serial lane."""
    backend = MLXChatBackend(tiny_model(), runtime=runtime)
    runtime.load(backend.path)

    def swap() -> None:
        from mlx_integrations.runtime.chat.serial_lane import SerialLane

        slot: Any = runtime._slots[backend.path, "chat"]
        slot.lane = SerialLane(slot.lane._model, prefill_step_tokens=16)

    get_worker().call(swap).result()
    return backend


def test_answers_equal_those_of_the_batch(tiny_model: TinyModel, serial: MLXChatBackend) -> None:
    other = Runtime()
    batched = MLXChatBackend(tiny_model(), runtime=other)
    requests = [ask(text * n, max_tokens=25) for n, text in enumerate(("a", "many words here ", "x y z " * 20), 1)]
    requests += [
        ask("seeded", temperature=1.0, top_p=0.9, seed=5, max_tokens=25),
        ask("penalised", repetition_penalty=1.5, max_tokens=25),
        ask("biased", logit_bias={300: 3.0}, max_tokens=25),
    ]
    expected = [ChatResult.join(batched.stream(request)).text for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        found = list(pool.map(lambda request: ChatResult.join(serial.stream(request)).text, requests))
    assert found == expected
    other.close()


def test_it_takes_one_request_at_a_time_and_says_so(serial: MLXChatBackend, runtime: Runtime) -> None:
    assert not runtime.models()[0].is_batched
    first = serial.stream(ask(max_tokens=1500))
    next(first)
    finished = threading.Event()

    def second() -> None:
        list(serial.stream(ask("second", max_tokens=5)))
        finished.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not finished.wait(0.1)
    first.close()
    assert finished.wait(10)
    thread.join()


def test_a_waiting_request_can_be_cancelled(serial: MLXChatBackend, runtime: Runtime) -> None:
    first = serial.stream(ask(max_tokens=600))
    next(first)
    with ThreadPoolExecutor(1) as pool:
        waiting = serial.stream(ask("never read", max_tokens=2000))
        begun = pool.submit(next, waiting)
        time.sleep(0.05)
        list(first)
        begun.result(20)
        waiting.close()
    deadline = time.monotonic() + 5
    while runtime.models()[0].active_requests:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_grammar_holds_here_too(serial: MLXChatBackend) -> None:
    request = ask()
    for name in ("enum_of_strings", "nested", "string_pattern"):
        from dataclasses import replace

        constrained = replace(
            request,
            output=JsonSchemaFormat(schema=SCHEMAS[name]),
            reasoning=False,
            sampling=SamplingParams(temperature=1.0, seed=1, max_tokens=300),
        )
        assert ChatResult.join(serial.stream(constrained)).finish.reason == "stop"


def test_a_failing_row_does_not_stop_the_next(serial: MLXChatBackend, runtime: Runtime) -> None:
    slot: Any = runtime._slots[serial.path, "chat"]
    healthy = slot.lane._model

    def broken(*_: object, **__: object) -> None:
        slot.lane._model = healthy
        raise RuntimeError("no memory left")

    stream = serial.stream(ask())
    get_worker().call(
        setattr, slot.lane, "_model", type("Broken", (), {"__call__": broken, "layers": healthy.layers})()
    ).result()
    with pytest.raises(GenerationError, match="no memory left"):
        list(stream)
    assert ChatResult.join(serial.stream(ask())).finish.usage.completion_tokens == 20


def test_a_real_model_with_chunked_attention_goes_there_by_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Llama 4's chunked caches have no merge in mlx-lm 0.32."""
    folder = tmp_path_factory.mktemp("llama4")
    text_config = {
        "model_type": "llama4_text",
        "vocab_size": 1024,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 64,
        "intermediate_size_mlp": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 2048,
        "attention_chunk_size": 16,
        "attention_bias": False,
        "use_qk_norm": True,
        "interleave_moe_layer_step": 1,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "attn_temperature_tuning": True,
        "floor_scale": 8192,
        "attn_scale": 0.1,
        "rope_scaling": None,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    build_model(folder, "llama", model_type="llama4", text_config=text_config)
    runtime = Runtime()
    backend = MLXChatBackend(folder, runtime=runtime)
    result = ChatResult.join(backend.stream(ask("a prompt that is longer than a chunk of attention", max_tokens=30)))
    assert result.finish.usage.completion_tokens > 0
    assert not runtime.models()[0].is_batched
    runtime.close()
