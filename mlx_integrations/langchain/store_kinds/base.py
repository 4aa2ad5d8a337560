"""What every vector store is asked; a store of an unknown kind answers little of it, and keeps its record in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from langchain_core.vectorstores import VectorStore

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import read_sidecar, sidecar_of, write_sidecar

__all__ = ["SAMPLES", "Sample", "StoreKind"]

Sample = tuple[str, Sequence[float]]
"""A text of a store and its vector."""

SAMPLES = 3
"""Rows of a store that are compared."""


class StoreKind:
    """Any store: its record is a file, and nothing else is known of it.

    Args:
        path: Where the store lies, or is to lie.

    Attributes:
        package: With what the name of its module begins.
        saving: The method that writes the store to a disk, if it is kept in memory until then.
        loses_record: Whether adding may make the store anew, without its record.
    """

    package: ClassVar[str] = "langchain_"
    saving: ClassVar[str | None] = None
    loses_record: ClassVar[bool] = False

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def name(self, store: VectorStore) -> str:
        """What messages call it."""
        kind = type(store).__name__.removeprefix("Guarded").removesuffix("Store").removesuffix("Vector")
        return f"the {kind} store" if self.path is None else f"the {kind} store at `{self.path}`"

    def sidecar(self) -> Path | None:
        """The file of its record; `None` as long as it has no place."""
        return None if self.path is None else sidecar_of(self.path)

    def read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        """Its record, if it has one.

        Raises:
            SidecarError: The record is damaged.
        """
        sidecar = self.sidecar()
        return None if sidecar is None else read_sidecar(sidecar)

    def write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        """Write its record."""
        sidecar = self.sidecar()
        if sidecar is not None:
            write_sidecar(sidecar, fingerprint)

    def has_record(self, store: VectorStore) -> bool:
        """Whether there is a record, damaged or not; asked before every addition, so it has to be quick."""
        sidecar = self.sidecar()
        return sidecar is not None and sidecar.exists()

    def saved_at(self, arguments: Mapping[str, Any]) -> Path:
        """The place that a call of the `saving` method names."""
        raise NotImplementedError(f"{type(self).__name__} has no method that saves")

    def migration(self, store: VectorStore) -> str | None:
        """The command that gives it the vectors of another model, where there is one for its kind and place."""
        return None

    def count(self, store: VectorStore) -> int | None:
        """How many vectors it has; `None` if it cannot say."""
        return None

    def dimensions(self, store: VectorStore) -> int | None:
        """Coordinates of its vectors; `None` if it cannot say."""
        sample = self.sample(store)
        return len(sample[0][1]) if sample else None

    def sample(self, store: VectorStore) -> list[Sample]:
        """A few of its texts with their vectors; none if it cannot say."""
        return []
