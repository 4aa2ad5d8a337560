"""Makes what two searches have found into what a report says. Knows of no store."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mlx_integrations.migration.report.quality import (
    NearnessCounts,
    Neighbours,
    chance_overlap,
    mean_reciprocal_rank,
    overlap,
    ranks,
    share_within,
)
from mlx_integrations.migration.report.questions import Question
from mlx_integrations.migration.report.reading import Texts
from mlx_integrations.migration.report.records import (
    Changed,
    Found,
    KnownItems,
    Miss,
    Overlap,
    OverlapAt,
    ScaleMap,
    ScoreMap,
)
from mlx_integrations.migration.report.scores import Scale

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DEPTH",
    "changed_of",
    "first_changed",
    "known_items_of",
    "overlap_of",
    "places_of",
    "questions_by_name",
    "score_map_of",
]

DEPTH: Final = 10
"""How many texts are found for each document and each question."""

_KS: Final = (1, 5, DEPTH)
_SHOWN: Final = 3
_PER_QUESTION: Final = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100)
_SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1)
_FEWEST_PAIRS: Final = 5  # that a point of a scale stands for
_LEAST_STEP: Final = 1.4


def overlap_of(old: Neighbours, new: Neighbours, texts: int) -> Overlap:
    """What documents have kept of their neighbours.

    Args:
        old: Found with the old vectors.
        new: Found with the new ones, for the same documents.
        texts: How many different texts were searched.
    """
    import numpy as np

    at = []
    for k in _KS:
        shares = overlap(old, new, k)
        fifth, median = np.percentile(shares, [5, 50])
        at.append(
            OverlapAt(
                k=k,
                mean=float(shares.mean()),
                chance=chance_overlap(k, texts - 1),
                fifth=float(fifth),
                median=float(median),
                none=float((shares == 0).mean()),
            )
        )
    kept = np.rint(overlap(old, new, DEPTH) * DEPTH).astype(np.int64)
    distribution = tuple(np.bincount(kept, minlength=DEPTH + 1).tolist())
    return Overlap(documents=len(old.names), texts=texts, at=tuple(at), distribution=distribution)


def score_map_of(
    old: NearnessCounts, new: NearnessCounts, documents: int, scales: Sequence[tuple[Scale, Scale]]
) -> ScoreMap | None:
    """How thresholds move: to where as many pairs are as near as before.

    Args:
        old: Pairs of old vectors.
        new: The same pairs, of new vectors.
        documents: How many were asked about.
        scales: How scores are shown, old and new.

    Returns:
        `None` if there are too few pairs.
    """
    rows = old.total / max(documents, 1)
    wanted = _points(rows, documents)
    if len(wanted) < 2 or not new.total:
        return None
    before, after = (side.exceeded_by([each / rows for each in wanted]) for side in (old, new))
    return ScoreMap(
        per_question=tuple(wanted),
        scales=tuple(
            ScaleMap(
                name=one.name if one.name == other.name else f"{one.name} → {other.name}",
                is_distance=one.is_distance,
                old=tuple(one.of(value) for value in before),
                new=tuple(other.of(value) for value in after),
            )
            for one, other in scales
        ),
    )


def _points(rows: float, documents: int) -> list[float]:
    """How many texts are let through at the points of a scale: round numbers, and shares of the store between them."""
    made = [float(each) for each in _PER_QUESTION if each < rows]
    for each in (share * rows for share in _SHARES):
        if all(max(each, other) >= _LEAST_STEP * min(each, other) for other in made):
            made.append(each)
    return sorted(each for each in made if each * documents >= _FEWEST_PAIRS)


def first_changed(old: Neighbours, new: Neighbours, count: int) -> list[int]:
    """Documents that have kept least of their neighbours; of equal ones those that had the nearest."""
    shares = overlap(old, new, DEPTH)
    order = sorted(range(len(shares)), key=lambda place: (shares[place], -old.nearness[place, 0]))
    return [place for place in order if shares[place] < 1][:count]


def changed_of(
    place: int, name: int, old: Neighbours, new: Neighbours, texts: Texts, scales: tuple[Scale, Scale]
) -> Changed:
    """A document's neighbours, before and after.

    Args:
        place: Of the document among those that were asked about.
        name: Of its text.
        old: Found with the old vectors.
        new: Found with the new ones.
        texts: What is known of the texts.
        scales: How scores are shown, old and new.
    """
    row_id, text = texts.rows.get(name, ("", ""))
    sides = []
    for side, other, scale in ((old, new, scales[0]), (new, old, scales[1])):
        found = [int(each) for each, near in zip(side.names[place], side.nearness[place], strict=True) if near > -1e38]
        common = set(other.names[place].tolist())
        sides.append(
            tuple(
                _found(each, float(side.nearness[place, at]), texts, scale, is_common=each in common)
                for at, each in enumerate(found[:_SHOWN])
            )
        )
    kept = float(overlap(old, new, DEPTH)[place])
    return Changed(id=row_id, text=text, overlap=kept, old=sides[0], new=sides[1])


def places_of(found: Neighbours, wanted: "NDArray[np.uint64]", texts: Texts) -> "NDArray[np.intp]":
    """Where each question found a document that has its words: 1 for the first place, 0 if it did not.

    Args:
        found: By each question.
        wanted: (questions,) names of the documents that they are from.
        texts: Which others have the same words.
    """
    import numpy as np

    places = ranks(found, wanted)
    for number, names in enumerate(found.names.tolist()):
        holding = [at + 1 for at, name in enumerate(names) if (number, name) in texts.holding]
        places[number] = min([*holding, *([places[number]] if places[number] else [])], default=0)
    return np.asarray(places, np.intp)


def known_items_of(
    questions: Sequence[Question],
    found: Neighbours,
    wanted: "NDArray[np.uint64]",
    texts: Texts,
    scale: Scale,
    misses: int,
) -> KnownItems:
    """Whether questions have found the documents that they are from.

    Args:
        questions: The questions.
        found: By each of them.
        wanted: (questions,) names of their documents.
        texts: What is known of the texts.
        scale: How scores are shown.
        misses: How many of those that did not find it first to list.
    """
    places = places_of(found, wanted, texts)
    missed = [number for number in range(len(questions)) if places[number] != 1]
    missed.sort(key=lambda number: (places[number] != 0, -places[number]))
    return KnownItems(
        questions=len(questions),
        whole=sum(question.is_whole for question in questions),
        hits={k: share_within(places, k) for k in _KS},
        reciprocal_rank=mean_reciprocal_rank(places, DEPTH),
        misses=tuple(
            Miss(
                question=questions[number].text,
                id=texts.rows.get(int(wanted[number]), ("", ""))[0],
                place=int(places[number]),
                found=_first(found, number, texts, scale),
            )
            for number in missed[:misses]
        ),
    )


def questions_by_name(questions: Sequence[Question], found: Neighbours) -> Mapping[int, list[tuple[int, str]]]:
    """For each text that was found: numbers and words of the questions that found it."""
    made: dict[int, list[tuple[int, str]]] = {}
    for number, names in enumerate(found.names.tolist()):
        for name in names:
            made.setdefault(name, []).append((number, questions[number].text))
    return made


def _first(found: Neighbours, number: int, texts: Texts, scale: Scale) -> Found | None:
    near = float(found.nearness[number, 0])
    return _found(int(found.names[number, 0]), near, texts, scale) if near > -1e38 else None


def _found(name: int, near: float, texts: Texts, scale: Scale, *, is_common: bool = False) -> Found:
    row_id, text = texts.rows.get(name, ("", ""))
    return Found(id=row_id, text=text, score=scale.of(near), is_common=is_common)
