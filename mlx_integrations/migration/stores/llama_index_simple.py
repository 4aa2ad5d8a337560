"""LlamaIndex's own vector store, persisted: `default__vector_store.json` in the folder of a storage context.

A storage can have several, each with a name of its own in place of `default`, and one docstore for all of them.

Nodes are in `docstore.json` beside it, and stay byte for byte; only the file of the vectors is replaced. It is JSON as
well: 34 MB for a thousand vectors of 1,536 coordinates, so it is never read as a whole.

Which nodes there are is said by the vectors, not by the docstore: a node that was deleted from the index stays there.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.likely import SAMPLED_ROWS, likely_model
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.file_swap import FileSwap, SwappedStore, file_state
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts, several_sizes
from mlx_integrations.migration.stores.json_reader import JsonFile, Members, Places
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

__all__ = ["KIND", "LlamaIndexSimpleStore"]

KIND: Final = "llama-index-simple"
_USUAL: Final = "default"
_IMAGES: Final = "image"
_ENDING: Final = "__vector_store.json"
_EMBEDDINGS: Final = "embedding_dict"
_OWNERS: Final = "text_id_to_ref_doc_id"
_METADATA: Final = "metadata_dict"
_EMPTY_BYTES: Final = 80  # three empty objects with their names, as JSON


class _Vectors:
    """A file of vectors: where in it each of its parts is.

    Raises:
        StoreError: It is missing, cut off, or something else.
    """

    def __init__(self, path: Path) -> None:
        self.file = JsonFile(path)
        self.dimensions: dict[int, int] = {}
        self.count = 0
        self._places = Places()
        cursor = self.file.cursor()
        if cursor.peek() != b"{":
            raise self._other("it is no JSON", "If it is one of FAISS, open it as `llama-index-faiss`.")
        start: int | None = None
        for section in cursor.members():
            if cursor.peek() != b"{":
                cursor.skip()
                continue
            start = cursor.place if section == _EMBEDDINGS else start
            for name in cursor.members():
                span = cursor.skip()
                if section == _EMBEDDINGS:
                    self._take_in(name, self.file.read(span[0], span[1] - span[0]))
                self._places.add(section, name, span)
        cursor.end()
        if start is None:
            raise self._other(f"it has no `{_EMBEDDINGS}`", "Name the folder that `persist` was given.")
        self.members = Members(self.file, start)

    def _take_in(self, name: str, vector: bytes) -> None:
        numbers = vector.count(b",") + 1 if vector[1:-1].strip() else 0
        self.count += 1
        self.dimensions[numbers] = self.dimensions.get(numbers, 0) + 1

    def find(self, section: str, name: str) -> Any:
        """What a section has of a node; `None` if it has nothing."""
        span = self._places.find(section, name)
        return None if span is None else self.file.value(span)

    def named(self) -> int:
        """How many different ids there are."""
        return self._places.count(_EMBEDDINGS)

    def has(self, name: str) -> bool:
        """Whether there is a vector of that node."""
        return self._places.find(_EMBEDDINGS, name) is not None

    def _other(self, reason: str, hint: str) -> StoreError:
        path = self.file.path
        return StoreError(f"`{path}` is no vector store of LlamaIndex: {reason}.", store=str(path.parent), hint=hint)


class _Index(NodesFolder):
    """The nodes of a folder with one of its files of vectors."""

    def __init__(
        self, location: StoreLocation, swap: FileSwap, vectors: Path, nodes: NodesFolder | None = None
    ) -> None:
        super().__init__(location, swap, vectors, nodes)
        self._vectors: tuple[str, _Vectors] | None = None

    def describe(self) -> StoreInfo:
        vectors, nodes = self._read_vectors(), self._read_nodes()
        record = self._swap.record()
        few = [str(number) for number in range(min(vectors.count, SAMPLED_ROWS))]
        return StoreInfo(
            location=self._location,
            count=vectors.count,
            dimensions=tuple(sorted(vectors.dimensions)),
            metric="cosine",
            fingerprint=record,
            likely_model=likely_model(tuple(vectors.dimensions), fingerprint=record, sample=partial(self.vectors, few)),
            bytes=sum(file.stat().st_size for file in self._path.parent.iterdir() if file.is_file()),
            findings=tuple(self._findings(vectors, nodes)),
        )

    def _rows(self, first: int) -> Iterator[Row]:
        vectors, nodes = self._read_vectors(), self._read_nodes()
        for number, node_id, cursor in vectors.members.read(first):
            cursor.skip()
            text, own = nodes.find(node_id) or (None, {})
            metadata = vectors.find(_METADATA, node_id)
            owner = vectors.find(_OWNERS, node_id)
            kept = metadata if isinstance(metadata, dict) else own
            yield Row(key=str(number), id=node_id, text=text, metadata={**kept, "ref_doc_id": owner})

    def _documents(self, first: int) -> Iterator[Document]:
        vectors, nodes = self._read_vectors(), self._read_nodes()
        for number, node_id, cursor in vectors.members.read(first):
            cursor.skip()
            yield nodes.document(str(number), node_id)

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        vectors = self._read_vectors()
        dimensions = min(vectors.dimensions) if len(vectors.dimensions) == 1 else 0
        found = {number: cursor.read() for number, _, cursor in vectors.members.find(map(_number, keys))}
        wanted = [found.get(_number(key)) for key in keys]
        size = len(wanted[0]) if wanted and isinstance(wanted[0], list) else dimensions
        made = np.empty((len(keys), size), np.float32)
        for place, (key, vector) in enumerate(zip(keys, wanted, strict=True)):
            if not isinstance(vector, list) or len(vector) != size:
                reason = "no vector" if vector is None else "a vector of another size"
                raise StoreError(f"`{self._path}` has {reason} at {key}.", store=str(self._location))
            made[place] = vector
        return made

    def state(self) -> str:
        return f"{file_state(self._path)} {file_state(self._path.with_name(DOCSTORE))}"

    def close(self) -> None:
        self._nodes = self._vectors = None

    def _read_vectors(self) -> _Vectors:
        state = file_state(self._path)
        if self._vectors is None or self._vectors[0] != state:
            self._vectors = state, _Vectors(self._path)
        return self._vectors[1]

    def _findings(self, vectors: _Vectors, nodes: Nodes) -> Iterator[Finding]:
        if len(vectors.dimensions) > 1:
            yield several_sizes(vectors.dimensions, "Questions fail")
        if repeated := vectors.count - vectors.named():
            message = "Several vectors have the same id, and LlamaIndex reads the last of them."
            yield Finding(code="duplicate-ids", message=message, count=repeated)
        missing = 0
        examples: list[str] = []
        own = self._swap.file
        is_only_one = all(path == own for path in _with_vectors(own.parent, own))
        orphans = nodes.count() if is_only_one else 0
        for row in self.rows():
            orphans -= nodes.has(row.id)
            if row.text is None or not row.text.strip():
                missing += 1
                examples += [row.id] if len(examples) < EXAMPLES else []
        if missing:
            message = "There is no text for them in `docstore.json`, and so nothing to embed."
            yield missing_texts(missing, examples, message)
        if orphans > 0:
            yield nodes_without_vector(orphans)


class LlamaIndexSimpleStore(SwappedStore, _Index):
    """The folder that `StorageContext.persist` wrote, with a `SimpleVectorStore`. Implements `Store`.

    Args:
        folder: The folder.
        name: Which of its vector stores.

    Raises:
        StoreError: There is no such storage in it, or it is the one of images.
    """

    def __init__(self, folder: str | Path, name: str = _USUAL) -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        vectors = path / f"{name}{_ENDING}"
        check_files(folder, (vectors, path / DOCSTORE))
        if name == _USUAL:
            check_alone(path)
        if name == _IMAGES:
            message = f"`{vectors}` has vectors of images, which cannot be made from texts."
            raise StoreError(message, store=str(folder), hint="Leave it as it is; its other vectors can be migrated.")
        location = StoreLocation(kind=KIND, address=str(path), name=None if name == _USUAL else name)
        sidecar = sidecar_of(path, is_file=False) if name == _USUAL else sidecar_of(vectors, is_file=True)
        swap = FileSwap(location, vectors, sidecar)
        super().__init__(location, swap, swap.file)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write the new vectors into a file of their own, and everything else of the old one as it is."""
        state = file_state(self._path)
        source = self._read_vectors()
        with self._swap.writing(run) as file:
            file.write(b'{"%s": {' % _EMBEDDINGS.encode())
            dropped = self._write_vectors(file, source, rows)
            file.write(b"}")
            self._copy_others(file, source, dropped)
            file.write(b"}")
            if file_state(self._path) != state:
                raise self._changed()

    def built(self, run: Run) -> _Index:
        """The nodes with the new vectors."""
        return _Index(self.location, self._swap, self._swap.built(run), self)

    def replaced(self, run: Run) -> _Index:
        """The nodes with the old vectors."""
        swap = self._swap.replaced(run)
        return _Index(self.location, swap, swap.file, self)

    def _write_vectors(self, file: IO[bytes], source: _Vectors, rows: Iterator[Embedded]) -> set[str]:
        """Write the vectors of all rows, and return the ids of those that have none."""
        known = source.members.read()
        dropped: set[str] = set()
        separator = b""
        for part in rows:
            for row, vector in zip(part.rows, part.vectors.tolist(), strict=True):
                for number, name, cursor in known:
                    cursor.skip()
                    if number == int(row.key):
                        break
                    dropped.add(name)
                else:
                    raise self._changed()
                if name != row.id:
                    raise self._changed()
                file.write(separator + json.dumps(name).encode() + b": " + json.dumps(vector).encode())
                separator = b", "
        for _, name, cursor in known:
            cursor.skip()
            dropped.add(name)
        return dropped

    def _copy_others(self, file: IO[bytes], source: _Vectors, dropped: set[str]) -> None:
        cursor = source.file.cursor()
        for section in cursor.members():
            if cursor.peek() != b"{":
                content = cursor.raw()
                file.write(b", " + json.dumps(section).encode() + b": " + content)
                continue
            if section != _EMBEDDINGS:
                file.write(b", " + json.dumps(section).encode() + b": {")
            separator = b""
            for name in cursor.members():
                if section == _EMBEDDINGS or name in dropped:
                    cursor.skip()
                    continue
                file.write(separator + json.dumps(name).encode() + b": " + cursor.raw())
                separator = b", "
            if section != _EMBEDDINGS:
                file.write(b"}")

    def _changed(self) -> StoreChangedError:
        return StoreChangedError(f"`{self.location}` was changed while it was migrated.", store=str(self.location))


def _with_vectors(folder: Path, own: Path) -> Iterator[Path]:
    """The vector stores of a storage, without those that LlamaIndex writes although nothing is in them."""
    for path in folder.glob(f"*{_ENDING}"):
        if path == own or path.stat().st_size > _EMPTY_BYTES:
            yield path


def _number(key: str) -> int:
    return int(key) if key.isdecimal() else -1
