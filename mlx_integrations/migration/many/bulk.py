"""The verbs of a migration for many stores: one journal each, one model for all that want it, no fault stops the rest.

Nothing is kept about the whole: what is done and what is not, each store and its journal say. So a process that is
killed anywhere is called again the same way, and goes on.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Final, Literal, Protocol

from mlx_integrations.errors import MigrationError, MLXIntegrationsError
from mlx_integrations.migration import api
from mlx_integrations.migration.engine.passes import DEFAULT_BATCH_ROWS, Progress
from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import Executor, LongTexts
from mlx_integrations.migration.many.jobs import Job
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.records import StoreInfo, StoreLocation
from mlx_integrations.migration.standing import MigrationStatus
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingOptions

__all__ = [
    "Executors",
    "Outcome",
    "State",
    "Watcher",
    "gc_all",
    "migrate_all",
    "plan_all",
    "publish_all",
    "rollback_all",
    "status_all",
    "verify_all",
]

State = Literal["done", "was done", "has it", "built", "stopped", "nothing", "failed"]
"""What became of a store: the verb did what it does; an earlier call had done it; the store has vectors of this model
already, and no migration is known; it is verified and not published; it was told to stop; there was nothing to do; it
failed."""

_FINISHED: Final = ("publishing", "published")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one store of many.

    Attributes:
        job: The store, and what was wanted.
        state: What became of it.
        location: Where it is; `None` if it could not be opened.
        result: What the verb returns for a single store, where it returns something.
        rows: Rows that have a vector.
        before: Coordinates of its vectors when the call began, each kind that occurs.
        error: What went wrong; empty if nothing did.
        hint: What to do about it.
        seconds: What it took.
    """

    job: Job
    state: State
    location: StoreLocation | None = None
    result: Any = None
    rows: int = 0
    before: tuple[int, ...] = ()
    error: str = ""
    hint: str = ""
    seconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether it failed."""
        return self.state == "failed"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result = self.result
        if isinstance(result, tuple):
            result = [check.to_dict() for check in result]
        elif is_dataclass(result) and not isinstance(result, type):
            result = asdict(result)
        return {
            "address": self.job.shown_address,
            "name": self.job.name,
            "model": self.job.wanted.model,
            "state": self.state,
            "rows": self.rows,
            "before": list(self.before),
            "error": self.error,
            "hint": self.hint,
            "goes_on": self.job.command() if self.is_failure else None,
            "seconds": round(self.seconds, 3),
            "result": result,
        }


class Watcher(Protocol):
    """Is told how far a call is."""

    def began(self, job: Job, rows: int) -> None:
        """A store's turn has come.

        Args:
            job: The store.
            rows: How many of its rows have to be looked at.
        """
        ...

    def went_on(self, progress: Progress) -> None:
        """Some of them are embedded."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """Its turn is over."""
        ...


class _Nobody:
    def began(self, job: Job, rows: int) -> None: ...

    def went_on(self, progress: Progress) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...


@dataclass(slots=True)
class Executors:
    """Makes an executor for each target, once: stores with the same one share the loaded model.

    Attributes:
        find: Finds a model by its name.
    """

    find: Callable[[str], EmbeddingBackend]
    _backends: dict[str, EmbeddingBackend] = field(default_factory=dict)
    _made: dict[tuple[str, int | None, LongTexts], LocalExecutor] = field(default_factory=dict)

    def __call__(self, job: Job) -> LocalExecutor:
        """The executor of what a store is to become."""
        wanted = job.wanted
        if wanted.model not in self._backends:
            self._backends[wanted.model] = self.find(wanted.model)
        backend = self._backends[wanted.model]
        dimensions = None if wanted.dimensions == backend.capabilities.dimensions else wanted.dimensions
        key = (wanted.model, dimensions, wanted.long_texts)
        if key not in self._made:
            options = EmbeddingOptions(dimensions=dimensions)
            self._made[key] = LocalExecutor(backend, options, long_texts=wanted.long_texts)
        return self._made[key]


def migrate_all(
    jobs: Sequence[Job],
    executors: Callable[[Job], Executor],
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    accept: bool = False,
    restart: bool = False,
    publishes: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    watcher: Watcher | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Give many stores the vectors of other models, those of one model after each other. Goes on where a call stopped.

    Args:
        jobs: The stores: `jobs_of` finds them.
        executors: Makes the vectors of each: `Executors(embedding_backend)` for models of this process.
        batch_rows: Rows that are committed together.
        accept: Go on although rows cannot be embedded, or a store has a fault that blocks.
        restart: Forget what an earlier call did with stores that are not published.
        publishes: Whether to put new vectors in use; `publish_all` does it later otherwise.
        should_stop: Asked after each batch, and before each store.
        watcher: Told how far it is.
        clock: Seconds.

    Returns:
        What became of each, in the order in which they were tried.
    """
    told = watcher or _Nobody()

    def migrated(store: Store, job: Job) -> Outcome:
        executor = executors(job)
        known = api.status(store, work=job.wanted.work)
        if known is not None and known.phase in _FINISHED and not _differs(known, executor):
            done = api.migrate(store, executor, index=job.wanted.index, work=job.wanted.work)
            return Outcome(job=job, state="was done", result=done, rows=done.embedded)
        info = store.describe()
        if known is None and _has_it(info, executor, job):
            return Outcome(job=job, state="has it", rows=info.count, before=info.dimensions)
        told.began(job, info.count)
        done = api.migrate(
            store,
            executor,
            index=job.wanted.index,
            work=job.wanted.work,
            batch_rows=batch_rows,
            accept=accept,
            restart=restart,
            publishes=publishes,
            should_stop=should_stop,
            on_progress=told.went_on,
        )
        state: State = "done" if done.phase == "published" else "built" if done.phase == "verified" else "stopped"
        return Outcome(job=job, state=state, result=done, rows=done.embedded, before=info.dimensions)

    return _for_each(_by_model(jobs), migrated, told, clock, should_stop)


def plan_all(
    jobs: Sequence[Job],
    executors: Callable[[Job], Executor],
    *,
    probe: bool = True,
    watcher: Watcher | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """What `migrate_all` would do; `result` is a `Plan`. Writes nothing."""

    def planned(store: Store, job: Job) -> Outcome:
        executor = executors(job)
        made = plan_migration(store, executor, index=job.wanted.index, probe=probe)
        known = api.status(store, work=job.wanted.work)
        state: State = "done"
        if known is not None and known.phase in _FINISHED and not _differs(known, executor):
            state = "was done"
        elif known is None and _has_it(made.info, executor, job):
            state = "has it"
        return Outcome(job=job, state=state, result=made, rows=made.info.count, before=made.info.dimensions)

    return _for_each(_by_model(jobs), planned, watcher or _Nobody(), clock)


def status_all(jobs: Sequence[Job], *, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
    """How far the migration of each is; `nothing` where none was begun."""
    return _for_each(jobs, _known, _Nobody(), clock)


def verify_all(
    jobs: Sequence[Job], executors: Callable[[Job], Executor], *, clock: Callable[[], float] = time.monotonic
) -> list[Outcome]:
    """Compare what was built with what each holds; `nothing` where no migration was begun."""

    def verified(store: Store, job: Job) -> Outcome:
        known = _known(store, job)
        if known.result is None:
            return known
        begun = known.result.target
        wanted = replace(job.wanted, model=begun.model, dimensions=begun.dimensions, long_texts=known.result.long_texts)
        checks = api.verify(store, executors(replace(job, wanted=wanted)), work=wanted.work)
        return Outcome(job=job, state="done", result=checks, rows=known.rows)

    return _for_each(_by_model(jobs), verified, _Nobody(), clock)


def publish_all(jobs: Sequence[Job], *, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
    """Put new vectors in use that are verified; `nothing` where no migration was begun."""

    def published(store: Store, job: Job) -> Outcome:
        known = _known(store, job)
        if known.result is None:
            return known
        done = api.publish(store, work=job.wanted.work)
        state: State = "was done" if known.result.phase == "published" else "done"
        return Outcome(job=job, state=state, result=done, rows=done.embedded)

    return _for_each(jobs, published, _Nobody(), clock)


def rollback_all(jobs: Sequence[Job], *, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
    """Put old vectors back in use; `nothing` where new ones are not."""

    def rolled_back(store: Store, job: Job) -> Outcome:
        known = _known(store, job)
        if known.result is None or known.result.phase not in (*_FINISHED, "rolling back", "rolled back"):
            return Outcome(job=job, state="nothing", result=known.result)
        was = known.result.phase == "rolled back"
        done = api.rollback(store, work=job.wanted.work)
        return Outcome(job=job, state="was done" if was else "done", result=done, rows=done.embedded)

    return _for_each(jobs, rolled_back, _Nobody(), clock)


def gc_all(jobs: Sequence[Job], *, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
    """Delete what migrations keep; `nothing` where there is nothing to delete."""

    def collected(store: Store, job: Job) -> Outcome:
        return Outcome(job=job, state="done" if api.gc(store, work=job.wanted.work) else "nothing")

    return _for_each(jobs, collected, _Nobody(), clock)


def _known(store: Store, job: Job) -> Outcome:
    known = api.status(store, work=job.wanted.work)
    rows = 0 if known is None else known.embedded
    return Outcome(job=job, state="nothing" if known is None else "done", result=known, rows=rows)


def _differs(known: MigrationStatus, executor: Executor) -> bool:
    return bool(known.target.differences(executor.fingerprint()))


def _has_it(info: StoreInfo, executor: Executor, job: Job) -> bool:
    """Whether a store's own record says that its vectors are those that are wanted, as after `gc`."""
    target = executor.fingerprint()
    if info.fingerprint is None or info.fingerprint.differences(target):
        return False
    return info.dimensions == (target.dimensions,) and job.wanted.index in ("", info.index)


def _by_model(jobs: Sequence[Job]) -> list[Job]:
    """Those of one model after each other, models in the order in which they first come."""
    order = list(dict.fromkeys(job.wanted.model for job in jobs))
    return sorted(jobs, key=lambda job: order.index(job.wanted.model))


def _for_each(
    jobs: Sequence[Job],
    act: Callable[[Store, Job], Outcome],
    watcher: Watcher,
    clock: Callable[[], float],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    return list(_outcomes(jobs, act, watcher, clock, should_stop))


def _outcomes(
    jobs: Sequence[Job],
    act: Callable[[Store, Job], Outcome],
    watcher: Watcher,
    clock: Callable[[], float],
    should_stop: Callable[[], bool],
) -> Iterator[Outcome]:
    for job in jobs:
        if should_stop():
            yield Outcome(job=job, state="stopped")
            continue
        began = clock()
        outcome = replace(_tried(job, act), seconds=clock() - began)
        watcher.ended(outcome)
        yield outcome


def _tried(job: Job, act: Callable[[Store, Job], Outcome]) -> Outcome:
    """What becomes of one store, whatever goes wrong with it."""
    location: StoreLocation | None = None
    try:
        if job.place is not None and job.place.fault:
            raise MigrationError(job.place.fault, store=job.address, hint="Restore it, or leave it out.")
        store = open_store(job.address, job.name)
        location = store.location
        try:
            return replace(act(store, job), location=location)
        finally:
            store.close()
    except MLXIntegrationsError as error:
        return Outcome(job=job, state="failed", location=location, error=error.message, hint=error.hint)
    except Exception as error:  # one store's fault is not the others'
        _logger.debug("The migration of %s failed.", job.label, exc_info=True)
        return Outcome(job=job, state="failed", location=location, error=f"{type(error).__name__}: {error}")
