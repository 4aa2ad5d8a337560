"""A new collection of a Qdrant server, as LangChain or LlamaIndex would fill it.

No collection can be given another name, so what programs ask for is an alias of it, made by one request:

    notes.mlxi-RUN           the collection
    notes.mlxi-RUN.built     an alias of it: it is whole, and not in use
    notes                    an alias of it: it is in use
    notes.mlxi-RUN.moved     an alias of it: it is in use, and its run is kept
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mlx_integrations.adapters.store_records.qdrant import with_record
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Published, Reader, Run
from mlx_integrations.migration.records import Document, Framework, Held, Loss, Metric, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.json_numbers import TOLD_DIGITS, as_given, settled, settled_row
from mlx_integrations.migration.stores.qdrant.collection import KIND, address_and_key
from mlx_integrations.migration.stores.qdrant.collection_reader import MadeCollection
from mlx_integrations.migration.stores.qdrant.layout import UNNAMED, Names
from mlx_integrations.migration.stores.qdrant.point import Point
from mlx_integrations.migration.stores.qdrant.server import QdrantServer
from mlx_integrations.migration.targets.names import QDRANT, check_name
from mlx_integrations.migration.targets.place import not_built, taken
from mlx_integrations.migration.targets.qdrant_layout import DISTANCES, LAYOUT, held_by_qdrant, point_id

__all__ = ["QdrantServerTarget"]

_FLOAT_BYTES: Final = 4
_MOVED: Final = ".moved"


class QdrantServerTarget:
    """A collection of a server. Implements `Target`.

    Args:
        url: The address; a key in it is used and shown nowhere.
        name: What programs will ask for.
        environ: Where QDRANT_API_KEY is looked for.
    """

    def __init__(self, url: str, name: str, *, environ: Mapping[str, str] = os.environ) -> None:
        self._address, self._key = address_and_key(url, None, environ)
        check_name(name, QDRANT, self._address)
        self._server = QdrantServer(self._address, self._key)
        self._name = name
        self._location = StoreLocation(kind=KIND, address=self._address, name=name)

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        return self._location

    @property
    def frameworks(self) -> frozenset[Framework]:
        """Both fill collections, each in its own way."""
        return frozenset({"langchain", "llama-index"})

    @property
    def has_unique_ids(self) -> bool:
        """A collection has one point of an id."""
        return True

    @property
    def folder(self) -> Path | None:
        """It is on the server's disks."""
        return None

    def check(self, run: Run | None = None) -> None:
        """Look whether the name is free."""
        aliases = self._server.aliases()
        if run is not None and aliases.get(self._name) == self._names(run).new:
            return
        if self._name in aliases or self._name in self._server.collections():
            raise taken(self.location)

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors, with a graph of them, and at most as much as the source has beside its own."""
        return 2 * _FLOAT_BYTES * source.count * dimensions + 2 * (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """Qdrant has all of them."""
        return metric if metric in DISTANCES else "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """Qdrant has one kind."""
        if wanted and wanted != "HNSW":
            message = f"Qdrant makes no index of the kind `{wanted}`."
            raise StoreError(message, store=str(self.location), hint="Leave it out.")
        return "HNSW"

    def held(self, document: Document) -> Held:
        """As in a folder; and a server reads some numbers as their neighbours."""
        held = held_by_qdrant(document)
        metadata = held.row.metadata if document.framework == "llama-index" else held.row.metadata["metadata"]
        changed = [name for name, value in metadata.items() if settled(value) != value]
        losses = tuple(Loss(key=name, reason=TOLD_DIGITS, is_blocking=False) for name in changed)
        return Held(row=settled_row(held.row), losses=held.losses + losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own."""
        self.check(run)
        server, names = self._server, self._names(run)
        server.change_aliases({}, {names.built, self._moved(run)} & server.aliases().keys())
        metadata = with_record({}, run.fingerprint)
        server.create(names.new, run.fingerprint.dimensions, DISTANCES[run.metric], metadata)
        points = (
            Point(id=point_id(row.id), payload=LAYOUT.payload(as_given(row)), vectors={UNNAMED: vector})
            for each in rows
            for row, vector in zip(each.rows, each.vectors.tolist(), strict=True)
        )
        server.write(names.new, points)
        server.wait_until_indexed(names.new)
        server.change_aliases({names.built: names.new})

    def built(self, run: Run) -> Reader:
        """The collection."""
        names, aliases = self._names(run), self._server.aliases()
        if names.new not in (aliases.get(names.built), aliases.get(self._name)):
            raise not_built(self.location)
        return MadeCollection(self.location, self._address, self._key, names.new)

    def published(self, run: Run) -> Published:
        """Whether it goes by its name."""
        return "new" if self._server.aliases().get(self._name) == self._names(run).new else "nothing"

    def publish(self, run: Run) -> None:
        """Make the alias."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new:
            return
        if aliases.get(names.built) != names.new:
            raise not_built(self.location)
        self.check(run)
        self._server.change_aliases({self._name: names.new, self._moved(run): names.new}, [names.built])

    def rollback(self, run: Run) -> None:
        """Take the alias away."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new:
            deleted = {self._name, self._moved(run)} & aliases.keys()
            self._server.change_aliases({names.built: names.new}, sorted(deleted))

    def discard(self, run: Run) -> None:
        """Delete what is not in use; of what is published only the mark."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) != names.new:
            self._server.delete(names.new)
            aliases = self._server.aliases()
        self._server.change_aliases({}, {names.built, self._moved(run)} & aliases.keys())

    def state(self) -> str:
        """A digest of all that it shows; it takes as long as reading that."""
        aliases = self._server.aliases()
        new = aliases.get(self._name)
        return self._server.digest(self._name, True) if new is not None and f"{new}{_MOVED}" in aliases else ""

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _names(self, run: Run) -> Names:
        return Names(self._name, run.id)

    def _moved(self, run: Run) -> str:
        return f"{self._names(run).new}{_MOVED}"
