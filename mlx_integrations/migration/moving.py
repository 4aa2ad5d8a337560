"""Moves a store's documents into a new store of another kind, or at another place, with the vectors of another model.

Two halves make what looks like one store to everything else: the source, which is only read, and the target, which does
not exist until it is published. Its rows are those that the target will show, so that the digests by which a migration
is verified agree; and what the target cannot hold is found before anything is embedded, by reading every document.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.protocol import Embedded, Published, Reader, Run, Source, Surveys, Target
from mlx_integrations.migration.records import (
    Document,
    Finding,
    Held,
    Loss,
    Metric,
    Row,
    StoreInfo,
    StoreLocation,
    content_digest,
    text_digest,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Move", "open_move"]

_EXAMPLES: Final = 5
_MOST_KINDS: Final = 100
_REPEATED: Final = "a later document has the same id, and the new store holds one of each"
_MOVED: Final = {
    "missing-texts": "There is no text for them, and so nothing to embed; they are not moved.",
    "orphans": "They have no vector, and are not moved: deleted, or parents of others.",
    "missing-vectors": "They have no vector, and are not moved.",
}
_NOT_OF_MOVES: Final = frozenset(
    {
        "dependents",
        "duplicate-ids",
        "embedding-function",
        "index-lost",
        "missing-privilege",
        "not-held",
        "read-only",
        "shared-column",
        "shared-table",
        "tags",
    }
)
"""What a store says of itself that matters only where it gets new vectors itself, or is found anew."""
_OF_ONE_ORDER: Final = frozenset({"cosine", "dot", "euclidean"})
_WHOSE: Final = {"langchain": "documents of LangChain", "llama-index": "nodes of LlamaIndex"}


@dataclass(slots=True)
class _Seen:
    """Documents of which the same is said."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, document_id: str) -> None:
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(document_id)

    def finding(self, code: str, message: str, *, is_blocking: bool) -> Finding:
        return Finding(
            code=code, message=message, count=self.count, examples=tuple(self.examples), is_blocking=is_blocking
        )


class _Fidelity:
    """What the target cannot hold of a source, found by reading all of it.

    Args:
        state: Of the source when reading began.
    """

    def __init__(self, state: str) -> None:
        self.state = state
        self.losses: dict[Loss, _Seen] = {}
        self.refused: dict[str, _Seen] = {}
        self.repeated: dict[str, bool] = {}  # keys of documents whose id comes again: whether with the same contents
        self._superseded = _Seen()
        self._equal = _Seen()

    def read(self, documents: Iterator[tuple[Document, Held]], *, has_unique_ids: bool) -> None:
        """Take in every document."""
        ids = _Ids()
        for document, held in documents:
            for loss in held.losses:
                self._seen(self.losses, loss).add(document.id)
            if held.row.refused:
                self._seen(self.refused, held.row.refused).add(document.id)
            if has_unique_ids and (earlier := ids.replace(held.row)) is not None:
                key, is_equal = earlier
                self.repeated[key] = is_equal
                (self._equal if is_equal else self._superseded).add(document.id)

    def findings(self) -> Iterator[Finding]:
        """What is to be known, and accepted, before anything is moved."""
        losses = sorted(self.losses.items(), key=lambda item: (not item[0].is_blocking, item[0].key))
        for loss, seen in losses[:_MOST_KINDS]:
            message = f"`{loss.key}`: {loss.reason}."
            yield seen.finding("not-held", message, is_blocking=loss.is_blocking)
        if more := losses[_MOST_KINDS:]:
            message = f"Metadata of {len(more)} other names that the new store cannot hold either."
            count = sum(seen.count for _, seen in more)
            is_blocking = any(loss.is_blocking for loss, _ in more)
            yield Finding(code="not-held", message=message, count=count, is_blocking=is_blocking)
        for reason, seen in self.refused.items():
            yield seen.finding("refused", f"They are left out: {reason}.", is_blocking=True)
        if self._superseded.count:
            message = "Documents of which a later one has the same id; the new store gets the last of each."
            yield self._superseded.finding("duplicate-ids", message, is_blocking=True)
        if self._equal.count:
            message = "Documents that the store has several times; the new one has each once."
            yield self._equal.finding("duplicate-ids", message, is_blocking=False)

    @property
    def count_equal(self) -> int:
        """Documents that are the same as a later one."""
        return self._equal.count

    def kinds(self) -> set[str]:
        """What has to be accepted."""
        lost = {f"`{loss.key}`: {loss.reason}" for loss in self.losses if loss.is_blocking}
        return lost | set(self.refused) | ({_REPEATED} if self._superseded.count else set())

    @staticmethod
    def _seen(known: dict[Any, _Seen], what: Any) -> _Seen:
        return known.setdefault(what, _Seen())


class _Ids:
    """Which ids were met, on the disk: a million of them take no memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, gone when it is closed
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE met (id BLOB PRIMARY KEY, key TEXT, content BLOB) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __del__(self) -> None:
        self._database.close()

    def replace(self, row: Row) -> tuple[str, bool] | None:
        """Remember a row; if there was one of its id, the key of that, and whether it had the same contents."""
        own, content = text_digest(row.id), content_digest(row)
        found = self._database.execute("SELECT key, content FROM met WHERE id = ?", (own,)).fetchone()
        self._database.execute("INSERT OR REPLACE INTO met VALUES (?, ?, ?)", (own, row.key, content))
        return None if found is None else (str(found[0]), found[1] == content)


class Move:
    """A store's documents on their way to another one. Implements `Store`, `ChoosesIndex`, `KeepsOld` and `Placed`.

    Args:
        source: The store; only read.
        target: The new one.
        as_json: Names of metadata whose values become text, as JSON, if they are not text already.
    """

    def __init__(self, source: Source, target: Target, *, as_json: Collection[str] = ()) -> None:
        self.source = source
        self.target = target
        self._as_json = frozenset(as_json)
        self._fidelity: _Fidelity | None = None
        self._known_kinds: set[str] | None = None

    @property
    def location(self) -> StoreLocation:
        """The source's, with the target's."""
        return replace(self.source.location, target=self.target.location)

    def check_place(self, run: Run | None = None) -> None:
        """Look whether the target's place is free."""
        self.target.check(run)

    @property
    def place(self) -> Path | None:
        """A folder of the disk on which the target is built."""
        return self.target.folder

    def disk_bytes(self, dimensions: int) -> int:
        """At most what the target will take."""
        return self.target.bytes_for(self.source.describe(), dimensions)

    def describe(self) -> StoreInfo:
        """What the source says of itself, and what of it the target cannot hold. Reads every document."""
        info = self.source.describe()
        fidelity = self._checked()
        if self._known_kinds is None:
            self._known_kinds = fidelity.kinds()
        own = [_moved(finding) for finding in info.findings if finding.code not in _NOT_OF_MOVES]
        metric = self.target.metric_for(info.metric)
        return replace(
            info,
            location=self.location,
            count=info.count - fidelity.count_equal,
            metric=metric,
            findings=(*own, *_of_metric(info.metric, metric), *fidelity.findings()),
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        """The source's documents as the target will show them.

        Raises:
            RowsError: The target cannot hold what was not there when the store was described.
            StoreChangedError: The store is being changed.
        """
        fidelity = self._checked()
        if self._known_kinds is not None and (new := sorted(fidelity.kinds() - self._known_kinds)):
            raise RowsError(
                f"`{self.source.location}` was changed, and the new store cannot hold what was added: {new[0]}.",
                store=str(self.location),
                count=len(new),
                hint="Look at it with `mlxi migrate plan`, and run it again with `--accept`.",
            )
        for document, held in self._held(after):
            if not all(loss in fidelity.losses for loss in held.losses):
                raise StoreChangedError(
                    f"`{self.source.location}` was changed while it was read: `{document.id}` is another one.",
                    store=str(self.location),
                )
            if (is_equal := fidelity.repeated.get(document.key)) is None:
                yield held.row
            elif not is_equal:
                yield replace(held.row, refused=_REPEATED)

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        """The source's own."""
        return self.source.vectors(keys)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes."""
        return self.target.index_for(self.source.describe(), dimensions, wanted)

    def state(self) -> str:
        """The source's, until the target is published: then it is that one which must not be changed unseen."""
        return self.target.state() or self._source_state()

    def close(self) -> None:
        """Let go of both."""
        self.source.close()
        self.target.close()

    def replaced(self, run: Run) -> Reader:
        """The source, which keeps its vectors."""
        return _Lent(self.source, self.target, as_json=self._as_json)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Make the target, beside its place."""
        self.target.build(run, self.source.describe(), rows)

    def built(self, run: Run) -> Reader:
        """The target, wherever it is by now."""
        return self.target.built(run)

    def published(self, run: Run) -> Published:
        """Whether the target is at its place."""
        return self.target.published(run)

    def publish(self, run: Run) -> None:
        """Let the target appear at its place."""
        self.target.publish(run)

    def rollback(self, run: Run) -> None:
        """Take the target away from its place."""
        self.target.rollback(run)

    def discard(self, run: Run) -> None:
        """Delete what is not in use; the source is none of it."""
        self.target.discard(run)

    def _source_state(self) -> str:
        # With other values as text every row is another one, though most of their vectors stay.
        return " ".join([self.source.state(), *(f"json:{name}" for name in sorted(self._as_json))])

    def _checked(self) -> _Fidelity:
        state = self._source_state()
        if self._fidelity is None or self._fidelity.state != state:
            if isinstance(self.target, Surveys):
                self.target.survey(self._documents())
            fidelity = _Fidelity(state)
            fidelity.read(self._held(), has_unique_ids=self.target.has_unique_ids)
            self._fidelity = fidelity
        return self._fidelity

    def _held(self, after: str | None = None) -> Iterator[tuple[Document, Held]]:
        return ((document, self.target.held(document)) for document in self._documents(after))

    def _documents(self, after: str | None = None) -> Iterator[Document]:
        for document in self.source.documents(after):
            if document.framework not in self.target.frameworks:
                raise StoreError(
                    f"`{self.source.location}` has {_WHOSE[document.framework]}, and `{self.target.location}` would "
                    f"hold {' and '.join(_WHOSE[each] for each in sorted(self.target.frameworks))}.",
                    store=str(self.location),
                    hint="Choose a target of the same framework with `--to-kind`.",
                )
            yield self._with_texts(document)

    def _with_texts(self, document: Document) -> Document:
        if not self._as_json or document.framework != "langchain":
            return document
        metadata = {
            name: _as_text(value) if name in self._as_json else value for name, value in document.metadata.items()
        }
        return replace(document, metadata=metadata)


class _Lent(Move):
    """The source, for whoever reads it and lets go of it: the connections are the move's."""

    def close(self) -> None: ...


def open_move(store: Reader, target: Target, *, as_json: Collection[str] = ()) -> Move:
    """A move of a store.

    Raises:
        StoreError: Its documents cannot be read as those of a framework.
    """
    if isinstance(store, Source):
        return Move(store, target, as_json=as_json)
    kind = store.location.kind
    raise StoreError(
        f"The documents of a store of the kind `{kind}` cannot be moved.",
        store=str(store.location),
        hint="A store can be moved from whose class has the method `documents` of `Source`.",
    )


def _as_text(value: Any) -> Any:
    """A value as JSON; text stays as it is, and what JSON has no way of writing as well."""
    if isinstance(value, str):
        return str(value)  # also where it stands for something else: to be text is what was asked for
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value)


def _moved(finding: Finding) -> Finding:
    """A finding about a store, in words that hold when its documents are moved."""
    if finding.code not in _MOVED:
        return finding
    return replace(finding, message=_MOVED[finding.code], is_blocking=True, is_final=False)


def _of_metric(old: Metric, new: Metric) -> Iterator[Finding]:
    if new != old:
        message = f"Vectors will be compared by `{new}` instead of `{old}`: scores are others, and "
        message += (
            "for vectors of length one, which most models make, the order is the same."
            if {old, new} <= _OF_ONE_ORDER
            else "so may be the order."
        )
        yield Finding(code="other-metric", message=message)
