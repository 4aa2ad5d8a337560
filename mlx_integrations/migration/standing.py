"""How far the migration of a store is."""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.checks import Check
from mlx_integrations.migration.engine.journal import Phase
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.migration.protocol import Published, Store
from mlx_integrations.migration.records import Finding

__all__ = ["MigrationStatus", "status_of"]

_EXAMPLES: Final = 10


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


def status_of(store: Store, place: Workspace) -> MigrationStatus:
    """What its run and the store itself say.

    Args:
        store: The store.
        place: Its run, which was begun.
    """
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
        accepted=tuple(map(Finding.from_dict, journal.fact("accepted") or ())),
    )
