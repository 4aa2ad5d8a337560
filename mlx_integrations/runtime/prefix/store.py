"""Caches of finished sequences, found again by their longest common prefix. Worker thread only; memory tier.

A cache whose layers can all be trimmed serves any prompt that shares a beginning with it. One that cannot (a sliding
window that has wrapped, a recurrent state) serves prompts that continue it exactly.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlx_integrations.runtime._mlx import can_trim_prompt_cache, copy_caches, own_arrays, trim_prompt_cache

__all__ = ["PrefixStore", "common_prefix_length"]

_TOKEN_BYTES = array("I").itemsize
_MIN_TOKENS = 32  # fewer are read again faster than a cache is copied into the batch


@dataclass(eq=False, slots=True)
class _Entry:
    tokens: bytes
    caches: list[Any]
    cache_bytes: int
    is_trimmable: bool


def _packed(tokens: Sequence[int]) -> bytes:
    return array("I", tokens).tobytes()


def common_prefix_length(a: bytes, b: bytes) -> int:
    """Tokens that two packed sequences share at the beginning; a few memory comparisons, however long they are."""
    low, high = 0, min(len(a), len(b)) // _TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        start, stop = low * _TOKEN_BYTES, middle * _TOKEN_BYTES
        if a[start:stop] == b[start:stop]:
            low = middle
        else:
            high = middle - 1
    return low


def _covers(entry: _Entry, packed: bytes) -> bool:
    """Whether the entry serves every prompt that a cache of `packed` would serve."""
    return entry.is_trimmable and entry.tokens.startswith(packed)


class PrefixStore:
    """Least recently used caches of one model, within a budget.

    Args:
        budget_bytes: What they may take together; 0 keeps none.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.cache_bytes = 0
        """What the kept caches take."""

    def set_budget(self, budget_bytes: int) -> None:
        """Change the budget; what no longer fits goes, oldest first."""
        self._budget_bytes = budget_bytes
        self._shrink()

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, tokens: Sequence[int]) -> tuple[list[Any] | None, int]:
        """A copy of the cache that saves most of this prompt, and how many of its tokens it holds.

        At least one token is left to be read, because decoding starts from a token that is not in the cache.
        """
        packed = _packed(tokens)
        best, best_length = None, _MIN_TOKENS - 1
        for entry in self._entries.values():
            length = common_prefix_length(entry.tokens, packed)
            whole = len(entry.tokens) // _TOKEN_BYTES
            if not entry.is_trimmable and (length < whole or whole >= len(tokens)):
                continue
            length = min(length, len(tokens) - 1)
            if length > best_length:
                best, best_length = entry, length
        if best is None:
            return None, 0
        self._entries.move_to_end(best.tokens)
        caches = copy_caches(best.caches)
        if surplus := len(best.tokens) // _TOKEN_BYTES - best_length:
            trim_prompt_cache(caches, surplus)
        return caches, best_length

    def put(self, tokens: Sequence[int], caches: list[Any]) -> None:
        """Keep the cache of a sequence; a shorter one whose every use it can serve is dropped.

        Args:
            tokens: What the cache holds, exactly.
            caches: One of each layer, not shared with a running batch.
        """
        if self._budget_bytes <= 0 or len(tokens) < _MIN_TOKENS:
            return
        packed = _packed(tokens)
        covering = next((k for k, entry in self._entries.items() if _covers(entry, packed)), None)
        if covering is not None:
            self._entries.move_to_end(covering)
            return
        own_arrays(caches)
        cache_bytes = sum(cache.nbytes for cache in caches)
        if cache_bytes > self._budget_bytes:
            return
        new = _Entry(packed, caches, cache_bytes, bool(can_trim_prompt_cache(caches)))
        for known in [known for known in self._entries if known == packed or _covers(new, known)]:
            self._drop(known)
        self._entries[packed] = new
        self.cache_bytes += cache_bytes
        self._shrink()

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.cache_bytes = 0

    def _shrink(self) -> None:
        while self.cache_bytes > max(self._budget_bytes, 0):
            self._drop(next(iter(self._entries)))

    def _drop(self, packed: bytes) -> None:
        self.cache_bytes -= self._entries.pop(packed).cache_bytes
