"""A new storage context of LlamaIndex with its own vector store, as `StorageContext.persist` would write it.

Its files have several mappings one after the other, and each needs something of every node. So the mappings are written
into files of their own first, a node at a time, and put together at the end.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Held, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.llama_index_nodes import DOCSTORE, StoredNode, empty_index, stored_node
from mlx_integrations.migration.stores.llama_index_simple import KIND, LlamaIndexSimpleStore
from mlx_integrations.migration.targets.place import FolderPlace
from mlx_integrations.migration.targets.placed import PlacedTarget
from mlx_integrations.migration.targets.values import losses_of_class
from mlx_integrations.sidecar import sidecar_of, write_sidecar

__all__ = ["LlamaIndexSimpleTarget"]

_NUMBER_BYTES: Final = 22
_VECTORS: Final = "default__vector_store.json"
_INDEX_STORE: Final = "index_store.json"
_NO_OWNER: Final = "None"  # what LlamaIndex writes for a node that is part of no document
_EMPTY: Final[Mapping[str, Any]] = {
    "graph_store.json": {"graph_dict": {}},
    "image__vector_store.json": {"embedding_dict": {}, "text_id_to_ref_doc_id": {}, "metadata_dict": {}},
}


class LlamaIndexSimpleTarget(PlacedTarget):
    """A folder that `StorageContext.from_defaults(persist_dir=...)` will read. Implements `Target`.

    Args:
        folder: Its place, where nothing is.
    """

    frameworks = frozenset({"llama-index"})

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder).expanduser().absolute()
        location = StoreLocation(kind=KIND, address=str(path))
        super().__init__(location, FolderPlace(location, path))

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as text, 20 bytes a number; nodes have their metadata three times."""
        return _NUMBER_BYTES * source.count * dimensions + 3 * (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """It knows no other."""
        return "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """None: it compares with every vector."""
        if wanted:
            raise StoreError("`SimpleVectorStore` has no index.", store=str(self.location), hint="Leave it out.")
        return ""

    def held(self, document: Document) -> Held:
        """A node is JSON itself, so all of it is held."""
        row = Row(key=document.key, id=document.id, text=document.text)
        if document.text is None:
            return Held(row=row)
        try:
            node = stored_node(document.metadata, document.content)
        except (AttributeError, KeyError, TypeError, ValueError):
            return Held(row=Row(key=row.key, id=row.id, text=row.text, refused="LlamaIndex cannot read this node"))
        metadata = {**node.metadata, "ref_doc_id": node.owner or _NO_OWNER}
        losses = losses_of_class(document, in_files=True)
        return Held(row=Row(key=row.key, id=row.id, text=row.text, metadata=metadata, carried=node), losses=losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Write the mappings, and the files from them."""
        with self._place.filling(run, source.location) as folder:
            parts = folder / "parts"
            parts.mkdir()
            with ExitStack() as stack:
                mappings = _Mappings(parts, stack)
                for each in rows:
                    for row, vector in zip(each.rows, each.vectors.tolist(), strict=True):
                        mappings.add(row, vector)
                mappings.finish()
            _write_files(folder, parts, index_id=run.id)
            shutil.rmtree(parts)
            write_sidecar(sidecar_of(folder, is_file=False), run.fingerprint)

    def built(self, run: Run) -> LlamaIndexSimpleStore:
        """The folder."""
        return LlamaIndexSimpleStore(self._place.built(run))

    def state(self) -> str:
        """That of its files."""
        return LlamaIndexSimpleStore(self._location.path).state() if self._place.is_published() else ""


class _Mappings:
    """Files of one mapping each, without its brackets."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        names = ("nodes", "digests", "owners", "vectors", "vector_owners", "vector_metadata", "index")
        self._files: dict[str, IO[str]] = {
            name: stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in names
        }
        self._separators: dict[str, str] = {}
        self._owners = sqlite3.connect("", isolation_level=None)  # a file without a name, gone when it is closed
        stack.callback(self._owners.close)
        self._owners.execute("CREATE TABLE owner (id TEXT PRIMARY KEY, number INTEGER, metadata TEXT, digest TEXT)")
        self._owners.execute("CREATE TABLE part (owner INTEGER, node TEXT)")
        self._owners.execute("BEGIN")
        self._count = 0

    def add(self, row: Row, vector: list[float]) -> None:
        """Write what each mapping has of a node."""
        node: StoredNode = row.carried
        digest = {"doc_hash": node.digest} | ({"ref_doc_id": node.owner} if node.owner else {})
        self._put("nodes", row.id, node.content)
        self._put("digests", row.id, digest)
        self._put("vectors", row.id, vector)
        self._put("vector_owners", row.id, node.owner or _NO_OWNER)
        self._put("vector_metadata", row.id, node.metadata)
        self._put("index", row.id, row.id)
        self._own(node, row.id)

    def finish(self) -> None:
        """Write the documents that nodes are parts of, in the order in which they came.

        What a node says of its document is all that is known of it; by its digest LlamaIndex knows later whether it has
        changed, and would add it once more without one.
        """
        self._owners.execute("CREATE INDEX part_of ON part (owner)")
        self._owners.execute("CREATE INDEX part_named ON part (node)")
        for owner, number, metadata, digest in self._owners.execute("SELECT * FROM owner ORDER BY number"):
            nodes = self._owners.execute("SELECT node FROM part WHERE owner = ? ORDER BY rowid", (number,))
            ids = [json.loads(node) for (node,) in nodes]
            self._put("owners", json.loads(owner), {"node_ids": ids, "metadata": json.loads(metadata)})
            is_node = self._owners.execute("SELECT 1 FROM part WHERE node = ?", (owner,)).fetchone()
            if digest is not None and not is_node:  # a node has its own
                self._put("digests", json.loads(owner), {"doc_hash": json.loads(digest)})

    def _own(self, node: StoredNode, node_id: str) -> None:
        # As JSON, because the database takes no halves of characters.
        if not node.owner:
            self._owners.execute("INSERT INTO part VALUES (NULL, ?)", (json.dumps(node_id),))
            return
        self._count += 1
        metadata = node.content["__data__"].get("metadata") or {}
        digest = None if node.owner_digest is None else json.dumps(node.owner_digest)
        known = (json.dumps(node.owner), self._count, json.dumps(metadata), digest)
        # The first metadata that are any count, and the first digest.
        self._owners.execute(
            "INSERT INTO owner VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "metadata = CASE metadata WHEN '{}' THEN excluded.metadata ELSE metadata END, "
            "digest = coalesce(digest, excluded.digest)",
            known,
        )
        query = "INSERT INTO part SELECT number, ? FROM owner WHERE id = ?"
        self._owners.execute(query, (json.dumps(node_id), known[0]))

    def _put(self, name: str, key: str, value: Any) -> None:
        self._files[name].write(f"{self._separators.get(name, '')}{json.dumps(key)}: {json.dumps(value)}")
        self._separators[name] = ", "


def _write_files(folder: Path, parts: Path, *, index_id: str) -> None:
    sections = {
        "embedding_dict": "vectors",
        "text_id_to_ref_doc_id": "vector_owners",
        "metadata_dict": "vector_metadata",
    }
    _join(folder / _VECTORS, parts, sections)
    sections = {"docstore/metadata": "digests", "docstore/data": "nodes"}
    if (parts / "owners").stat().st_size:
        sections["docstore/ref_doc_info"] = "owners"
    _join(folder / DOCSTORE, parts, sections)
    _write_index(folder / _INDEX_STORE, parts / "index", index_id)
    for name, content in _EMPTY.items():
        (folder / name).write_text(json.dumps(content))


def _join(path: Path, parts: Path, sections: Mapping[str, str]) -> None:
    with path.open("wb") as file:
        separator = b"{"
        for section, name in sections.items():
            file.write(separator + json.dumps(section).encode() + b": {")
            with (parts / name).open("rb") as part:
                shutil.copyfileobj(part, file)
            file.write(b"}")
            separator = b", "
        file.write(b"}")


def _write_index(path: Path, nodes: Path, index_id: str) -> None:
    """The index that knows which nodes it has: JSON, in JSON as a text."""
    made = empty_index(index_id)
    before, after = json.dumps(made["__data__"]).split(json.dumps('"nodes_dict": {')[1:-1])
    kind = json.dumps(made["__type__"])
    with path.open("w", encoding="utf-8") as file, nodes.open(encoding="utf-8") as source:
        head = f'{{"index_store/data": {{{json.dumps(index_id)}: {{"__type__": {kind}, "__data__": {before}'
        file.write(head + json.dumps('"nodes_dict": {')[1:-1])
        while part := source.read(1 << 16):
            file.write(json.dumps(part)[1:-1])
        file.write(f"{after}}}}}}}")
