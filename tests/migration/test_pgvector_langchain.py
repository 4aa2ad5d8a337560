"""Stores of langchain-postgres, before and after: what LangChain finds, and what the guard says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import Column, PGEngine, PGVectorStore, vectorstores
from langchain_postgres.v2.indexes import HNSWIndex
from langchain_postgres.vectorstores import PGVector

from mlx_integrations.errors import EmbeddingMismatchError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.langchain.errors import InvalidRequestError
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.pgvector_tables import asked, done
from tests.migration.stores import OLD_DIMENSIONS, executor
from tests.postgres import database_of, make_database, url_of

OLD = DeterministicFakeEmbedding(size=OLD_DIMENSIONS)
WANTED = documents(30)[13]

pytestmark = pytest.mark.usefixtures("own_data")


@pytest.fixture
def connection(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlalchemy.Engine]:
    """An engine, and classes for tables that do not remember the size of another test's vectors."""
    monkeypatch.setattr(vectorstores, "_classes", None)
    monkeypatch.setattr(vectorstores, "Base", sqlalchemy.orm.declarative_base())
    engine = sqlalchemy.create_engine(url_of(database_of(tmp_path), driver="+psycopg"))
    yield engine
    engine.dispose()


def model() -> MLXEmbeddings:
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)
    return MLXEmbeddings(model="new-model", backend=backend)


def fill(store: Any) -> None:
    contents = documents(30)
    store.add_texts(
        [each.text for each in contents],
        metadatas=[each.metadata for each in contents],
        ids=[ID.format(number) for number in range(30)],
    )


ID = "00000000-0000-4000-8000-{:012d}"


def assert_finds(store: Any, document_id: str | None = ID.format(13)) -> None:
    (found,) = store.similarity_search(WANTED.text, k=1)
    assert (found.id, found.page_content, found.metadata) == (document_id, WANTED.text, WANTED.metadata)


@pytest.mark.parametrize("length", [None, OLD_DIMENSIONS])
def test_a_collection_is_found_afterwards_and_the_guard_accepts_it(
    url: str, connection: sqlalchemy.Engine, length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(embeddings: Any, size: int | None = None) -> PGVector:
        monkeypatch.setattr(vectorstores, "_classes", None)
        monkeypatch.setattr(vectorstores, "Base", sqlalchemy.orm.declarative_base())
        return PGVector(embeddings, connection=connection, collection_name="notes", embedding_length=size)

    fill(opened(OLD, length))
    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(guarded(opened(model())))
    assert f"mlxi migrate run '{url.partition('?')[0]}" in str(caught.value.hint)
    assert "--name notes --model new-model" in str(caught.value.hint)
    store = open_store(url)
    migrate(store, executor())
    afterwards = guarded(opened(model(), None if length is None else 16))
    assert verify_store(afterwards).differences(executor().fingerprint()) == ()
    assert_finds(afterwards)
    afterwards.add_texts(["A new one."], ids=["new"])
    assert afterwards.similarity_search("A new one.", k=1)[0].page_content == "A new one."
    afterwards.delete(["new"])
    gc(store)
    store.close()
    assert_finds(guarded(opened(model(), None if length is None else 16)))


def test_a_table_is_found_afterwards_and_the_guard_accepts_it(url: str, tmp_path: Path) -> None:
    engine = PGEngine.from_connection_string(url_of(database_of(tmp_path), driver="+psycopg"))
    engine.init_vectorstore_table("Odd notes", OLD_DIMENSIONS, metadata_columns=[Column("page", "INTEGER")])

    def opened(embeddings: Any) -> PGVectorStore:
        return PGVectorStore.create_sync(engine, embeddings, "Odd notes", metadata_columns=["page"])

    fill(opened(OLD))
    opened(OLD).apply_vector_index(HNSWIndex(m=8, ef_construction=32))
    with pytest.raises(EmbeddingMismatchError) as caught:
        verify_store(guarded(opened(model())))
    assert "--name 'Odd notes' --model new-model" in str(caught.value.hint)
    store = open_store(url)
    info = store.describe()
    assert (info.metric, info.index) == ("cosine", "hnsw (m=8, ef_construction=32)")
    migrate(store, executor())
    afterwards = guarded(opened(model()))
    assert verify_store(afterwards).differences(executor().fingerprint()) == ()
    assert_finds(afterwards)
    afterwards.add_texts(["A new one."], ids=[ID.format(99)])
    assert afterwards.similarity_search("A new one.", k=1)[0].page_content == "A new one."
    afterwards.delete([ID.format(99)])
    assert store.describe().index == "hnsw (m=8, ef_construction=32)"
    store.close()
    engine._run_as_sync(engine.close())


def test_the_guard_writes_a_record_before_it_adds(url: str, tmp_path: Path, connection: sqlalchemy.Engine) -> None:
    collection = guarded(PGVector(model(), connection=connection, collection_name="notes"))
    collection.add_texts(["One."])
    engine = PGEngine.from_connection_string(url_of(database_of(tmp_path), driver="+psycopg"))
    engine.init_vectorstore_table("cards", 16)
    table = guarded(PGVectorStore.create_sync(engine, model(), "cards"))
    table.add_texts(["One."])
    for name in ("notes", "cards"):
        record = open_store(url, name).describe().fingerprint
        assert record is not None and record.differences(executor().fingerprint()) == ()
    engine._run_as_sync(engine.close())


def test_a_rollback_takes_the_record_back(url: str, connection: sqlalchemy.Engine) -> None:
    options: dict[str, Any] = {"connection": connection, "collection_name": "notes"}
    fill(PGVector(OLD, **options, collection_metadata={"owner": "ada"}))
    store = open_store(url)
    migrate(store, executor())
    rollback(store)
    store.close()
    with pytest.raises(EmbeddingMismatchError):
        verify_store(guarded(PGVector(model(), **options)))
    with connection.connect() as asked:
        assert asked.exec_driver_sql("SELECT cmetadata FROM langchain_pg_collection").fetchall() == [
            ({"owner": "ada"},)
        ]


def test_a_store_of_another_event_loop_needs_a_file_for_its_record(tmp_path: Path) -> None:
    make_database(tmp_path)
    url = url_of(database_of(tmp_path), driver="+psycopg")
    store = PGVector(model(), connection=url, collection_name="notes", async_mode=True)
    with pytest.raises(InvalidRequestError, match="event loop") as caught:
        verify_store(guarded(store))
    assert caught.value.hint is not None and "path=" in caught.value.hint


def test_who_does_not_own_a_table_may_fill_it_without_a_record(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = PGEngine.from_connection_string(url_of(database_of(tmp_path), driver="+psycopg"))
    engine.init_vectorstore_table("cards", 16)
    role = "mlxi_test_filler"
    if not asked(url, f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
        done(url, f"CREATE ROLE {role} LOGIN")
    done(url, f"GRANT SELECT, INSERT, UPDATE ON cards TO {role}")
    other = PGEngine.from_connection_string(url_of(database_of(tmp_path), user=role, driver="+psycopg"))
    store = guarded(PGVectorStore.create_sync(other, model(), "cards"))
    store.add_texts(["One."])
    store.add_texts(["Two."])
    assert "only the owner" in caplog.text
    assert asked(url, "SELECT count(*) FROM cards") == [(2,)]
    assert open_store(url).describe().fingerprint is None
    done(url, f"DROP OWNED BY {role}")
    for each in (engine, other):
        each._run_as_sync(each.close())
