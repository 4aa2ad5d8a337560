"""What a store has to offer to be migrated. Yours can be one: implement `Store`, and run the contract tests on it.

A migration leaves a store as it is until it is published: the new vectors are built beside the old ones, under a name
that the run's id makes unique. Whatever is cut off is called again with the same run, so each of `build`, `publish`,
`rollback` and `discard` starts from what it finds in the store, never from what it remembers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.records import (
    Document,
    Framework,
    Held,
    Metric,
    Row,
    StoreInfo,
    StoreLocation,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ChoosesIndex",
    "Embedded",
    "Foresees",
    "KeepsOld",
    "Placed",
    "Published",
    "Reader",
    "Run",
    "Source",
    "Store",
    "Surveys",
    "Target",
    "WatchesOld",
]

Published = Literal["old", "between", "new", "nothing"]
"""What a store's own name stands for: the old vectors, the new ones, neither yet because publishing was cut off, or
nothing at all because the store is only being created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One migration, as far as a store has to know it.

    Attributes:
        id: 12 letters and digits; part of every name that the run makes up.
        fingerprint: Of the new vectors; goes into the record beside the store.
        metric: How the new vectors are to be compared.
        index: The kind of index to build, in the store's own words; empty for the one it has.
    """

    id: str
    fingerprint: EmbeddingFingerprint
    metric: Metric
    index: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """Consecutive rows with their new vectors.

    Attributes:
        rows: In the order of `Reader.rows`.
        vectors: (rows, dimensions), float32.
    """

    rows: tuple[Row, ...]
    vectors: "NDArray[np.float32]"


@runtime_checkable
class Reader(Protocol):
    """Reads a store and never writes to it: opening one for reading leaves every byte of it as it was."""

    @property
    def location(self) -> StoreLocation:
        """Where it is."""
        ...

    def describe(self) -> StoreInfo:
        """Look at the store: counts, dimensions, metric, index and what is wrong with it.

        Raises:
            StoreError: It is not a store of this kind, or one that was cut off while it was written.
        """
        ...

    def rows(self, after: str | None = None) -> Iterator[Row]:
        """Every row that has a vector, in the order of its keys; `after` leaves out all up to and including that key.

        Memory does not grow with the number of rows read.
        """
        ...

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        """The stored vectors of some rows, (keys, dimensions). Asked for samples only.

        Raises:
            StoreError: A key is unknown, or its vector has another dimension than the rest.
        """
        ...

    def state(self) -> str:
        """A short text that changes when the contents may have changed; cheap.

        Journals keep it. What a later version of a store adds to it, as hexadecimal digits and colons, is put between
        `<` and `>`: then it is still known to be the same where an earlier version has noted it.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@runtime_checkable
class Store(Reader, Protocol):
    """A store that can also be given new vectors."""

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write the new vectors beside the old ones, with everything else that rows have.

        What an earlier call for the same run left unfinished is replaced or completed.
        """
        ...

    def built(self, run: Run) -> Reader:
        """What `build` made, wherever it is by now: beside the old vectors, or published.

        Raises:
            StoreError: It was not built, or not to its end.
        """
        ...

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the store itself shows."""
        ...

    def publish(self, run: Run) -> None:
        """Put the new vectors in place of the old ones, keep the old ones, and write the record of the model.

        Readers see the old store or the new one. Completes a call that was cut off.
        """
        ...

    def rollback(self, run: Run) -> None:
        """Put the old vectors, and the record that they had, back in place. Completes a call that was cut off.

        Raises:
            StoreError: The old ones are no longer there.
        """
        ...

    def discard(self, run: Run) -> None:
        """Delete what is not in use: the old vectors after publishing, otherwise what was built."""
        ...


@runtime_checkable
class ChoosesIndex(Protocol):
    """What a store can offer besides: to say which index it would build, and to refuse one before anything is embedded.

    A store without it is taken to build the one that is wanted, or the one that it has.
    """

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes over vectors of so many dimensions, in the store's own words.

        Raises:
            StoreError: One is wanted that it cannot make.
        """
        ...


@runtime_checkable
class KeepsOld(Protocol):
    """What a store can offer besides: to show the vectors that it had, so that a report compares them with the new."""

    def replaced(self, run: Run) -> Reader:
        """The old vectors, wherever they are by now: in use, or kept beside the new ones.

        Asked for after `build`, and closed by whoever asks. Keys, ids, texts and metadata are those that the source had
        before, and `describe().fingerprint` is the record that lay beside the old vectors, if there was one.

        Raises:
            StoreError: They were discarded.
        """
        ...


@runtime_checkable
class WatchesOld(Protocol):
    """What a store has to offer besides if programs that had it open may go on writing to the old vectors."""

    def kept_state(self, run: Run) -> str | None:
        """What `state` would say if the old vectors, which are kept, were in use; `None` if there are none.

        If they are one of several files, only what `state` says of them: it has to begin with that, and a space.
        """
        ...


@runtime_checkable
class Foresees(Protocol):
    """What a store has to offer besides if programs may write to the new vectors as soon as they are in use.

    If it watches the old ones as well, publishing that was cut off is taken for one that has not put the new ones in
    use as long as `state` says the same as `kept_state`.
    """

    def state_once_published(self, run: Run) -> str:
        """What `state` will say as soon as that which was built is in use, if nobody writes to it in that moment."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A store of which the new vectors do not come beside the old ones, but to a place of their own."""

    def check_place(self, run: Run | None = None) -> None:
        """Look whether there is room for them; what this run has put there is its own.

        Raises:
            StoreError: Something is at that place, or nothing can be written there.
        """
        ...

    @property
    def place(self) -> Path | None:
        """A folder that exists, of the disk on which they are built; `None` on a server."""
        ...

    def disk_bytes(self, dimensions: int) -> int:
        """What takes room there, at most."""
        ...


@runtime_checkable
class Source(Reader, Protocol):
    """A store whose documents can be moved to another one."""

    def documents(self, after: str | None = None) -> Iterator[Document]:
        """What `rows` reads, in the words of the framework that filled the store: one for each row, in their order."""
        ...


@runtime_checkable
class Target(Protocol):
    """A store that does not exist yet, and is made of the documents of another one.

    It is built under a name that the run's id makes unique, and appears at its own place when it is published: whole,
    or not at all. What is at that place already is never written to.

    A target that is done shows the rows that `held` foretold, no others, and can be opened by the framework whose
    documents they are. Then the gates of `verify` hold for it as they do for any store.
    """

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        ...

    @property
    def frameworks(self) -> frozenset[Framework]:
        """Whose documents it can hold."""
        ...

    @property
    def has_unique_ids(self) -> bool:
        """Whether it can hold only one document of an id."""
        ...

    @property
    def folder(self) -> Path | None:
        """A folder that exists, of the disk on which it is built; `None` on a server."""
        ...

    def check(self, run: Run | None = None) -> None:
        """Look whether there is room for it.

        Args:
            run: What this run has put there is its own.

        Raises:
            StoreError: Something is at its place, or nothing can be written there.
        """
        ...

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """What it takes on the disk, at most: vectors, texts and metadata."""
        ...

    def metric_for(self, metric: Metric) -> Metric:
        """How it will compare vectors that were compared by `metric`: the same way, where it can."""
        ...

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes, in the store's own words.

        Raises:
            StoreError: One is wanted that it cannot make.
        """
        ...

    def held(self, document: Document) -> Held:
        """What will be read of a document once it is in this store, and what will be lost of it.

        Pure: the same for the same document, whatever came before, but for what a survey has found (see `Surveys`). A
        document that cannot be held at all has a row that says so in `refused`.
        """
        ...

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Make the store, beside its place, of rows that `held` gave.

        What an earlier call for the same run left unfinished is replaced or completed.
        """
        ...

    def built(self, run: Run) -> Reader:
        """What `build` made, wherever it is by now: beside its place, or published.

        Raises:
            StoreError: It was not built, or not to its end.
        """
        ...

    def published(self, run: Run) -> Published:
        """`new` once it is at its place; `nothing` before."""
        ...

    def publish(self, run: Run) -> None:
        """Let it appear at its place, with the record of the model. Completes a call that was cut off.

        Raises:
            StoreError: It was not built, or something else is at its place by now.
        """
        ...

    def rollback(self, run: Run) -> None:
        """Take it away from its place; it is then built, as before. Completes a call that was cut off."""
        ...

    def discard(self, run: Run) -> None:
        """Delete what is not in use: what was built, unless it is published; otherwise only the traces of the run."""
        ...

    def state(self) -> str:
        """A short text that changes when what a run has put at its place may have changed; empty before that, and after
        `discard`.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@runtime_checkable
class Surveys(Protocol):
    """A target for which what it holds of a document depends on the others."""

    def survey(self, documents: Iterator[Document]) -> None:
        """Look at all documents, before the first of them is asked about by `held`; and again if they have changed."""
        ...
