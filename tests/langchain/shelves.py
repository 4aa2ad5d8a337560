"""Vector stores of every kind, to be filled, saved and opened again as another program would."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from langchain_chroma import Chroma
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain import MLXEmbeddings, guarded
from mlx_integrations.sidecar import read_sidecar, sidecar_of
from mlx_integrations.testing import FakeEmbeddingBackend

TEXTS = ["The cat sat on the mat.", "Interest rates rose again.", "Bread needs flour, water and time."]
QUESTION = "Has the cat sat on the mat?"
METADATA = [{"page": number} for number in range(3)]


def model(name: str = "minilm", *, seed: int = 0, dimensions: int = 64, **options: Any) -> MLXEmbeddings:
    backend = FakeEmbeddingBackend(model_id=name, seed=seed, dimensions=dimensions, query_prompt="query: ")
    return MLXEmbeddings(model=name, backend=backend, **options)


class Shelf:
    """A place for a store of one kind: makes one, and opens it again as another program would."""

    has_samples = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"

    def new(self, embeddings: Embeddings) -> VectorStore:
        raise NotImplementedError

    def save(self, store: VectorStore) -> None:
        """Nothing, for a store that is always on the disk."""

    def open(self, embeddings: Embeddings) -> VectorStore:
        raise NotImplementedError

    def guard(self, store: VectorStore, **options: Any) -> VectorStore:
        return guarded(store, path=self.folder, **options)

    def record(self) -> EmbeddingFingerprint | None:
        return read_sidecar(sidecar_of(self.folder))

    def damage(self) -> None:
        sidecar_of(self.folder).write_text("{")

    def files(self) -> dict[str, bytes]:
        """Everything that is on the disk."""
        return {str(path): path.read_bytes() for path in sorted(self.folder.parent.rglob("*")) if path.is_file()}


class FaissShelf(Shelf):
    def new(self, embeddings: Embeddings) -> FAISS:
        return FAISS.from_texts(TEXTS, embeddings, METADATA)

    def save(self, store: VectorStore) -> None:
        assert isinstance(store, FAISS)
        store.save_local(str(self.folder))

    def open(self, embeddings: Embeddings) -> FAISS:
        return FAISS.load_local(str(self.folder), embeddings, allow_dangerous_deserialization=True)


class MemoryShelf(Shelf):
    def new(self, embeddings: Embeddings) -> InMemoryVectorStore:
        return InMemoryVectorStore.from_texts(TEXTS, embeddings, METADATA)

    def save(self, store: VectorStore) -> None:
        assert isinstance(store, InMemoryVectorStore)
        store.dump(str(self.folder))

    def open(self, embeddings: Embeddings) -> InMemoryVectorStore:
        return InMemoryVectorStore.load(str(self.folder), embeddings)


class ChromaShelf(Shelf):
    def new(self, embeddings: Embeddings) -> Chroma:
        store = self.open(embeddings)
        store.add_texts(TEXTS, METADATA)
        return store

    def open(self, embeddings: Embeddings) -> Chroma:
        metadata = {"hnsw:space": "cosine", "owner": "me"}
        return Chroma("notes", embeddings, persist_directory=str(self.folder), collection_metadata=metadata)

    def guard(self, store: VectorStore, **options: Any) -> VectorStore:
        return guarded(store, **options)

    def metadata(self) -> dict[str, Any]:
        return dict(self.open(model())._collection.metadata or {})

    def record(self) -> EmbeddingFingerprint | None:
        text = self.metadata().get("mlxi_embedding")
        return None if text is None else EmbeddingFingerprint.from_dict(json.loads(text)["embedding"])

    def damage(self) -> None:
        self.open(model())._collection.modify(metadata={"mlxi_embedding": "{"})


class OtherStore(VectorStore):
    """A store of a kind that nobody knows, as a server of its own would be."""

    def __init__(self, embeddings: Embeddings | None, rows: list[tuple[str, list[float]]]) -> None:
        self._own = embeddings
        self.rows = rows

    @property
    def embeddings(self) -> Embeddings | None:
        return self._own

    def add_texts(self, texts: Iterable[str], metadatas: Any = None, *, ids: Any = None, **kwargs: Any) -> list[str]:
        assert self._own is not None
        texts = list(texts)
        self.rows += zip(texts, self._own.embed_documents(texts), strict=True)
        return [str(number) for number in range(len(texts))]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        assert self._own is not None
        vector = self._own.embed_query(query)
        rows = sorted(self.rows, key=lambda row: -sum(a * b for a, b in zip(row[1], vector, strict=True)))
        return [Document(text) for text, _ in rows[:k]]

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Embeddings, metadatas: Any = None, **kwargs: Any) -> "OtherStore":
        raise NotImplementedError("tests make it themselves")


class OtherShelf(Shelf):
    has_samples = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: list[tuple[str, list[float]]] = []

    def new(self, embeddings: Embeddings) -> OtherStore:
        store = self.open(embeddings)
        store.add_texts(TEXTS)
        return store

    def open(self, embeddings: Embeddings) -> OtherStore:
        return OtherStore(embeddings, self.rows)

    def files(self) -> dict[str, bytes]:
        return {**super().files(), "rows": repr(self.rows).encode()}


SHELVES: dict[str, type[Shelf]] = {
    "faiss": FaissShelf,
    "memory": MemoryShelf,
    "chroma": ChromaShelf,
    "other": OtherShelf,
}
