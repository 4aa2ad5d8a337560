"""Continuous batching: rows of one model decoded together on mlx-lm's `BatchGenerator`. Worker thread only."""

import logging
import traceback
from collections.abc import Callable
from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import end_sequences, new_batch_generator, wait_for_cpu
from mlx_integrations.runtime.chat.row_tools import end_row, generation_error, guarded, row_processors, token_event
from mlx_integrations.runtime.chat.rows import EndEvent, FailEvent, Row, StartEvent
from mlx_integrations.runtime.chat.samplers import make_row_sampler
from mlx_integrations.runtime.prefix.store import PrefixStore

__all__ = ["BatchLane"]

_PREFILL_BATCH_SIZE = 8  # mlx-lm's own default
_logger = logging.getLogger(__name__)


class BatchLane:
    """Decodes all rows together; they join and leave at any step.

    Args:
        model: The mlx-lm model.
        max_batch_size: Rows decoded together at most, those whose prompts are being read not counted; more wait.
        prefill_step_tokens: Prompt tokens read between two decoding steps.
    """

    is_batched: ClassVar[bool] = True
    is_background: ClassVar[bool] = False

    def __init__(self, model: Any, *, max_batch_size: int, prefill_step_tokens: int) -> None:
        self._model = model
        self._max_batch_size = max_batch_size
        self._prefill_step_tokens = prefill_step_tokens
        self._prefixes = PrefixStore(0)
        self._rows: dict[int, Row] = {}
        self._generator = self._new_generator()

    def _new_generator(self) -> Any:
        return new_batch_generator(
            self._model,
            completion_batch_size=self._max_batch_size,
            prefill_batch_size=min(_PREFILL_BATCH_SIZE, self._max_batch_size),
            prefill_step_size=self._prefill_step_tokens,
        )

    @property
    def prefix_bytes(self) -> int:
        """What the kept prefixes take."""
        return self._prefixes.cache_bytes

    def set_prefix_budget(self, budget_bytes: int) -> None:
        """Say how much may be kept from now on."""
        self._prefixes.set_budget(budget_bytes)

    def clear_prefixes(self) -> None:
        """Give the kept prefixes' memory back."""
        self._prefixes.clear()

    def add(self, row: Row) -> None:
        """Queue a row in the generator, its prompt's known beginning left out."""
        try:
            caches, cached_tokens = self._prefixes.take(row.prompt)
            (uid,) = self._generator.insert(
                [row.prompt[cached_tokens:]],
                caches=[caches],
                all_tokens=[row.prompt[:cached_tokens]],
                max_tokens=[row.sampling.max_tokens],
                samplers=[_sampler(row)],
                logits_processors=[[guarded(row, processor) for processor in row_processors(row)]],
                stop_sequences=[end_sequences(row.end_ids)],
            )
        except Exception as error:  # noqa: BLE001  (whatever mlx-lm refuses concerns this row alone)
            row.end(FailEvent(generation_error(error)))
            return
        self._rows[uid] = row
        row.post(StartEvent(cached_tokens))

    def step(self) -> bool:
        """Drop cancelled rows, decode one token for every running row, read a slice of waiting prompts."""
        try:
            return self._step()
        except BaseException as failure:  # noqa: BLE001  (logged as text: a record would hold the frames)
            # The caches may be one token ahead: nothing of this batch can be trusted, and everybody must hear of it.
            _logger.error("A decoding step failed: %s", traceback.format_exc())
            error = failure.with_traceback(None)
            self.close(lambda: generation_error(error))
            self._generator = self._new_generator()
            return False

    def _step(self) -> bool:
        self._drop({uid: row for uid, row in self._rows.items() if row.cancelled})
        if not self._rows:
            return False
        _, responses = self._generator.next()
        for response in responses:
            self._deliver(response)
        self._drop({uid: row for uid, row in self._rows.items() if row.failure is not None})
        return bool(self._rows)

    def _deliver(self, response: Any) -> None:
        row = self._rows[response.uid]
        if response.finish_reason is not None:
            del self._rows[response.uid]
        if row.cancelled or row.failure is not None:
            if response.finish_reason is not None:
                end_row(row)
            return
        if response.finish_reason != "stop":
            row.post(token_event(row, response.token, response.logprobs))
        row.has_begun = True
        if response.finish_reason is not None:
            row.end(EndEvent(response.finish_reason))
            self._keep(response.all_tokens, response.prompt_cache)

    def _drop(self, rows: dict[int, Row]) -> None:
        """Take rows out of the batch; what a cancelled one had read and written is kept like any other's."""
        if not rows:
            return
        caches = self._generator.remove(list(rows), return_prompt_caches=True)
        for uid, row in rows.items():
            del self._rows[uid]
            end_row(row)
            if row.has_begun and row.failure is None:
                self._keep(caches[uid][1], caches[uid][0])

    def _keep(self, tokens: list[int], caches: list[Any]) -> None:
        """Keep a prefix if that is possible; no answer depends on it."""
        try:
            self._prefixes.put(tokens, caches)
        except Exception:
            _logger.exception("A prompt prefix could not be kept")
            self._prefixes.clear()

    def settle(self) -> None:
        """Wait for the next token, which is being computed since the last one was read."""
        wait_for_cpu(self._generator.stream)

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every row, each with an error of its own if one is to be sent, and free the caches."""
        rows, self._rows = list(self._rows.values()), {}
        self._prefixes.clear()
        self._generator.close()
        for row in rows:
            row.end(FailEvent(make_error()) if make_error else None)


def _sampler(row: Row) -> Callable[[Any], Any]:
    """Shared samplers cannot raise on checked settings and stay as they are, so that a batch samples in one call."""
    sampler = make_row_sampler(row.sampling)
    return sampler if row.sampling.seed is None else guarded(row, sampler)
