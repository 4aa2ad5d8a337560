"""What is known of a large store without reading it: its header, its first vector, its settings.

How many texts are missing or which ids occur twice is not known then, and is said to be so.
"""

import json
import sqlite3
import struct
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlx_integrations.adapters.store_records.chroma import record_in
from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.finding.places import Place
from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.stores.chroma.file import ChromaFile
from mlx_integrations.migration.stores.json_reader import JsonCursor, JsonFile
from mlx_integrations.migration.stores.qdrant.layout import METRICS, split_name
from mlx_integrations.sidecar import read_sidecar, sidecar_of

__all__ = ["Glimpse", "glimpse"]

# Four letters, dimensions, vectors, two numbers that mean nothing, is_trained, metric.
# https://github.com/facebookresearch/faiss/blob/main/faiss/impl/index_write.cpp
_FAISS_HEADER: Final = struct.Struct("<4siqqqBi")
_FAISS_KINDS: Final = {
    b"IxF2": "Flat",
    b"IxFI": "Flat",
    b"IHNf": "HNSW",
    b"IHNp": "HNSW,PQ",
    b"IHNs": "HNSW,SQ",
    b"IwFl": "IVF,Flat",
    b"IwPQ": "IVF,PQ",
    b"IwSq": "IVF,SQ",
    b"IxPq": "PQ",
    b"IxSQ": "SQ",
}
_FAISS_METRICS: Final[dict[int, Metric]] = {0: "dot", 1: "euclidean", 2: "manhattan"}
_MOST_DIMENSIONS: Final = 1 << 20
_TEXTS: Final = ("missing texts",)
_IDS: Final = ("duplicate ids", "orphans", "missing texts")
_ALL: Final = ("rows", "mixed dimensions", *_IDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """What a store shows at first sight.

    Attributes:
        count: Its rows; `None` if only reading it would tell.
        about: About how many there are, then: as many as would take its bytes if all were like the first one.
        dimensions: Of its vectors, as far as they were seen.
        metric: How it compares them.
        index: The kind of its index.
        fingerprint: The record of the model, if there is one.
        hints: Names of models that the store has written down.
        uncounted: What was not looked for.
    """

    count: int | None
    about: int = 0
    dimensions: tuple[int, ...]
    metric: Metric
    index: str = ""
    fingerprint: EmbeddingFingerprint | None = None
    hints: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = _IDS


def glimpse(place: Place) -> Glimpse | None:
    """What a store shows at first sight; `None` where that is not known of its kind.

    Raises:
        StoreError: It is not what its files say.
    """
    look = _LOOKS.get(place.kind)
    return None if look is None else look(place)


def _faiss(place: Place) -> Glimpse:
    name = f"{place.name or 'index'}.faiss" if place.kind == "langchain-faiss" else "default__vector_store.json"
    with (place.path / name).open("rb") as file:
        head = file.read(_FAISS_HEADER.size)
    if len(head) == _FAISS_HEADER.size:
        letters, dimensions, count, *_, metric = _FAISS_HEADER.unpack(head)
        if 0 < dimensions < _MOST_DIMENSIONS and count >= 0:
            return Glimpse(
                count=count,
                dimensions=(dimensions,),
                metric=_FAISS_METRICS.get(metric, "unknown"),
                index=_FAISS_KINDS.get(letters, "unknown"),
                fingerprint=_record(place, place.path / name),
            )
    raise StoreError(f"`{place.path / name}` is no index of FAISS.", store=str(place.path))


def _dump(place: Place) -> Glimpse:
    cursor = JsonFile(place.path).cursor()
    size = about = 0
    cursor.enter()
    if cursor.member(is_first=True) is not None:
        start = cursor.name_place
        for part in cursor.members():
            if part == "vector":
                size = len(cursor.read())
            else:
                cursor.skip()
        about = place.path.stat().st_size // (cursor.place - start)
    record = _sidecar(sidecar_of(place.path, is_file=True))
    return Glimpse(count=None, about=about, dimensions=_some(size), metric="cosine", fingerprint=record, uncounted=_ALL)


def _simple(place: Place) -> Glimpse:
    path = place.path / f"{place.name or 'default'}__vector_store.json"
    size, length = _first_vector(JsonFile(path).cursor())
    return Glimpse(
        count=None,
        about=path.stat().st_size // length if length else 0,
        dimensions=_some(size),
        metric="cosine",
        fingerprint=_record(place, path),
        uncounted=_ALL,
    )


def _first_vector(cursor: JsonCursor) -> tuple[int, int]:
    """Coordinates and bytes of the first vector of LlamaIndex's own store; it begins with them."""
    for section in cursor.members():
        if section == "embedding_dict":
            for _ in cursor.members():
                vector = cursor.raw()
                return len(cursor.parsed(vector)), len(vector)
            return 0, 0
        cursor.skip()
    return 0, 0


def _chroma(place: Place) -> Glimpse:
    file = ChromaFile(place.path)
    collection = file.collections().get(place.name or "")
    if collection is None:
        raise StoreError(f"`{place.path}` has no collection `{place.name}`.", store=str(place.path))
    try:
        record = record_in(collection.metadata, f"the Chroma collection `{collection.name}`")
    except SidecarError:
        record = None
    return Glimpse(
        count=file.count(collection),
        dimensions=_some(collection.dimensions or 0),
        metric=collection.metric,
        index="HNSW",
        fingerprint=record,
        hints=collection.models,
        uncounted=_TEXTS,
    )


def _qdrant(place: Place) -> Glimpse:
    shown, vector = split_name(place.name)
    known = json.loads((place.path / "meta.json").read_text(encoding="utf-8"))
    name = known["aliases"].get(shown, shown)
    vectors = known["collections"][name].get("vectors") or {}
    named = [vectors] if "size" in vectors else [vectors[vector]] if vector else list(vectors.values())
    database = place.path / "collection" / name / "storage.sqlite"
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM points").fetchone()
    return Glimpse(
        count=count,
        dimensions=tuple(sorted({each["size"] for each in named})),
        metric=METRICS.get(named[0]["distance"], "unknown") if len(named) == 1 else "unknown",
        uncounted=_TEXTS,
    )


def _record(place: Place, file: Path) -> EmbeddingFingerprint | None:
    """The usual store of a folder has the folder's record, one of another name its own."""
    if place.name is None:
        return _sidecar(sidecar_of(place.path, is_file=False))
    return _sidecar(sidecar_of(file, is_file=True))


def _sidecar(path: Path) -> EmbeddingFingerprint | None:
    try:
        return read_sidecar(path)
    except SidecarError:
        return None


def _some(size: int) -> tuple[int, ...]:
    return (size,) if size else ()


_LOOKS: Final[Mapping[str, Callable[[Place], Glimpse]]] = {
    "langchain-faiss": _faiss,
    "llama-index-faiss": _faiss,
    "langchain-in-memory": _dump,
    "llama-index-simple": _simple,
    "chroma": _chroma,
    "qdrant": _qdrant,
}
