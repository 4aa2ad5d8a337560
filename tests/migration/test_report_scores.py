"""The scores of a report are those that the stores' own libraries show."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from mlx_integrations.migration.records import Metric, StoreLocation
from mlx_integrations.migration.report.quality import nearness
from mlx_integrations.migration.report.scores import scales_of
from tests.postgres import database_of, make_database, url_of

TEXTS = ["ace", "king", "queen", "jack"]
VECTORS: dict[str, list[float]] = {
    "ace": [0.9, 0.1, 0.3], "king": [0.2, 0.8, 0.1], "queen": [-0.5, 0.4, 0.6], "jack": [0.1, -0.7, 0.2],
    "question": [0.7, 0.3, 0.2],
}  # fmt: skip


class Known(Embeddings):
    """Vectors that are given."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [VECTORS[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return VECTORS[text]


def array(*texts: str) -> NDArray[np.float32]:
    return np.array([VECTORS[text] for text in texts], np.float32)


def expected(kind: str, metric: Metric, scale: int = 0) -> dict[str, float]:
    """What a scale makes of each text."""
    chosen = scales_of(StoreLocation(kind=kind, address=""), metric)[scale]
    near = nearness(array("question"), array(*TEXTS), metric)[0]
    return {text: chosen.of(float(value)) for text, value in zip(TEXTS, near, strict=True)}


def shown(pairs: list[tuple[Any, float]]) -> dict[str, float]:
    return {document.page_content: float(score) for document, score in pairs}


def same(found: dict[str, float], made: dict[str, float]) -> bool:
    return found == pytest.approx(made, abs=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_langchain_faiss(metric: Metric) -> None:
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS

    index = faiss.IndexFlatL2(3) if metric == "euclidean" else faiss.IndexFlatIP(3)
    store = FAISS(Known(), index, InMemoryDocstore(), {})
    store.add_texts(TEXTS)
    assert same(shown(store.similarity_search_with_score("question")), expected("langchain-faiss", metric))
    if metric == "euclidean":
        found = shown(store.similarity_search_with_relevance_scores("question"))
        assert same(found, expected("langchain-faiss", metric, 1))


def test_langchain_in_memory() -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore(Known())
    store.add_texts(TEXTS)
    assert same(shown(store.similarity_search_with_score("question")), expected("langchain-in-memory", "cosine"))


@pytest.mark.parametrize(("metric", "space"), [("cosine", "cosine"), ("euclidean", "l2"), ("dot", "ip")])
def test_chroma(tmp_path: Path, metric: Metric, space: str) -> None:
    import chromadb
    from langchain_chroma import Chroma
    from llama_index.core.vector_stores import VectorStoreQuery
    from llama_index.vector_stores.chroma import ChromaVectorStore

    client = chromadb.PersistentClient(str(tmp_path))
    configuration: Any = {"hnsw": {"space": space}}
    store = Chroma("notes", Known(), client=client, collection_configuration=configuration)
    store.add_texts(TEXTS, ids=TEXTS, metadatas=[{"page": 1}] * len(TEXTS))
    assert same(shown(store.similarity_search_with_score("question")), expected("chroma", metric))
    if metric != "dot":
        found = shown(store.similarity_search_with_relevance_scores("question"))
        assert same(found, expected("chroma", metric, 1))
    own = ChromaVectorStore(chroma_collection=client.get_collection("notes", embedding_function=None))
    result = own.query(VectorStoreQuery(query_embedding=VECTORS["question"], similarity_top_k=4))
    found = dict(zip(result.ids or [], result.similarities or [], strict=True))
    assert same(found, expected("chroma", metric, -1))


def test_llama_index_simple() -> None:
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery

    store = SimpleVectorStore()
    store.add([TextNode(id_=text, text=text, embedding=VECTORS[text]) for text in TEXTS])
    result = store.query(VectorStoreQuery(query_embedding=VECTORS["question"], similarity_top_k=4))
    found = dict(zip(result.ids or [], result.similarities or [], strict=True))
    assert same(found, expected("llama-index-simple", "cosine"))


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_llama_index_faiss(metric: Metric) -> None:
    import faiss
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import VectorStoreQuery
    from llama_index.vector_stores.faiss import FaissVectorStore

    store = FaissVectorStore(faiss.IndexFlatL2(3) if metric == "euclidean" else faiss.IndexFlatIP(3))
    store.add([TextNode(id_=text, text=text, embedding=VECTORS[text]) for text in TEXTS])
    result = store.query(VectorStoreQuery(query_embedding=VECTORS["question"], similarity_top_k=4))
    pairs = zip(result.ids or [], result.similarities or [], strict=True)
    assert same({TEXTS[int(number)]: score for number, score in pairs}, expected("llama-index-faiss", metric))


@pytest.mark.parametrize(
    ("metric", "name"), [("cosine", "COSINE"), ("dot", "DOT"), ("euclidean", "EUCLID"), ("manhattan", "MANHATTAN")]
)
@pytest.mark.parametrize("kind", ["qdrant", "qdrant-server"])
def test_qdrant(metric: Metric, name: str, kind: str) -> None:
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    distance = models.Distance[name]
    client.create_collection("notes", vectors_config=models.VectorParams(size=3, distance=distance))
    store = QdrantVectorStore(client, "notes", Known(), distance=distance, validate_collection_config=False)
    store.add_texts(TEXTS)
    assert same(shown(store.similarity_search_with_score("question")), expected(kind, metric))
    client.close()


@pytest.mark.parametrize(("metric", "name"), [("cosine", "cosine"), ("dot", "dot"), ("euclidean", "l2")])
def test_lancedb(tmp_path: Path, metric: Metric, name: str) -> None:
    import lancedb

    rows = [{"text": text, "vector": VECTORS[text]} for text in TEXTS]
    table = lancedb.connect(tmp_path).create_table("notes", rows)
    query: Any = table.search(VECTORS["question"])
    found = {row["text"]: row["_distance"] for row in query.distance_type(name).limit(4).to_list()}
    assert same(found, expected("lancedb", metric))


@pytest.mark.parametrize(
    ("metric", "name"), [("cosine", "COSINE"), ("dot", "MAX_INNER_PRODUCT"), ("euclidean", "EUCLIDEAN")]
)
def test_pgvector(tmp_path: Path, metric: Metric, name: str) -> None:
    from langchain_postgres.vectorstores import DistanceStrategy, PGVector

    make_database(tmp_path)
    engine = sqlalchemy.create_engine(url_of(database_of(tmp_path), driver="+psycopg"))
    store = PGVector(Known(), connection=engine, distance_strategy=DistanceStrategy[name])
    store.add_texts(TEXTS)
    assert same(shown(store.similarity_search_with_score("question")), expected("pgvector", metric))
    if metric != "dot":
        found = shown(store.similarity_search_with_relevance_scores("question"))
        assert same(found, expected("pgvector", metric, 1))
    engine.dispose()


def test_stores_of_other_kinds_show_their_metric() -> None:
    metrics: tuple[Metric, ...] = ("cosine", "unknown", "dot", "euclidean", "manhattan")
    location = StoreLocation(kind="of-another-package", address="")
    names = [(scale.name, scale.is_distance) for metric in metrics for scale in scales_of(location, metric)]
    assert names == [
        ("cosine", False), ("cosine", False), ("dot product", False), ("distance", True), ("distance", True),
    ]  # fmt: skip
    assert scales_of(location, "euclidean")[0].of(-4.0) == 2.0


@pytest.mark.parametrize("kind", ["langchain-faiss", "chroma", "qdrant", "lancedb", "pgvector", "llama-index-faiss"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
def test_what_is_nearer_is_nearer_on_every_scale(kind: str, metric: Metric) -> None:
    for scale in scales_of(StoreLocation(kind=kind, address=""), metric):
        values = [scale.of(near) for near in (-0.9, -0.5, -0.1, 0.0)]
        assert all(math.isfinite(value) for value in values)
        assert values == sorted(values, reverse=scale.is_distance)
        assert len(set(values)) == 4
