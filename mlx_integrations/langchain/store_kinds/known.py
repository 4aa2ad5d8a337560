"""What can be learnt from a vector store: where its record lies, how many vectors it has, and some of them.

Stores are known by the names of their classes and asked through their own attributes: none of their packages is
imported here, so that none has to be installed.
"""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_core.vectorstores import VectorStore

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.adapters.store_records.chroma import (
    collection_name,
    has_record,
    migration_of,
    read_record,
    write_record,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.errors import InvalidRequestError
from mlx_integrations.langchain.store_kinds.base import SAMPLES, Sample, StoreKind
from mlx_integrations.langchain.store_kinds.lancedb import LanceDBTable
from mlx_integrations.langchain.store_kinds.pgvector import PgvectorCollection, PgvectorTable
from mlx_integrations.langchain.store_kinds.qdrant import QdrantCollection
from mlx_integrations.sidecar import place_of, sidecar_of

__all__ = ["SAVING", "Sample", "StoreKind", "kind_of"]


class _Faiss(StoreKind):
    """FAISS of LangChain: in memory until `save_local` writes two files into a folder.

    The folder's record is that of the index called `index`. An index of another name is `<folder>/<name>.faiss`, and
    has a record of its own beside it.
    """

    saving = "save_local"

    def sidecar(self) -> Path | None:
        return None if self.path is None else sidecar_of(self.path, is_file=self.path.suffix == ".faiss")

    def migration(self, store: VectorStore) -> str | None:
        if self.path is None:
            return None
        if self.path.suffix != ".faiss":
            return migration_command(self.path)
        return migration_command(self.path.parent, self.path.stem)

    def saved_at(self, arguments: Mapping[str, Any]) -> Path:
        folder, index = Path(arguments["folder_path"]), arguments.get("index_name", "index")
        return folder if index == "index" else folder / f"{index}.faiss"

    def count(self, store: VectorStore) -> int | None:
        index: Any = vars(store)["index"]
        return int(index.ntotal)

    def dimensions(self, store: VectorStore) -> int | None:
        index: Any = vars(store)["index"]
        return int(index.d)

    def sample(self, store: VectorStore) -> list[Sample]:
        parts = vars(store)
        found: list[Sample] = []
        for position, key in islice(parts["index_to_docstore_id"].items(), SAMPLES):
            document = parts["docstore"].search(key)
            try:
                vector = parts["index"].reconstruct(position)
            except RuntimeError:  # an index that keeps no vectors to give back, such as one of inverted lists
                return []
            found.append((getattr(document, "page_content", ""), [float(x) for x in vector]))
        return found


class _InMemory(StoreKind):
    """`InMemoryVectorStore` of langchain-core: in memory until `dump` writes one file."""

    saving = "dump"

    def sidecar(self) -> Path | None:
        return None if self.path is None else sidecar_of(self.path, is_file=True)

    def saved_at(self, arguments: Mapping[str, Any]) -> Path:
        return Path(arguments["path"])

    def migration(self, store: VectorStore) -> str | None:
        return None if self.path is None else migration_command(self.path)

    def count(self, store: VectorStore) -> int | None:
        return len(vars(store)["store"])

    def sample(self, store: VectorStore) -> list[Sample]:
        return [(entry["text"], entry["vector"]) for entry in islice(vars(store)["store"].values(), SAMPLES)]


class _Chroma(StoreKind):
    """Chroma, of langchain-chroma or the community.

    Its record is part of the collection's metadata; given a path, it is a file like any other's.
    """

    def name(self, store: VectorStore) -> str:
        return collection_name(self._collection(store))

    def read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        if self.path is not None:
            return super().read(store)
        return read_record(self._collection(store))

    def write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        if self.path is not None:
            return super().write(store, fingerprint)
        write_record(self._collection(store), fingerprint)

    def has_record(self, store: VectorStore) -> bool:
        return super().has_record(store) if self.path is not None else has_record(self._collection(store))

    def migration(self, store: VectorStore) -> str | None:
        return migration_of(self._collection(store))

    def count(self, store: VectorStore) -> int | None:
        return int(self._collection(store).count())

    def sample(self, store: VectorStore) -> list[Sample]:
        found = self._collection(store).get(limit=SAMPLES, include=["documents", "embeddings"])
        if found["embeddings"] is None:
            return []
        texts = found["documents"] or [""] * len(found["ids"])
        pairs = zip(texts, found["embeddings"], strict=True)
        return [(text or "", [float(x) for x in vector]) for text, vector in pairs]

    @staticmethod
    def _collection(store: VectorStore) -> Any:
        return getattr(store, "_collection")  # noqa: B009 -- it is private, and not part of the base class


_KINDS: dict[str, type[StoreKind]] = {
    "FAISS": _Faiss,
    "InMemoryVectorStore": _InMemory,
    "Chroma": _Chroma,
    "LanceDB": LanceDBTable,
    "QdrantVectorStore": QdrantCollection,
    "PGVector": PgvectorCollection,
    "PGVectorStore": PgvectorTable,
}

SAVING = frozenset(kind.saving for kind in _KINDS.values() if kind.saving)
"""Methods that write a store to a disk."""


def kind_of(store: VectorStore, path: str | Path | None) -> StoreKind:
    """What is known of a store.

    Args:
        store: The store.
        path: Where it lies.

    Raises:
        InvalidRequestError: It is a store of an unknown kind, and there is no path to keep a record at; or the path is
            the address of a server.
    """
    place = place_of(path)
    for cls in type(store).__mro__:
        kind = _KINDS.get(cls.__name__)
        if kind is not None and cls.__module__.startswith(kind.package):
            return kind(place)
    if place is None:
        raise InvalidRequestError(
            f"It is not known where a `{type(store).__name__}` could keep the name of its model.",
            field="path",
            hint='Give a path for a small file: `guarded(store, path="my-store")`.',
        )
    return StoreKind(place)
