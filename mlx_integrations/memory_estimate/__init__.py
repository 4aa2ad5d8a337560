"""What a model takes in memory, from its configuration and the bytes of its weights. Pure: no MLX, no disk."""

from mlx_integrations.memory_estimate.architectures import CONFIG_KEYS, KNOWN_MODEL_TYPES, cache_layout
from mlx_integrations.memory_estimate.caches import CacheLayer, CacheLayout
from mlx_integrations.memory_estimate.estimate import (
    DEFAULT_PREFILL_STEP_TOKENS,
    Fit,
    FitVerdict,
    MemoryEstimate,
    estimate_cache_bytes,
    estimate_memory,
    fits,
)
from mlx_integrations.memory_estimate.margin import margin_bytes

__all__ = [
    "CONFIG_KEYS",
    "DEFAULT_PREFILL_STEP_TOKENS",
    "KNOWN_MODEL_TYPES",
    "CacheLayer",
    "CacheLayout",
    "Fit",
    "FitVerdict",
    "MemoryEstimate",
    "cache_layout",
    "estimate_cache_bytes",
    "estimate_memory",
    "fits",
    "margin_bytes",
]
