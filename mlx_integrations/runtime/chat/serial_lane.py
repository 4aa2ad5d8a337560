"""One row after another, for models whose caches cannot be merged into a batch. Worker thread only."""

import logging
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import make_prompt_cache, mx, wait_for_cpu
from mlx_integrations.runtime.chat.row_tools import generation_error, row_processors, token_event
from mlx_integrations.runtime.chat.rows import EndEvent, FailEvent, Row
from mlx_integrations.runtime.chat.samplers import make_row_sampler

__all__ = ["SerialLane"]

_logger = logging.getLogger(__name__)


class SerialLane:
    """Takes one row after another, each with a cache of its own.

    Args:
        model: The mlx-lm model.
        prefill_step_tokens: Prompt tokens read in one step.
    """

    is_batched: ClassVar[bool] = False
    is_background: ClassVar[bool] = False

    def __init__(self, model: Any, *, prefill_step_tokens: int) -> None:
        self._model = model
        self._prefill_step_tokens = prefill_step_tokens
        self._waiting: deque[Row] = deque()
        self._current: _SerialRow | None = None

    @property
    def prefix_bytes(self) -> int:
        """None are kept here."""
        return 0

    def set_prefix_budget(self, budget_bytes: int) -> None:
        """None are kept here."""

    def clear_prefixes(self) -> None:
        """None are kept here."""

    def add(self, row: Row) -> None:
        """Queue a row."""
        self._waiting.append(row)

    def step(self) -> bool:
        """Advance the current row by one prompt slice or one token; let cancelled rows go."""
        for gone in [row for row in self._waiting if row.cancelled]:
            self._waiting.remove(gone)
            gone.end()
        row = self._current.row if self._current else None
        try:
            if self._current is None and self._waiting:
                row = self._waiting.popleft()
                self._current = _SerialRow(self._model, row, self._prefill_step_tokens)
            more = self._current is not None and not self._current.row.cancelled and self._current.advance()
        except BaseException as error:  # noqa: BLE001  (logged as text: a record would hold the frames)
            # This row alone: the next one starts with a cache of its own.
            _logger.error("A decoding step failed: %s", traceback.format_exc())
            if row is not None:
                row.post(FailEvent(generation_error(error)))
            more = False
        if not more and row is not None:
            self._current = None
            row.end()
        return self._current is not None or bool(self._waiting)

    def settle(self) -> None:
        """Wait for the next token, which is being computed since the last one was read."""
        wait_for_cpu()

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every row, each with an error of its own if one is to be sent, and free the cache."""
        rows = [*([self._current.row] if self._current else []), *self._waiting]
        self._current = None
        self._waiting.clear()
        for row in rows:
            row.end(FailEvent(make_error()) if make_error else None)


class _SerialRow:
    """Prompt in slices, then one token a step; the next token is being computed while the last one is read."""

    def __init__(self, model: Any, row: Row, prefill_step_tokens: int) -> None:
        self.row = row
        self._model = model
        self._prefill_step_tokens = prefill_step_tokens
        self._cache = make_prompt_cache(model)
        self._sampler = make_row_sampler(row.sampling)
        self._processors = row_processors(row)
        self._context = mx.array(row.prompt)
        self._prompt_read = 0
        self._next: tuple[Any, Any] | None = None
        self._generated = 0

    def advance(self) -> bool:
        """One prompt slice or one token; False when the answer is complete."""
        last = len(self.row.prompt) - 1
        if self._prompt_read < last:
            stop = min(self._prompt_read + self._prefill_step_tokens, last)
            self._model(self._context[self._prompt_read : stop][None], cache=self._cache)
            mx.eval([cache.state for cache in self._cache])
            mx.clear_cache()
            self._prompt_read = stop
            return True
        token, logprobs = self._next or self._compute(self._context[-1:])
        self._context = mx.concatenate([self._context, token])
        self._next = self._compute(token)
        token_id = int(token.item())
        self._generated += 1
        if token_id in self.row.end_ids:
            self.row.post(EndEvent("stop"))
            return False
        self.row.post(token_event(self.row, token_id, logprobs[0]))
        if self._generated >= self.row.sampling.max_tokens:
            self.row.post(EndEvent("length"))
            return False
        return True

    def _compute(self, token: Any) -> tuple[Any, Any]:
        """Sample what follows `token` (1,): token (1,) and log-probabilities (1, V), not yet evaluated."""
        logits = self._model(token[None], cache=self._cache)[:, -1, :]
        for processor in self._processors:
            logits = processor(self._context, logits)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        sampled = self._sampler(logprobs)
        mx.async_eval(sampled, logprobs)
        return sampled, logprobs
