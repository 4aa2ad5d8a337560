"""The texts that one loaded embedding model works on. Worker thread only.

Batches are cut when they start, not when they arrive: rows of several requests share one, and while a chat model
decodes, batches and steps are made so small that its readers hardly notice. A batch advances stage by stage (one layer
each), so that even a long text does not hold up the others for longer than a layer takes.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import GenerationError, MLXIntegrationsError
from mlx_integrations.runtime._mlx import backend_name, mx
from mlx_integrations.runtime.embedding.batching import rows_that_fit
from mlx_integrations.runtime.embedding.jobs import DoneEvent, EmbeddingJob, RowsEvent
from mlx_integrations.runtime.embedding.network import Network
from mlx_integrations.runtime.tasks import FailEvent

__all__ = ["EmbeddingLane"]

_ALONE_SECONDS = 0.05  # a step's length while nothing else runs: how soon a new request is noticed
_MAX_ROWS = 512  # of one batch, however short they are
_FIRST_GUESS_TOKENS = 256
_CPU_BATCH_COST_TOKENS = 64
_GPU_BATCH_COST_TOKENS = 1024
_MAX_TOKENS = 65_536
_logger = logging.getLogger(__name__)


class _Row(NamedTuple):
    job: EmbeddingJob
    position: int

    @property
    def length(self) -> int:
        return len(self.job.rows[self.position].ids)


@dataclass(eq=False, slots=True)
class _Batch:
    """Rows on their way through the layers."""

    rows: list[_Row]
    stages: Iterator[Any]
    padded_tokens: int
    latest: Any = None
    stage_seconds: float = 0.0


class EmbeddingLane:
    """Embeds the texts of all requests, interleaved with whatever else the worker does.

    Args:
        network: The loaded model.
        pace: Seconds that a step may take now; `None` while nothing else runs.
    """

    is_batched: ClassVar[bool] = True
    is_background: ClassVar[bool] = True

    def __init__(self, network: Network, *, pace: Callable[[], float | None]) -> None:
        self._network = network
        self._pace = pace
        self._jobs: deque[EmbeddingJob] = deque()
        self._batch: _Batch | None = None
        self._fitting_tokens: float = _FIRST_GUESS_TOKENS
        # On a GPU, waiting after every layer would leave it idle in between; a CPU computes when it is asked to.
        self._evaluates_always = backend_name() == "cpu"
        self._batch_cost_tokens = _CPU_BATCH_COST_TOKENS if self._evaluates_always else _GPU_BATCH_COST_TOKENS

    @property
    def prefix_bytes(self) -> int:
        """Nothing is kept of earlier texts."""
        return 0

    def set_prefix_budget(self, budget_bytes: int) -> None:
        """Nothing is kept of earlier texts."""

    def clear_prefixes(self) -> None:
        """Nothing is kept of earlier texts."""

    def add(self, task: EmbeddingJob) -> None:
        """Take in the texts of a request."""
        self._jobs.append(task)

    def step(self) -> bool:
        """Compute for as long as a step may take; False when nothing is left."""
        pace = self._pace()
        deadline = time.perf_counter() + (_ALONE_SECONDS if pace is None else pace)
        self._drop_cancelled()
        if pace is not None:
            self._give_back_if_slow(pace)
        while self._batch is not None or self._start(pace):
            self._advance(pace)
            if time.perf_counter() >= deadline:
                return True
        # A request may have been cancelled while its last rows were computed.
        self._drop_cancelled()
        return bool(self._jobs)

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every request and free the weights."""
        self._batch = None
        while self._jobs:
            job = self._jobs.popleft()
            job.end(FailEvent(make_error()) if make_error else None)
        del self._network

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.cancelled]:
            self._jobs.remove(job)
            job.end()
        if self._batch is not None and all(row.job.cancelled for row in self._batch.rows):
            self._batch = None

    def _give_back_if_slow(self, pace: float) -> None:
        """Cut a batch anew that was started while nothing else ran: each of its layers would now take too long."""
        batch = self._batch
        if batch is None or len(batch.rows) == 1:
            return
        if batch.stage_seconds > 2 * pace:
            self._fitting_tokens = batch.padded_tokens * pace / batch.stage_seconds
            for row in reversed(batch.rows):
                row.job.waiting.appendleft(row.position)
            self._batch = None

    def _start(self, pace: float | None) -> bool:
        """Take the next rows into a batch; False when none are waiting."""
        rows = self._next_rows(pace)
        if not rows:
            return False
        tokens = [row.job.rows[row.position] for row in rows]
        stages = self._network.stages(
            [row.ids for row in tokens], [row.prompt_tokens for row in tokens], rows[0].job.pad_id
        )
        self._batch = _Batch(rows=rows, stages=stages, padded_tokens=len(rows) * rows[0].length)
        return True

    def _next_rows(self, pace: float | None) -> list[_Row]:
        """The rows of the next batch: of the request whose turn it is, and of others if there is room."""
        jobs = [job for job in self._jobs if job.waiting]
        if not jobs:
            return []
        limit = jobs[0].batch_tokens if pace is None else min(jobs[0].batch_tokens, int(self._fitting_tokens))
        candidates = [_Row(job, position) for job in jobs for position in islice(job.waiting, _MAX_ROWS)]
        if len(jobs) > 1:
            # The batch must hold the longest row of the request whose turn it is, or that one might wait for ever.
            own_longest = candidates[0].length
            candidates = [row for row in candidates if row.length <= own_longest]
            candidates.sort(key=lambda row: (-row.length, row.job is not jobs[0]))
        lengths = [row.length for row in candidates[:_MAX_ROWS]]
        count = rows_that_fit(lengths, limit, batch_cost_tokens=self._batch_cost_tokens)
        taken = candidates[:count]
        for row in taken:
            row.job.waiting.remove(row.position)
        self._jobs.rotate(-1)
        return taken

    def _advance(self, pace: float | None) -> None:
        """Take the batch one stage further; after the last one, send its vectors."""
        batch = self._batch
        assert batch is not None
        try:
            started = time.perf_counter()
            following = next(batch.stages, None)
            if following is not None:
                batch.latest = following
                if pace is not None or self._evaluates_always:
                    mx.eval(following)
                    batch.stage_seconds = time.perf_counter() - started
                    self._fit(batch, pace)
                return
            vectors = _to_numpy(batch.latest)
        except Exception as error:  # noqa: BLE001  (whatever MLX raises concerns these texts alone)
            self._batch = None
            self._fail(batch, error)
            return
        self._batch = None
        self._send(batch, vectors)

    def _fit(self, batch: _Batch, pace: float | None) -> None:
        """Learn how many tokens a stage may have now: fewer at once when it took too long, more little by little."""
        if pace is None:
            return
        if batch.stage_seconds > pace:
            self._fitting_tokens = max(0.75 * min(self._fitting_tokens, batch.padded_tokens), 1.0)
        elif batch.stage_seconds < pace / 2 and 2 * batch.padded_tokens >= self._fitting_tokens:
            self._fitting_tokens = min(1.1 * self._fitting_tokens, _MAX_TOKENS)

    def _send(self, batch: _Batch, vectors: NDArray[np.float32]) -> None:
        if not np.isfinite(vectors).all():
            self._fail(batch, GenerationError("The model made vectors that are not finite numbers."))
            return
        by_job: dict[EmbeddingJob, list[int]] = {}
        for index, row in enumerate(batch.rows):
            by_job.setdefault(row.job, []).append(index)
        for job, indices in by_job.items():
            if job.cancelled or job not in self._jobs:
                continue
            job.post(RowsEvent([batch.rows[index].position for index in indices], vectors[indices]))
            job.open_rows -= len(indices)
            if not job.open_rows:
                self._jobs.remove(job)
                job.end(DoneEvent())

    def _fail(self, batch: _Batch, error: Exception) -> None:
        _logger.debug("A batch of %d texts failed", len(batch.rows), exc_info=error)
        for job in dict.fromkeys(row.job for row in batch.rows):
            if job in self._jobs:
                self._jobs.remove(job)
                job.end(FailEvent(_described(error)))


def _to_numpy(array: Any) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.array(array.astype(mx.float32))
    return vectors


def _described(error: Exception) -> Exception:
    """A fresh error for each request: an error is changed by whoever catches it."""
    if isinstance(error, MLXIntegrationsError):
        return type(error)(error.message) if type(error) is GenerationError else error
    return GenerationError(f"The model failed while embedding: {error}.", hint="Try again with fewer tokens at a time.")
