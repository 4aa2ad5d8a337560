"""What a report holds. `to_dict` is its JSON; keys are added in later versions, and none changes its meaning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from mlx_integrations.migration.checks import Check
from mlx_integrations.migration.engine.journal import DeadLetter, Phase
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.migration.protocol import Published
from mlx_integrations.migration.records import Finding, Metric, StoreLocation
from mlx_integrations.migration.report.quality import interpolated

__all__ = [
    "FORMAT",
    "Changed",
    "Counts",
    "CutRow",
    "Found",
    "KnownItems",
    "MigrationReport",
    "Miss",
    "Moment",
    "Note",
    "Overlap",
    "OverlapAt",
    "ScaleMap",
    "ScoreMap",
    "Side",
]

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that whoever reads a report should know.

    Attributes:
        code: For programs: `near-chance`, `failed-checks`, `old-vectors`, ...
        message: For people.
        is_warning: Whether something may have to be done about it.
    """

    code: str
    message: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Vectors of a store, old or new.

    Attributes:
        model: That made them, by the record that lies with them; `None` if there is none.
        likely_model: A guess where there is no record, to be read after `a model`.
        count: Rows that have one.
        dimensions: Of the vectors, each kind that occurs.
        metric: How they are compared.
        index: The kind of index, in the store's own words.
        is_exact: Whether they come out of the index as they went in.
        bytes: What the store takes on disk with them, where it is files.
    """

    model: str | None
    likely_model: str | None
    count: int
    dimensions: tuple[int, ...]
    metric: Metric
    index: str
    is_exact: bool
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Rows, by what became of them.

    Attributes:
        total: Rows when the migration was begun.
        embedded: Rows that have a new vector.
        texts: Different texts among them: so many were embedded.
        shared: Rows that share the vector of an equal text.
        truncated: Rows of which the model read only the beginning.
        unembedded: Rows that have no new vector.
        passes: How often the store was read, because it was changed meanwhile.
        repeated: Batches that were embedded a second time, because the run was killed.
    """

    total: int
    embedded: int
    texts: int
    shared: int
    truncated: int
    unembedded: int
    passes: int
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened: seconds since the epoch, what, and more about it."""

    at: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRow:
    """A row of which the model read only the beginning.

    Attributes:
        id: The store's own.
        characters: Of the whole text.
        tokens: Of the whole text, prompt and special tokens included; `None` if nobody could count them.
        read_tokens: How many of them the model read; `None` if it is not known.
    """

    id: str
    characters: int
    tokens: int | None
    read_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapAt:
    """How many of their nearest k texts documents have kept.

    Attributes:
        k: How many nearest texts are looked at.
        mean: Of all documents, from 0 to 1.
        chance: What two searches that have nothing in common would have.
        fifth: Five documents in a hundred have kept less than this.
        median: Half of them have kept less than this.
        none: The share of documents that have kept none.
    """

    k: int
    mean: float
    chance: float
    fifth: float
    median: float
    none: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Whether documents have the neighbours that they had.

    Attributes:
        documents: How many were asked about.
        texts: How many different texts were searched.
        at: For each k.
        distribution: How many documents have kept none, one, two, ... of their nearest texts, at the greatest k.
    """

    documents: int
    texts: int
    at: tuple[OverlapAt, ...]
    distribution: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row that a search has found.

    Attributes:
        id: The store's own.
        text: Its beginning.
        score: As the store shows it.
        is_common: Whether both sides have found it.
    """

    id: str
    text: str
    score: float
    is_common: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A document whose neighbours are others now: the nearest ones, before and after."""

    id: str
    text: str
    overlap: float
    old: tuple[Found, ...]
    new: tuple[Found, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A sentence that did not find the document that it is from.

    Attributes:
        question: The sentence.
        id: Of its document.
        place: Where the document was found after all; 0 if not among the first.
        found: What was found first instead.
    """

    question: str
    id: str
    place: int
    found: Found | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownItems:
    """Whether a sentence, asked as a question, finds the document that it is from, with the new vectors.

    Attributes:
        questions: How many were asked.
        whole: How many of them are the whole text of their document, which is easy.
        hits: For each k, the share that found it among the first k.
        reciprocal_rank: The mean of 1 over its place among the first ten.
        misses: Some that did not find it first.
    """

    questions: int
    whole: int
    hits: Mapping[int, float]
    reciprocal_rank: float
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleMap:
    """Thresholds that let as many documents through as before, as one function of the store shows them.

    Attributes:
        name: What shows such scores.
        is_distance: Whether smaller is nearer.
        old: Scores of the old vectors, from the nearest on.
        new: What stands in their place.
    """

    name: str
    is_distance: bool
    old: tuple[float, ...]
    new: tuple[float, ...]

    def map_threshold(self, old: float) -> float:
        """The threshold for the new vectors that lets through as many documents as this one did for the old."""
        return interpolated(old, self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap:
    """How scores have moved.

    Attributes:
        per_question: How many texts of the store are as near, on average, at each point of the scales.
        scales: The same points, as each function of the store shows them; at least one.
    """

    per_question: tuple[float, ...]
    scales: tuple[ScaleMap, ...]

    def map_threshold(self, old: float, scale: str | None = None) -> float:
        """The new threshold for an old one.

        Args:
            old: The old one.
            scale: The name of the scale; the first one if left out.
        """
        chosen = self.scales[0] if scale is None else next(each for each in self.scales if each.name == scale)
        return chosen.map_threshold(old)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What is known of a migration. What could not be measured is `None`, and a note says why.

    Attributes:
        made_at: Seconds since the epoch.
        version: Of this package.
        store: Where it is.
        run_id: Of the migration.
        phase: How far it is.
        in_use: Which vectors the store shows.
        long_texts: What happened to texts that are longer than the model reads.
        checks: Of the last verification.
        notes: Warnings first.
        old: The old vectors, if they can still be read.
        new: The new ones.
        counts: Rows.
        embedding_seconds: What embedding took, without pauses.
        events: What happened, and when.
        accepted: What was wrong with the store, or is lost on the way to another one, and was accepted.
        unembedded: Every row that has no new vector.
        truncated: Every row that was cut.
        overlap: Of neighbours, old and new.
        known_items: Of sentences that look for their document.
        scores: How thresholds move.
        changed: Documents whose neighbours have changed most.
    """

    made_at: float
    version: str
    store: StoreLocation
    run_id: str
    phase: Phase
    in_use: Published
    long_texts: LongTexts
    checks: tuple[Check, ...]
    notes: tuple[Note, ...]
    old: Side | None
    new: Side
    counts: Counts
    embedding_seconds: float
    events: tuple[Moment, ...]
    accepted: tuple[Finding, ...]
    unembedded: tuple[DeadLetter, ...]
    truncated: tuple[CutRow, ...]
    overlap: Overlap | None
    known_items: KnownItems | None
    scores: ScoreMap | None
    changed: tuple[Changed, ...]

    @property
    def verdict(self) -> Literal["passed", "look", "failed"]:
        """Whether all checks hold, and whether something should be looked at."""
        if any(not check.is_passed for check in self.checks):
            return "failed"
        return "look" if any(note.is_warning for note in self.notes) or not self.checks else "passed"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, "verdict": self.verdict, **asdict(self)}
