"""What we use of mlx-lm, held against the installed version: its batching has changed with every minor release."""

import inspect
from typing import Any

import pytest

from mlx_integrations.runtime.worker import get_worker

BATCH_GENERATOR = {
    "__init__": ["model", "completion_batch_size", "prefill_batch_size", "prefill_step_size"],
    "insert": ["prompts", "max_tokens", "samplers", "logits_processors", "stop_sequences"],
    "next": [],
    "remove": ["uids"],
    "close": [],
}


def _parameters(get: Any) -> list[str]:
    return get_worker().call(lambda: list(inspect.signature(get()).parameters)).result()


@pytest.mark.parametrize("method", BATCH_GENERATOR)
def test_the_batch_generator_takes_what_we_give_it(method: str) -> None:
    def get() -> Any:
        from mlx_integrations.runtime._mlx import BatchGenerator

        return getattr(BatchGenerator, method)

    assert set(BATCH_GENERATOR[method]) <= set(_parameters(get))


def test_the_generator_restores_the_wired_limit_from_the_field_that_we_clear() -> None:
    def source() -> str:
        from mlx_integrations.runtime._mlx import BatchGenerator

        return inspect.getsource(BatchGenerator.close)

    assert "self._old_wired_limit is not None" in get_worker().call(source).result()


def test_responses_have_the_fields_we_read() -> None:
    def fields() -> list[str]:
        from mlx_lm.generate import GenerationBatch

        return list(GenerationBatch.Response.__dataclass_fields__)

    assert {"uid", "token", "logprobs", "finish_reason"} <= set(get_worker().call(fields).result())


def test_functions_take_what_we_give_them() -> None:
    from mlx_lm.utils import load_model

    from mlx_integrations.runtime import _mlx

    assert _parameters(lambda: load_model)[:3] == ["model_path", "lazy", "strict"]
    assert _parameters(lambda: _mlx.make_prompt_cache)[:1] == ["model"]
    assert {"logit_bias", "repetition_context_size"} <= set(_parameters(lambda: _mlx.make_logits_processors))


def test_the_pin_allows_the_installed_version_only_within_its_minor_release() -> None:
    from importlib.metadata import requires, version

    (pin,) = [line for line in requires("mlx-integrations") or [] if line.startswith("mlx-lm")]
    assert "<0.33" in pin
    assert version("mlx-lm").startswith("0.32.")
