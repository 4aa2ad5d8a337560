"""How stores show that a document is near: what a person has written down as `score_threshold`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mlx_integrations.migration.records import Metric, StoreLocation

__all__ = ["Scale", "scales_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One way in which scores are shown.

    Attributes:
        name: What shows them.
        is_distance: Whether smaller is nearer.
        of: The score of a nearness, as `quality.nearness` gives it.
    """

    name: str
    is_distance: bool
    of: Callable[[float], float]


def _same(near: float) -> float:
    return near


def _minus(near: float) -> float:
    return -near


def _one_minus(near: float) -> float:
    return 1 - near


def _root(near: float) -> float:
    return math.sqrt(max(-near, 0.0))


# `_euclidean_relevance_score_fn` and `_cosine_relevance_score_fn` of langchain_core.vectorstores.VectorStore; what they
# are given as a distance is squared in some stores and not in others. The relevance of a dot product, there, rises and
# falls again, so that no threshold on it can be moved.
def _relevance_of_square(near: float) -> float:
    return 1 + near / math.sqrt(2)


def _relevance_of_root(near: float) -> float:
    return 1 - _root(near) / math.sqrt(2)


# `ChromaVectorStore` of LlamaIndex: exp(-distance).
def _exp_of_square(near: float) -> float:
    return math.exp(near)


def _exp_of_cosine(near: float) -> float:
    return math.exp(near - 1)


_WITH_SCORE: Final = "similarity_search_with_score"
_RETRIEVER: Final = "score_threshold of a retriever"
_SIMILARITY: Final = "similarity of a node"
_DISTANCE: Final = "_distance of a row"


def _near(name: str, of: Callable[[float], float]) -> Scale:
    return Scale(name=name, is_distance=False, of=of)


def _far(name: str, of: Callable[[float], float]) -> Scale:
    return Scale(name=name, is_distance=True, of=of)


# By kind and metric. Which numbers a store shows is tested against the stores' own libraries.
_SCALES: Final[dict[tuple[str, Metric], tuple[Scale, ...]]] = {
    ("langchain-faiss", "euclidean"): (_far(_WITH_SCORE, _minus), _near(_RETRIEVER, _relevance_of_square)),
    ("langchain-faiss", "dot"): (_near(_WITH_SCORE, _same),),
    ("langchain-in-memory", "cosine"): (_near(_WITH_SCORE, _same),),
    ("llama-index-simple", "cosine"): (_near(_SIMILARITY, _same),),
    ("llama-index-faiss", "euclidean"): (_far(_SIMILARITY, _minus),),
    ("llama-index-faiss", "dot"): (_near(_SIMILARITY, _same),),
    ("chroma", "cosine"): (
        _far(_WITH_SCORE, _one_minus),
        _near(_RETRIEVER, _same),
        _near(f"{_SIMILARITY} (LlamaIndex)", _exp_of_cosine),
    ),
    ("chroma", "euclidean"): (
        _far(_WITH_SCORE, _minus),
        _near(_RETRIEVER, _relevance_of_square),
        _near(f"{_SIMILARITY} (LlamaIndex)", _exp_of_square),
    ),
    ("chroma", "dot"): (
        _far(_WITH_SCORE, _one_minus),
        _near(f"{_SIMILARITY} (LlamaIndex)", _exp_of_cosine),
    ),
    ("qdrant", "cosine"): (_near(_WITH_SCORE, _same),),
    ("qdrant", "dot"): (_near(_WITH_SCORE, _same),),
    ("qdrant", "euclidean"): (_far(_WITH_SCORE, _root),),
    ("qdrant", "manhattan"): (_far(_WITH_SCORE, _minus),),
    ("lancedb", "cosine"): (_far(_DISTANCE, _one_minus),),
    ("lancedb", "euclidean"): (_far(_DISTANCE, _minus),),
    ("lancedb", "dot"): (_far(_DISTANCE, _one_minus),),
    ("pgvector", "cosine"): (_far(_WITH_SCORE, _one_minus), _near(_RETRIEVER, _same)),
    ("pgvector", "euclidean"): (_far(_WITH_SCORE, _root), _near(_RETRIEVER, _relevance_of_root)),
    ("pgvector", "dot"): (_far(_WITH_SCORE, _minus),),
}
_OTHERS: Final[dict[Metric, Scale]] = {
    "cosine": _near("cosine", _same),
    "unknown": _near("cosine", _same),
    "dot": _near("dot product", _same),
    "euclidean": _far("distance", _root),
    "manhattan": _far("distance", _minus),
}


def scales_of(location: StoreLocation, metric: Metric) -> tuple[Scale, ...]:
    """How a store shows scores; the first one is what its search gives. A store that is not known shows its metric."""
    return _SCALES.get((location.kind.removesuffix("-server"), metric)) or (_OTHERS[metric],)
