"""Embeds every row of a store into a staging file, once, and can be stopped at any moment.

The store is read in passes. The first one embeds everything; if the store was changed meanwhile, another one takes in
what is different, until a pass ends as it began. A row whose text was seen before costs no embedding.
"""

import contextlib
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from mlx_integrations.errors import JournalError, StoreChangedError
from mlx_integrations.migration.engine.journal import DeadLetter, Entry, Journal, Written
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.engine.text_index import TextIndex
from mlx_integrations.migration.executors.protocol import Executor, Vectors
from mlx_integrations.migration.protocol import Embedded, Reader
from mlx_integrations.migration.records import Row, content_digest, text_digest

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DEFAULT_BATCH_ROWS", "Progress", "embed_rows", "embedded_rows"]

DEFAULT_BATCH_ROWS: Final = 1024
"""Rows that are committed together, and at most embedded twice when a run is killed."""

_MAX_PASSES: Final = 4
_READ_ROWS: Final = 512
_NO_TEXT: Final = "the store has no text for it"
_EMPTY_TEXT: Final = "its text is empty"
_NOT_FINITE: Final = "the model made a vector of it that is not finite"
_ZERO: Final = "the model made a zero vector of it"
_LIKE_ANOTHER: Final = "another row of the same text could not be embedded"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pass is.

    Attributes:
        done: Rows that were seen in this pass, by this call or an earlier one.
        embedded: Texts that this call embedded.
        seconds: Since this call began.
    """

    done: int
    embedded: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Rows on their way: which of them are new, and where the vectors of the others are."""

    first: int
    cursor: str
    rows: list[tuple[Row, bytes, bytes]] = field(default_factory=list)  # with the digests of text and content
    fresh: list[str] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)  # one for each row: in `fresh`, or in the staging file
    known_truncated: set[int] = field(default_factory=set)  # positions
    kept: list[int] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    seen: int = 0


class _Planner:
    """Cuts a pass into batches and decides what of each has to be embedded."""

    def __init__(self, reader: Reader, journal: Journal, number: int, batch_rows: int) -> None:
        self._rows = reader.rows(journal.fact("cursor"))
        self._journal = journal
        self._number = number
        self._batch_rows = batch_rows
        self._position = journal.next_position()
        # Texts of batches that are planned and not yet committed: an executor may read some ahead.
        self._pending: dict[bytes, int] = {}
        self._texts = TextIndex(journal.texts())

    def batches(self) -> Iterator[_Batch]:
        """The batches, as they are asked for."""
        while rows := list(islice(self._rows, self._batch_rows)):
            yield self._plan(rows)

    def committed(self, batch: _Batch, entries: Sequence[Entry]) -> None:
        """Its texts are found in the journal from now on.

        Args:
            batch: The batch.
            entries: What became of its rows.
        """
        for _, text, _ in batch.rows:
            self._pending.pop(text, None)
        self._texts.add([(each.text, each.position) for each in entries])

    def _plan(self, rows: Sequence[Row]) -> _Batch:
        batch = _Batch(first=self._position, cursor=rows[-1].key, seen=len(rows))
        before = self._journal.entries_of_keys([row.key for row in rows]) if self._number > 1 else {}
        for row in rows:
            if row.refused or row.text is None or not row.text.strip():
                reason = row.refused or (_NO_TEXT if row.text is None else _EMPTY_TEXT)
                batch.dead.append(DeadLetter(key=row.key, id=row.id, reason=reason))
                continue
            content = content_digest(row)
            entry = before.get(row.key)
            if entry is not None and entry.content == content:
                batch.kept.append(entry.position)
                continue
            batch.rows.append((row, text_digest(row.text), content))
        known = self._known({text for _, text, _ in batch.rows})
        for row, text, _ in batch.rows:
            self._place(batch, row, text, known)
        self._position += len(batch.rows)
        return batch

    def _known(self, texts: set[bytes]) -> dict[bytes, tuple[int, bool]]:
        """For texts that are embedded already: where, and whether they were truncated."""
        found: dict[bytes, tuple[int, bool]] = {}
        for text, position in self._texts.find(list(texts)):
            if text not in found and (there := self._journal.text_at(position)) is not None and there[0] == text:
                found[text] = position, there[1]
        return found

    def _place(self, batch: _Batch, row: Row, text: bytes, known: dict[bytes, tuple[int, bool]]) -> None:
        if text in known:
            position, is_truncated = known[text]
            if is_truncated:
                batch.known_truncated.add(batch.first + len(batch.places))
            batch.places.append(("staged", position))
        elif text in self._pending:
            batch.places.append(("staged", self._pending[text]))
        else:
            self._pending[text] = batch.first + len(batch.places)
            batch.places.append(("fresh", len(batch.fresh)))
            batch.fresh.append(row.text or "")


def embed_rows(
    reader: Reader,
    executor: Executor,
    journal: Journal,
    staging: Staging,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Embed what is not embedded yet.

    Args:
        reader: The store; only read.
        executor: Makes the vectors.
        journal: Of this run.
        staging: Of this run.
        batch_rows: Rows that are committed together.
        should_stop: Asked after each batch; a later call goes on.
        on_progress: Told after each batch.
        clock: Seconds, for progress.

    Returns:
        Whether every row is embedded or a dead letter; `False` if it was told to stop.

    Raises:
        StoreChangedError: The store was changed again and again.
    """
    _repair_last_batch(journal, staging)
    for _ in range(_MAX_PASSES):
        number = journal.fact("pass")
        if number is None or (journal.fact("is_complete") and journal.fact("state") != reader.state()):
            number = (number or 0) + 1
            journal.begin_pass(number, reader.state())
        if not journal.fact("is_complete"):
            if not _run_pass(reader, executor, journal, staging, number, batch_rows, should_stop, on_progress, clock):
                return False
            journal.end_pass(number)
        if journal.fact("state") == reader.state():
            return True
        _logger.info("The store was changed while it was read; it is read again.")
    raise StoreChangedError(
        f"`{reader.location}` was changed in each of {_MAX_PASSES} passes.",
        store=str(reader.location),
        hint="Stop what writes to it, and run the migration again: nothing is embedded a second time.",
    )


def _repair_last_batch(journal: Journal, staging: Staging) -> None:
    last = journal.last_written()
    if last is not None and staging.count() < last.first:
        raise JournalError(
            f"`{staging.path}` has {staging.count()} vectors, and the journal knows of {last.first + last.count}.",
            store=str(staging.path.parent),
            hint="Start afresh with `--restart`; the store itself is as it was.",
        )
    if last is None or staging.is_intact(last.first, last.count, last.checksum):
        return
    _logger.warning("The last batch is not what was written; it is embedded again.")
    _forget_last_batch(journal, last)


def _forget_last_batch(journal: Journal, last: Written) -> None:
    # In a later pass rows are not in the order of their positions: it is read again from its beginning.
    journal.forget_last_batch(journal.key_before(last.first) if journal.fact("pass") == 1 else None)


def _run_pass(
    reader: Reader,
    executor: Executor,
    journal: Journal,
    staging: Staging,
    number: int,
    batch_rows: int,
    should_stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
    clock: Callable[[], float],
) -> bool:
    planner = _Planner(reader, journal, number, batch_rows)
    planned: deque[_Batch] = deque()
    started = clock()
    done, embedded = journal.count_seen(number), 0

    def texts() -> Iterator[Sequence[str]]:
        for batch in planner.batches():
            planned.append(batch)
            yield batch.fresh

    begun = started
    for made in executor.embed(texts()):
        batch = planned.popleft()
        _check_shape(batch, made, staging, executor)
        entries = _commit(batch, made, journal, staging, number, clock() - begun)
        planner.committed(batch, entries)
        done, embedded, begun = done + batch.seen, embedded + len(batch.fresh), clock()
        on_progress(Progress(done=done, embedded=embedded, seconds=begun - started))
        if should_stop():
            return False
    return True


def _check_shape(batch: _Batch, made: Vectors, staging: Staging, executor: Executor) -> None:
    expected = (len(batch.fresh), staging.dimensions)
    if expected[0] and made.vectors.shape != expected:
        raise ValueError(f"{type(executor).__name__} made vectors of {made.vectors.shape} instead of {expected}")


def _commit(
    batch: _Batch, made: Vectors, journal: Journal, staging: Staging, number: int, seconds: float
) -> list[Entry]:
    """Put a batch's vectors on the disk, and at the same time its rows into the journal."""
    vectors, refused = _gathered(batch, made, staging)
    entries: list[Entry] = []
    dead = list(batch.dead)
    for index, (row, text, content) in enumerate(batch.rows):
        position = batch.first + index
        if index in refused:
            dead.append(DeadLetter(key=row.key, id=row.id, reason=refused[index]))
            continue
        kind, place = batch.places[index]
        if kind == "fresh":
            is_truncated = place in made.truncated
        else:
            is_truncated = position in batch.known_truncated or _is_truncated(batch, place, made, journal)
        entry = Entry(position=position, key=row.key, text=text, content=content, is_truncated=is_truncated)
        entries.append(entry)
    checksum = staging.write(batch.first, vectors) if len(vectors) else 0
    written = Written(first=batch.first, count=len(vectors), checksum=checksum)
    journal.add_batch(
        entries, dead, kept=batch.kept, written=written, number=number, cursor=batch.cursor, seconds=seconds
    )
    try:
        staging.wait_until_flushed()
    except OSError:
        # What the system still remembers of it may look intact. Should the journal have no room either, all vectors are
        # looked at again before a store is built of them.
        with contextlib.suppress(sqlite3.OperationalError):
            _forget_last_batch(journal, written)
        raise
    return entries


def _is_truncated(batch: _Batch, position: int, made: Vectors, journal: Journal) -> bool:
    """Whether the model read only the beginning of the text whose vector is at a position."""
    if position >= batch.first:
        kind, place = batch.places[position - batch.first]
        if kind == "fresh":
            return place in made.truncated
        position = place
    there = journal.text_at(position)  # of a batch that was on its way when this one was planned
    return there is not None and there[1]


def _gathered(batch: _Batch, made: Vectors, staging: Staging) -> tuple["NDArray[np.float32]", dict[int, str]]:
    """The vectors of all rows of a batch, and the rows that have none, with the reason."""
    import numpy as np

    faults = {**_faults(made.vectors), **made.refused}
    vectors = np.zeros((len(batch.rows), staging.dimensions), np.float32)
    refused: dict[int, str] = {}
    elsewhere: list[tuple[int, int]] = []
    for index, (kind, place) in enumerate(batch.places):
        if kind == "staged" and place >= batch.first:
            # The same text, earlier in this batch.
            kind, place = batch.places[place - batch.first]
        if kind == "staged":
            elsewhere.append((index, place))
        elif place in faults:
            refused[index] = faults[place]
        else:
            vectors[index] = made.vectors[place]
    if elsewhere:
        indices = [index for index, _ in elsewhere]
        vectors[indices] = staging.read([place for _, place in elsewhere])
        # A batch that was planned before this one, and refused the text after this one was planned, has left zeros.
        refused |= {index: _LIKE_ANOTHER for index in indices if not vectors[index].any()}
    return vectors, refused


def _faults(vectors: "NDArray[np.float32]") -> dict[int, str]:
    """The vectors that no store can use."""
    import numpy as np

    finite = np.isfinite(vectors).all(axis=1)
    zero = ~vectors.any(axis=1)
    found = {int(index): _NOT_FINITE for index in np.flatnonzero(~finite)}
    return found | {int(index): _ZERO for index in np.flatnonzero(zero)}


def embedded_rows(reader: Reader, journal: Journal, staging: Staging) -> Iterator[Embedded]:
    """Every row of the store with its new vector, in the order of its keys; rows that are dead letters are left out.

    Raises:
        StoreChangedError: The store is not what was embedded.
        JournalError: The vectors are not those that were made.
    """
    for written in journal.batches():
        if not staging.is_intact(written.first, written.count, written.checksum):
            raise JournalError(
                f"`{staging.path}` is damaged at the vectors from {written.first} on.",
                store=str(staging.path.parent),
                hint="Start afresh with `--restart`; the store itself is as it was.",
            )
    rows = reader.rows()
    given = 0
    while batch := list(islice(rows, _READ_ROWS)):
        entries = journal.entries_of_keys([row.key for row in batch])
        dead = journal.dead_among([row.key for row in batch])
        kept: list[Row] = []
        positions: list[int] = []
        for row in batch:
            entry = entries.get(row.key)
            if entry is not None and entry.content == content_digest(row):
                kept.append(row)
                positions.append(entry.position)
            elif row.key not in dead:
                raise StoreChangedError(
                    f"`{reader.location}` was changed while it was migrated: the row `{row.id}` is another one.",
                    store=str(reader.location),
                )
        given += len(kept)
        if kept:
            yield Embedded(rows=tuple(kept), vectors=staging.read(positions))
    if given != journal.count():
        raise StoreChangedError(
            f"`{reader.location}` was changed while it was migrated: it has {given} of {journal.count()} rows.",
            store=str(reader.location),
        )
