"""What users may do at the wrong moment, and what they may have where runs are kept: nothing of theirs is lost."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_integrations.errors import JournalError, RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.engine.workspace import work_folder
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.migration.targets.opening import open_target
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, executor, save_faiss, texts, vectors


def dump(path: Path, count: int, dimensions: int = OLD_DIMENSIONS) -> Path:
    """A file as `InMemoryVectorStore.dump` writes it, in place."""
    made = vectors(count, dimensions).tolist()
    entries = {
        f"doc-{number}": {"id": f"doc-{number}", "vector": vector, "text": text, "metadata": {}}
        for number, (text, vector) in enumerate(zip(texts(count), made, strict=True))
    }
    path.write_text(json.dumps(entries))
    return path


# Where runs are kept


def test_a_store_that_lies_where_runs_are_kept_is_not_deleted(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(10))
    assert migrate(LangChainFaissStore(folder), executor(), work=tmp_path).in_use == "new"
    assert not (folder / "journal.sqlite").exists()
    assert gc(LangChainFaissStore(folder), work=tmp_path)
    assert LangChainFaissStore(folder).describe().count == 10
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_somebody_has_put_beside_a_journal_stays(tmp_path: Path) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(10)))
    migrate(store, executor())
    (work_folder(store.location) / "notes.txt").write_text("mine")
    assert gc(store)
    assert [path.name for path in work_folder(store.location).iterdir()] == ["notes.txt"]


def test_stores_of_one_name_have_runs_of_their_own_in_one_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first, second = (LangChainFaissStore(save_faiss(tmp_path / name / "db", texts(10))) for name in "ab")
    assert migrate(first, executor(), work=work).in_use == "new"
    assert status(second, work=work) is None
    assert migrate(second, executor(), work=work).in_use == "new"
    assert gc(second, work=work)
    assert rollback(first, work=work).in_use == "old"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("/here/db", "notes.v2"), ("/here/db.notes", "v2")),
        (("/here/db", "notes"), ("/here/db.notes", None)),
        (("/here/db", "Notes"), ("/here/db", "notes")),
        (("/here/db", "a/b"), ("/here/db", "a b")),
        (("/here/" + "d" * 250, "a"), ("/here/" + "d" * 250, "b")),
        (("/here/db", "c" * 400 + "a"), ("/here/db", "c" * 400 + "b")),
        (("/here/db", "../../other"), ("/here/db", "../other")),
        (("/here/db", "Ünïcode 名 \ud800"), ("/here/db", "Ünïcode 名 \udfff")),
    ],
)
def test_stores_of_one_folder_have_runs_of_their_own(
    first: tuple[str, str | None], second: tuple[str, str | None]
) -> None:
    places = [work_folder(StoreLocation(kind="any", address=address, name=name)) for address, name in (first, second)]
    assert len({str(place).casefold() for place in places}) == 2
    assert {place.parent for place in places} == {Path("/here/.mlxi-migrate")}
    assert all(len(place.name.encode()) <= 255 for place in places)


# Stores that are made anew


def test_a_store_that_was_made_anew_is_not_taken_for_the_published_one(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(10))
    migrate(LangChainFaissStore(folder), executor())
    shutil.rmtree(folder)
    save_faiss(folder, texts(12))
    for verb in (lambda store: migrate(store, executor()), publish):
        with pytest.raises(JournalError, match="made anew") as caught:
            verb(LangChainFaissStore(folder))
        assert "mlxi migrate gc" in caught.value.hint
    assert gc(LangChainFaissStore(folder))
    done = migrate(LangChainFaissStore(folder), executor())
    assert (done.in_use, done.embedded) == ("new", 12)


def test_a_store_that_compares_in_another_way_since_is_not_gone_on_with(tmp_path: Path) -> None:
    import faiss

    folder = save_faiss(tmp_path / "store", texts(20))
    migrate(LangChainFaissStore(folder), executor(), batch_rows=8, should_stop=lambda: True)
    index = faiss.IndexFlatIP(OLD_DIMENSIONS)
    index.add(vectors(20, OLD_DIMENSIONS))
    faiss.write_index(index, str(folder / "index.faiss"))
    with pytest.raises(JournalError, match="`metric` was `euclidean` and is `dot`"):
        migrate(LangChainFaissStore(folder), executor())
    migrate(LangChainFaissStore(folder), executor(), restart=True)
    assert faiss.read_index(str(folder / "index.faiss")).metric_type == faiss.METRIC_INNER_PRODUCT


def test_a_published_store_without_its_record_is_still_the_published_one(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(10))
    migrate(LangChainFaissStore(folder), executor())
    (folder / "mlxi-embedding.json").unlink()
    assert migrate(LangChainFaissStore(folder), executor()).phase == "published"


# What comes between


class _Interrupted(InMemoryDump):
    """Is interrupted at a moment of publishing."""

    before = True

    def publish(self, run: Run) -> None:
        if not self.before:
            super().publish(run)
            self.built = self._interrupt  # type: ignore[method-assign,assignment]
            return
        raise KeyboardInterrupt

    def _interrupt(self, run: Run) -> None:
        raise KeyboardInterrupt


def test_what_is_added_after_publishing_was_cut_off_is_taken_in(tmp_path: Path) -> None:
    path = dump(tmp_path / "store.json", 10)
    with pytest.raises(KeyboardInterrupt):
        migrate(_Interrupted(path), executor())
    dump(path, 15)
    with pytest.raises(StoreChangedError, match="after it was embedded"):
        publish(InMemoryDump(path))
    assert InMemoryDump(path).describe().count == 15
    done = migrate(InMemoryDump(path), executor())
    assert (done.in_use, done.embedded) == ("new", 15)


@pytest.mark.parametrize("verb", [rollback, publish])
def test_what_is_added_while_the_new_vectors_are_looked_at_is_not_taken_back(tmp_path: Path, verb: object) -> None:
    path = dump(tmp_path / "store.json", 10)
    store = _Interrupted(path)
    store.before = False
    with pytest.raises(KeyboardInterrupt):
        migrate(store, executor())
    dump(path, 12, NEW_DIMENSIONS)
    if verb is publish:
        assert publish(InMemoryDump(path)).phase == "published"
    with pytest.raises(StoreChangedError):
        rollback(InMemoryDump(path))
    info = InMemoryDump(path).describe()
    assert (info.count, info.dimensions) == (12, (NEW_DIMENSIONS,))


class _Late(InMemoryDump):
    """Somebody writes in the moment between the last look at the store and its publishing."""

    def publish(self, run: Run) -> None:
        dump(self.location.path, 11)
        super().publish(run)


def test_what_is_added_in_the_last_moment_is_not_replaced(tmp_path: Path) -> None:
    path = dump(tmp_path / "store.json", 10)
    with pytest.raises(StoreChangedError, match="after it was embedded"):
        migrate(_Late(path), executor())
    assert InMemoryDump(path).describe().count == 11
    done = migrate(InMemoryDump(path), executor())
    assert (done.in_use, done.embedded) == ("new", 11)
    assert gc(InMemoryDump(path))


def test_a_point_that_is_added_in_the_last_moment_is_not_replaced(tmp_path: Path) -> None:
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, PointStruct, VectorParams

    from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore

    def add(first: int, count: int) -> None:
        client = QdrantClient(path=str(tmp_path / "store"))
        if not client.collection_exists("notes"):
            client.create_collection("notes", VectorParams(size=4, distance=Distance.COSINE))
        points = [
            PointStruct(id=number, vector=[1.0, 2.0, 3.0, number], payload={"page_content": f"Text {number}."})
            for number in range(first, first + count)
        ]
        client.upsert("notes", points)
        client.close()

    class Late(QdrantLocalStore):
        def publish(self, run: Run) -> None:
            add(5, 1)
            super().publish(run)

    add(0, 5)
    with pytest.raises(StoreChangedError, match="after it was embedded"):
        migrate(Late(tmp_path / "store"), executor())
    done = migrate(QdrantLocalStore(tmp_path / "store"), executor())
    assert (done.in_use, done.embedded) == ("new", 6)


_LATE: str = """
import sys, chromadb
collection = chromadb.PersistentClient(sys.argv[1]).create_collection("notes", embedding_function=None)
def add(first, count):
    ids = [f"doc-{number}" for number in range(first, first + count)]
    collection.add(ids=ids, documents=[f"{each} in words" for each in ids], embeddings=[[1.0, 2.0, 3.0]] * count)
add(0, 5)
print("there", flush=True)
input()
add(5, 1)
"""


def test_what_a_program_goes_on_writing_to_old_vectors_is_not_deleted(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _LATE, str(tmp_path / "store")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "there\n"
        assert migrate(ChromaStore(tmp_path / "store"), executor()).in_use == "new"
        program.communicate("now\n")
    store = ChromaStore(tmp_path / "store", "notes")
    assert store.describe().count == 5
    with pytest.raises(StoreChangedError, match="old vectors") as caught:
        gc(store)
    assert "mlxi migrate rollback" in caught.value.hint
    rollback(store)
    done = migrate(store, executor())
    assert (done.in_use, done.embedded) == ("new", 6)
    assert gc(store)
    assert store.describe().count == 6


# What is accepted


def test_an_empty_store_is_not_made_of_one_whose_rows_were_all_refused(tmp_path: Path) -> None:
    path = dump(tmp_path / "store.json", 10)
    with pytest.raises(RowsError, match="Not one of 10 rows"):
        migrate(InMemoryDump(path), executor(max_tokens=2, long_texts="error"), accept=True)
    assert InMemoryDump(path).describe().dimensions == (OLD_DIMENSIONS,)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_how_faiss_compares_is_kept_or_the_store_is_refused(tmp_path: Path, factory: str) -> None:
    import faiss

    def with_metric(name: str, metric: int) -> Path:
        folder = save_faiss(tmp_path / name, texts(10))
        index = faiss.index_factory(OLD_DIMENSIONS, factory, metric)
        index.add(vectors(10, OLD_DIMENSIONS))
        faiss.write_index(index, str(folder / "index.faiss"))
        return folder

    folder = with_metric("known", faiss.METRIC_L1)
    assert migrate(LangChainFaissStore(folder), executor()).in_use == "new"
    assert faiss.read_index(str(folder / "index.faiss")).metric_type == faiss.METRIC_L1
    with pytest.raises(StoreError, match="compares vectors in a way"):
        migrate(LangChainFaissStore(with_metric("other", faiss.METRIC_Linf)), executor())


@pytest.mark.parametrize("kind", ["chroma", "qdrant", "langchain-faiss"])
def test_an_address_of_a_server_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="address of a server") as caught:
        open_target("https://:SECRET@host", kind, "notes")
    with pytest.raises(StoreError, match="Nothing can be moved") as unknown:
        open_target("postgresql://ann:SECRET@host/db", "other", "notes")
    assert "SECRET" not in repr([vars(each.value) for each in (caught, unknown)]) + str(caught.value)
    assert not list(tmp_path.iterdir())


# Who may read it


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_what_takes_the_place_of_a_file_has_its_rights(tmp_path: Path, mode: int) -> None:
    path, folder = dump(tmp_path / "store.json", 10), save_faiss(tmp_path / "store", texts(300), factory="IVF2,Flat")
    for file in (path, folder / "index.faiss"):
        file.chmod(mode)
    for store in (InMemoryDump(path), LangChainFaissStore(folder)):
        assert migrate(store, executor()).in_use == "new"
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, folder / "index.faiss")} == {mode}
