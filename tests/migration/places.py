"""Every kind of store that documents are moved from or to, filled and read by its own library."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import chromadb
import psycopg
from langchain_chroma import Chroma
from langchain_community.vectorstores import FAISS, LanceDB
from langchain_core.embeddings import FakeEmbeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_postgres import PGEngine, PGVectorStore
from langchain_qdrant import QdrantVectorStore
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore as LlamaIndexLance
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexQdrantStore
from qdrant_client import QdrantClient, models

from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.llama_index import MLXEmbedding, verify_index
from mlx_integrations.llama_index import guarded as guarded_index
from mlx_integrations.migration.contract import Document
from mlx_integrations.migration.protocol import Source, Target
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.faiss.llama_index import LlamaIndexFaissStore
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.migration.stores.lancedb.store import LanceDBStore
from mlx_integrations.migration.stores.llama_index_simple import LlamaIndexSimpleStore
from mlx_integrations.migration.stores.pgvector.store import PgvectorStore
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.stores.qdrant.layout import FORMER_ID
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
from mlx_integrations.migration.targets.opening import open_target
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.pgvector_tables import asked
from tests.migration.stores import OLD_DIMENSIONS, save_faiss, vectors
from tests.migration.test_lancedb import filled as fill_lancedb
from tests.postgres import make_database

NAME: Final = "notes"
NAMESPACE: Final = UUID("6c1b2f0e-6d0a-4f43-8a3e-5f2b1f1e0c11")
Read = dict[str, tuple[str, Any]]
"""By id, what the framework shows: the text, and the metadata or the whole node."""


def backend() -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)


class Old:
    """An embedding model of LangChain whose vectors are those of the tests, whatever the text."""

    def __init__(self, count: int) -> None:
        self._made = vectors(count, OLD_DIMENSIONS).tolist()

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        made: list[list[float]] = self._made[: len(texts)]
        return made


class Place:
    """A kind of store, in a folder of its own."""

    kind: str
    name: str | None = None
    can_be_made = True

    def at(self, folder: Path) -> Any:
        """What is named to find it."""
        return folder / "store"

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        raise NotImplementedError

    def source(self, folder: Path) -> Source:
        raise NotImplementedError

    def prepare(self, folder: Path) -> None:
        """What has to be there before something is moved there."""

    def is_there(self, folder: Path) -> bool:
        return bool(self.at(folder).exists())

    def target(self, folder: Path) -> Target:
        return open_target(self.at(folder), self.kind, self.name)

    def read(self, folder: Path) -> Read:
        raise NotImplementedError

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        """Ids of the documents that are found for texts with the new model, by a store that its guard accepts."""
        raise NotImplementedError


class _LangChain(Place):
    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        raise NotImplementedError
        yield

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        model = MLXEmbeddings(model="new-model", backend=backend())
        with self.opened(folder, model) as opened:
            store = guarded(opened, path=self.at(folder))
            verify_store(store)
            return [str(store.similarity_search(text, k=1)[0].id) for text in texts]


class LangChainFaiss(_LangChain):
    kind = "langchain-faiss"

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        texts, metadata = [each.text for each in contents], [each.metadata for each in contents]
        save_faiss(self.at(folder), texts, metadata=metadata, ids=[each.id for each in contents])

    def source(self, folder: Path) -> Source:
        return LangChainFaissStore(self.at(folder))

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        yield FAISS.load_local(str(self.at(folder)), model, allow_dangerous_deserialization=True)

    def read(self, folder: Path) -> Read:
        with self.opened(folder, Old(0)) as store:
            assert isinstance(store, FAISS)
            known: Mapping[str, Any] = store.docstore._dict  # type: ignore[attr-defined]
            assert sorted(store.index_to_docstore_id.values()) == sorted(known)
            assert all(own_id == document.id for own_id, document in known.items())
            return {own_id: (document.page_content, document.metadata) for own_id, document in known.items()}


class LangChainInMemory(_LangChain):
    kind = "langchain-in-memory"

    def at(self, folder: Path) -> Path:
        return folder / "store.json"

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        store = InMemoryVectorStore(Old(len(contents)))  # type: ignore[arg-type]
        if contents:
            texts, metadata = [each.text for each in contents], [each.metadata for each in contents]
            store.add_texts(texts, metadata, ids=[each.id for each in contents])
        store.dump(str(self.at(folder)))

    def source(self, folder: Path) -> Source:
        return InMemoryDump(self.at(folder))

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        yield InMemoryVectorStore.load(str(self.at(folder)), model)

    def read(self, folder: Path) -> Read:
        with self.opened(folder, Old(0)) as store:
            assert isinstance(store, InMemoryVectorStore)
            return {own_id: (entry["text"], entry["metadata"]) for own_id, entry in store.store.items()}


@contextmanager
def chroma_at(folder: Path) -> Iterator[Any]:
    client: Any = chromadb.PersistentClient(str(folder))
    try:
        yield client
    finally:
        client.close()


class LangChainChroma(_LangChain):
    kind, name = "chroma", NAME

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        with chroma_at(self.at(folder)) as client:
            collection = client.get_or_create_collection(NAME, embedding_function=None)
            if contents:
                collection.add(
                    ids=[each.id for each in contents],
                    embeddings=vectors(len(contents), OLD_DIMENSIONS),
                    documents=[each.text for each in contents],
                    metadatas=[each.metadata or None for each in contents],
                )

    def source(self, folder: Path) -> Source:
        return ChromaStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        with chroma_at(self.at(folder)) as client:
            yield Chroma(NAME, model, client=client)

    def read(self, folder: Path) -> Read:
        with self.opened(folder, None) as store:
            assert isinstance(store, Chroma)
            found = store.get()
            rows = zip(found["ids"], found["documents"], found["metadatas"], strict=True)
            return {own_id: (text, metadata or {}) for own_id, text, metadata in rows}


def nodes_of(contents: Sequence[Document]) -> list[TextNode]:
    """Nodes with all that they can have: what is embedded is not their text alone."""
    made = vectors(len(contents), OLD_DIMENSIONS).tolist()
    return [
        TextNode(
            id_=each.id,
            text=each.text,
            metadata=each.metadata,
            excluded_embed_metadata_keys=["tags"],
            relationships={
                NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"book-{number % 3}", metadata={"shelf": number % 2}),
                NodeRelationship.NEXT: RelatedNodeInfo(node_id=f"after-{each.id}"),
            },
            start_char_idx=number,
            metadata_template="{key} = {value}",
            embedding=vector,
        )
        for number, (each, vector) in enumerate(zip(contents, made, strict=True))
    ]


def shown(node: Any) -> tuple[str, Any]:
    """A node without its vector."""
    return node.get_content(MetadataMode.EMBED), {**node.to_dict(), "embedding": None}


class _LlamaIndex(Place):
    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStoreIndex]:
        raise NotImplementedError
        yield

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        model = MLXEmbedding(model_name="new-model", backend=backend())
        with self.opened(folder, model) as opened:
            index = guarded_index(opened, path=self.at(folder))
            verify_index(index)
            retriever = index.as_retriever(similarity_top_k=1)
            return [retriever.retrieve(text)[0].node.node_id for text in texts]


class LlamaIndexSimple(_LlamaIndex):
    kind = "llama-index-simple"

    def vector_store(self) -> Any:
        return None

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        storage = StorageContext.from_defaults(vector_store=self.vector_store())
        VectorStoreIndex(
            nodes=nodes_of(contents), storage_context=storage, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS)
        )
        storage.persist(str(self.at(folder)))

    def source(self, folder: Path) -> Source:
        return LlamaIndexSimpleStore(self.at(folder))

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStoreIndex]:
        storage = StorageContext.from_defaults(persist_dir=str(self.at(folder)))
        index = load_index_from_storage(storage, embed_model=model)
        assert isinstance(index, VectorStoreIndex)
        yield index

    def read(self, folder: Path) -> Read:
        found = SimpleDocumentStore.from_persist_dir(str(self.at(folder)))
        return {own_id: shown(node) for own_id, node in found.docs.items()}


class LlamaIndexFaiss(LlamaIndexSimple):
    kind = "llama-index-faiss"
    can_be_made = False

    def vector_store(self) -> Any:
        import faiss

        return FaissVectorStore(faiss.IndexFlatL2(OLD_DIMENSIONS))

    def source(self, folder: Path) -> Source:
        return LlamaIndexFaissStore(self.at(folder))


class LlamaIndexFaissMap(LlamaIndexFaiss):
    def vector_store(self) -> Any:
        import faiss

        return FaissMapVectorStore(faiss.IndexIDMap2(faiss.IndexFlatL2(OLD_DIMENSIONS)))


class LlamaIndexChroma(_LlamaIndex):
    kind, name = "chroma", NAME

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        with chroma_at(self.at(folder)) as client:
            collection = client.get_or_create_collection(NAME)
            nodes = nodes_of(contents)
            for node in nodes:  # flat, as this store wants it
                node.metadata = {
                    key: json.dumps(value) if isinstance(value, list) else value for key, value in node.metadata.items()
                }
            if nodes:
                ChromaVectorStore(chroma_collection=collection).add(nodes)  # type: ignore[arg-type]

    def source(self, folder: Path) -> Source:
        return ChromaStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStoreIndex]:
        with chroma_at(self.at(folder)) as client:
            store = ChromaVectorStore(chroma_collection=client.get_collection(NAME))
            yield VectorStoreIndex.from_vector_store(store, embed_model=model)

    def read(self, folder: Path) -> Read:
        with chroma_at(self.at(folder)) as client:
            nodes = ChromaVectorStore(chroma_collection=client.get_collection(NAME))._get(limit=None, where={}).nodes
            return {node.node_id: shown(node) for node in nodes or ()}


class LangChainLanceDB(_LangChain):
    kind, name = "lancedb", NAME

    def is_there(self, folder: Path) -> bool:
        return bool((self.at(folder) / f"{NAME}.lance").exists())

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        fill_lancedb(self.at(folder), contents)

    def source(self, folder: Path) -> Source:
        return LanceDBStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        yield LanceDB(uri=str(self.at(folder)), embedding=model, table_name=NAME)

    def read(self, folder: Path) -> Read:
        with self.opened(folder, FakeEmbeddings(size=1)) as store:
            assert isinstance(store, LanceDB)
            rows = store.get_table().to_arrow()
            found = zip(rows["id"].to_pylist(), store.results_to_docs(rows), strict=True)
            return {own_id: (each.page_content, each.metadata) for own_id, each in found}

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        model = MLXEmbeddings(model="new-model", backend=backend())
        with self.opened(folder, model) as opened:
            store = guarded(opened)
            verify_store(store)
            own = {each.page_content: own_id for own_id, each in self._documents(folder)}
            return [own[store.similarity_search(text, k=1)[0].page_content] for text in texts]

    def _documents(self, folder: Path) -> list[Any]:
        with self.opened(folder, FakeEmbeddings(size=1)) as store:
            assert isinstance(store, LanceDB)
            rows = store.get_table().to_arrow()
            return list(zip(rows["id"].to_pylist(), store.results_to_docs(rows), strict=True))


class LlamaIndexLanceDB(_LlamaIndex):
    kind, name = "lancedb", NAME

    def is_there(self, folder: Path) -> bool:
        return bool((self.at(folder) / f"{NAME}.lance").exists())

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        store = LlamaIndexLance(str(self.at(folder)), table_name=NAME, flat_metadata=False)
        store.add(nodes_of(contents))  # type: ignore[arg-type]

    def source(self, folder: Path) -> Source:
        return LanceDBStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStoreIndex]:
        store = LlamaIndexLance(str(self.at(folder)), table_name=NAME, mode="append")
        yield VectorStoreIndex.from_vector_store(store, embed_model=model)

    def read(self, folder: Path) -> Read:
        store = LlamaIndexLance(str(self.at(folder)), table_name=NAME, mode="append")
        # Its `get_nodes` writes ids as if they were names of columns, so all are asked for by a search.
        table: Any = store.table
        question = [1.0] * table.schema.field("vector").type.list_size
        found = store.query(VectorStoreQuery(query_embedding=question, similarity_top_k=10_000))
        return {node.node_id: shown(node) for node in found.nodes or ()}


class LangChainPgvector(_LangChain):
    kind, name = "pgvector", NAME

    def at(self, folder: Path) -> Any:
        return make_database(folder / "store")

    def is_there(self, folder: Path) -> bool:
        return bool(asked(self.at(folder), f"SELECT to_regclass('public.{NAME}') IS NOT NULL")[0][0])

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        statement = f"INSERT INTO {NAME} VALUES (%s, %s, %s, %s)"
        with psycopg.connect(self.at(folder), autocommit=True) as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {NAME} (langchain_id text PRIMARY KEY, content text NOT NULL, "
                f"embedding vector({OLD_DIMENSIONS}) NOT NULL, langchain_metadata json)"
            )
            made = vectors(len(contents), OLD_DIMENSIONS).tolist()
            rows = [(e.id, e.text, str(v), json.dumps(e.metadata)) for e, v in zip(contents, made, strict=True)]
            connection.cursor().executemany(statement, rows)

    def source(self, folder: Path) -> Source:
        return PgvectorStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        database = self.at(folder).rpartition("/")[2]
        engine = PGEngine.from_connection_string(self.at(folder).replace("postgresql:", "postgresql+psycopg:"))
        assert database
        try:
            yield PGVectorStore.create_sync(engine, model, NAME)
        finally:
            engine._run_as_sync(engine.close())

    def read(self, folder: Path) -> Read:
        ids = [row[0] for row in asked(self.at(folder), f"SELECT langchain_id FROM {NAME}")]
        with self.opened(folder, FakeEmbeddings(size=1)) as store:
            found = store.get_by_ids(ids) if ids else []
            return {str(each.id): (each.page_content, each.metadata) for each in found}

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        model = MLXEmbeddings(model="new-model", backend=backend())
        with self.opened(folder, model) as opened:
            store = guarded(opened)
            verify_store(store)
            return [str(store.similarity_search(text, k=1)[0].id) for text in texts]


def qdrant_id(own_id: str) -> str:
    return str(uuid5(NAMESPACE, own_id))


@contextmanager
def qdrant_at(place: Any) -> Iterator[QdrantClient]:
    client = QdrantClient(path=str(place)) if isinstance(place, Path) else QdrantClient(url=place)
    try:
        yield client
    finally:
        client.close()


def made_collection(client: QdrantClient) -> None:
    if not client.collection_exists(NAME):
        params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.EUCLID)
        client.create_collection(NAME, vectors_config=params)


class LangChainQdrant(_LangChain):
    """Ids that are none of Qdrant's are kept beside the metadata, as a move does."""

    kind, name = "qdrant", NAME

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        made = vectors(len(contents), OLD_DIMENSIONS).tolist()
        points = [
            models.PointStruct(
                id=qdrant_id(each.id),
                vector=vector,
                payload={"page_content": each.text, "metadata": each.metadata, FORMER_ID: each.id},
            )
            for each, vector in zip(contents, made, strict=True)
        ]
        with qdrant_at(self.at(folder)) as client:
            made_collection(client)
            if points:
                client.upsert(NAME, points)

    def source(self, folder: Path) -> Source:
        return QdrantLocalStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStore]:
        with qdrant_at(self.at(folder)) as client:
            params: Any = client.get_collection(NAME).config.params.vectors
            yield QdrantVectorStore(client, NAME, model, distance=params.distance)

    def read(self, folder: Path) -> Read:
        with qdrant_at(self.at(folder)) as client:
            former = {str(point.id): (point.payload or {})[FORMER_ID] for point in client.scroll(NAME, limit=10_000)[0]}
            store = QdrantVectorStore(client, NAME, validate_embeddings=False, validate_collection_config=False)
            found = {}
            for document in store.get_by_ids(list(former)):
                own = document.metadata.pop("_id")
                assert document.metadata.pop("_collection_name") == NAME
                found[former[own]] = (document.page_content, document.metadata)
            return found

    def search(self, folder: Path, texts: Sequence[str]) -> list[str]:
        model = MLXEmbeddings(model="new-model", backend=backend())
        with self.opened(folder, model) as opened:
            assert isinstance(opened, QdrantVectorStore)
            store = guarded(opened)
            verify_store(store)
            found = [store.similarity_search(text, k=1)[0].metadata["_id"] for text in texts]
            return [(opened.client.retrieve(NAME, [each])[0].payload or {})[FORMER_ID] for each in found]


class LangChainQdrantServer(LangChainQdrant):
    """A collection of a server, whatever the folder.

    Args:
        url: Of the server.
    """

    kind = "qdrant-server"

    def __init__(self, url: str) -> None:
        self._url = url

    def at(self, folder: Path) -> Any:
        return self._url

    def is_there(self, folder: Path) -> bool:
        with qdrant_at(self._url) as client:
            return client.collection_exists(NAME)

    def source(self, folder: Path) -> Source:
        return QdrantServerStore(self._url, NAME)


class LlamaIndexQdrant(_LlamaIndex):
    kind, name = "qdrant", NAME

    def fill(self, folder: Path, contents: Sequence[Document]) -> None:
        with qdrant_at(self.at(folder)) as client:
            made_collection(client)
            points = [
                models.PointStruct(
                    id=qdrant_id(node.node_id),
                    vector=node.get_embedding(),
                    payload=node_to_metadata_dict(node, flat_metadata=False),
                )
                for node in nodes_of(contents)
            ]
            if points:
                client.upsert(NAME, points)

    def source(self, folder: Path) -> Source:
        return QdrantLocalStore(self.at(folder), NAME)

    @contextmanager
    def opened(self, folder: Path, model: Any) -> Iterator[VectorStoreIndex]:
        with qdrant_at(self.at(folder)) as client:
            yield VectorStoreIndex.from_vector_store(LlamaIndexQdrantStore(NAME, client=client), embed_model=model)

    def read(self, folder: Path) -> Read:
        with qdrant_at(self.at(folder)) as client:
            ids = [str(point.id) for point in client.scroll(NAME, limit=10_000)[0]]
            nodes = LlamaIndexQdrantStore(NAME, client=client).get_nodes(ids) if ids else []
            return {node.node_id: shown(node) for node in nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Where documents come from, and where they go."""

    source: Place
    target: Place

    def __str__(self) -> str:
        return f"{type(self.source).__name__}-{type(self.target).__name__}"


FRAMEWORKS: Final[tuple[tuple[Place, ...], ...]] = (
    (
        LangChainFaiss(),
        LangChainInMemory(),
        LangChainChroma(),
        LangChainQdrant(),
        LangChainPgvector(),
        LangChainLanceDB(),
    ),
    (
        LlamaIndexSimple(),
        LlamaIndexFaiss(),
        LlamaIndexFaissMap(),
        LlamaIndexChroma(),
        LlamaIndexQdrant(),
        LlamaIndexLanceDB(),
    ),
)
PAIRS: Final = tuple(
    Pair(source=source, target=target)
    for kinds in FRAMEWORKS
    for source in kinds
    for target in kinds
    if target.can_be_made
)
