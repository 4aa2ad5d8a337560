"""The estimate as people see it: weights, caches at one context, what work needs beside them, and whether that fits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlx_integrations.memory_estimate.architectures import cache_layout, text_config
from mlx_integrations.memory_estimate.caches import CacheLayout
from mlx_integrations.memory_estimate.margin import margin_bytes

__all__ = [
    "DEFAULT_PREFILL_STEP_TOKENS",
    "Fit",
    "FitVerdict",
    "MemoryEstimate",
    "estimate_cache_bytes",
    "estimate_memory",
    "fits",
]

DEFAULT_PREFILL_STEP_TOKENS: Final = 512
"""Prompt tokens that the runtime reads at once (`runtime.prefill_step_tokens`)."""

FitVerdict = Literal["fits", "tight", "too large", "unknown"]

_TIGHT_SHARE = 0.9  # of the budget: above it, a little more of anything else on the machine is too much


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """What one model and one conversation take.

    Attributes:
        weight_bytes: Of the weights, as they are in memory.
        cache_bytes: Of the caches at `context_tokens`; `None` if the architecture is not known.
        margin_bytes: What reading a prompt needs for a moment beside them.
        context_tokens: Tokens of prompt and answer together.
        layout: How the caches grow, for other contexts.
        bytes_per_element: Of one number in the caches.
    """

    weight_bytes: int
    cache_bytes: int | None
    margin_bytes: int
    context_tokens: int
    layout: CacheLayout | None = None
    bytes_per_element: int = 2

    @property
    def total_bytes(self) -> int:
        """All parts that are known."""
        return self.weight_bytes + (self.cache_bytes or 0) + self.margin_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the caches are part of the total."""
        return self.cache_bytes is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether an estimate fits a budget, with the numbers that say so.

    Attributes:
        verdict: `fits`; `tight`, if it takes more than nine tenths of the budget; `too large`; or `unknown`, if the
            weights fit and the caches are not known.
        needed_bytes: The estimate's total.
        budget_bytes: What models may take, what is freed for this one included.
        largest_context_tokens: The longest context, up to the one asked for, that fits; `None` if that is not known.
    """

    verdict: FitVerdict
    needed_bytes: int
    budget_bytes: int
    largest_context_tokens: int | None

    @property
    def is_refused(self) -> bool:
        """Whether loading it would need to be forced."""
        return self.verdict == "too large"


def estimate_cache_bytes(config: Mapping[str, Any], context_tokens: int, *, bytes_per_element: int = 2) -> int | None:
    """Bytes of one conversation's caches; `None` if the architecture is not known.

    Args:
        config: config.json.
        context_tokens: Tokens of prompt and answer together.
        bytes_per_element: 2 for half precision, which quantised weights compute in too; 4 for float32.
    """
    layout = cache_layout(config)
    return None if layout is None else layout.nbytes(context_tokens, bytes_per_element)


def estimate_memory(
    config: Mapping[str, Any],
    weight_bytes: int,
    context_tokens: int,
    *,
    bytes_per_element: int = 2,
    prefill_step_tokens: int = DEFAULT_PREFILL_STEP_TOKENS,
    is_attention_fused: bool = True,
) -> MemoryEstimate:
    """What a model and one conversation take.

    Args:
        config: config.json, or the keys of it that `CONFIG_KEYS` names; empty if unknown.
        weight_bytes: Of the weights, as they will be in memory.
        context_tokens: Tokens of prompt and answer together.
        bytes_per_element: 2 for half precision, which quantised weights compute in too; 4 for float32.
        prefill_step_tokens: Prompt tokens read at once.
        is_attention_fused: Whether attention keeps no scores in memory, as on Metal and CUDA; on a CPU it does.
    """
    layout = cache_layout(config)
    return MemoryEstimate(
        weight_bytes=weight_bytes,
        cache_bytes=None if layout is None else layout.nbytes(context_tokens, bytes_per_element),
        margin_bytes=margin_bytes(
            text_config(config),
            layout,
            weight_bytes=weight_bytes,
            step_tokens=min(prefill_step_tokens, context_tokens),
            context_tokens=context_tokens,
            bytes_per_element=bytes_per_element,
            is_attention_fused=is_attention_fused,
        ),
        context_tokens=context_tokens,
        layout=layout,
        bytes_per_element=bytes_per_element,
    )


def fits(estimate: MemoryEstimate, budget_bytes: int, freed_bytes: int = 0) -> Fit:
    """Whether an estimate fits.

    Args:
        estimate: What the model takes.
        budget_bytes: What models may take now.
        freed_bytes: What the model that it replaces gives back.
    """
    budget = max(budget_bytes, 0) + max(freed_bytes, 0)
    needed = estimate.total_bytes
    if needed > budget:
        verdict: FitVerdict = "too large"
    elif not estimate.is_complete:
        verdict = "unknown"
    else:
        verdict = "tight" if needed > budget * _TIGHT_SHARE else "fits"
    return Fit(
        verdict=verdict, needed_bytes=needed, budget_bytes=budget, largest_context_tokens=_largest(estimate, budget)
    )


def _largest(estimate: MemoryEstimate, budget_bytes: int) -> int | None:
    if estimate.layout is None:
        return None
    left = budget_bytes - estimate.weight_bytes - estimate.margin_bytes
    return estimate.layout.tokens_within(left, estimate.context_tokens, estimate.bytes_per_element)
