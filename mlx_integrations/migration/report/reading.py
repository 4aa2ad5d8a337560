"""Reads both sides of a migration for a report: a block of rows at a time, each side as often as it has to be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.protocol import Reader
from mlx_integrations.migration.records import Row
from mlx_integrations.migration.report.quality import Search, name_of

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Chosen", "Seen", "Texts", "choose_documents", "read_documents", "read_texts", "search_all", "shortened"]

_READ_ROWS: Final = 1024
_CHOSEN_AT_ONCE: Final = 1 << 16
_NAME_BYTES: Final = 8
_ALL: Final = 1 << 64
# Names are digests, so the least of them are a sample in which every text is as likely as any other.
_ORDER: Final = 0x9E3779B97F4A7C15
_SHORT: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """Documents that a report asks about.

    Attributes:
        names: (documents,) of their texts.
        keys: Of one row of each, in the store that was migrated.
        share: Of the texts that are searched.
    """

    names: "NDArray[np.uint64]"
    keys: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one reading of all vectors has met: rows that were searched, and those whose vectors are not finite."""

    rows: int
    unusable: int


@dataclass(slots=True)
class Texts:
    """Rows of some texts: their ids and beginnings, and which of them hold which questions."""

    rows: dict[int, tuple[str, str]] = field(default_factory=dict)
    holding: set[tuple[int, int]] = field(default_factory=set)


def choose_documents(journal: Journal, count: int, against: int | None = None) -> Chosen:
    """A sample of the texts that are embedded, the same one each time.

    Args:
        journal: Of the run.
        count: How many to choose, if there are so many.
        against: About how many texts to search; all of them if left out.
    """
    import numpy as np

    best = np.zeros((0, 2), np.uint64)  # what the sample is ordered by, and a position
    pairs = journal.texts()
    while part := list(islice(pairs, _CHOSEN_AT_ONCE)):
        found = np.empty((len(part), 2), np.uint64)
        content = b"".join(text[:_NAME_BYTES] for text, _ in part)
        found[:, 0] = np.frombuffer(content, ">u8") ^ np.uint64(_ORDER)
        found[:, 1] = [position for _, position in part]
        both = np.concatenate([best, found])
        _, firsts = np.unique(both[:, 0], return_index=True)
        best = both[firsts[:count]]
    keys = tuple(journal.key_before(int(position) + 1) or "" for position in best[:, 1])
    texts = journal.count_texts() if against is not None else 0
    share = 1.0 if against is None else min(1.0, max(against, count) / max(texts, 1))
    return Chosen(names=best[:, 0] ^ np.uint64(_ORDER), keys=keys, share=share)


def _is_searched(name: int, share: float) -> bool:
    return share >= 1 or (name ^ _ORDER) < share * _ALL


def _named(rows: Iterator[Row]) -> Iterator[tuple[int, Row]]:
    """Rows that have a text, with its name."""
    for row in rows:
        if row.text is not None and row.text.strip():
            yield name_of(row.text), row


def read_documents(
    reader: Reader,
    names: "NDArray[np.uint64]",
    journal: Journal,
    on_cut: Callable[[Sequence[Row]], None],
) -> dict[int, Row]:
    """One row of each of some texts, without its metadata.

    Args:
        reader: The new vectors.
        names: Of the texts.
        journal: Says which texts were cut.
        on_cut: Told of rows whose texts were, some at a time.
    """
    wanted = set(names.tolist())
    cut = {int.from_bytes(text[:_NAME_BYTES], "big") for text in journal.truncated_texts()}
    found: dict[int, Row] = {}
    rows = reader.rows()
    while batch := list(islice(rows, _READ_ROWS)):
        named = list(_named(iter(batch)))
        for name, row in named:
            if name in wanted and name not in found:
                found[name] = Row(key=row.key, id=row.id, text=row.text)
        if cut:
            on_cut([row for name, row in named if name in cut])
    return found


def search_all(reader: Reader, searches: Sequence[Search], share: float, journal: Journal | None = None) -> Seen:
    """Give every vector to some searches.

    Args:
        reader: The vectors.
        searches: Of which each takes in all of them.
        share: Of the texts that are searched.
        journal: For the old vectors: rows that have no new vector are left out, so that both sides search the same.

    Raises:
        StoreError: Vectors are missing, or are of several sizes.
    """
    import numpy as np

    seen = unusable = 0
    has_dead = journal is not None and journal.count_dead() > 0
    rows = reader.rows()
    while batch := list(islice(rows, _READ_ROWS)):
        dead = journal.dead_among([row.key for row in batch]) if journal is not None and has_dead else set()
        named = [(name, row) for name, row in _named(iter(batch)) if row.key not in dead and _is_searched(name, share)]
        if not named:
            continue
        names = np.array([name for name, _ in named], np.uint64)
        vectors = reader.vectors([row.key for _, row in named])
        usable = np.isfinite(vectors).all(axis=1)
        if not usable.all():
            names, vectors = names[usable], vectors[usable]
        seen, unusable = seen + len(names), unusable + int((~usable).sum())
        for search in searches:
            search.feed(names, vectors)
    return Seen(rows=seen, unusable=unusable)


def read_texts(reader: Reader, names: set[int], questions: Mapping[int, Sequence[tuple[int, str]]]) -> Texts:
    """Ids and beginnings of some texts.

    Args:
        reader: The new vectors.
        names: Of the texts.
        questions: For texts that a question has found: numbers and words of those questions.

    Returns:
        What was read, with the pairs of question and text of which the text has the question's words.
    """
    found = Texts()
    for name, row in _named(reader.rows()):
        if name not in names or name in found.rows:
            continue
        found.rows[name] = row.id, shortened(row.text or "")
        for number, question in questions.get(name, ()):
            if question in (row.text or ""):
                found.holding.add((number, name))
    return found


def shortened(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * _SHORT].split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1].rstrip()}…"
