"""Hold one row of the batch to its grammar. Worker thread only.

llguidance's own MLX helper needs a Metal kernel; plain operations do the same on every backend.
"""

from functools import lru_cache
from typing import Any

from llguidance import LLMatcher

from mlx_integrations.runtime._mlx import mx

__all__ = ["GrammarProcessor", "allow_only"]


@lru_cache(maxsize=16)
def _bit_positions(vocabulary_size: int) -> tuple[Any, Any]:
    index = mx.arange(vocabulary_size, dtype=mx.uint32)
    words, shifts = index // 32, index % 32
    mx.eval(words, shifts)
    return words, shifts


def allow_only(logits: Any, mask: bytes) -> Any:
    """Set what the mask forbids to minus infinity.

    Args:
        logits: (1, V) float.
        mask: One bit a token, lowest bit first; tokens beyond its end are forbidden.
    """
    size = min(logits.shape[-1], len(mask) * 8)
    words, shifts = _bit_positions(size)
    bits = mx.array(memoryview(mask).cast("I"))  # type: ignore[arg-type]  # any buffer is taken
    allowed = ((bits[words] >> shifts) & 1).astype(mx.bool_)
    head = mx.where(allowed, logits[..., :size], -mx.inf)
    if size == logits.shape[-1]:
        return head
    return mx.concatenate([head, mx.full((1, logits.shape[-1] - size), -mx.inf, dtype=head.dtype)], axis=-1)


class GrammarProcessor:
    """A logits processor for mlx-lm: feeds the matcher the newest token, masks what may not come next.

    Args:
        matcher: A fresh matcher of this row's grammar.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._started = False

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Mask the logits.

        Args:
            tokens: (T,) everything so far, prompt included.
            logits: (1, V) float.

        Raises:
            RuntimeError: The matcher gave up (a limit of llguidance); the row cannot go on.
        """
        if self._started:
            self._matcher.consume_token(tokens[-1].item())
        self._started = True
        if self._matcher.is_error():
            raise RuntimeError(f"the grammar engine gave up: {self._matcher.get_error()}")
        return allow_only(logits, self._matcher.compute_bitmask())
