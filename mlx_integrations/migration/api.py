"""The verbs of a migration. Each can be killed at any moment and called again.

    embedding -> embedded -> building -> built -> verified -> publishing -> published
                                           ^                                    |
                                           +---- rolled back <- rolling back <--+

A phase is written down before its work begins or after it is done, never in between; what the store itself shows then
says how far a cut-off `publish`, `rollback` or `gc` came.
"""

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import (
    MigrationError,
    RowsError,
    StoreBusyError,
    StoreChangedError,
    StoreError,
)
from mlx_integrations.migration.checks import Check
from mlx_integrations.migration.engine.journal import IN_USE, Journal, Phase
from mlx_integrations.migration.engine.passes import DEFAULT_BATCH_ROWS, Progress, embed_rows, embedded_rows
from mlx_integrations.migration.engine.workspace import Workspace, no_run, work_folder
from mlx_integrations.migration.executors.protocol import Executor
from mlx_integrations.migration.protocol import ChoosesIndex, Placed, Run, Store, WatchesOld
from mlx_integrations.migration.records import StoreInfo
from mlx_integrations.migration.standing import MigrationStatus, status_of
from mlx_integrations.migration.states import is_kept, is_same_state
from mlx_integrations.migration.switching import changed_since, finish_cut_off, put_in_use, verify_built, was_saved_to

__all__ = ["gc", "migrate", "publish", "rollback", "status", "verify"]

_EXAMPLES: Final = 10
_SHOWN: Final = 3


def migrate(
    store: Store,
    executor: Executor,
    *,
    index: str = "",
    work: Path | None = None,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    accept: bool = False,
    restart: bool = False,
    publishes: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_phase: Callable[[Phase], None] = lambda phase: None,
) -> MigrationStatus:
    """Give a store the vectors of another model: embed, build, verify, publish. Goes on where an earlier call stopped.

    Args:
        store: The store; left as it is until it is published.
        executor: Makes the vectors.
        index: The kind of index to build, in the store's own words; the one it has if left out.
        work: The folder of all runs, if not `.mlxi-migrate` beside the store.
        batch_rows: Rows that are committed together.
        accept: Go on although rows cannot be embedded, or the store has a fault that blocks.
        restart: Forget what an earlier call did, unless it is published.
        publishes: Whether to put the new vectors in use; `publish` does it later otherwise.
        should_stop: Asked after each batch.
        on_progress: Told after each batch.
        on_phase: Told before each part that may take long and has no batches: `building`, `built` before it is
            verified, and `publishing`.

    Raises:
        StoreError: The store cannot be read, it makes no such index, or nothing can be written beside it.
        StoreBusyError: Another process is migrating it.
        StoreChangedError: It was changed again and again.
        JournalError: A migration was begun with another model or other options.
        RowsError: Rows cannot be embedded, and that was not accepted.
        VerificationError: What was built is not what the store holds.
    """
    fingerprint = executor.fingerprint()
    if restart:
        _restart(store, work)
    with Workspace.locked(store.location, work) as place:
        finish_cut_off(store, place)
        if isinstance(store, Placed):
            store.check_place(place.run if place.has_run else None)
        _check_index(store, fingerprint.dimensions, index)
        info = store.describe()
        place.begin(info, fingerprint, long_texts=executor.long_texts, index=index)
        if place.journal.phase in IN_USE:
            return put_in_use(store, place, on_phase)
        _check_findings(info, place.journal, accept=accept)
        with place.staging() as staging:
            finished = embed_rows(
                store,
                executor,
                place.journal,
                staging,
                batch_rows=batch_rows,
                should_stop=should_stop,
                on_progress=on_progress,
            )
            if not finished:
                return status_of(store, place)
            if place.journal.phase == "embedding":
                place.journal.set_phase("embedded")
            _check_dead(store, place.journal, accept=accept)
            if place.journal.fact("built") != _contents(place.journal):
                place.journal.set_phase("building")
                on_phase("building")
                store.build(place.run, embedded_rows(store, place.journal, staging))
                place.journal.set_phase("built", built=_contents(place.journal))
        if place.journal.phase != "verified":
            on_phase("built")
            verify_built(store, place, executor)
        return put_in_use(store, place, on_phase) if publishes else status_of(store, place)


def status(store: Store, *, work: Path | None = None) -> MigrationStatus | None:
    """How far a store's migration is; `None` if none was begun. Another process may be at it."""
    with Workspace.seen(store.location, work) as place:
        return None if place is None or not place.has_run else status_of(store, place)


def verify(store: Store, executor: Executor, *, work: Path | None = None) -> tuple[Check, ...]:
    """Compare what was built, or is published, with what the store holds.

    Raises:
        MigrationError: No migration was begun, or nothing is built yet.
        StoreChangedError: The store was changed since its new vectors are in use.
        VerificationError: Something differs.
    """
    _check_begun(store, work)
    with Workspace.locked(store.location, work) as place:
        _known(store, place)
        if place.journal.phase in ("embedding", "embedded", "building"):
            raise MigrationError(
                f"Nothing is built yet for `{store.location}`.", store=str(store.location), hint=_GO_ON
            )
        published = place.journal.fact("published_state")
        if place.journal.phase == "published" and not is_same_state(store.state(), published):
            raise StoreChangedError(
                f"`{store.location}` was changed since its new vectors are in use: it is no longer what was migrated, "
                "so there is nothing to compare it with.",
                store=str(store.location),
                hint="It was verified when it was published: `mlxi migrate status` shows how.",
            )
        return verify_built(store, place, executor)


def publish(store: Store, *, work: Path | None = None) -> MigrationStatus:
    """Put new vectors that are verified in use. The old ones are kept until `gc`.

    Raises:
        MigrationError: No migration was begun, or it is not verified.
        StoreChangedError: The store was changed since.
        VerificationError: What is published is not what was built; it was taken back.
    """
    _check_begun(store, work)
    with Workspace.locked(store.location, work) as place:
        _known(store, place)
        finish_cut_off(store, place)
        if place.journal.phase not in ("verified", *IN_USE):
            phase = place.journal.phase
            raise MigrationError(
                f"The migration of `{store.location}` is not verified: it is at `{phase}`.",
                store=str(store.location),
                hint=_GO_ON,
            )
        return put_in_use(store, place)


def rollback(store: Store, *, work: Path | None = None) -> MigrationStatus:
    """Put the old vectors back in use. The new ones are kept until `gc`, and can be published again.

    Raises:
        MigrationError: No migration was begun, or it is not published.
        StoreChangedError: The store was changed since it was published.
        StoreError: The store cannot go back as it is; its new vectors stay in use.
    """
    _check_begun(store, work)
    with Workspace.locked(store.location, work, _seen_in(store)) as place:
        _known(store, place)
        phase = place.journal.phase
        if phase not in (*IN_USE, "rolling back", "rolled back"):
            raise MigrationError(f"`{store.location}` has its old vectors in use.", store=str(store.location), hint="")
        if phase in IN_USE and was_saved_to(store, place):
            raise changed_since(store)
        if phase != "rolled back":
            place.journal.set_phase("rolling back")
        try:
            finish_cut_off(store, place)
        except (StoreBusyError, StoreError):
            if phase == "published" and store.published(place.run) == "new":  # it was refused, and nothing was touched
                place.journal.set_phase("published")
            raise
        return status_of(store, place)


def gc(store: Store, *, work: Path | None = None, accept: bool = False) -> bool:
    """Delete what a migration keeps: after publishing the old vectors, otherwise everything that it made.

    Args:
        store: The store.
        work: The folder of all runs, if not `.mlxi-migrate` beside the store.
        accept: Delete the old vectors also if something was written to them since they are not in use.

    Returns:
        Whether there was something to delete.

    Raises:
        MigrationError: The migration is in the midst of publishing, or of a rollback.
        StoreChangedError: Something was written to the old vectors, and that was not accepted.
    """
    if not work_folder(store.location, work).exists():
        if work is None:
            Workspace.delete(store.location)  # the folder of runs, where an earlier call was cut off before it
        return False
    with Workspace.locked(store.location, work, _seen_in(store)) as place:
        if place.has_run:
            if place.journal.phase in ("publishing", "rolling back"):
                raise MigrationError(
                    f"The migration of `{store.location}` is at `{place.journal.phase}`.",
                    store=str(store.location),
                    hint="Finish it first, with `mlxi migrate publish` or `mlxi migrate rollback`.",
                )
            if place.journal.phase == "published" and not accept:
                _check_kept(store, place)
            place.journal.set_phase("discarding")
        finish_cut_off(store, place)
        place.journal.close()
        Workspace.delete(store.location, work)  # the lock with the rest: while it is held, nobody takes it for theirs
    return True


def _check_kept(store: Store, place: Workspace) -> None:
    """See to it that nobody went on writing to the old vectors: that would be deleted with them."""
    before = place.journal.fact("kept_state")
    if before is not None and isinstance(store, WatchesOld) and not is_kept(store.kept_state(place.run), before):
        raise StoreChangedError(
            f"Something was written to the old vectors of `{store.location}` although new ones are in use: a program "
            "has had it open all the time.",
            store=str(store.location),
            hint="End that program, put the old vectors back with `mlxi migrate rollback`, and migrate again: that "
            "takes in what was added. `mlxi migrate gc --accept` deletes it.",
        )


_GO_ON: Final = "Go on with `mlxi migrate run`."


def _check_begun(store: Store, work: Path | None) -> None:
    """Say that there is no run without making a folder for one."""
    if not work_folder(store.location, work).exists():
        raise no_run(str(store.location))


def _check_index(store: Store, dimensions: int, index: str) -> None:
    """Have a store refuse an index that it cannot build before anything is embedded for it."""
    if index and isinstance(store, ChoosesIndex):
        store.index_for(dimensions, index)


def _known(store: Store, place: Workspace) -> None:
    if not place.has_run:
        raise no_run(str(store.location))


def _restart(store: Store, work: Path | None) -> None:
    """Delete what an earlier run made, also if its journal cannot be read any more."""
    with Workspace.locked(store.location, work, _seen_in(store)) as place:
        if not place.has_run:
            place.forget()
            return
        if place.journal.phase in (*IN_USE, "rolling back"):
            raise MigrationError(
                f"The migration of `{store.location}` is at `{place.journal.phase}`, and keeps the old vectors.",
                store=str(store.location),
                hint="Delete them with `mlxi migrate gc`, or put them back with `mlxi migrate rollback`.",
            )
        place.journal.set_phase("discarding")
        finish_cut_off(store, place)


def _seen_in(store: Store) -> Callable[[Run], dict[str, Any]]:
    """What can be told of a run from the store alone, where the journal cannot be read any more."""

    def facts(run: Run) -> dict[str, Any]:
        shown = store.published(run)
        if shown == "new":
            return {"phase": "published", "published_state": store.state()}
        return {"phase": "publishing" if shown == "between" else "embedding"}

    return facts


def _check_findings(info: StoreInfo, journal: Journal, *, accept: bool) -> None:
    blocking = [finding for finding in info.findings if finding.is_blocking]
    final = [finding for finding in blocking if finding.is_final]
    if not blocking or (accept and not final):
        journal.set_fact("accepted", [asdict(finding) for finding in blocking])
        return
    told = " ".join(finding.told for finding in final or blocking)
    raise RowsError(
        f"`{info.location}` has faults: {told}",
        store=str(info.location),
        count=sum(finding.count for finding in final or blocking),
        ids=[each for finding in final or blocking for each in finding.examples],
        hint="Repair the store: it cannot be migrated with them."
        if final
        else "Repair the store, or accept them with `--accept`.",
    )


def _check_dead(store: Store, journal: Journal, *, accept: bool) -> None:
    count = journal.count_dead()
    if not count or (accept and journal.count()):
        return
    dead = list(islice(journal.dead_letters(), _EXAMPLES))
    told = "; ".join(f"`{each.id}`: {each.reason}" for each in dead[:_SHOWN])
    if not journal.count():  # the model is at fault, or the options: nobody means an empty store
        raise RowsError(
            f"Not one of {count} rows of `{store.location}` can be embedded: {told}.",
            store=str(store.location),
            count=count,
            ids=[each.id for each in dead],
            hint="See to the reason, and start afresh with `--restart`.",
        )
    raise RowsError(
        f"{count} rows of `{store.location}` cannot be embedded, such as {told}.",
        store=str(store.location),
        count=count,
        ids=[each.id for each in dead],
        hint="Repair them, or leave them out with `--accept`. What is embedded is kept.",
    )


def _contents(journal: Journal) -> list[Any]:
    """What a build depends on: the pass, and the rows that it met."""
    return [journal.fact("pass"), journal.count(), f"{journal.content_sum():032x}"]
