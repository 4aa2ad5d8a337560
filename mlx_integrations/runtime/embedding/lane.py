"""The texts that one loaded embedding model works on. Worker thread only.

Batches are cut when they start, not when they arrive: rows of several requests share one, and while a chat model
decodes, batches and steps are made so small that its readers hardly notice. A batch advances stage by stage (one layer
each, or half of one), so that even a long text does not hold up the others for longer than that takes, and no stage is
begun that would not end within the step; between two stages, requests that are short beside the batch pass it.
"""

import copy
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
_CPU_BATCH_TOKENS = 2048  # a token costs least at 800 to 2,000, a tenth more at 4,096
_GPU_BATCH_TOKENS = 16_384
_MAX_ROWS = 512  # of one batch, however short they are
_FIRST_GUESS_TOKENS = 256
_CPU_BATCH_COST_TOKENS = 64
_GPU_BATCH_COST_TOKENS = 1024
_STAGE_SHARE = 0.4  # of a step, for one stage of a batch: what is left forgives a stage that takes twice as long
_NEWEST_SHARE = 0.25  # of the latest stage in what is known about a token's cost
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
    may_be_passed: bool = False

    def places(self) -> dict[EmbeddingJob, list[int]]:
        """Where in the batch the rows of each request are."""
        found: dict[EmbeddingJob, list[int]] = {}
        for place, row in enumerate(self.rows):
            found.setdefault(row.job, []).append(place)
        return found

    def positions(self) -> dict[EmbeddingJob, list[int]]:
        """Where in their requests the rows are."""
        return {job: [self.rows[place].position for place in places] for job, places in self.places().items()}


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
        self._batches: list[_Batch] = []  # the last one is computed first; it may have passed the one before
        self._token_seconds: float | None = None  # what a stage takes for a token; unknown before the first one
        # On a GPU, waiting after every layer would leave it idle in between; a CPU computes when it is asked to.
        self._evaluates_always = backend_name() == "cpu"
        self._batch_tokens = _CPU_BATCH_TOKENS if self._evaluates_always else _GPU_BATCH_TOKENS
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
        while self._batches or self._start(pace):
            self._let_short_ones_pass(pace)
            self._advance(pace)
            if time.perf_counter() + (0.0 if pace is None else self._next_stage_seconds()) >= deadline:
                return bool(self._jobs)
        # A request may have been cancelled while its last rows were computed.
        self._drop_cancelled()
        return bool(self._jobs)

    def settle(self) -> None:
        """Nothing to wait for: a step that shares the cores evaluates each stage before it ends."""

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every request and free the weights."""
        self._batches.clear()
        while self._jobs:
            job = self._jobs.popleft()
            job.end(FailEvent(make_error()) if make_error else None)
        del self._network

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.cancelled]:
            self._jobs.remove(job)
            job.end()
        self._batches = [batch for batch in self._batches if not all(row.job.cancelled for row in batch.rows)]

    def _give_back_if_slow(self, pace: float) -> None:
        """Cut batches anew that were started while nothing else ran: each of their layers would now take too long."""
        for batch in list(self._batches):
            if len(batch.rows) > 1 and batch.stage_seconds > pace:
                for job, positions in batch.positions().items():
                    job.take_back(positions)
                self._batches.remove(batch)

    def _start(self, pace: float | None) -> bool:
        """Take the next rows into a batch; False when none are waiting."""
        jobs = [job for job in self._jobs if job.waiting]
        if not jobs:
            return False
        self._take(jobs, self._limit_tokens(jobs[0], pace))
        self._jobs.rotate(-1)
        return True

    def _let_short_ones_pass(self, pace: float | None) -> None:
        """Start a batch of short requests before the running one goes on: a question should not wait for documents.

        What passes is at most half as large, and the other batch advances by a stage before it is passed again, so that
        no number of questions keeps it for ever.
        """
        batch = self._batches[-1]
        if len(self._batches) > 1 or not batch.may_be_passed:
            return
        limit = batch.padded_tokens // 2
        short = [job for job in self._jobs if job.waiting and job.waiting_tokens <= limit]
        if short:
            batch.may_be_passed = False
            self._take(short, min(limit, self._limit_tokens(short[0], pace)))

    def _limit_tokens(self, job: EmbeddingJob, pace: float | None) -> int:
        limit = self._batch_tokens if job.batch_tokens is None else job.batch_tokens
        if pace is None:
            return limit
        if self._token_seconds is None:
            return min(limit, _FIRST_GUESS_TOKENS)
        return min(limit, max(int(_STAGE_SHARE * pace / self._token_seconds), 1))

    def _take(self, jobs: Sequence[EmbeddingJob], limit_tokens: int) -> None:
        """Make a batch of rows of the first request, and of the others if there is room."""
        # The batch must hold the longest row of the request whose turn it is, or that one might wait for ever.
        longest = len(jobs[0].rows[jobs[0].waiting[0]].ids)
        most = max(1, min(_MAX_ROWS, limit_tokens // max(longest, 1)))
        offers = [_rows(job, job.waiting_up_to(longest, most)) for job in jobs]
        rows = list(islice(heapq.merge(*offers, key=lambda row: -row.length), most))
        count = rows_that_fit([row.length for row in rows], limit_tokens, batch_cost_tokens=self._batch_cost_tokens)
        del rows[count:]
        tokens = [row.job.rows[row.position] for row in rows]
        stages = self._network.stages(
            [row.ids for row in tokens], [row.prompt_tokens for row in tokens], rows[0].job.pad_id
        )
        batch = _Batch(rows=rows, stages=stages, padded_tokens=len(rows) * longest)
        for job, positions in batch.positions().items():
            job.take(positions)
        self._batches.append(batch)

    def _advance(self, pace: float | None) -> None:
        """Take the batch one stage further; after the last one, send its vectors."""
        batch = self._batches[-1]
        try:
            started = time.perf_counter()
            following = next(batch.stages, None)
            if following is not None:
                is_lookup = batch.latest is None
                batch.latest = following
                batch.may_be_passed = True
                if pace is not None or self._evaluates_always:
                    mx.eval(following)
                    if not is_lookup:
                        self._learn(batch, time.perf_counter() - started)
                return
            self._send(batch, _to_numpy(batch.latest))
        except Exception as error:  # noqa: BLE001  (whatever fails here concerns these texts alone)
            self._fail(batch, error)
        self._batches.pop()

    def _learn(self, batch: _Batch, seconds: float) -> None:
        """Remember what the longer stages of a batch cost: pooling at its end is much less than any layer."""
        if seconds < batch.stage_seconds / 2:
            return
        batch.stage_seconds = seconds
        cost = seconds / max(batch.padded_tokens, 1)
        known = cost if self._token_seconds is None else self._token_seconds
        self._token_seconds = (1 - _NEWEST_SHARE) * known + _NEWEST_SHARE * cost

    def _next_stage_seconds(self) -> float:
        """What the next stage will take, as far as that is known."""
        if not self._batches:
            return 0.0
        batch = self._batches[-1]
        return max(batch.stage_seconds, batch.padded_tokens * (self._token_seconds or 0.0))

    def _send(self, batch: _Batch, vectors: NDArray[np.float32]) -> None:
        is_finite = np.asarray(np.isfinite(vectors).all(axis=1))
        for job, places in batch.places().items():
            if job.cancelled or job not in self._jobs:
                continue
            if not is_finite[places].all():
                self._end(job, FailEvent(GenerationError("The model made vectors that are not finite numbers.")))
                continue
            job.post(RowsEvent([batch.rows[place].position for place in places], vectors[places]))
            job.open_rows -= len(places)
            if not job.open_rows:
                self._end(job, DoneEvent())

    def _fail(self, batch: _Batch, error: Exception) -> None:
        _logger.debug("A batch of %d texts failed", len(batch.rows), exc_info=error)
        for job in batch.places():
            if job in self._jobs:
                self._end(job, FailEvent(_described(error)))

    def _end(self, job: EmbeddingJob, event: DoneEvent | FailEvent) -> None:
        self._jobs.remove(job)
        job.end(event)


def _to_numpy(array: Any) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.array(array.astype(mx.float32))
    return vectors


def _rows(job: EmbeddingJob, positions: Sequence[int]) -> Iterator[_Row]:
    for position in positions:
        yield _Row(job, position)


def _described(error: Exception) -> Exception:
    """An error for one request: it is changed by whoever catches it, and its traceback would hold the weights."""
    if isinstance(error, MLXIntegrationsError):
        return copy.copy(error)
    return GenerationError(f"The model failed while embedding: {error}.", hint="Try again with fewer tokens at a time.")
