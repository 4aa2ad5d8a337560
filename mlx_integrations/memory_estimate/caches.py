"""Bytes of a model's caches after so many tokens, each kind of layer counted its own way.

The allocation rules are those of mlx-lm 0.32.2 (mlx_lm/models/cache.py); tests hold them against its caches, byte for
byte. Pure: no MLX, no disk.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CACHE_STEP_TOKENS", "CacheLayer", "CacheLayout", "CacheRule"]

CACHE_STEP_TOKENS: Final = 256
"""Caches grow by so many tokens at once (`KVCache.step`)."""

CacheRule = Literal["full", "sliding", "chunked", "state"]
"""How a layer's cache grows: with every token, up to a window, up to a chunk and one step, or not at all."""

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayer:
    """Layers of one model whose caches are alike.

    Attributes:
        rule: How the cache grows.
        count: How many such layers there are.
        token_elements: Numbers kept for one token, keys and values together, in the type of the activations.
        window_tokens: At most so many tokens are kept, where the rule has a limit.
        state_elements: Numbers kept whatever the length, in the type of the activations.
        float32_elements: Numbers kept whatever the length, always as float32.
    """

    rule: CacheRule
    count: int = 1
    token_elements: int = 0
    window_tokens: int = 0
    state_elements: int = 0
    float32_elements: int = 0

    def kept_tokens(self, tokens: int) -> int:
        """For how many tokens there is room after this many were read and the next one is being generated.

        A sliding window is kept as long as the prompt at first and grows by a step from there, so room for up to 255
        tokens more than were read is the most it takes.
        """
        if self.rule == "state" or tokens <= 0:
            return 0
        stepped = -(-tokens // CACHE_STEP_TOKENS) * CACHE_STEP_TOKENS
        if self.rule == "sliding":
            return min(self.window_tokens, tokens + CACHE_STEP_TOKENS - 1)
        if self.rule == "chunked":
            return min(stepped, self.window_tokens + CACHE_STEP_TOKENS)
        return stepped

    def nbytes(self, tokens: int, bytes_per_element: int) -> int:
        """Bytes of all these layers' caches."""
        elements = self.kept_tokens(tokens) * self.token_elements + self.state_elements
        return self.count * (elements * bytes_per_element + self.float32_elements * _FLOAT32_BYTES)


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The caches of a whole model."""

    layers: tuple[CacheLayer, ...]

    @classmethod
    def of(cls, layers: Iterable[CacheLayer]) -> "CacheLayout":
        """Fold equal layers together."""
        counts: dict[CacheLayer, int] = {}
        for layer in layers:
            counts[layer] = counts.get(layer, 0) + 1
        return cls(
            tuple(
                CacheLayer(
                    rule=layer.rule,
                    count=layer.count * count,
                    token_elements=layer.token_elements,
                    window_tokens=layer.window_tokens,
                    state_elements=layer.state_elements,
                    float32_elements=layer.float32_elements,
                )
                for layer, count in counts.items()
            )
        )

    def nbytes(self, tokens: int, bytes_per_element: int = 2) -> int:
        """Bytes of all caches of one conversation after so many tokens; 0 before the first."""
        return sum(layer.nbytes(tokens, bytes_per_element) for layer in self.layers) if tokens > 0 else 0

    def tokens_within(self, budget_bytes: int, limit_tokens: int, bytes_per_element: int = 2) -> int:
        """The longest context whose caches fit, at most `limit_tokens`; 0 if none does."""
        low, high = 0, max(limit_tokens, 0)
        while low < high:
            middle = (low + high + 1) // 2
            if self.nbytes(middle, bytes_per_element) <= budget_bytes:
                low = middle
            else:
                high = middle - 1
        return low
