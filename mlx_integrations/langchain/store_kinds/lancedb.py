"""What can be learnt from tables of LanceDB, as `LanceDB` of langchain-community opens them."""

from typing import Any

from langchain_core.vectorstores import VectorStore

from mlx_integrations.adapters.store_records.lancedb import (
    dimensions_of,
    has_record,
    migration_of,
    read_record,
    samples_of,
    table_name,
    write_record,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.store_kinds.base import SAMPLES, Sample, StoreKind

__all__ = ["LanceDBTable"]


class LanceDBTable(StoreKind):
    """A table of LanceDB: its record is part of the metadata of its column of vectors; given a path, it is a file.

    There is no table before the first texts are added, and adding overwrites all that it has, record included, unless
    the store was opened with `mode="append"`.
    """

    loses_record = True

    def name(self, store: VectorStore) -> str:
        """What messages call it."""
        return table_name(vars(store)["_table_name"])

    def read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        """Its record, if it has one."""
        if self.path is not None:
            return super().read(store)
        table = self._table(store)
        return None if table is None else read_record(table, self._vector(store))

    def write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        """Write its record, if there is a table."""
        if self.path is not None:
            return super().write(store, fingerprint)
        table = self._table(store)
        if table is not None:
            write_record(table, self._vector(store), fingerprint)

    def has_record(self, store: VectorStore) -> bool:
        """Whether there is a record, damaged or not."""
        if self.path is not None:
            return super().has_record(store)
        table = self._table(store)
        return table is not None and has_record(table, self._vector(store))

    def migration(self, store: VectorStore) -> str | None:
        """The command that gives it the vectors of another model; `None` for one in the cloud."""
        parts = vars(store)
        return migration_of(parts["_connection"], parts["_table_name"], parts["_vector_key"], parts["_text_key"])

    def count(self, store: VectorStore) -> int | None:
        """How many rows it has."""
        table = self._table(store)
        return 0 if table is None else int(table.count_rows())

    def dimensions(self, store: VectorStore) -> int | None:
        """Coordinates of its vectors."""
        table = self._table(store)
        return None if table is None else dimensions_of(table, self._vector(store))

    def sample(self, store: VectorStore) -> list[Sample]:
        """A few of its texts with their vectors."""
        table = self._table(store)
        if table is None:
            return []
        found = samples_of(table, self._vector(store), vars(store)["_text_key"], SAMPLES)
        return [(text, vector) for text, _, vector in found]

    @staticmethod
    def _table(store: VectorStore) -> Any:
        """The table as it is now: the store itself opens it anew for everything that it does."""
        opened: Any = store
        return opened.get_table()

    @staticmethod
    def _vector(store: VectorStore) -> str:
        return str(vars(store)["_vector_key"])
