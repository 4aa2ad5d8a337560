"""What reading a prompt needs for a moment beside weights and caches: activations, scores, and copies of caches.

The factors are fitted to peaks that MLX measured on a CPU in float32: those of attention for 30 pairs of model and
context, with errors below 2 MiB, those of Mamba 2 for eight models. They were not measured on Metal, where attention is
fused, so that scores and masks fall away. How well estimates do is in docs/benchmarks.md.
"""

from collections.abc import Mapping
from typing import Any, Final

from mlx_integrations.memory_estimate.caches import CacheLayout

__all__ = ["margin_bytes"]

# Arrays as wide as the hidden state, the feed-forward layer and the queries that live at the same time in one layer.
_HIDDEN_ARRAYS: Final = 7
_FEED_FORWARD_ARRAYS: Final = 2
_QUERY_ARRAYS: Final = 6.5
# Growing a layer's cache copies it, and attention reads another part of it.
_CACHE_COPIES: Final = 1.125
_MASK_BYTES: Final = 0.5  # of one score's place in the mask

# Mamba 2 reads a prompt in chunks; the decay between all tokens of each stays until every layer has been through.
_SCAN_CHUNK_TOKENS: Final = 256
_SCAN_ARRAYS: Final = 18
_FLOAT32_BYTES: Final = 4

_UNKNOWN_SHARE: Final = 10  # of the weights, one part in this many, where the configuration says nothing
_UNKNOWN_BYTES: Final = 512 * 1024**2


def margin_bytes(
    config: Mapping[str, Any],
    layout: CacheLayout | None,
    *,
    weight_bytes: int,
    step_tokens: int,
    context_tokens: int,
    bytes_per_element: int,
    is_attention_fused: bool,
) -> int:
    """Bytes that come and go while a prompt is read, at the end of the context, where they are most.

    Args:
        config: The part of config.json that describes the language model.
        layout: Its caches; `None` if unknown.
        weight_bytes: Of its weights: the only clue when the configuration says nothing.
        step_tokens: Prompt tokens read at once.
        context_tokens: Tokens of prompt and answer together.
        bytes_per_element: Of one activation.
        is_attention_fused: Whether attention keeps no scores in memory.
    """
    hidden, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads", "num_heads")
    if not hidden or not heads:
        return max(_UNKNOWN_BYTES, weight_bytes // _UNKNOWN_SHARE)
    width = _whole(config, "head_dim") or hidden // heads
    elements = _HIDDEN_ARRAYS * hidden + _FEED_FORWARD_ARRAYS * _feed_forward(config) + _QUERY_ARRAYS * heads * width
    total = elements * step_tokens * bytes_per_element
    if layout is not None and layout.layers:
        total += _CACHE_COPIES * max(
            layer.nbytes(context_tokens, bytes_per_element) // layer.count for layer in layout.layers
        )
        total += _scan_bytes(config, layout, step_tokens, bytes_per_element)
    attended = _attended_tokens(layout, step_tokens, context_tokens)
    scores = step_tokens * attended * heads * bytes_per_element
    if not is_attention_fused:
        total += scores + step_tokens * attended * _MASK_BYTES
    if _keeps_latents(config, layout):
        # The scores of the rotated part are an array of their own, and keys and values are expanded.
        per_token = (_whole(config, "qk_nope_head_dim") or 0) + (_whole(config, "v_head_dim") or 0)
        total += scores + heads * attended * per_token * bytes_per_element / 2
    return round(total)


def _attended_tokens(layout: CacheLayout | None, step_tokens: int, context_tokens: int) -> int:
    """To how many tokens the layer that sees the most of them attends while a prompt is read."""
    if layout is None:
        return context_tokens
    seen = [
        context_tokens if layer.rule == "full" else min(context_tokens, layer.window_tokens + step_tokens)
        for layer in layout.layers
        if layer.token_elements
    ]
    return max(seen, default=0)


def _keeps_latents(config: Mapping[str, Any], layout: CacheLayout | None) -> bool:
    rank, rotated = _whole(config, "kv_lora_rank"), _whole(config, "qk_rope_head_dim")
    if layout is None or not rank or not rotated:
        return False
    return any(layer.token_elements == rank + rotated for layer in layout.layers)


def _scan_bytes(config: Mapping[str, Any], layout: CacheLayout, step_tokens: int, bytes_per_element: int) -> float:
    """What layers of Mamba 2 need, if there are any."""
    layers = sum(layer.count for layer in layout.layers if layer.rule == "state" and layer.float32_elements)
    heads = _whole(config, "mamba_n_heads", "mamba_num_heads", "num_heads")
    width = _whole(config, "mamba_d_head", "mamba_head_dim", "head_dim")
    if not layers or not heads or not width:
        return 0
    decay = layers * step_tokens * min(step_tokens, _SCAN_CHUNK_TOKENS) * heads * _FLOAT32_BYTES
    return decay + _SCAN_ARRAYS * step_tokens * heads * width * bytes_per_element


def _feed_forward(config: Mapping[str, Any]) -> int:
    """How wide the feed-forward layer is; in a mixture, that of all experts which one token goes through."""
    dense = _whole(config, "intermediate_size") or 4 * (_whole(config, "hidden_size") or 0)
    routed = _whole(config, "moe_intermediate_size")
    experts = _whole(config, "num_experts_per_tok")
    # Each expert has its own copy of the hidden state, which is what two arrays half as wide take.
    return max(dense, experts * (routed + (_whole(config, "hidden_size") or 0) // 2)) if routed and experts else dense


def _whole(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if type(value) is int and 0 < value <= 10**9:
            return value
    return None
