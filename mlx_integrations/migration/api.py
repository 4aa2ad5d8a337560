"""The verbs of a migration. Each can be killed at any moment and called again.

    embedding -> embedded -> building -> built -> verified -> publishing -> published
                                           ^                                    |
                                           +---- rolled back <- rolling back <--+

A phase is written down before its work begins or after it is done, never in between; what the store itself shows then
says how far a cut-off `publish`, `rollback` or `gc` came.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import (
    JournalError,
    MigrationError,
    RowsError,
    StoreBusyError,
    StoreChangedError,
    StoreError,
    VerificationError,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.checks import Check, verify_contents, verify_vectors
from mlx_integrations.migration.engine.journal import Journal, Phase
from mlx_integrations.migration.engine.passes import DEFAULT_BATCH_ROWS, Progress, embed_rows, embedded_rows
from mlx_integrations.migration.engine.workspace import Workspace, no_run, work_folder
from mlx_integrations.migration.executors.protocol import Executor, LongTexts
from mlx_integrations.migration.protocol import Placed, Published, Run, Store, WatchesOld
from mlx_integrations.migration.records import Finding, StoreInfo

__all__ = ["MigrationStatus", "gc", "migrate", "publish", "rollback", "status", "verify"]

_EXAMPLES: Final = 10
_SHOWN: Final = 3
_IN_USE: Final = ("publishing", "published")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """How far the migration of a store is.

    Attributes:
        phase: As in the journal.
        run_id: Part of the names that it made up.
        target: The model that embeds.
        long_texts: What happens to texts that are longer than it reads.
        total: Rows when it was begun.
        embedded: Rows that have a new vector.
        truncated: Of them, those of which the model read only the beginning.
        unembedded: Rows that cannot be embedded.
        examples: Ids of some of those, and why.
        in_use: Which vectors the store shows.
        accepted: What was wrong with the store, or is lost on the way to another one, and was accepted.
        checks: Of the last verification.
        staged_bytes: What the run takes beside the store, without the built index.
    """

    phase: Phase
    run_id: str
    target: EmbeddingFingerprint
    long_texts: LongTexts
    total: int
    embedded: int
    truncated: int
    unembedded: int
    examples: tuple[tuple[str, str], ...]
    in_use: Published
    checks: tuple[Check, ...]
    staged_bytes: int
    accepted: tuple[Finding, ...] = ()


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
        _finish_cut_off(store, place)
        if isinstance(store, Placed):
            store.check_place(place.run if place.has_run else None)
        _check_index(store, fingerprint.dimensions, index)
        info = store.describe()
        place.begin(info, fingerprint, long_texts=executor.long_texts, index=index)
        if place.journal.phase in _IN_USE:
            return _publish(store, place, on_phase)
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
                return _status(store, place)
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
            _verify(store, place, executor)
        return _publish(store, place, on_phase) if publishes else _status(store, place)


def status(store: Store, *, work: Path | None = None) -> MigrationStatus | None:
    """How far a store's migration is; `None` if none was begun. Another process may be at it."""
    with Workspace.seen(store.location, work) as place:
        return None if place is None or not place.has_run else _status(store, place)


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
        if place.journal.phase == "published" and store.state() != place.journal.fact("published_state"):
            raise StoreChangedError(
                f"`{store.location}` was changed since its new vectors are in use: it is no longer what was migrated, "
                "so there is nothing to compare it with.",
                store=str(store.location),
                hint="It was verified when it was published: `mlxi migrate status` shows how.",
            )
        return _verify(store, place, executor)


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
        _finish_cut_off(store, place)
        if place.journal.phase not in ("verified", *_IN_USE):
            phase = place.journal.phase
            raise MigrationError(
                f"The migration of `{store.location}` is not verified: it is at `{phase}`.",
                store=str(store.location),
                hint=_GO_ON,
            )
        return _publish(store, place)


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
        if phase not in (*_IN_USE, "rolling back", "rolled back"):
            raise MigrationError(f"`{store.location}` has its old vectors in use.", store=str(store.location), hint="")
        published = place.journal.fact("published_state")
        if phase in _IN_USE and published is not None and store.state() != published:
            raise StoreChangedError(
                f"`{store.location}` was changed since its new vectors are in use: the old ones do not have all of it.",
                store=str(store.location),
                hint="Keep the new vectors, or migrate to the old model: that embeds what was added.",
            )
        if phase != "rolled back":
            place.journal.set_phase("rolling back")
        try:
            _finish_cut_off(store, place)
        except (StoreBusyError, StoreError):
            if phase == "published" and store.published(place.run) == "new":  # it was refused, and nothing was touched
                place.journal.set_phase("published")
            raise
        return _status(store, place)


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
        _finish_cut_off(store, place)
        place.journal.close()
        Workspace.delete(store.location, work)  # the lock with the rest: while it is held, nobody takes it for theirs
    return True


def _check_kept(store: Store, place: Workspace) -> None:
    """See to it that nobody went on writing to the old vectors: that would be deleted with them."""
    before = place.journal.fact("kept_state")
    if before is not None and isinstance(store, WatchesOld) and store.kept_state(place.run) not in (None, before):
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
    choose = getattr(store, "index_for", None)
    if index and callable(choose):
        choose(dimensions, index)


def _known(store: Store, place: Workspace) -> None:
    if not place.has_run:
        raise no_run(str(store.location))


def _finish_cut_off(store: Store, place: Workspace) -> None:
    """Complete a rollback or a deletion that was cut off."""
    phase = place.journal.phase
    if phase == "rolling back":
        try:
            store.rollback(place.run)
        except StoreChangedError:
            # No other verb may finish it now, or what was written is gone; who rolls back once more has been told.
            if store.published(place.run) == "new":
                state = store.state()
                place.note(published_state=state, kept_state=place.journal.fact("kept_state"))
                place.journal.set_phase("published", published_state=state)
            raise
        place.journal.set_phase("rolled back")
    elif phase == "discarding":
        store.discard(place.run)
        place.forget()
        place.journal = Journal(place.journal.path)


def _restart(store: Store, work: Path | None) -> None:
    """Delete what an earlier run made, also if its journal cannot be read any more."""
    with Workspace.locked(store.location, work, _seen_in(store)) as place:
        if not place.has_run:
            place.forget()
            return
        if place.journal.phase in (*_IN_USE, "rolling back"):
            raise MigrationError(
                f"The migration of `{store.location}` is at `{place.journal.phase}`, and keeps the old vectors.",
                store=str(store.location),
                hint="Delete them with `mlxi migrate gc`, or put them back with `mlxi migrate rollback`.",
            )
        place.journal.set_phase("discarding")
        _finish_cut_off(store, place)


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
    told = " ".join(map(_told, final or blocking))
    raise RowsError(
        f"`{info.location}` has faults: {told}",
        store=str(info.location),
        count=sum(finding.count for finding in final or blocking),
        ids=[each for finding in final or blocking for each in finding.examples],
        hint="Repair the store: it cannot be migrated with them."
        if final
        else "Repair the store, or accept them with `--accept`.",
    )


def _told(finding: Finding) -> str:
    examples = ", ".join(f"`{each}`" for each in finding.examples[:_SHOWN])
    return f"{finding.message} ({finding.count}{f', such as {examples}' if examples else ''})"


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


def _verify(store: Store, place: Workspace, executor: Executor) -> tuple[Check, ...]:
    run = place.run
    built = store.built(run)
    try:
        seed = random.getrandbits(32)  # other rows each time: verifying again says more
        with place.staging() as staging:
            checks, sample = verify_contents(built, place.journal, staging, seed=seed)
        checks.append(verify_vectors(built, sample, executor))
    finally:
        built.close()
    _judge(store, place, checks)
    if place.journal.phase in ("built", "rolled back"):
        place.journal.set_phase("verified")
    return tuple(checks)


def _judge(store: Store, place: Workspace, checks: list[Check]) -> None:
    with place.journal.transaction():
        place.journal.set_fact("checks", [check.to_dict() for check in checks])
    failures = [f"{check.name}: {check.detail}" for check in checks if not check.is_passed]
    if failures:
        raise VerificationError(
            f"What was built for `{store.location}` is not what it holds: {'; '.join(failures)}.",
            store=str(store.location),
            failures=failures,
            hint="Start afresh with `--restart`. If it happens again, the model does not make the same vectors twice.",
        )


def _publish(store: Store, place: Workspace, on_phase: Callable[[Phase], None] = lambda phase: None) -> MigrationStatus:
    """Put the new vectors in use, and read them back from there."""
    journal, run = place.journal, place.run
    if journal.phase == "published":
        _check_in_use(store, place)
        return _status(store, place)
    on_phase("publishing")
    if is_first := journal.phase == "verified" or store.published(run) in ("old", "nothing"):
        if store.state() != journal.fact("state"):
            journal.set_phase("verified")  # from which a run goes on, also if publishing was cut off before
            raise StoreChangedError(f"`{store.location}` was changed after it was embedded.", store=str(store.location))
        if isinstance(store, Placed):
            store.check_place(run)
        place.note()
        journal.set_phase("publishing", published_state=None, kept_state=None)
    try:
        store.publish(run)
    except StoreChangedError:
        if store.published(run) == "old":  # a server saw it under its locks, and nothing was switched: it goes on
            journal.set_phase("verified")
        raise
    if (shown := store.published(run)) != "new":
        raise StoreError(f"`{store.location}` shows `{shown}` vectors after publishing.", store=str(store.location))
    if journal.fact("published_state") is None:
        _note_state(store, place, takes_back=is_first)
    built = store.built(run)
    try:
        with place.staging() as staging:
            checks, _ = verify_contents(built, journal, staging)
    finally:
        built.close()
    if not all(check.is_passed for check in checks):
        # What programs have written to it since it is in use makes it another one, and must not be taken back.
        if store.state() == journal.fact("published_state"):
            journal.set_phase("rolling back")
            _finish_cut_off(store, place)
            _judge(store, place, checks)
        _logger.warning("`%s` was changed as soon as its new vectors were in use; they stay in use.", store.location)
    journal.set_phase("published")
    return _status(store, place)


def _note_state(store: Store, place: Workspace, *, takes_back: bool) -> None:
    """Remember what was published, and what is kept, so that later changes of them are not lost.

    Raises:
        StoreChangedError: Somebody wrote to the store in the moment before it was published; that was taken back.
    """
    journal, run = place.journal, place.run
    kept = store.kept_state(run) if isinstance(store, WatchesOld) else None
    facts = {"published_state": store.state(), "kept_state": None if kept is None else journal.fact("state")}
    place.note(**facts)
    with journal.transaction():
        for name, value in facts.items():
            journal.set_fact(name, value)
    if takes_back and kept not in (None, journal.fact("state")):
        journal.set_phase("rolling back")
        _finish_cut_off(store, place)
        raise StoreChangedError(f"`{store.location}` was changed after it was embedded.", store=str(store.location))


def _check_in_use(store: Store, place: Workspace) -> None:
    """See to it that a store which is published still has those vectors, and was not made anew since."""
    run = place.run
    if store.published(run) == "new":
        if isinstance(store, Placed):
            return
        info = store.describe()
        record = info.fingerprint
        is_same_model = record is not None and not record.differences(run.fingerprint)
        if is_same_model and set(info.dimensions) <= {run.fingerprint.dimensions}:
            return
    if store.state() != place.journal.fact("published_state"):
        raise JournalError(
            f"`{store.location}` does not have the vectors any more that its migration has put in use: it was made "
            "anew since, or has no record of its model.",
            store=str(store.location),
            hint="Forget that migration with `mlxi migrate gc`, which deletes what it has kept, and run it again.",
        )


def _status(store: Store, place: Workspace) -> MigrationStatus:
    journal, run = place.journal, place.run
    return MigrationStatus(
        phase=journal.phase,
        run_id=run.id,
        target=run.fingerprint,
        long_texts=journal.fact("run")["long_texts"],
        total=journal.fact("run")["total"],
        embedded=journal.count(),
        truncated=journal.count_truncated(),
        unembedded=journal.count_dead(),
        examples=tuple((each.id, each.reason) for each in islice(journal.dead_letters(), _EXAMPLES)),
        in_use=store.published(run),
        checks=tuple(Check(**check) for check in journal.fact("checks") or ()),
        staged_bytes=place.staged_bytes(),
        accepted=tuple(_finding(**each) for each in journal.fact("accepted") or ()),
    )


def _finding(**facts: Any) -> Finding:
    return Finding(**{**facts, "examples": tuple(facts["examples"])})
