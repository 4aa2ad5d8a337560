"""What a store has to offer to be migrated. Yours can be one: implement `Store`, and run the contract tests on it.

A migration leaves a store as it is until it is published: the new vectors are built beside the old ones, under a name
that the run's id makes unique. Whatever is cut off is called again with the same run, so each of `build`, `publish`,
`rollback` and `discard` starts from what it finds in the store, never from what it remembers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.records import Metric, Row, StoreInfo, StoreLocation

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedded", "KeepsOld", "Published", "Reader", "Run", "Store"]

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
        """A short text that changes when the contents may have changed; cheap."""
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
