"""Memory estimates as plain arithmetic; that their caches are mlx-lm's is shown in tests/runtime."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.memory_estimate import (
    CONFIG_KEYS,
    CacheLayer,
    CacheLayout,
    MemoryEstimate,
    cache_layout,
    estimate_cache_bytes,
    estimate_memory,
    fits,
)

GIB = 1024**3
LLAMA = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
GEMMA = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}


@pytest.mark.parametrize("tokens", [1, 255, 256, 257, 8192, 100_000])
def test_full_attention_grows_in_steps_of_256_tokens(tokens: int) -> None:
    assert estimate_cache_bytes(LLAMA, tokens) == 28 * 2 * 8 * 128 * 2 * 256 * -(-tokens // 256)


def test_a_sliding_window_stops_growing() -> None:
    """Gemma 3 1B: 22 of 26 layers keep 512 tokens; counting them in full would say six times as much."""
    layer = 2 * 256 * 2
    assert estimate_cache_bytes(GEMMA, 32_768) == layer * (4 * 32_768 + 22 * 512)
    assert estimate_cache_bytes({**GEMMA, "sliding_window_pattern": 1}, 32_768) == layer * 26 * 32_768


def test_nothing_is_kept_before_the_first_token() -> None:
    assert estimate_cache_bytes(LLAMA, 0) == 0
    assert estimate_cache_bytes({"model_type": "mamba2"} | LLAMA, 0) is not None


def test_float32_takes_twice_as_much() -> None:
    half, full = (estimate_cache_bytes(LLAMA, 4096, bytes_per_element=size) for size in (2, 4))
    assert half is not None and full == 2 * half


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "a-model-of-next-year"},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"model_type": "llama"},
        {**LLAMA, "num_hidden_layers": "28"},
        {**LLAMA, "num_hidden_layers": 28.0},
        {**LLAMA, "num_hidden_layers": True},
        {**LLAMA, "num_hidden_layers": -1},
        {**LLAMA, "num_hidden_layers": 10**9},
        {**LLAMA, "num_attention_heads": 0},
        {**LLAMA, "head_dim": 10**12},
        {**LLAMA, "layer_types": ["sliding_attention"] * 28},
        {**LLAMA, "layer_types": "full"},
        {"model_type": "olmo3", **{key: LLAMA[key] for key in LLAMA if key != "model_type"}, "layer_types": ["x"]},
        {"model_type": "nemotron_h", "hybrid_override_pattern": 7},
        {"model_type": "lfm2", "hidden_size": 64},
    ],
    ids=str,
)
def test_what_is_not_known_is_unknown_and_never_guessed(config: dict[str, Any]) -> None:
    assert cache_layout(config) is None
    estimate = estimate_memory(config, 4 * GIB, 8192)
    assert estimate.cache_bytes is None
    assert not estimate.is_complete
    assert estimate.total_bytes == estimate.weight_bytes + estimate.margin_bytes


def test_the_language_model_of_a_nested_configuration_counts() -> None:
    nested = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"num_hidden_layers": 99}}
    assert estimate_cache_bytes(nested, 100) == estimate_cache_bytes(LLAMA, 100)
    inherited = {"model_type": "llama", "text_config": {key: LLAMA[key] for key in LLAMA if key != "model_type"}}
    assert estimate_cache_bytes(inherited, 100) == estimate_cache_bytes(LLAMA, 100)


def test_the_parts_add_up() -> None:
    estimate = estimate_memory(LLAMA, 1_807_423_488, 8192)
    assert estimate.cache_bytes == 8192 * 112 * 1024
    assert estimate.total_bytes == 1_807_423_488 + estimate.cache_bytes + estimate.margin_bytes
    assert estimate.is_complete
    assert 0 < estimate.margin_bytes < estimate.weight_bytes


def test_the_margin_grows_with_what_is_read_at_once_and_with_scores_that_are_kept() -> None:
    small = estimate_memory(LLAMA, GIB, 8192, prefill_step_tokens=256)
    large = estimate_memory(LLAMA, GIB, 8192, prefill_step_tokens=2048)
    unfused = estimate_memory(LLAMA, GIB, 8192, prefill_step_tokens=256, is_attention_fused=False)
    assert small.margin_bytes < large.margin_bytes
    assert unfused.margin_bytes - small.margin_bytes == 256 * 8192 * (24 * 2 + 0.5)
    assert estimate_memory(LLAMA, GIB, 64).margin_bytes < small.margin_bytes


def test_a_mixture_is_counted_by_the_experts_that_a_token_goes_through() -> None:
    dense = estimate_memory({**LLAMA, "intermediate_size": 768}, GIB, 8192).margin_bytes
    mixture = {**LLAMA, "model_type": "qwen3_moe", "intermediate_size": 768, "moe_intermediate_size": 768}
    assert estimate_memory({**mixture, "num_experts_per_tok": 8}, GIB, 8192).margin_bytes > dense


def test_without_a_configuration_the_margin_is_a_tenth_of_the_weights() -> None:
    assert estimate_memory({}, 40 * GIB, 8192).margin_bytes == 4 * GIB
    assert estimate_memory({}, GIB, 8192).margin_bytes == GIB // 2


def estimate(weights: int, margin: int = 0, context: int = 1024) -> MemoryEstimate:
    """A model that keeps a kibibyte a token."""
    layout = CacheLayout((CacheLayer(rule="full", token_elements=512),))
    return MemoryEstimate(
        weight_bytes=weights,
        cache_bytes=layout.nbytes(context),
        margin_bytes=margin,
        context_tokens=context,
        layout=layout,
    )


MIB = 1024**2


def test_what_is_clearly_within_the_budget_fits() -> None:
    fit = fits(estimate(8 * MIB), 100 * MIB)
    assert (fit.verdict, fit.needed_bytes, fit.budget_bytes) == ("fits", 9 * MIB, 100 * MIB)
    assert fit.largest_context_tokens == 1024
    assert not fit.is_refused


def test_what_takes_nearly_all_is_tight() -> None:
    assert fits(estimate(8 * MIB), 10 * MIB).verdict == "fits"
    assert fits(estimate(8 * MIB), 10 * MIB - 1).verdict == "tight"
    assert fits(estimate(8 * MIB), 9 * MIB).verdict == "tight"


def test_what_is_too_large_says_which_context_would_fit() -> None:
    fit = fits(estimate(8 * MIB, margin=MIB // 4), 9 * MIB)
    assert fit.verdict == "too large"
    assert fit.is_refused
    assert fit.largest_context_tokens == 768
    assert fits(estimate(10 * MIB), 9 * MIB).largest_context_tokens == 0


def test_the_model_that_is_replaced_gives_its_memory() -> None:
    assert fits(estimate(8 * MIB), 4 * MIB).verdict == "too large"
    assert fits(estimate(8 * MIB), 4 * MIB, freed_bytes=8 * MIB).verdict == "fits"
    assert fits(estimate(8 * MIB), -5, freed_bytes=-5).budget_bytes == 0


def test_unknown_caches_are_unknown_unless_the_weights_alone_are_too_large() -> None:
    unknown = MemoryEstimate(weight_bytes=8 * MIB, cache_bytes=None, margin_bytes=0, context_tokens=1024)
    assert fits(unknown, 100 * MIB).verdict == "unknown"
    assert fits(unknown, 4 * MIB).verdict == "too large"
    assert fits(unknown, 100 * MIB).largest_context_tokens is None


_LAYERS = st.builds(
    CacheLayer,
    rule=st.sampled_from(["full", "sliding", "chunked", "state"]),
    count=st.integers(1, 80),
    token_elements=st.integers(0, 4096),
    window_tokens=st.integers(1, 8192),
    state_elements=st.integers(0, 10**6),
    float32_elements=st.integers(0, 10**6),
)


@given(st.lists(_LAYERS, max_size=5), st.integers(1, 300_000), st.integers(0, 10_000))
def test_a_longer_context_never_takes_less(layers: list[CacheLayer], tokens: int, more: int) -> None:
    layout = CacheLayout(tuple(layers))
    assert layout.nbytes(tokens) <= layout.nbytes(tokens + more)


@given(st.lists(_LAYERS, max_size=5), st.integers(0, 10**11), st.integers(0, 300_000))
def test_the_longest_context_that_fits_is_the_longest(layers: list[CacheLayer], budget: int, limit: int) -> None:
    layout = CacheLayout(tuple(layers))
    longest = layout.tokens_within(budget, limit)
    assert 0 <= longest <= limit
    assert longest == 0 or layout.nbytes(longest) <= budget
    assert longest == limit or layout.nbytes(longest + 1) > budget


@given(st.lists(_LAYERS, max_size=8), st.integers(0, 100_000))
def test_folding_equal_layers_changes_nothing(layers: list[CacheLayer], tokens: int) -> None:
    assert CacheLayout.of(layers).nbytes(tokens) == CacheLayout(tuple(layers)).nbytes(tokens)


_VALUES = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=8), st.none(), st.booleans(), st.lists(st.integers())
)


@given(
    st.sampled_from(["llama", "gemma3", "gpt_oss", "qwen3_next", "nemotron_h", "jamba", "lfm2", "recurrent_gemma"]),
    st.dictionaries(st.sampled_from(sorted(CONFIG_KEYS)), _VALUES, max_size=40),
)
def test_no_configuration_makes_an_estimate_fail(model_type: str, config: dict[str, Any]) -> None:
    found = estimate_memory({**config, "model_type": model_type}, GIB, 4096)
    assert found.cache_bytes is None or found.cache_bytes >= 0
    assert found.margin_bytes >= 0
    assert fits(found, 16 * GIB).verdict in ("fits", "tight", "too large", "unknown")
