"""Kinds of FAISS indexes, in the words that FAISS makes them from: which there is, and which can be built instead."""

from typing import Any, Final

from mlx_integrations.errors import MissingExtraError, StoreError
from mlx_integrations.migration.records import Metric

__all__ = [
    "FLAT",
    "METRIC_NUMBERS",
    "choose_factory",
    "empty_index",
    "factory_of",
    "gives_back",
    "is_exact",
    "is_plain_list",
    "least_rows",
    "load_faiss",
]

FLAT: Final = "Flat"
"""What FAISS calls an index that is a plain list."""

METRIC_NUMBERS: Final = {"dot": 0, "euclidean": 1, "manhattan": 2}
"""The ways of comparing that are kept, by FAISS's numbers."""


def choose_factory(
    wanted: str, current: str, dimensions: int, metric: Metric, store: str, count: int | None = None
) -> str:
    """What to make the new index from: what is wanted, or the kind there is, or `Flat` where FAISS makes none of it.

    Args:
        wanted: Another kind; empty for the one there is.
        current: The kind there is.
        dimensions: Of the new vectors.
        metric: How they are compared.
        store: The store, for messages.
        count: Vectors that it can be trained with; as many as it takes if left out.

    Raises:
        StoreError: Another kind is wanted, and FAISS makes none; or it compares in a way that is not kept.
    """
    if metric not in METRIC_NUMBERS:
        message = f"The index of `{store}` compares vectors in a way of FAISS that is not known here, and not kept."
        raise StoreError(message, store=store, hint="Those by inner product, L2 and L1 can be migrated.")
    factory = wanted or current
    fault = "" if factory == FLAT else _fault(factory, dimensions, metric, count)
    if not fault:
        return factory
    if wanted:
        raise StoreError(fault, store=store, hint="Name another kind, such as `Flat`.")
    return FLAT


def _fault(factory: str, dimensions: int, metric: Metric, count: int | None) -> str:
    """Why an index cannot be made; empty if it can."""
    index = empty_index(factory, dimensions, metric)
    if index is None:
        return f"FAISS makes no index of the kind `{factory}` of {dimensions} dimensions."
    if "IDMap" in factory:
        return f"An index of the kind `{factory}` has numbers of its own for vectors, which the store has no use for."
    if not gives_back(index):
        return f"An index of the kind `{factory}` does not give its vectors back, so that nothing can be verified."
    if count is not None and not index.is_trained and count < (least := least_rows(index)):
        return f"FAISS trains an index of the kind `{factory}` with {least:,} vectors or more, and there are {count:,}."
    return ""


def empty_index(factory: str, dimensions: int, metric: Metric) -> Any:
    """An empty index of FAISS; `None` where it cannot make one of so many dimensions."""
    faiss = load_faiss()
    try:
        return faiss.index_factory(dimensions, factory, METRIC_NUMBERS.get(metric, 1))
    except RuntimeError:
        return None


def factory_of(index: Any) -> str:
    """What FAISS would make an index from; the name of its class where nothing is known to make it."""
    from faiss.contrib.factory_tools import reverse_index_factory

    try:
        return str(reverse_index_factory(index))  # type: ignore[no-untyped-call]
    except (NotImplementedError, ValueError, AssertionError):
        return type(index).__name__


def is_exact(factory: str) -> bool:
    """Whether an index that FAISS makes from these words gives vectors back as they were."""
    parts = factory.split(",")
    if parts[-1] == FLAT:
        return all(part.startswith(("IVF", "HNSW")) for part in parts[:-1])
    return len(parts) == 1 and parts[0].startswith("HNSW")


def is_plain_list(factory: str, metric: Metric) -> bool:
    """Whether `write_flat` writes all that there is to an index."""
    return factory == FLAT and metric != "manhattan"


def gives_back(index: Any) -> bool:
    """Whether an index can be asked for its vectors: one kind ends the process then.

    Lists of FAISS 1.15 that are scanned in blocks have no code of a single vector, which is not looked at:
    https://github.com/facebookresearch/faiss/blob/v1.15.1/faiss/invlists/BlockInvertedLists.cpp
    """
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return gives_back(index.index)
    return not isinstance(index, faiss.IndexIVFFastScan)


def least_rows(index: Any) -> int:
    """How many vectors FAISS asks for at least to train an index: as many as there are centres to be found."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    least = [1]
    if isinstance(index, faiss.IndexPreTransform):
        transforms = [faiss.downcast_VectorTransform(index.chain.at(at)) for at in range(index.chain.size())]
        least += [each.d_out for each in transforms if isinstance(each, faiss.PCAMatrix | faiss.ITQTransform)]
        least.append(least_rows(index.index))
    if isinstance(index, faiss.IndexIVF):
        quantizer = faiss.downcast_index(index.quantizer)
        is_product = isinstance(quantizer, faiss.MultiIndexQuantizer)  # which is trained by itself
        least += [least_rows(quantizer), 1 if is_product else index.nlist]
    if isinstance(index, faiss.IndexRefine):
        least += [least_rows(index.base_index), least_rows(index.refine_index)]
    if isinstance(index, faiss.IndexHNSW) and index.storage is not None:
        least.append(least_rows(index.storage))
    least += [1 << getattr(index, name).nbits for name in ("pq", "refine_pq") if hasattr(index, name)]
    return max(least)


def load_faiss() -> Any:
    """The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("This kind of index needs `faiss`.", extra="faiss") from error
    return faiss
