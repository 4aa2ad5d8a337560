"""Stores of a few documents, as their own libraries write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_integrations.migration.contract import (
    NEW_DIMENSIONS,
    OLD_DIMENSIONS,
    contents_of,
    documents,
    executor,
    metadatas,
    texts,
    vectors,
)

if TYPE_CHECKING:  # a type only: most stores have none
    from llama_index.core.schema import TextNode

__all__ = [
    "NEW_DIMENSIONS",
    "OLD_DIMENSIONS",
    "contents_of",
    "executor",
    "flat_nodes",
    "metadatas",
    "save_faiss",
    "texts",
    "vectors",
]


def flat_nodes(count: int, ids: Sequence[str] | None = None) -> "list[TextNode]":
    """Nodes of LlamaIndex with metadata as every database holds them, of which only a part is embedded."""
    from llama_index.core.schema import TextNode

    contents = documents(count)
    made = zip(ids or [each.id for each in contents], contents, vectors(count, OLD_DIMENSIONS).tolist(), strict=True)
    return [
        TextNode(
            id_=node_id,
            text=each.text,
            metadata={"source": each.metadata["source"], "page": each.metadata["page"]},
            excluded_embed_metadata_keys=["page"],
            embedding=vector,
        )
        for node_id, each, vector in made
    ]


def save_faiss(
    folder: Path,
    contents: Sequence[str],
    *,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    ids: Sequence[str] | None = None,
    factory: str = "Flat",
    dimensions: int = OLD_DIMENSIONS,
) -> Path:
    """A folder as `FAISS.save_local` of LangChain writes it."""
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    index = faiss.index_factory(dimensions, factory)
    made = vectors(len(contents), dimensions)
    if not index.is_trained:
        index.train(made)
    store = FAISS(DeterministicFakeEmbedding(size=dimensions), index, InMemoryDocstore(), {})
    pairs = list(zip(contents, made.tolist(), strict=True))
    keys = list(ids or (f"doc-{number:05d}" for number in range(len(contents))))
    if pairs:
        store.add_embeddings(pairs, [dict(each) for each in metadata or metadatas(len(contents))], ids=keys)
    store.save_local(str(folder))
    return folder
