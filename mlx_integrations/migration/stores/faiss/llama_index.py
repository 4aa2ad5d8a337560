"""LlamaIndex over FAISS, persisted: an index of FAISS in the folder of a storage context, by the name of a JSON file.

Which node a vector belongs to is said elsewhere: for `FaissVectorStore` in `index_store.json`, by the number of the
vector; for `FaissMapVectorStore` in `id_map.json`, by a number that the index itself has for each vector, so that nodes
can be deleted. Only the index is replaced, and vectors keep their numbers.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import RowsError, StoreError
from mlx_integrations.migration.files import flush, may_not_read
from mlx_integrations.migration.likely import SAMPLED_ROWS, likely_model
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Finding, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.faiss.index import (
    IndexFile,
    lists_finding,
    read_index,
    reconstructed,
    write_flat,
    write_trained,
)
from mlx_integrations.migration.stores.faiss.kinds import (
    choose_factory,
    factory_of,
    is_exact,
    is_plain_list,
    load_faiss,
)
from mlx_integrations.migration.stores.file_swap import FileSwap, SwappedStore, file_state
from mlx_integrations.migration.stores.findings import missing_texts
from mlx_integrations.migration.stores.llama_index_folder import (
    NodesFolder,
    check_alone,
    check_files,
    nodes_without_vector,
)
from mlx_integrations.migration.stores.llama_index_nodes import DOCSTORE, Nodes
from mlx_integrations.sidecar import sidecar_of

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "LlamaIndexFaissStore"]

KIND: Final = "llama-index-faiss"
_VECTORS: Final = "default__vector_store.json"
_INDEX_STORE: Final = "index_store.json"
_ID_MAP: Final = "id_map.json"
_MAPS: Final = (b"IxMp", b"IxM2")  # the first letters of an index with numbers of its own for its vectors
_METRICS: Final[dict[int, Metric]] = {0: "dot", 1: "euclidean", 2: "manhattan"}
_FACTS_END: Final = 37  # four letters, dimensions, count, two numbers that mean nothing, is_trained, metric


class _Plain:
    """The vectors of a `FaissVectorStore`: known by where they are."""

    def __init__(self, path: Path) -> None:
        index = IndexFile(path)
        facts = index.facts
        self.count, self.dimensions, self.metric = facts.count, facts.dimensions, facts.metric
        self.factory, self.is_exact = facts.factory, facts.is_exact
        self.vectors = index.vectors
        self.findings = index.findings
        self.known = _nodes_of_index(path.with_name(_INDEX_STORE))

    def node_of(self, position: int) -> str | None:
        return self.known.get(str(position))


class _Mapped:
    """The vectors of a `FaissMapVectorStore`: known by numbers that the index has for them."""

    def __init__(self, path: Path) -> None:
        self.outer = read_index(path)
        with path.open("rb") as file:
            self.letters = file.read(4)
        faiss = load_faiss()
        # Of the index inside: the outer one ends the process when it is asked for some of its vectors.
        self.inner = faiss.downcast_index(self.outer.index)
        self.numbers: list[int] = faiss.vector_to_array(self.outer.id_map).tolist()
        self.count, self.dimensions = int(self.inner.ntotal), int(self.inner.d)
        self.metric: Metric = _METRICS.get(self.inner.metric_type, "unknown")
        self.factory = factory_of(self.inner)
        self.is_exact = is_exact(self.factory)
        self.known: dict[str, str] = _read_json(path.with_name(_ID_MAP), "faiss_id_to_node_id_map")
        if not isinstance(self.known, dict):
            raise _damaged(path.with_name(_ID_MAP))
        self._path = path

    def node_of(self, position: int) -> str | None:
        return self.known.get(str(self.numbers[position]))

    def findings(self) -> Iterator[Finding]:
        return lists_finding(self.inner)

    def vectors(self, positions: Sequence[int]) -> "NDArray[np.float32]":
        if not all(0 <= position < self.count for position in positions):
            raise StoreError(f"`{self._path}` has no vector {max(positions)}.", store=str(self._path.parent))
        return reconstructed(self.inner, positions, self._path, self.factory)


class _Index(NodesFolder):
    """The nodes of a folder with one of its indexes."""

    def __init__(
        self, location: StoreLocation, swap: FileSwap, vectors: Path, nodes: NodesFolder | None = None
    ) -> None:
        super().__init__(location, swap, vectors, nodes)
        self._vectors: tuple[str, _Plain | _Mapped] | None = None

    def describe(self) -> StoreInfo:
        vectors = self._read_vectors()
        record = self._swap.record()
        few = [str(position) for position in range(min(vectors.count, SAMPLED_ROWS))]
        return StoreInfo(
            location=self._location,
            count=vectors.count,
            dimensions=(vectors.dimensions,),
            metric=vectors.metric,
            index=vectors.factory,
            fingerprint=record,
            likely_model=likely_model(
                (vectors.dimensions,),
                fingerprint=record,
                sample=partial(self.vectors, few) if vectors.is_exact else None,
            ),
            bytes=sum(file.stat().st_size for file in self._path.parent.iterdir() if file.is_file()),
            is_exact=vectors.is_exact,
            findings=tuple(self._findings(vectors, self._read_nodes())),
            extra={"has_map": isinstance(vectors, _Mapped)},
        )

    def _rows(self, first: int) -> Iterator[Row]:
        vectors, nodes = self._read_vectors(), self._read_nodes()
        for position in range(first, vectors.count):
            node_id = vectors.node_of(position)
            text, metadata = (None if node_id is None else nodes.find(node_id)) or (None, {})
            yield Row(key=str(position), id=node_id or f"vector {position}", text=text, metadata=metadata)

    def _documents(self, first: int) -> Iterator[Document]:
        vectors, nodes = self._read_vectors(), self._read_nodes()
        for position in range(first, vectors.count):
            yield nodes.document(str(position), vectors.node_of(position) or f"vector {position}")

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        return self._read_vectors().vectors([int(key) for key in keys])

    def state(self) -> str:
        names = (self._path.name, DOCSTORE, _INDEX_STORE, _ID_MAP)
        return " ".join(file_state(self._path.with_name(name)) for name in names)

    def close(self) -> None:
        self._nodes = self._vectors = None

    def _read_vectors(self) -> _Plain | _Mapped:
        state = self.state()
        if self._vectors is None or self._vectors[0] != state:
            self._vectors = state, _Mapped(self._path) if _is_mapped(self._path) else _Plain(self._path)
        return self._vectors[1]

    def _findings(self, vectors: _Plain | _Mapped, nodes: Nodes) -> Iterator[Finding]:
        yield from vectors.findings()
        found = [vectors.node_of(position) for position in range(vectors.count)]
        named = {each for each in found if each is not None}
        if stray := len(set(vectors.known.values()) - named) + sum(each is None for each in found):
            message = "Vectors without a node, or nodes without a vector: it was cut off while it was saved."
            yield Finding(code="misaligned", message=message, count=stray, is_blocking=True)
        if repeated := len(found) - found.count(None) - len(named):
            message = "Several vectors have the number of one node, as happens when nodes are added after others were "
            message += "deleted: the other nodes are not found any more."
            yield Finding(code="duplicate-ids", message=message, count=repeated, is_blocking=True)
        missing = [row.id for row in self._rows(0) if not (row.text or "").strip()]
        if missing:
            is_final = isinstance(vectors, _Plain)
            message = "There is no text for them in `docstore.json`, and so nothing to embed"
            message += "; `FaissVectorStore` cannot leave them out." if is_final else "."
            yield missing_texts(len(missing), missing, message, is_final=is_final)
        if (orphans := nodes.count() - sum(nodes.has(each) for each in named)) > 0:
            yield nodes_without_vector(orphans)


class LlamaIndexFaissStore(SwappedStore, _Index):
    """The folder that `StorageContext.persist` wrote, with FAISS as its vector store. Implements `Store`.

    Args:
        folder: The folder.

    Raises:
        StoreError: There is no such storage in it.
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        check_files(folder, [path / name for name in (_VECTORS, DOCSTORE, _INDEX_STORE)])
        check_alone(path)
        location = StoreLocation(kind=KIND, address=str(path))
        swap = FileSwap(location, path / _VECTORS, sidecar_of(path, is_file=False))
        super().__init__(location, swap, swap.file)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes: the one it has, or `Flat` where FAISS makes none of the new size.

        Raises:
            StoreError: Another kind is wanted, and FAISS makes none.
        """
        return self._factory(dimensions, wanted, self._read_vectors().count)

    def _factory(self, dimensions: int, wanted: str, count: int) -> str:
        vectors = self._read_vectors()
        return choose_factory(wanted, vectors.factory, dimensions, vectors.metric, str(self.location), count)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write the new vectors into an index of their own, with the numbers that the old ones have."""
        source = self._read_vectors()
        with self._swap.placing(run) as part:
            positions: list[int] = []
            parts = self._given(rows, positions, may_leave_out=isinstance(source, _Mapped))
            count = write_flat(part, run.fingerprint.dimensions, run.metric, parts)
            factory = self._factory(run.fingerprint.dimensions, run.index, count)
            if not is_plain_list(factory, run.metric):
                trained = part.with_name(f"{part.name}.trained")
                write_trained(trained, part, factory, run.metric, self._settings(source, part))
                trained.replace(part)
            if isinstance(source, _Mapped):
                _wrap(part, source.letters, [source.numbers[position] for position in positions])

    def built(self, run: Run) -> _Index:
        """The nodes with the new vectors."""
        return _Index(self.location, self._swap, self._swap.built(run), self)

    def replaced(self, run: Run) -> _Index:
        """The nodes with the old vectors."""
        swap = self._swap.replaced(run)
        return _Index(self.location, swap, swap.file, self)

    def _given(
        self, rows: Iterator[Embedded], positions: list[int], *, may_leave_out: bool
    ) -> "Iterator[NDArray[np.float32]]":
        """Vectors of rows, whose positions are noted; without a map, a gap would move all that follow."""
        for part in rows:
            positions += [int(row.key) for row in part.rows]
            if not may_leave_out and positions[-1] != len(positions) - 1:
                break
            yield part.vectors
        expected = next((place for place, position in enumerate(positions) if place != position), len(positions))
        missing = [] if may_leave_out else list(islice(self.rows(str(expected - 1)), 1))
        if missing:
            raise RowsError(
                f"`{self.location}` has nodes that cannot be embedded, such as `{missing[0].id}`, and "
                "`FaissVectorStore` cannot leave them out.",
                store=str(self.location),
                count=1,
                ids=(missing[0].id,),
                hint="Give them a text, or make the index anew without them.",
            )

    def _settings(self, source: _Plain | _Mapped, part: Path) -> Path:
        """An index whose settings for searching are taken over."""
        if isinstance(source, _Plain):
            return self._path
        like = part.with_name(f"{part.name}.like")
        load_faiss().write_index(source.inner, str(like))
        return like


def _wrap(path: Path, kind: bytes, numbers: Sequence[int]) -> None:
    """Give the vectors of an index numbers of their own.

    Written by hand, as FAISS makes no map of an index that has vectors: four letters, the facts that the index inside
    begins with after its own four, that index, and the numbers.
    https://github.com/facebookresearch/faiss/blob/main/faiss/impl/index_write.cpp
    """
    import numpy as np

    mapped = path.with_name(f"{path.name}.mapped")
    with path.open("rb") as inner, mapped.open("wb") as file:
        facts = inner.read(_FACTS_END)
        metric = int.from_bytes(facts[-4:], "little")
        inner.seek(0)
        file.write(kind + facts[len(kind) :] + (inner.read(_FACTS_END + 4)[_FACTS_END:] if metric > 1 else b""))
        inner.seek(0)
        shutil.copyfileobj(inner, file)
        file.write(len(numbers).to_bytes(8, "little") + np.array(numbers, "<i8").tobytes())
        file.flush()
        flush(file.fileno())
    mapped.replace(path)


def _is_mapped(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.read(4)
    except FileNotFoundError as error:
        raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error
    except PermissionError as error:
        raise may_not_read(path) from error
    if first[:1] == b"{":
        raise StoreError(
            f"`{path}` is no index of FAISS.", store=str(path.parent), hint="Open it as `llama-index-simple`."
        )
    return first in _MAPS


def _read_json(path: Path, part: str) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[part]
    except FileNotFoundError as error:
        raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error
    except PermissionError as error:
        raise may_not_read(path) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    return found


def _nodes_of_index(path: Path) -> dict[str, str]:
    """Which node each vector is of; several indexes may be in one file of vectors, each with nodes of its own."""
    known = _read_json(path, "index_store/data")
    found: dict[str, str] = {}
    try:
        for structure in known.values():
            if structure["__type__"] != "vector_store":
                continue
            for number, node_id in json.loads(structure["__data__"])["nodes_dict"].items():
                if found.setdefault(number, node_id) != node_id:
                    raise StoreError(
                        f"`{path}` has several indexes of vectors that do not share the one file of vectors there is.",
                        store=str(path.parent),
                        hint="Save each of the indexes to a folder of its own, and migrate those.",
                    )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    return found


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"`{path}` is not what LlamaIndex writes, or was cut off while it was written.",
        store=str(path.parent),
        hint="Save the store once more with its own library, or restore the file from a copy.",
    )
