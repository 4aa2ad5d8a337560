"""A new folder of Qdrant's local mode with one collection, as LangChain or LlamaIndex would fill it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mlx_integrations.adapters.store_records.qdrant import with_record
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Reader, Run
from mlx_integrations.migration.records import Document, Held, Metric, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.qdrant.folder import META, QdrantFolder, write_json, write_points
from mlx_integrations.migration.stores.qdrant.local import KIND, QdrantLocalStore
from mlx_integrations.migration.targets.names import QDRANT, check_name
from mlx_integrations.migration.targets.place import FolderPlace
from mlx_integrations.migration.targets.placed import PlacedTarget
from mlx_integrations.migration.targets.qdrant_layout import DISTANCES, LAYOUT, held_by_qdrant, point_id

__all__ = ["QdrantLocalTarget"]

_NUMBER_BYTES: Final = 9  # of a pickled coordinate


class QdrantLocalTarget(PlacedTarget):
    """A folder that `QdrantClient(path=...)` will open. Implements `Target`.

    Args:
        folder: Its place, where nothing is.
        name: The collection.
    """

    frameworks = frozenset({"langchain", "llama-index"})  # each in its own way

    def __init__(self, folder: str | Path, name: str) -> None:
        path = Path(folder).expanduser().absolute()
        check_name(name, QDRANT, str(path))
        self._name = name
        location = StoreLocation(kind=KIND, address=str(path), name=name)
        super().__init__(location, FolderPlace(location, path))

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as Python pickles them, and at most as much as the source has beside its own."""
        return _NUMBER_BYTES * source.count * dimensions + 2 * (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """Qdrant has all of them."""
        return metric if metric in DISTANCES else "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """None: in a folder it compares with every vector."""
        if wanted:
            message = "A folder of Qdrant has no index."
            raise StoreError(message, store=str(self.location), hint="Leave it out; a server has one.")
        return "exact search"

    def held(self, document: Document) -> Held:
        """Payloads are JSON, and ids numbers or UUIDs."""
        return held_by_qdrant(document)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Write the points, and then the list of collections."""
        with self._place.filling(run, source.location) as folder:
            place = QdrantFolder(folder).collection(self._name)
            place.mkdir(parents=True)

            def points() -> Iterator[tuple[int | str, Any, dict[str, Any]]]:
                for each in rows:
                    for row, vector in zip(each.rows, each.vectors.tolist(), strict=True):
                        yield point_id(row.id), vector, LAYOUT.payload(row)

            write_points(place, points(), ())
            settings = {
                "vectors": {"size": run.fingerprint.dimensions, "distance": DISTANCES[run.metric]},
                "metadata": with_record({}, run.fingerprint),
            }
            write_json(folder / META, {"collections": {self._name: settings}, "aliases": {}})

    def built(self, run: Run) -> Reader:
        """The collection."""
        return QdrantLocalStore(self._place.built(run), self._name)

    def state(self) -> str:
        """That of all collections, as they go when the folder goes."""
        if not self._place.is_published():
            return ""
        folder = QdrantFolder(self._location.path)
        return " ".join(f"{name}:{folder.points(name).state()}" for name in sorted(folder.meta()["collections"]))
