"""What can be learnt from collections of Qdrant, as langchain-qdrant opens them."""

from pathlib import Path
from typing import Any

from langchain_core.vectorstores import VectorStore

from mlx_integrations.adapters.store_records.qdrant import (
    collection_name,
    count_of,
    migration_of,
    read_record,
    samples_of,
    size_of,
    write_record,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.store_kinds.base import SAMPLES, Sample, StoreKind

__all__ = ["QdrantCollection"]


class QdrantCollection(StoreKind):
    """Qdrant, of langchain-qdrant: its record is part of the collection's metadata; given a path, it is a file."""

    package = "langchain_qdrant"

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._knows_of_record = False

    def name(self, store: VectorStore) -> str:
        """What messages call it."""
        return collection_name(self._collection(store)[1])

    def read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        """Its record, if it has one."""
        if self.path is not None:
            return super().read(store)
        record = read_record(*self._collection(store))
        self._knows_of_record = record is not None
        return record

    def write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        """Write its record."""
        if self.path is not None:
            return super().write(store, fingerprint)
        self._knows_of_record = write_record(*self._collection(store), fingerprint)

    def has_record(self, store: VectorStore) -> bool:
        """Whether there is a record, as far as is known; asks no server."""
        return super().has_record(store) if self.path is not None else self._knows_of_record

    def migration(self, store: VectorStore) -> str | None:
        """The command that gives it the vectors of another model; `None` for one in memory."""
        return migration_of(*self._collection(store))

    def count(self, store: VectorStore) -> int | None:
        """How many points it has."""
        return count_of(*self._collection(store))

    def dimensions(self, store: VectorStore) -> int | None:
        """Coordinates of its vectors."""
        return size_of(*self._collection(store), self._vector(store))

    def sample(self, store: VectorStore) -> list[Sample]:
        """A few of its texts with their vectors."""
        key = getattr(store, "content_payload_key", "page_content")
        found = samples_of(*self._collection(store), self._vector(store), SAMPLES)
        return [(str(payload.get(key) or ""), vector) for payload, vector in found]

    @staticmethod
    def _collection(store: VectorStore) -> tuple[Any, str]:
        parts: Any = store
        return parts.client, parts.collection_name

    @staticmethod
    def _vector(store: VectorStore) -> str:
        return getattr(store, "vector_name", None) or ""
