"""A new file for LangChain's `InMemoryVectorStore`, as its `dump` would write it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Held, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.in_memory import KIND, InMemoryDump
from mlx_integrations.migration.stores.langchain_json import ESCAPED, LC, escaped_value
from mlx_integrations.migration.targets.place import FilePlace
from mlx_integrations.migration.targets.placed import PlacedTarget
from mlx_integrations.migration.targets.values import survivors, through_json

__all__ = ["InMemoryTarget"]

_NUMBER_BYTES: Final = 22


class InMemoryTarget(PlacedTarget):
    """A file that `InMemoryVectorStore.load` will read. Implements `Target`.

    Args:
        path: Its place, where nothing is.
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(path).expanduser().absolute()
        location = StoreLocation(kind=KIND, address=str(file))
        super().__init__(location, FilePlace(location, file))

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as text, 20 bytes a number, and at most as much as the source has beside its own."""
        return _NUMBER_BYTES * source.count * dimensions + (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """It knows no other."""
        return "cosine"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """None: it compares with every vector."""
        if wanted:
            raise StoreError("`InMemoryVectorStore` has no index.", store=str(self.location), hint="Leave it out.")
        return ""

    def held(self, document: Document) -> Held:
        """What JSON holds, marked where LangChain would read something else in it."""
        metadata, losses = survivors(document.metadata, lambda _, value: through_json(value))
        is_special = document.id in (LC, ESCAPED)
        refused = f"LangChain reads the id `{document.id}` as something else" if is_special else ""
        row = Row(
            key=document.key, id=document.id, text=document.text, metadata=escaped_value(metadata), refused=refused
        )
        return Held(row=row, losses=losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Write an entry at a time."""
        with self._place.filling(run, source.location) as part, part.open("wb") as file:
            separator = b"{\n"
            for each in rows:
                for row, vector in zip(each.rows, each.vectors.tolist(), strict=True):
                    entry = {"id": row.id, "vector": vector, "text": row.text, "metadata": row.metadata}
                    file.write(separator + f"  {json.dumps(row.id)}: {json.dumps(entry)}".encode())
                    separator = b",\n"
            file.write(b"\n}" if file.tell() else b"{}")

    def built(self, run: Run) -> InMemoryDump:
        """The file."""
        return InMemoryDump(self._place.built(run))

    def state(self) -> str:
        """That of its file."""
        return InMemoryDump(self._location.path).state() if self._place.is_published() else ""
