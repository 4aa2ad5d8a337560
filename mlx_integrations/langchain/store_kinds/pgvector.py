"""What can be learnt from the stores of langchain-postgres, asked through their own connections.

The record of `PGVector` is part of the metadata of its collection, that of `PGVectorStore` a comment on the column of
its vectors.
"""

import json
import logging
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from langchain_core.vectorstores import VectorStore

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.adapters.store_records.pgvector import (
    comment_query,
    comment_statement,
    comment_with,
    literal,
    metadata_with,
    quoted,
    record_in_comment,
    record_in_metadata,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.errors import InvalidRequestError
from mlx_integrations.langchain.store_kinds.base import SAMPLES, Sample, StoreKind

__all__ = ["PgvectorCollection", "PgvectorTable"]

_logger = logging.getLogger(__name__)


class _Pgvector(StoreKind, ABC):
    """What both have in common. Given a path, the record is a file like any other's."""

    package = "langchain_postgres"

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._knows_of_record = False

    def read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        if self.path is not None:
            return super().read(store)
        record = self._read(store)
        self._knows_of_record = record is not None
        return record

    def write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        if self.path is not None:
            return super().write(store, fingerprint)
        self._write(store, fingerprint)
        self._knows_of_record = True

    def has_record(self, store: VectorStore) -> bool:
        return super().has_record(store) if self.path is not None else self._knows_of_record

    @abstractmethod
    def _read(self, store: VectorStore) -> EmbeddingFingerprint | None: ...

    @abstractmethod
    def _write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None: ...


class PgvectorCollection(_Pgvector):
    """`PGVector`: a collection in a table of several."""

    def name(self, store: VectorStore) -> str:
        """What messages call it."""
        return f"the pgvector collection `{vars(store)['collection_name']}`"

    def migration(self, store: VectorStore) -> str | None:
        """The command that gives it the vectors of another model."""
        engine, collection = vars(store)["_engine"], vars(store)["collection_name"]
        return None if engine is None else _command(engine.url, collection)

    def count(self, store: VectorStore) -> int | None:
        """No more than tells whether there are any."""
        return len(self._rows(store, 1))

    def sample(self, store: VectorStore) -> list[Sample]:
        """A few of its texts with their vectors."""
        return [(row.document or "", [float(x) for x in row.embedding]) for row in self._rows(store, SAMPLES)]

    def _rows(self, store: VectorStore, limit: int) -> list[Any]:
        embeddings = vars(store)["EmbeddingStore"]
        with self._session(store) as session:
            collection = _collection(store, session)
            query = session.query(embeddings).filter(embeddings.collection_id == collection.uuid)
            return list(query.filter(embeddings.embedding.is_not(None)).limit(limit))

    def _read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        with self._session(store) as session:
            return record_in_metadata(_collection(store, session).cmetadata, self.name(store))

    def _write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        with self._session(store) as session:
            collection = _collection(store, session)
            collection.cmetadata = metadata_with(collection.cmetadata, fingerprint)
            session.commit()

    @staticmethod
    def _session(store: VectorStore) -> AbstractContextManager[Any]:
        if vars(store)["async_mode"]:
            raise _only_async(store)
        session: AbstractContextManager[Any] = getattr(store, "_make_sync_session")()  # noqa: B009 -- it is private
        return session


class PgvectorTable(_Pgvector):
    """`PGVectorStore`: a table of its own."""

    def name(self, store: VectorStore) -> str:
        """What messages call it."""
        return f"the pgvector table `{_inner(store).table_name}`"

    def migration(self, store: VectorStore) -> str | None:
        """The command that gives it the vectors of another model."""
        inner = _inner(store)
        name = inner.table_name if inner.schema_name == "public" else f"{inner.schema_name}.{inner.table_name}"
        return _command(inner.engine.url, name)

    def count(self, store: VectorStore) -> int | None:
        """No more than tells whether there are any."""
        return len(_asked(store, f"SELECT 1 FROM {_table(store)} LIMIT 1"))

    def sample(self, store: VectorStore) -> list[Sample]:
        """A few of its texts with their vectors."""
        inner = _inner(store)
        columns = f"{quoted(inner.content_column)}, {quoted(inner.embedding_column)}::text"
        rows = _asked(store, f"SELECT {columns} FROM {_table(store)} LIMIT {SAMPLES}")
        return [(text or "", json.loads(vector)) for text, vector in rows if vector is not None]

    def _read(self, store: VectorStore) -> EmbeddingFingerprint | None:
        return record_in_comment(self._comment(store), self.name(store))

    def _write(self, store: VectorStore, fingerprint: EmbeddingFingerprint) -> None:
        owned = f"SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = {literal(_table(store))}::regclass"
        ((is_owner,),) = _asked(store, owned)
        if not is_owner:
            _logger.warning("No fingerprint is written for %s: only the owner of the table may.", self.name(store))
            return
        comment = comment_with(self._comment(store), fingerprint)
        _asked(store, comment_statement(_table(store), _inner(store).embedding_column, comment))

    @staticmethod
    def _comment(store: VectorStore) -> str | None:
        ((comment,),) = _asked(store, comment_query(_table(store), _inner(store).embedding_column))
        return None if comment is None else str(comment)


def _collection(store: Any, session: Any) -> Any:
    return store.get_collection(session)


def _inner(store: VectorStore) -> Any:
    return vars(store)["_PGVectorStore__vs"]


def _table(store: VectorStore) -> str:
    return quoted(_inner(store).schema_name, _inner(store).table_name)


def _asked(store: VectorStore, statement: str) -> list[Any]:
    """Run a statement on the store's own engine, which lives in an event loop of its own thread."""
    engine = vars(store)["_engine"]
    if engine._loop is None:
        raise _only_async(store)

    async def run() -> list[Any]:
        async with engine._pool.connect() as connection:
            result = await connection.exec_driver_sql(statement)
            rows = list(result.fetchall()) if result.returns_rows else []
            await connection.commit()
            return rows

    found: list[Any] = engine._run_as_sync(run())
    return found


def _command(url: Any, name: str) -> str:
    shown = url._replace(drivername="postgresql", password=None).render_as_string()
    return migration_command(shown, name)


def _only_async(store: VectorStore) -> InvalidRequestError:
    return InvalidRequestError(
        f"The `{type(store).__name__.removeprefix('Guarded')}` can be asked by its own event loop only.",
        field="path",
        hint='Give a path for a small file with the fingerprint: `guarded(store, path="my-store")`.',
    )
