"""Putting new vectors in use and taking them back: what is checked around what a store itself does."""

import logging
import random
from collections.abc import Callable
from typing import Final

from mlx_integrations.errors import JournalError, StoreChangedError, StoreError, VerificationError
from mlx_integrations.migration.checks import Check, verify_contents, verify_vectors
from mlx_integrations.migration.engine.journal import Journal, Phase
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.executors.protocol import Executor
from mlx_integrations.migration.protocol import Foresees, Placed, Run, Store, WatchesOld
from mlx_integrations.migration.standing import MigrationStatus, status_of
from mlx_integrations.migration.states import is_kept, is_same_state

__all__ = ["changed_since", "finish_cut_off", "put_in_use", "verify_built", "was_saved_to"]

_logger = logging.getLogger(__name__)


def verify_built(store: Store, place: Workspace, executor: Executor) -> tuple[Check, ...]:
    """Compare what was built with the store, and embed some rows again.

    Raises:
        VerificationError: Something differs.
    """
    run = place.run
    built = store.built(run)
    try:
        seed = random.getrandbits(32)  # other rows each time: verifying again says more
        with place.staging() as staging:
            checks, sample = verify_contents(built, place.journal, staging, seed=seed)
        checks.append(verify_vectors(built, sample, executor))
        is_exact = any(check.name == "vectors" for check in checks)  # others are not compared one by one
    finally:
        built.close()
    _judge(store, place, checks, _AFRESH if is_exact else _OTHER_INDEX)
    if place.journal.phase in ("built", "rolled back"):
        place.journal.set_phase("verified")
    return tuple(checks)


_AFRESH: Final = "Start afresh with `--restart`. If it happens again, the model does not make the same vectors twice."
_OTHER_INDEX: Final = (
    "Its index compresses vectors, perhaps too much: have another kind built, with `--restart --index Flat`."
)


def _judge(store: Store, place: Workspace, checks: list[Check], hint: str = _AFRESH) -> None:
    with place.journal.transaction():
        place.journal.set_fact("checks", [check.to_dict() for check in checks])
    failures = [f"{check.name}: {check.detail}" for check in checks if not check.is_passed]
    if failures:
        raise VerificationError(
            f"What was built for `{store.location}` is not what it holds: {'; '.join(failures)}.",
            store=str(store.location),
            failures=failures,
            hint=hint,
        )


def put_in_use(
    store: Store, place: Workspace, on_phase: Callable[[Phase], None] = lambda phase: None
) -> MigrationStatus:
    """Put the new vectors in use, and read them back from there."""
    journal, run = place.journal, place.run
    if journal.phase == "published":
        _check_in_use(store, place)
        return status_of(store, place)
    on_phase("publishing")
    if is_first := journal.phase == "verified" or _is_before_switch(store, run):
        # Before the state is compared: what is saved in between is then no part of what was foreseen.
        foreseen = store.state_once_published(run) if isinstance(store, Foresees) else None
        if not is_same_state(store.state(), journal.fact("state")):
            if store.published(run) == "between":
                raise _taken_back(store, place)
            journal.set_phase("verified")  # from which a run goes on, also if publishing was cut off before
            raise _changed(store)
        if isinstance(store, Placed):
            store.check_place(run)
        place.note()
        journal.set_phase("publishing", published_state=None, kept_state=None, foreseen_state=foreseen)
    elif store.published(run) == "between" and was_saved_to(store, place):
        journal.set_phase("published")  # no record is written beside what a program has saved since it was cut off
        _check_in_use(store, place)
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
    _check_published(store, place)
    journal.set_phase("published")
    return status_of(store, place)


def _check_published(store: Store, place: Workspace) -> None:
    """Read back what is published, and take it back if it is not what was built.

    Raises:
        VerificationError: It is not, and was taken back.
        JournalError: It is not, because a program has put something else in its place, which is left so.
    """
    journal = place.journal
    checks: list[Check] = []
    try:
        checks = _read_back(store, place)
    except StoreError:
        if is_same_state(store.state(), journal.fact("published_state")):
            raise
    if checks and all(check.is_passed for check in checks):
        return
    # What programs have written to it since it is in use makes it another one, and must not be taken back.
    if checks and is_same_state(store.state(), journal.fact("published_state")):
        _take_back(store, place)
        _judge(store, place, checks)
    _logger.warning("`%s` was changed as soon as its new vectors were in use; it is left so.", store.location)
    journal.set_phase("published")
    _check_in_use(store, place)


def _read_back(store: Store, place: Workspace) -> list[Check]:
    built = store.built(place.run)
    try:
        with place.staging() as staging:
            return verify_contents(built, place.journal, staging)[0]
    finally:
        built.close()


def _is_before_switch(store: Store, run: Run) -> bool:
    """Whether publishing, which was cut off, has not put the new vectors in use yet, as far as can be seen."""
    if store.published(run) in ("old", "nothing"):
        return True
    kept = store.kept_state(run) if isinstance(store, Foresees) and isinstance(store, WatchesOld) else None
    return kept is not None and is_kept(kept, store.state())


def was_saved_to(store: Store, place: Workspace) -> bool:
    """Whether new vectors that are in use have something by now that the old ones do not have."""
    published = place.journal.fact("published_state")
    if published is None and not _is_before_switch(store, place.run):
        published = place.journal.fact("foreseen_state")
    return published is not None and not is_same_state(store.state(), published)


def changed_since(store: Store) -> StoreChangedError:
    """The error of a store to which programs have saved something that going back would lose."""
    return StoreChangedError(
        f"`{store.location}` was changed since its new vectors are in use: the old ones do not have all of it.",
        store=str(store.location),
        hint="Keep the new vectors, or migrate to the old model: that embeds what was added.",
    )


def _take_back(store: Store, place: Workspace) -> None:
    place.journal.set_phase("rolling back")
    finish_cut_off(store, place)


def _taken_back(store: Store, place: Workspace) -> StoreChangedError:
    _take_back(store, place)
    return _changed(store)


def _changed(store: Store) -> StoreChangedError:
    return StoreChangedError(f"`{store.location}` was changed after it was embedded.", store=str(store.location))


def _note_state(store: Store, place: Workspace, *, takes_back: bool) -> None:
    """Remember what was published, and what is kept, so that later changes of them are not lost.

    Raises:
        StoreChangedError: Somebody wrote to the store in the moment before it was published; that was taken back.
    """
    journal, run = place.journal, place.run
    kept = store.kept_state(run) if isinstance(store, WatchesOld) else None
    is_untouched = is_kept(kept, journal.fact("state"))
    # What was written to it since is no part of what was published. What is to be taken back is taken back with it.
    published = (journal.fact("foreseen_state") if is_untouched else None) or store.state()
    facts = {"published_state": published, "kept_state": None if kept is None else journal.fact("state")}
    place.note(**facts)
    with journal.transaction():
        for name, value in facts.items():
            journal.set_fact(name, value)
    if takes_back and not is_untouched:
        raise _taken_back(store, place)


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
    if not is_same_state(store.state(), place.journal.fact("published_state")):
        raise JournalError(
            f"`{store.location}` does not have the vectors any more that its migration has put in use: it was made "
            "anew since, or has no record of its model.",
            store=str(store.location),
            hint="Forget that migration with `mlxi migrate gc`, which deletes what it has kept, and run it again.",
        )


def finish_cut_off(store: Store, place: Workspace) -> None:
    """Complete a rollback or a deletion that was cut off."""
    phase = place.journal.phase
    if phase == "rolling back":
        if isinstance(store, Foresees) and not _is_before_switch(store, place.run) and was_saved_to(store, place):
            place.journal.set_phase("published")
            raise changed_since(store)
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
