"""Samplers and logits processors for one row of the batch. Worker thread only.

Rows with the same settings and no seed share one sampler object: mlx-lm then samples them in one call. A seeded row
has its own random key, split at each step, so its answer does not depend on what else is in the batch.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mlx_integrations.runtime._mlx import make_logits_processors, mx
from mlx_integrations.runtime.chat.sampling import Sampling

__all__ = ["Processor", "Sampler", "make_processors", "make_row_sampler"]

Sampler = Callable[[Any], Any]
Processor = Callable[[Any, Any], Any]

_SEED_MASK = (1 << 64) - 1
# Penalties look at this many tokens back, as in mlx-lm.
_PENALTY_CONTEXT_TOKENS = 20


def make_row_sampler(sampling: Sampling) -> Sampler:
    """Log-probabilities (B, V) in, token ids (B,) out."""
    if sampling.temperature == 0.0:
        return _greedy
    shape = (
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        sampling.top_k,
        sampling.xtc_probability,
        sampling.xtc_threshold,
    )
    if sampling.seed is None:
        return _shared_sampler(*shape)
    return _sampler(*shape, key=mx.random.key(sampling.seed & _SEED_MASK))


def make_processors(sampling: Sampling) -> list[Processor]:
    """The processors that change logits (1, V) by what was generated so far."""
    processors: list[Processor] = make_logits_processors(
        logit_bias=dict(sampling.logit_bias) or None,
        repetition_penalty=sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None,
        repetition_context_size=_PENALTY_CONTEXT_TOKENS,
        presence_penalty=sampling.presence_penalty or None,
        presence_context_size=_PENALTY_CONTEXT_TOKENS,
        frequency_penalty=sampling.frequency_penalty or None,
        frequency_context_size=_PENALTY_CONTEXT_TOKENS,
    )
    return processors


def _greedy(logprobs: Any) -> Any:
    return mx.argmax(logprobs, axis=-1)


@lru_cache(maxsize=256)
def _shared_sampler(
    temperature: float, top_p: float, min_p: float, top_k: int, xtc_probability: float, xtc_threshold: float
) -> Sampler:
    return _sampler(temperature, top_p, min_p, top_k, xtc_probability, xtc_threshold, key=None)


def _sampler(
    temperature: float,
    top_p: float,
    min_p: float,
    top_k: int,
    xtc_probability: float,
    xtc_threshold: float,
    *,
    key: Any,
) -> Sampler:
    """The filters in mlx-lm's order, then a draw; `key` None draws from the thread's own state.

    mlx-lm's own filters are compiled with their number as a constant: on the CPU backend every new value of `top_p`
    would run a C++ compiler on the worker thread, for half a second.
    """
    next_key = _key_source(key)

    def sample(logprobs: Any) -> Any:
        logprobs = logprobs.astype(mx.float32)
        if top_p < 1.0:
            logprobs = _keep_nucleus(logprobs, top_p)
        if min_p > 0.0:
            logprobs = _keep_likely(logprobs, min_p)
        if xtc_probability > 0.0:
            logprobs = _exclude_top_choices(logprobs, xtc_probability, xtc_threshold, next_key())
        if top_k > 0:
            logprobs = _keep_strongest(logprobs, top_k)
        return mx.random.categorical(logprobs * (1.0 / temperature), key=next_key())

    return sample


def _key_source(key: Any) -> Callable[[], Any]:
    state = key

    def next_key() -> Any:
        nonlocal state
        if state is None:
            return None
        state, fresh = mx.random.split(state)
        return fresh

    return next_key


def _keep_nucleus(logprobs: Any, top_p: float) -> Any:
    """Keep the smallest set of tokens whose probabilities reach `top_p` together (https://arxiv.org/abs/1904.09751)."""
    ordered = mx.sort(logprobs, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    mass_above = mx.cumsum(probabilities, axis=-1, reverse=True, inclusive=False)
    weakest_kept = mx.argmax(mass_above < top_p, axis=-1, keepdims=True)
    threshold = mx.take_along_axis(ordered, weakest_kept, axis=-1)
    return mx.where(logprobs < threshold, -mx.inf, logprobs)


def _keep_likely(logprobs: Any, min_p: float) -> Any:
    """Keep tokens at least `min_p` times as likely as the likeliest (https://arxiv.org/abs/2407.01082)."""
    return mx.where(logprobs < logprobs.max(axis=-1, keepdims=True) + math.log(min_p), -mx.inf, logprobs)


def _keep_strongest(logprobs: Any, top_k: int) -> Any:
    """Keep the `top_k` likeliest tokens; of equals at the edge, all."""
    edge = mx.topk(logprobs, top_k, axis=-1).min(axis=-1, keepdims=True)
    return mx.where(logprobs < edge, -mx.inf, logprobs)


def _exclude_top_choices(logprobs: Any, probability: float, threshold: float, key: Any) -> Any:
    """Exclude top choices (XTC): now and then drop every likely token but the least likely of them.

    https://github.com/oobabooga/text-generation-webui/pull/6335; each row throws its own coin.
    """
    probabilities = mx.softmax(logprobs, axis=-1)
    likely = mx.where(probabilities > threshold, probabilities, mx.inf)
    dropped = probabilities > likely.min(axis=-1, keepdims=True)
    coin = mx.random.uniform(shape=(logprobs.shape[0], 1), key=key)
    return mx.where(coin > probability, logprobs, mx.where(dropped, -mx.inf, logprobs))
