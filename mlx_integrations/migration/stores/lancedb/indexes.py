"""The indexes of a table of LanceDB: what they are, and how they are made again for other vectors.

LanceDB tells the settings of an index, but not into how many partitions it divides the vectors; a search tells that.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.stores.lancedb.table import LanceTable, told

__all__ = ["NO_INDEX", "Index", "index_for", "index_of_vectors", "indexes_of", "make_index"]

NO_INDEX: Final = "none"
"""What a table is asked for that is to have no index of its vectors."""

_ANOTHER: Final = (
    "Ask for another one with `--index`, such as `IVF_FLAT` or `none`, and `--restart`. The table is as it was."
)
_VECTORS: Final = {
    "IVFFLAT": ("IVF_FLAT", "IvfFlat"),
    "IVFSQ": ("IVF_SQ", "IvfSq"),
    "IVFPQ": ("IVF_PQ", "IvfPq"),
    "IVFRQ": ("IVF_RQ", "IvfRq"),
    "IVFHNSWFLAT": ("IVF_HNSW_FLAT", "HnswFlat"),
    "IVFHNSWSQ": ("IVF_HNSW_SQ", "HnswSq"),
    "IVFHNSWPQ": ("IVF_HNSW_PQ", "HnswPq"),
}
_OTHERS: Final = {"BTREE": "BTree", "BITMAP": "Bitmap", "LABELLIST": "LabelList", "FTS": "FTS", "FM": "Fm"}
_METRICS: Final[dict[str, Metric]] = {"l2": "euclidean", "cosine": "cosine", "dot": "dot"}
_DISTANCES: Final = {metric: name for name, metric in _METRICS.items()}
_TEXT_SETTINGS: Final = {"min_ngram_length": "ngram_min_length", "max_ngram_length": "ngram_max_length"}
_SAME_TEXT_SETTINGS: Final = (
    "with_position base_tokenizer language max_token_length lower_case stem remove_stop_words ascii_folding "
    "prefix_only block_size custom_stop_words"
).split()
_PARTITIONS: Final = re.compile(r"partitions_ranked=(\d+)")
_DELTAS: Final = re.compile(r"\bdeltas=(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index of a table.

    Attributes:
        name: Its own.
        kind: In LanceDB's words, such as `IVF_PQ` or `BTree`.
        column: What it is of.
        is_of_vectors: Whether it finds what is near.
        metric: How it compares vectors.
        settings: Everything else, as LanceDB tells it.
        can_be_made: Whether LanceDB's own package can make such an index.
    """

    name: str
    kind: str
    column: str
    is_of_vectors: bool
    metric: Metric
    settings: Mapping[str, Any] = field(default_factory=dict)
    can_be_made: bool = True


def indexes_of(table: LanceTable) -> list[Index]:
    """The indexes of a table."""
    with told(table.store):
        return [_index(table, each) for each in table.handle.list_indices()]


def _index(table: LanceTable, config: Any) -> Index:
    key = str(config.index_type).upper().replace("_", "")
    settings = dict(getattr(config, "index_details", None) or {})
    found = table.handle.index_stats(config.name)
    distance = getattr(found, "distance_type", None)
    kind, _ = _VECTORS.get(key, (_OTHERS.get(key, str(config.index_type)), ""))
    return Index(
        name=config.name,
        kind=kind,
        column=config.columns[0],
        is_of_vectors=distance is not None,
        metric=_METRICS.get(str(distance).lower(), "unknown"),
        settings=settings,
        can_be_made=len(config.columns) == 1 and (key in _VECTORS or key in _OTHERS),
    )


def index_of_vectors(table: LanceTable) -> Index | None:
    """The index of its vectors, if it has one."""
    found = (each for each in indexes_of(table) if each.is_of_vectors and each.column == table.columns.vector)
    return next(found, None)


def index_for(found: Index | None, asked: str) -> str:
    """The kind of index of the vectors that a table gets.

    Args:
        found: The one that it has.
        asked: What was asked for; empty for the one that it has.

    Raises:
        StoreError: There is no such kind.
    """
    if not asked:
        return NO_INDEX if found is None or not found.can_be_made else found.kind
    key = asked.upper().replace("_", "")
    if asked.lower() != NO_INDEX and key not in _VECTORS:
        names = ", ".join(kind for kind, _ in _VECTORS.values())
        raise StoreError(f"LanceDB has no index `{asked}`.", store="", hint=f"It has {names}, or `{NO_INDEX}`.")
    return NO_INDEX if asked.lower() == NO_INDEX else _VECTORS[key][0]


def make_index(made: Any, old: LanceTable, index: Index, *, kind: str = "", metric: Metric | None = None) -> None:
    """Make an index of a table as another table has it.

    Args:
        made: A handle of the table that gets it.
        old: The table that has it.
        index: Which one, or what it would be called.
        kind: Another kind for vectors, with the settings that LanceDB chooses; empty for the same.
        metric: How that compares vectors.

    Raises:
        StoreError: LanceDB cannot make it.
    """
    import lancedb.index

    if index.is_of_vectors:
        name, settings = _of_vectors(made, old, index, kind, metric)
    else:
        name, settings = index.kind, _of_text(index.settings) if index.kind == "FTS" else {}
    config = getattr(lancedb.index, name)
    with told(old.store, hint=_ANOTHER), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.create_index(index.column, config=config(**settings), name=index.name, replace=True)


def _of_vectors(
    made: Any, old: LanceTable, index: Index, kind: str, metric: Metric | None
) -> tuple[str, dict[str, Any]]:
    key = (kind or index.kind).upper().replace("_", "")
    distance = _DISTANCES.get(metric or index.metric, "l2")
    if kind and kind != index.kind:
        return _VECTORS[key][1], {"distance_type": distance}
    size = int(made.schema.field(index.column).type.list_size)
    return _VECTORS[key][1], {"distance_type": distance, **dict(_settings(old, index, size))}


def _settings(old: LanceTable, index: Index, dimensions: int) -> Iterator[tuple[str, Any]]:
    """What an index was made with, as its configuration is called; left out is what LanceDB then chooses."""
    told_of, compression = index.settings, index.settings.get("compression") or {}
    hints, graph = told_of.get("runtime_hints") or {}, told_of.get("hnsw") or {}
    if told_of.get("target_partition_size"):
        yield "target_partition_size", int(told_of["target_partition_size"])
    elif (partitions := _partitions(old, index)) is not None:
        yield "num_partitions", partitions
    if compression.get("type") in ("pq", "rq"):
        yield "num_bits", int(compression["num_bits"])
    parts = compression.get("num_sub_vectors")
    if parts and dimensions % int(parts) == 0:
        yield "num_sub_vectors", int(parts)
    for name, hint in (("max_iterations", "lance.ivf.max_iters"), ("sample_rate", "lance.ivf.sample_rate")):
        if hint in hints:
            yield name, int(hints[hint])
    for name, setting in (("m", "max_connections"), ("ef_construction", "construction_ef")):
        if setting in graph:
            yield name, int(graph[setting])


def _partitions(old: LanceTable, index: Index) -> int | None:
    """Into how many parts an index divides the vectors, by what a search says that it has looked at."""
    size = int(old.schema.field(index.column).type.list_size)
    with told(old.store):
        query = old.handle.search([1.0] * size, vector_column_name=index.column).nprobes(1).limit(1)
        plan = str(query.distance_type(_DISTANCES.get(index.metric, "l2")).analyze_plan())
    ranked, deltas = _PARTITIONS.search(plan), _DELTAS.search(plan)
    if ranked is None or int(ranked[1]) == 0:
        return None
    return max(1, int(ranked[1]) // (int(deltas[1]) if deltas else 1))


def _of_text(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {**_TEXT_SETTINGS, **{name: name for name in _SAME_TEXT_SETTINGS}}
    return {names[name]: value for name, value in settings.items() if name in names}
