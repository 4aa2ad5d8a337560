"""What can be learnt from the vectors of an index: where their record lies, how many there are, and some of them.

Vector stores are known by the names of their classes and asked through their own attributes: none of their packages is
imported here, so that none has to be installed.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.adapters.store_records import lancedb as lancedb_records
from mlx_integrations.adapters.store_records import qdrant as qdrant_records
from mlx_integrations.adapters.store_records.chroma import (
    collection_name,
    has_record,
    migration_of,
    read_record,
    write_record,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import read_sidecar, sidecar_of, write_sidecar

__all__ = ["IndexKind", "Sample", "kind_of"]

Sample = tuple[str, Sequence[float]]
"""A text, as it was embedded, and its vector."""

_SAMPLES = 3


class IndexKind:
    """Any vector store: the record is a file, and nothing else is known of it.

    Args:
        index: The index.
        path: Where it was loaded from; for a store that keeps itself, where its record lies, or is to lie.

    Attributes:
        is_kept_in_memory: Whether its vectors are on a disk only once the storage context is persisted.
    """

    is_kept_in_memory: ClassVar[bool] = False

    def __init__(self, index: VectorStoreIndex, path: Path | None) -> None:
        self._index = index
        self._path = path

    @property
    def name(self) -> str:
        """What messages call it."""
        kind = type(self._index).__name__.removeprefix("Guarded")
        return f"the {kind}" if self._path is None else f"the {kind} at `{self._path}`"

    def read(self) -> EmbeddingFingerprint | None:
        """The record, if there is one.

        Raises:
            SidecarError: The record is damaged.
        """
        return None if self._path is None else read_sidecar(sidecar_of(self._path))

    def write(self, fingerprint: EmbeddingFingerprint) -> None:
        """Write the record, if there is a place for it."""
        if self._path is not None:
            write_sidecar(sidecar_of(self._path), fingerprint)

    def has_record(self) -> bool:
        """Whether there is a record, damaged or not; asked before every insertion, so it has to be quick."""
        return self._path is not None and sidecar_of(self._path).exists()

    @property
    def migration(self) -> str | None:
        """The command that gives the store another model, up to its name; `None` if it cannot be migrated."""
        return None if self._path is None or not self.is_kept_in_memory else migration_command(self._path)

    def count(self) -> int | None:
        """How many vectors there are; `None` if the store cannot say."""
        return None

    def dimensions(self) -> int | None:
        """Coordinates of the vectors; `None` if the store cannot say."""
        samples = self.samples()
        return len(samples[0][1]) if samples else None

    def samples(self) -> list[Sample]:
        """A few texts with their vectors; none if the store cannot say."""
        return []

    @property
    def _store(self) -> Any:
        return self._index._vector_store

    def _text_of(self, node_id: str) -> str | None:
        node = self._index.docstore.get_node(node_id, raise_error=False)
        return None if node is None else _embedded_text(node)


class _Simple(IndexKind):
    """`SimpleVectorStore` of llama-index-core."""

    is_kept_in_memory = True

    def count(self) -> int | None:
        return len(self._store.data.embedding_dict)

    def dimensions(self) -> int | None:
        return len(next(iter(self._store.data.embedding_dict.values()), ())) or None

    def samples(self) -> list[Sample]:
        pairs = islice(self._store.data.embedding_dict.items(), _SAMPLES)
        return [(text, vector) for node_id, vector in pairs if (text := self._text_of(node_id)) is not None]


class _Faiss(IndexKind):
    """FAISS: the index, or the map beside FAISS, knows which node a vector belongs to."""

    is_kept_in_memory = True

    def count(self) -> int | None:
        return int(self._store.client.ntotal)

    def dimensions(self) -> int | None:
        return int(self._store.client.d)

    def samples(self) -> list[Sample]:
        found: list[Sample] = []
        positions = getattr(self._store, "_faiss_id_to_node_id_map", self._index.index_struct.nodes_dict)
        for position, node_id in islice(positions.items(), _SAMPLES):
            try:
                vector = self._store.client.reconstruct(int(position))
            except RuntimeError:  # an index that keeps no vectors to give back, such as one of inverted lists
                return []
            if (text := self._text_of(node_id)) is not None:
                found.append((text, [float(x) for x in vector]))
        return found


class _Chroma(IndexKind):
    """Chroma: the record is part of the collection's metadata; given a path, it is a file like any other's."""

    @property
    def name(self) -> str:
        return collection_name(self._collection)

    def read(self) -> EmbeddingFingerprint | None:
        return super().read() if self._path is not None else read_record(self._collection)

    def write(self, fingerprint: EmbeddingFingerprint) -> None:
        if self._path is not None:
            return super().write(fingerprint)
        write_record(self._collection, fingerprint)

    def has_record(self) -> bool:
        return super().has_record() if self._path is not None else has_record(self._collection)

    @property
    def migration(self) -> str | None:
        return migration_of(self._collection)

    def count(self) -> int | None:
        return int(self._collection.count())

    def samples(self) -> list[Sample]:
        found = self._collection.get(limit=_SAMPLES, include=["documents", "embeddings", "metadatas"])
        if found["embeddings"] is None:
            return []
        rows = zip(found["documents"] or (), found["embeddings"], found["metadatas"] or (), strict=False)
        return [(_chroma_text(text, metadata), [float(x) for x in vector]) for text, vector, metadata in rows]

    @property
    def _collection(self) -> Any:
        return self._store.client


class _Qdrant(IndexKind):
    """Qdrant: the record is part of the collection's metadata; given a path, it is a file like any other's."""

    _knows_of_record = False

    @property
    def name(self) -> str:
        return qdrant_records.collection_name(self._collection[1])

    def read(self) -> EmbeddingFingerprint | None:
        if self._path is not None:
            return super().read()
        record = qdrant_records.read_record(*self._collection)
        self._knows_of_record = record is not None
        return record

    def write(self, fingerprint: EmbeddingFingerprint) -> None:
        if self._path is not None:
            return super().write(fingerprint)
        # There is no collection before its first node is added; the next addition writes the record then.
        self._knows_of_record = qdrant_records.write_record(*self._collection, fingerprint)

    def has_record(self) -> bool:
        return super().has_record() if self._path is not None else self._knows_of_record

    @property
    def migration(self) -> str | None:
        return qdrant_records.migration_of(*self._collection)

    def count(self) -> int | None:
        return qdrant_records.count_of(*self._collection)

    def dimensions(self) -> int | None:
        return qdrant_records.size_of(*self._collection, self._store.dense_vector_name)

    def samples(self) -> list[Sample]:
        found = qdrant_records.samples_of(*self._collection, self._store.dense_vector_name, _SAMPLES)
        return [(_stored_text(dict(payload), None) or "", vector) for payload, vector in found]

    @property
    def _collection(self) -> tuple[Any, str]:
        return self._store.client, self._store.collection_name


class _LanceDB(IndexKind):
    """LanceDB: the record is part of the metadata of the column of vectors; given a path, it is a file.

    The store keeps the version of its table that it opened, and answers from it: so that is what is looked at. There is
    no table before its first node is added; the next addition writes the record then.
    """

    @property
    def name(self) -> str:
        return lancedb_records.table_name(self._store._table_name)

    def read(self) -> EmbeddingFingerprint | None:
        if self._path is not None:
            return super().read()
        return None if self._table is None else lancedb_records.read_record(self._table, self._vector)

    def write(self, fingerprint: EmbeddingFingerprint) -> None:
        if self._path is not None:
            return super().write(fingerprint)
        if self._table is not None:
            lancedb_records.write_record(self._table, self._vector, fingerprint)

    def has_record(self) -> bool:
        if self._path is not None:
            return super().has_record()
        return self._table is not None and lancedb_records.has_record(self._table, self._vector)

    @property
    def migration(self) -> str | None:
        store = self._store
        return lancedb_records.migration_of(store._connection, store._table_name, self._vector, store.text_key)

    def count(self) -> int | None:
        return 0 if self._table is None else int(self._table.count_rows())

    def dimensions(self) -> int | None:
        return None if self._table is None else lancedb_records.dimensions_of(self._table, self._vector)

    def samples(self) -> list[Sample]:
        if self._table is None:
            return []
        found = lancedb_records.samples_of(self._table, self._vector, self._store.text_key, _SAMPLES)
        # A struct has all keys that occur in any row.
        known = ((text, {key: value for key, value in rest.items() if value is not None}, v) for text, rest, v in found)
        return [(_chroma_text(text, rest), vector) for text, rest, vector in known]

    @property
    def _table(self) -> Any:
        return self._store._table

    @property
    def _vector(self) -> str:
        return str(self._store.vector_column_name)


_KINDS: dict[str, type[IndexKind]] = {
    "SimpleVectorStore": _Simple,
    "FaissVectorStore": _Faiss,
    "FaissMapVectorStore": _Faiss,
    "ChromaVectorStore": _Chroma,
    "QdrantVectorStore": _Qdrant,
    "LanceDBVectorStore": _LanceDB,
}


def kind_of(index: VectorStoreIndex, path: Path | None) -> IndexKind:
    """What is known of the vectors of an index.

    Args:
        index: The index.
        path: Where it was loaded from, or where to keep a record.
    """
    for cls in type(index._vector_store).__mro__:
        if cls.__name__ in _KINDS and cls.__module__.startswith("llama_index."):
            kind = _KINDS[cls.__name__]
            if kind is _Qdrant and index._vector_store.client is None:  # an asynchronous one cannot be asked here
                break
            return kind(index, path)
    return IndexKind(index, path)


def _chroma_text(text: str | None, metadata: dict[str, Any] | None) -> str:
    """A text with what its node's metadata add to it; alone, where another program than LlamaIndex has added it."""
    embedded = _stored_text(metadata or {}, text or "")
    return text or "" if embedded is None else embedded


def _stored_text(metadata: dict[str, Any], text: str | None) -> str | None:
    """What was embedded of a node in a database; `None` if it is none. `text` is its own, if it is not in the node."""
    try:
        return _embedded_text(metadata_dict_to_node(metadata, text=text))
    except ValueError:
        return None


def _embedded_text(node: BaseNode) -> str:
    return node.get_content(metadata_mode=MetadataMode.EMBED)
