"""The rows of one loaded model: added, stepped together, removed. Worker thread only.

`BatchLane` decodes all rows together on mlx-lm's `BatchGenerator`; rows join and leave at any step. `SerialLane` takes
them one after another, for models whose caches cannot be merged.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from mlx_integrations.errors import GenerationError
from mlx_integrations.runtime._mlx import (
    BatchGenerator,
    caches_can_be_merged,
    end_sequences,
    make_prompt_cache,
    mx,
)
from mlx_integrations.runtime.chat.grammar_mask import GrammarProcessor
from mlx_integrations.runtime.chat.rows import EndEvent, FailEvent, Row, StartEvent, TokenEvent
from mlx_integrations.runtime.chat.samplers import make_processors, make_row_sampler
from mlx_integrations.runtime.prefix.store import PrefixStore

__all__ = ["BatchLane", "Lane", "SerialLane", "make_lane"]

_PREFILL_BATCH_SIZE = 8  # mlx-lm's own default
_logger = logging.getLogger(__name__)


class Lane(Protocol):
    """What the engine needs of a lane."""

    @property
    def is_busy(self) -> bool:
        """Whether any row is waiting or running."""
        ...

    @property
    def prefix_bytes(self) -> int:
        """What the kept prefixes of earlier prompts take."""
        ...

    def clear_prefixes(self) -> None:
        """Give the kept prefixes' memory back."""
        ...

    def add(self, row: Row) -> None:
        """Take in a row; it starts at one of the next steps."""
        ...

    def step(self) -> bool:
        """Advance by one step; False when there is nothing left to do."""
        ...

    def close(self, error: Exception | None) -> None:
        """End every row, with `error` if there is one, and free the caches."""
        ...


def make_lane(model: Any, *, max_batch_size: int, prefill_step_tokens: int, prefix_cache_bytes: int) -> Lane:
    """The lane that fits the model's caches."""
    if caches_can_be_merged(model):
        return BatchLane(
            model,
            max_batch_size=max_batch_size,
            prefill_step_tokens=prefill_step_tokens,
            prefixes=PrefixStore(prefix_cache_bytes),
        )
    return SerialLane(model, prefill_step_tokens=prefill_step_tokens)


class BatchLane:
    """Continuous batching.

    Args:
        model: The mlx-lm model.
        max_batch_size: Rows decoded together at most; more wait.
        prefill_step_tokens: Prompt tokens read between two decoding steps.
        prefixes: Caches of earlier sequences of this model.
    """

    def __init__(self, model: Any, *, max_batch_size: int, prefill_step_tokens: int, prefixes: PrefixStore) -> None:
        self._model = model
        self._max_batch_size = max_batch_size
        self._prefill_step_tokens = prefill_step_tokens
        self._prefixes = prefixes
        self._rows: dict[int, Row] = {}
        self._generator = self._new_generator()

    def _new_generator(self) -> Any:
        return BatchGenerator(
            self._model,
            completion_batch_size=self._max_batch_size,
            prefill_batch_size=min(_PREFILL_BATCH_SIZE, self._max_batch_size),
            prefill_step_size=self._prefill_step_tokens,
        )

    @property
    def is_busy(self) -> bool:
        """Whether any row is waiting or running."""
        return bool(self._rows)

    @property
    def prefix_bytes(self) -> int:
        """What the kept prefixes take."""
        return self._prefixes.cache_bytes

    def clear_prefixes(self) -> None:
        """Give the kept prefixes' memory back."""
        self._prefixes.clear()

    def add(self, row: Row) -> None:
        """Queue a row in the generator, its prompt's known beginning left out."""
        caches, cached_tokens = self._prefixes.take(row.prompt)
        try:
            (uid,) = self._generator.insert(
                [row.prompt[cached_tokens:]],
                caches=[caches],
                all_tokens=[row.prompt[:cached_tokens]],
                max_tokens=[row.sampling.max_tokens],
                samplers=[_guarded_sampler(row)],
                logits_processors=[_guarded_processors(row)],
                stop_sequences=[end_sequences(row.end_ids)],
            )
        except Exception as error:  # whatever mlx-lm refuses concerns this row alone
            row.end(FailEvent(_generation_error(error)))
            return
        self._rows[uid] = row
        row.post(StartEvent(cached_tokens))

    def step(self) -> bool:
        """Drop cancelled rows, decode one token for every running row, read a slice of waiting prompts."""
        self._drop({uid: row for uid, row in self._rows.items() if row.cancelled})
        if not self._rows:
            return False
        try:
            _, responses = self._generator.next()
        except Exception as error:  # the caches may be one token ahead: nothing of this batch can be trusted
            _logger.exception("A decoding step failed")
            self.close(_generation_error(error))
            self._generator = self._new_generator()
            return False
        for response in responses:
            self._deliver(response)
        self._drop({uid: row for uid, row in self._rows.items() if row.failure is not None})
        return bool(self._rows)

    def _deliver(self, response: Any) -> None:
        row = self._rows[response.uid]
        if row.cancelled or row.failure is not None:
            if response.finish_reason is not None:
                del self._rows[response.uid]
                row.end(FailEvent(_generation_error(row.failure)) if row.failure is not None else None)
            return
        if response.finish_reason != "stop":
            row.post(_token_event(row, response.token, response.logprobs))
        row.has_begun = True
        if response.finish_reason is not None:
            del self._rows[response.uid]
            row.end(EndEvent(response.finish_reason))
            self._prefixes.put(response.all_tokens, response.prompt_cache)

    def _drop(self, rows: dict[int, Row]) -> None:
        """Take rows out of the batch; what a cancelled one had read and written is kept like any other's."""
        if not rows:
            return
        caches = self._generator.remove(list(rows), return_prompt_caches=True)
        for uid, row in rows.items():
            del self._rows[uid]
            if row.has_begun and row.failure is None:
                self._prefixes.put(caches[uid][1], caches[uid][0])
            row.end(FailEvent(_generation_error(row.failure)) if row.failure is not None else None)

    def close(self, error: Exception | None) -> None:
        """End every row, with `error` if there is one, and free the caches."""
        rows, self._rows = list(self._rows.values()), {}
        self._prefixes.clear()
        self._generator.close()
        for row in rows:
            row.end(FailEvent(error) if error else None)


class SerialLane:
    """One row after another, each with its own cache."""

    def __init__(self, model: Any, *, prefill_step_tokens: int) -> None:
        self._model = model
        self._prefill_step_tokens = prefill_step_tokens
        self._waiting: deque[Row] = deque()
        self._current: _SerialRow | None = None

    @property
    def is_busy(self) -> bool:
        """Whether any row is waiting or running."""
        return self._current is not None or bool(self._waiting)

    @property
    def prefix_bytes(self) -> int:
        """None are kept here."""
        return 0

    def clear_prefixes(self) -> None:
        """None are kept here."""

    def add(self, row: Row) -> None:
        """Queue a row."""
        self._waiting.append(row)

    def step(self) -> bool:
        """Advance the current row by one prompt slice or one token."""
        if self._current is None:
            if not self._waiting:
                return False
            row = self._waiting.popleft()
            if row.cancelled:
                row.end()
                return self.is_busy
            self._current = _SerialRow(self._model, row, self._prefill_step_tokens)
        current = self._current
        try:
            more = not current.row.cancelled and current.advance()
        except Exception as error:  # this row alone: the next one starts with a cache of its own
            _logger.exception("A decoding step failed")
            current.row.post(FailEvent(_generation_error(error)))
            more = False
        if not more:
            self._current = None
            current.row.end()
        return self.is_busy

    def close(self, error: Exception | None) -> None:
        """End every row, with `error` if there is one, and free the cache."""
        rows = [*([self._current.row] if self._current else []), *self._waiting]
        self._current = None
        self._waiting.clear()
        for row in rows:
            row.end(FailEvent(error) if error else None)


class _SerialRow:
    """Prompt in slices, then one token a step; the next token is being computed while the last one is read."""

    def __init__(self, model: Any, row: Row, prefill_step_tokens: int) -> None:
        self.row = row
        self._model = model
        self._prefill_step_tokens = prefill_step_tokens
        self._cache = make_prompt_cache(model)
        self._sampler = make_row_sampler(row.sampling)
        self._processors = _row_processors(row)
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
        self.row.post(_token_event(self.row, token_id, logprobs[0]))
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


def _row_processors(row: Row) -> list[Callable[[Any, Any], Any]]:
    processors = make_processors(row.sampling)
    if row.matcher is not None:
        processors.append(GrammarProcessor(row.matcher))
    return processors


def _guarded_processors(row: Row) -> list[Callable[[Any, Any], Any]]:
    """Processors that never raise: an exception inside a step leaves every row's cache one token ahead."""

    def guard(processor: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guarded(tokens: Any, logits: Any) -> Any:
            if row.failure is not None:
                return logits
            try:
                return processor(tokens, logits)
            except Exception as error:  # kept for the lane, which drops the row after the step
                row.failure = error
                return logits

        return guarded

    return [guard(processor) for processor in _row_processors(row)]


def _guarded_sampler(row: Row) -> Callable[[Any], Any]:
    """The shared samplers cannot raise on checked settings; they stay unwrapped so that a batch shares one object."""
    return make_row_sampler(row.sampling)


def _token_event(row: Row, token_id: int, logprobs: Any) -> TokenEvent:
    """Args: logprobs: (V,) float, evaluated."""
    sampling = row.sampling
    if not sampling.logprobs:
        return TokenEvent(token_id)
    top: tuple[tuple[int, float], ...] = ()
    if count := min(sampling.top_logprobs, logprobs.shape[-1] - 1):
        ids: Any = mx.argpartition(-logprobs, kth=count - 1)[:count]
        pairs: zip[tuple[int, float]] = zip(ids.tolist(), logprobs[ids].tolist(), strict=True)
        top = tuple(sorted(pairs, key=lambda pair: -pair[1]))
    return TokenEvent(token_id, logprobs[token_id].item(), top)


def _generation_error(error: Exception) -> GenerationError:
    failure = GenerationError(f"The model failed while generating: {error}.")
    failure.__cause__ = error
    return failure
