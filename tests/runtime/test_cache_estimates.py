"""The estimate of every architecture's caches, held against the caches of mlx-lm, byte for byte."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from mlx_integrations.memory_estimate import KNOWN_MODEL_TYPES, cache_layout, estimate_cache_bytes
from mlx_integrations.memory_estimate.architectures import _READERS, _SAME_AS
from mlx_integrations.runtime.worker import get_worker
from tests.runtime.cache_architectures import NESTED, configuration, nested_configuration

STEP_TOKENS = 512
# Around a step of growth, a sliding window, and several slices of a prompt.
CONTEXTS = (1, 3, 99, 101, 256, 257, 300, 513, 700)
FEW_CONTEXTS = (1, 99, 257)
# One architecture for each way of keeping something; the others differ in how wide what they keep is.
EVERY_WAY = frozenset("cohere2 deepseek_v2 deepseek_v3 gemma3_text gpt_oss lfm2 llama qwen3_next".split())
# Those with states: some of what they keep is float32 whatever the weights are. The others run in float32, which is
# faster on a CPU, and the only type in which MLX runs mixtures of experts there.
WITH_STATES = ("falcon_h1", "lfm2", "llama", "mamba", "mamba2", "nemotron_h", "recurrent_gemma")


def _model(config: Mapping[str, Any], bytes_per_element: int) -> Any:
    from mlx_integrations.runtime._mlx import mx  # first: it guards the import of mlx_lm

    from mlx.utils import tree_map  # isort: skip
    from mlx_lm.utils import _get_classes  # isort: skip

    model_class, arguments_class = _get_classes(copy.deepcopy(dict(config)))
    model = model_class(arguments_class.from_dict(copy.deepcopy(dict(config))))
    dtype = mx.float32 if bytes_per_element == 4 else mx.bfloat16
    model.update(
        tree_map(lambda one: one.astype(dtype) if mx.issubdtype(one.dtype, mx.floating) else one, model.parameters())
    )
    mx.eval(model.parameters())
    model.eval()
    return model


def _measure(config: Mapping[str, Any], bytes_per_element: int, contexts: tuple[int, ...]) -> list[int]:
    """Bytes of the caches once a prompt was read in slices, and its last token as an answer's first step is."""
    from mlx_integrations.runtime._mlx import make_prompt_cache, mx

    model = _model(config, bytes_per_element)
    found = []
    for tokens in contexts:
        caches = make_prompt_cache(model)
        for start in range(0, tokens - 1, STEP_TOKENS):
            model(mx.full((1, min(STEP_TOKENS, tokens - 1 - start)), 7), cache=caches)
            mx.eval([cache.state for cache in caches])
        model(mx.array([[5]]), cache=caches)
        mx.eval([cache.state for cache in caches])
        found.append(sum(cache.nbytes for cache in caches))
    return found


def _check(config: Mapping[str, Any], bytes_per_element: int, contexts: tuple[int, ...] = CONTEXTS) -> None:
    measured = get_worker().call(_measure, config, bytes_per_element, contexts).result()
    expected = [estimate_cache_bytes(config, tokens, bytes_per_element=bytes_per_element) for tokens in contexts]
    assert expected == measured


@pytest.mark.parametrize("model_type", sorted(set(_READERS) - set(NESTED)))
def test_the_caches_of_an_architecture_take_what_is_estimated(model_type: str) -> None:
    _check(configuration(model_type), 4, CONTEXTS if model_type in EVERY_WAY else FEW_CONTEXTS)


@pytest.mark.parametrize("model_type", WITH_STATES)
def test_in_half_precision_states_may_stay_in_float32(model_type: str) -> None:
    _check(configuration(model_type), 2, FEW_CONTEXTS)


@pytest.mark.parametrize("model_type", sorted(NESTED))
def test_a_nested_configuration_is_read(model_type: str) -> None:
    # Of llama4 two chunks of attention and more.
    _check(nested_configuration(model_type), 4, (1, 300, 513, 1025, 1100) if model_type == "llama4" else FEW_CONTEXTS)


def test_every_known_architecture_is_one_that_mlx_lm_runs() -> None:
    from mlx_integrations.runtime._mlx import has_architecture

    from mlx_lm.utils import MODEL_REMAPPING  # isort: skip

    names = [name for name in KNOWN_MODEL_TYPES if not name.endswith("_text") or name in _READERS]
    assert [name for name in names if not has_architecture(name)] == []
    for name, same in _SAME_AS.items():
        if name in MODEL_REMAPPING and name not in NESTED:
            assert _SAME_AS.get(MODEL_REMAPPING[name], MODEL_REMAPPING[name]) == same


def test_an_architecture_of_a_real_size_is_counted_from_its_configuration_alone() -> None:
    """Llama 3.2 3B: 28 layers, 8 heads of 128 for keys and values, so 112 KiB a token in half precision."""
    config = {
        "model_type": "llama",
        "hidden_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
    }
    layout = cache_layout(config)
    assert layout is not None
    assert layout.nbytes(8192) == 8192 * 28 * 2 * 8 * 128 * 2 == 8192 * 112 * 1024
