"""Decides what a report points at. A warning is what may have to be mended; nothing here stops a migration."""

from collections.abc import Iterator, Sequence
from typing import Final

from mlx_integrations.migration.checks import Check
from mlx_integrations.migration.records import Finding
from mlx_integrations.migration.report.records import Counts, KnownItems, Note, Overlap, Side
from mlx_integrations.migration.report.words import percent

__all__ = ["near_chance", "notes_of"]

_NEAR_CHANCE: Final = 0.05
"""Of the way from chance to full agreement: rows that have the vectors of other rows are at 0. Models agree in very
different degrees, https://arxiv.org/html/2407.08275v1, so nothing higher can tell a fault from another model."""
_FEW_TEXTS: Final = 50
_FEW_FOUND: Final = 0.5
_MANY_CUT: Final = 0.1


def notes_of(
    *,
    checks: Sequence[Check],
    counts: Counts,
    accepted: Sequence[Finding] = (),
    old: Side | None,
    new: Side,
    overlap: Overlap | None,
    known_items: KnownItems | None,
    others: Sequence[Note] = (),
) -> tuple[Note, ...]:
    """What there is to say, warnings first.

    Args:
        checks: Of the last verification.
        counts: Rows.
        accepted: What was wrong, and was accepted.
        old: The old vectors.
        new: The new ones.
        overlap: Of neighbours.
        known_items: Of sentences that look for their document.
        others: What was found while measuring.
    """
    found = [
        *_of_checks(checks),
        *others,
        *_of_rows(counts),
        *_of_accepted(accepted),
        *_of_overlap(overlap),
        *_of_known_items(known_items),
        *_of_sides(old, new),
    ]
    return tuple(sorted(found, key=lambda note: not note.is_warning))


def near_chance(overlap: Overlap) -> bool:
    """Whether neighbours agree about as often as if one side had been shuffled."""
    at = overlap.at[-1]
    return at.chance < 1 and (at.mean - at.chance) / (1 - at.chance) < _NEAR_CHANCE


def _of_checks(checks: Sequence[Check]) -> Iterator[Note]:
    failed = [check.name for check in checks if not check.is_passed]
    if failed:
        message = (
            f"These checks failed: {', '.join(failed)}. What was built is not what the store holds; do not use it."
        )
        yield Note(code="failed-checks", message=message, is_warning=True)
    if not checks:
        message = "It is not verified yet: `mlxi migrate verify` does it."
        yield Note(code="not-verified", message=message, is_warning=True)


def _of_rows(counts: Counts) -> Iterator[Note]:
    if counts.unembedded:
        message = f"{counts.unembedded:,} rows have no new vector and are found no more. They are listed below."
        yield Note(code="unembedded", message=message, is_warning=True)
    if counts.truncated:
        share = counts.truncated / max(counts.embedded, 1)
        message = (
            f"{counts.truncated:,} rows ({percent(share)}) are longer than the model reads: what comes after is not "
            "found by its meaning. Choose a model that reads more, smaller pieces, or `--long-texts mean`."
        )
        yield Note(code="truncated", message=message, is_warning=share > _MANY_CUT)


def _of_accepted(accepted: Sequence[Finding]) -> Iterator[Note]:
    if accepted:
        message = (
            "There were faults, or losses on the way to another store, and they were accepted. They are listed below."
        )
        yield Note(code="accepted", message=message)


def _of_overlap(overlap: Overlap | None) -> Iterator[Note]:
    if overlap is None:
        return
    if overlap.texts < _FEW_TEXTS:
        message = f"There are only {overlap.texts} different texts: neighbours agree by chance, and little can be told."
        yield Note(code="few-texts", message=message)
    elif near_chance(overlap):
        message = (
            "Old and new neighbours agree hardly more than by chance. Either the two models have nothing in common, or "
            "one side has vectors of other rows: look at the documents below, old and new."
        )
        yield Note(code="near-chance", message=message, is_warning=True)


def _of_known_items(known_items: KnownItems | None) -> Iterator[Note]:
    if known_items is None or not known_items.questions:
        return
    if known_items.hits[max(known_items.hits)] < _FEW_FOUND:
        message = (
            "Most sentences do not find the document that they are from. The model may not know the language of these "
            "texts, or it may want another prompt for questions."
        )
        yield Note(code="few-found", message=message, is_warning=True)


def _of_sides(old: Side | None, new: Side) -> Iterator[Note]:
    compressed = [name for name, side in (("old", old), ("new", new)) if side is not None and not side.is_exact]
    if compressed:
        message = (
            f"The index of the {' and the '.join(compressed)} vectors compresses them. What is compared are the "
            "approximations that it holds, so that overlap and scores are a little lower than the models' own."
        )
        yield Note(code="compressed", message=message)
