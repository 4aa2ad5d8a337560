"""The verbs: what they refuse, what they go on with, and that the store is as it was whenever something is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import (
    JournalDamagedError,
    JournalError,
    MigrationError,
    MLXIntegrationsError,
    RowsError,
    StoreBusyError,
    StoreChangedError,
    StoreError,
    VerificationError,
)
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status, verify
from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.engine.passes import Progress
from mlx_integrations.migration.engine.workspace import Workspace, work_folder
from mlx_integrations.migration.executors.protocol import Vectors
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.migration.memory_store import InstantExecutor
from tests.migration.stores import contents_of, executor, save_faiss, texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_faiss(tmp_path / "store", texts(40))


@pytest.fixture
def store(folder: Path) -> LangChainFaissStore:
    return LangChainFaissStore(folder)


def test_a_plan_writes_nothing_and_embeds_a_few_rows(store: LangChainFaissStore, tmp_path: Path) -> None:
    before = contents_of(tmp_path)
    moments = iter([10.0, 14.0])
    plan = plan_migration(store, executor(max_tokens=4), clock=lambda: next(moments))
    assert (plan.info.count, plan.info.dimensions, plan.target.dimensions) == (40, (24,), 16)
    assert (plan.index, plan.disk_bytes, plan.is_blocked) == ("Flat", 2 * 40 * 16 * 4, False)
    assert plan.free_bytes > 0
    assert (plan.long_rows, plan.counted_rows) == (40, 40)  # a start mark and six words
    assert plan.seconds == pytest.approx(4.0)  # 40 rows took so long, and there are 40
    assert plan_migration(store, executor(), probe=False).seconds is None
    assert plan_migration(store, executor()).long_rows == 0
    assert contents_of(tmp_path) == before


def test_a_run_that_is_paused_goes_on(store: LangChainFaissStore, folder: Path) -> None:
    before, told = contents_of(folder), list[Progress]()
    paused = migrate(store, executor(), batch_rows=16, should_stop=lambda: True, on_progress=told.append)
    assert (paused.phase, paused.in_use, paused.embedded, paused.total) == ("embedding", "old", 16, 40)
    assert contents_of(folder) == before
    known = status(store)
    assert known == paused
    done = migrate(store, executor(), batch_rows=16, on_progress=told.append)
    assert (done.phase, done.in_use, done.embedded) == ("published", "new", 40)
    assert [each.done for each in told] == [16, 32, 40]
    assert done.run_id == paused.run_id


def test_nothing_is_put_in_use_before_it_is_asked_for(store: LangChainFaissStore, folder: Path) -> None:
    before = contents_of(folder)
    done = migrate(store, executor(), publishes=False)
    assert (done.phase, done.in_use) == ("verified", "old")
    assert all(check.is_passed for check in done.checks)
    assert {name: content for name, content in contents_of(folder).items() if name in before} == before
    assert [check.name for check in verify(store, executor())] == [
        "count",
        "contents",
        "dimensions",
        "finite",
        "vectors",
        "alignment",
    ]
    assert publish(store).in_use == "new"
    assert publish(store).in_use == "new"
    assert all(check.is_passed for check in verify(store, executor()))


def test_verbs_without_a_run_say_so(store: LangChainFaissStore, tmp_path: Path) -> None:
    assert status(store) is None
    assert gc(store) is False
    for verb in (publish, rollback, lambda store: verify(store, executor())):
        with pytest.raises(MigrationError, match="No migration") as caught:
            verb(store)
        assert "mlxi migrate run" in caught.value.hint


def test_verbs_come_in_their_order(store: LangChainFaissStore) -> None:
    migrate(store, executor(), batch_rows=16, should_stop=lambda: True)
    for verb in (publish, rollback, lambda store: verify(store, executor())):
        with pytest.raises(MigrationError):
            verb(store)
    migrate(store, executor())
    assert rollback(store).phase == "rolled back"
    assert rollback(store).phase == "rolled back"
    with pytest.raises(MigrationError, match="rolled back"):
        publish(store)
    assert migrate(store, executor()).phase == "published"


@pytest.mark.parametrize(
    ("other", "options", "told"),
    [
        ({"dimensions": 12}, {}, "`dimensions` was `16` and is `12`"),
        ({"seed": 2}, {}, "the same texts get other vectors"),
        ({"long_texts": "mean"}, {}, "`long_texts` was `truncate` and is `mean`"),
        ({"max_tokens": 32}, {}, "`max_tokens` was `64` and is `32`"),
        ({}, {"index": "HNSW8"}, "`index` was left out and is `HNSW8`"),
    ],
)
def test_a_run_of_another_model_is_not_gone_on_with(
    store: LangChainFaissStore, other: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    migrate(store, executor(), batch_rows=16, should_stop=lambda: True)
    with pytest.raises(JournalError, match=told) as caught:
        migrate(store, executor(**other), **options)
    assert "--restart" in caught.value.hint
    done = migrate(store, executor(**other), restart=True, **options)
    assert (done.phase, done.embedded) == ("published", 40)


@pytest.mark.parametrize("error", [StoreError, StoreBusyError, StoreChangedError])
def test_a_rollback_that_the_store_refuses_changes_nothing(folder: Path, error: type[MigrationError]) -> None:
    class Refusing(LangChainFaissStore):
        def rollback(self, run: Run) -> None:
            raise error("A view is in the way.", store="it")

    migrate(LangChainFaissStore(folder), executor())
    with pytest.raises(error, match="in the way"):
        rollback(Refusing(folder))
    known = status(LangChainFaissStore(folder))
    assert known is not None and (known.phase, known.in_use) == ("published", "new")
    assert gc(LangChainFaissStore(folder))  # it can be decided anew


def test_what_takes_long_without_batches_is_told(store: LangChainFaissStore) -> None:
    told = list[str]()
    migrate(store, executor(), publishes=False, on_phase=told.append)
    assert told == ["building", "built"]
    migrate(store, executor(), on_phase=told.append)
    migrate(store, executor(), on_phase=told.append)
    assert told == ["building", "built", "publishing"]


def test_an_index_that_cannot_be_built_is_refused_before_anything_is_embedded(store: LangChainFaissStore) -> None:
    model = executor()
    with pytest.raises(StoreError, match="Nonsense"):
        migrate(store, model, index="Nonsense")
    assert status(store) is None


def test_faults_that_nobody_can_accept_are_told_at_once(tmp_path: Path) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", ["one", " ", "three"]))
    for accept in (False, True):
        with pytest.raises(RowsError, match=r"cannot leave them out.*such as doc-") as caught:
            migrate(store, executor(), accept=accept)
        assert caught.value.count == 1 and "--accept" not in caught.value.hint


def test_another_migration_waits_until_the_old_vectors_are_decided_on(store: LangChainFaissStore) -> None:
    migrate(store, executor())
    for restart in (False, True):
        with pytest.raises(MigrationError) as caught:
            migrate(store, executor(12), restart=restart)
        assert "mlxi migrate gc" in caught.value.hint
    gc(store)
    assert migrate(store, executor(12)).in_use == "new"
    assert store.describe().dimensions == (12,)


def overwritten(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def with_a_torn_page(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = pytest.mark.parametrize("damage", [overwritten, with_a_torn_page, cut_off])


@DAMAGES
@pytest.mark.parametrize("built", [False, True])
def test_a_damaged_journal_can_be_started_afresh(
    store: LangChainFaissStore, folder: Path, damage: Callable[[Path], None], built: bool
) -> None:
    before = contents_of(folder)
    if built:
        migrate(store, executor(), publishes=False)
    else:
        migrate(store, executor(), batch_rows=16, should_stop=lambda: True)
    damage(work_folder(store.location) / "journal.sqlite")
    with pytest.raises(JournalDamagedError) as caught:
        migrate(store, executor())
    assert "--restart" in caught.value.hint
    assert rollback_is_refused(store)
    assert migrate(store, executor(12), restart=True, publishes=False).in_use == "old"
    assert gc(store)
    assert contents_of(folder) == before  # nothing of the first run is left


def rollback_is_refused(store: LangChainFaissStore) -> bool:
    with pytest.raises(MigrationError, match="has its old vectors in use"):
        rollback(store)
    return True


@DAMAGES
def test_with_a_damaged_journal_old_vectors_are_put_back(
    store: LangChainFaissStore, folder: Path, damage: Callable[[Path], None]
) -> None:
    before = contents_of(folder)
    migrate(store, executor())
    damage(work_folder(store.location) / "journal.sqlite")
    with pytest.raises(JournalDamagedError, match="cannot be used") as caught:
        status(store)
    assert "mlxi migrate rollback" in caught.value.hint
    with pytest.raises(MigrationError, match="keeps the old vectors"):
        migrate(store, executor(12), restart=True)
    assert store.describe().dimensions == (16,)
    assert rollback(store).in_use == "old"
    assert migrate(store, executor()).in_use == "new"  # all is embedded again
    damage(work_folder(store.location) / "journal.sqlite")
    rollback(store)
    assert gc(store)
    assert contents_of(folder) == before


def test_with_a_damaged_journal_nothing_that_was_added_since_is_lost(store: LangChainFaissStore, folder: Path) -> None:
    for _ in range(2):  # also after it was published a second time
        migrate(store, executor())
        rollback(store)
    migrate(store, executor())
    save_faiss(folder, texts(41), dimensions=16)
    changed = LangChainFaissStore(folder)
    cut_off(work_folder(changed.location) / "journal.sqlite")
    with pytest.raises(StoreChangedError, match="changed since its new vectors are in use"):
        rollback(changed)
    found = LangChainFaissStore(folder).describe()
    assert (found.count, found.dimensions, found.findings) == (41, (16,), ())
    assert gc(changed)


@DAMAGES
def test_with_a_damaged_journal_old_vectors_are_deleted(
    store: LangChainFaissStore, folder: Path, damage: Callable[[Path], None]
) -> None:
    names = {path.name for path in folder.iterdir()}
    migrate(store, executor())
    damage(work_folder(store.location) / "journal.sqlite")
    assert gc(store)
    assert store.describe().dimensions == (16,)
    assert {path.name for path in folder.iterdir()} == {*names, "mlxi-embedding.json"}
    assert not work_folder(store.location).exists()


def test_what_was_being_written_when_a_run_was_killed_is_deleted_with_it(store: LangChainFaissStore) -> None:
    migrate(store, executor(), publishes=False)
    place = work_folder(store.location)
    for name in ("run.json.part", "journal.sqlite.new"):
        (place / name).touch()
    assert gc(store)
    assert not place.exists()


def test_a_journal_of_a_later_version_is_not_given_up(store: LangChainFaissStore) -> None:
    migrate(store, executor())
    journal = work_folder(store.location) / "journal.sqlite"
    with Journal(journal) as opened, opened.transaction():
        opened.set_fact("format", 99)
    for verb in (rollback, gc, lambda store: migrate(store, executor(), restart=True)):
        with pytest.raises(JournalError, match="99") as caught:
            verb(store)
        assert "Update" in caught.value.hint
    assert journal.exists()
    assert store.describe().dimensions == (16,)


def test_a_second_run_at_the_same_time_is_refused(store: LangChainFaissStore, folder: Path) -> None:
    script = (
        "from mlx_integrations.migration.api import migrate\n"
        "from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore\n"
        "from tests.migration.stores import executor\n"
        f"migrate(LangChainFaissStore({str(folder)!r}), executor())"
    )
    with Workspace.locked(store.location):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
        assert "StoreBusyError" in done.stderr
        with pytest.raises(StoreBusyError):
            gc(store)
        assert status(store) is None  # looking is allowed
    assert migrate(store, executor()).in_use == "new"


def test_a_store_that_was_changed_since_it_was_published_is_not_rolled_back(
    store: LangChainFaissStore, folder: Path
) -> None:
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    migrate(store, executor())
    faiss = FAISS.load_local(str(folder), DeterministicFakeEmbedding(size=16), allow_dangerous_deserialization=True)
    faiss.add_texts(["a new one"])
    faiss.save_local(str(folder))
    with pytest.raises(StoreChangedError, match="do not have all of it"):
        rollback(store)
    assert store.describe().dimensions == (16,)
    assert gc(store)
    assert store.describe().count == 41


def test_a_model_that_does_not_make_the_same_vectors_twice_is_not_published(
    store: LangChainFaissStore, folder: Path
) -> None:
    class Fickle(InstantExecutor):
        def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
            for made in super().embed(batches):
                noise = np.random.default_rng(len(self.embedded)).normal(size=made.vectors.shape)
                yield Vectors(vectors=noise.astype(np.float32))

    before = contents_of(folder)
    with pytest.raises(VerificationError, match="alignment") as caught:
        migrate(store, Fickle())
    assert len(caught.value.failures) == 1
    known = status(store)
    assert known is not None
    assert [check.name for check in known.checks if not check.is_passed] == ["alignment"]
    assert (known.phase, known.in_use) == ("built", "old")
    with pytest.raises(MigrationError, match="not verified"):
        publish(store)
    gc(store)
    assert contents_of(folder) == before


def test_vectors_in_the_wrong_order_are_found(store: LangChainFaissStore) -> None:
    migrate(store, executor(), publishes=False)
    (built,) = store.location.path.glob("index.faiss.mlxi-*")
    content = built.read_bytes()
    row = 16 * 4
    built.write_bytes(content[:45] + content[45 + row :] + content[45 : 45 + row])
    with pytest.raises(VerificationError, match=": 0 of 40 rows"):
        verify(store, executor())


def test_two_vectors_that_are_exchanged_are_found_among_thousands(tmp_path: Path) -> None:
    """Embedding a sample again would miss them."""
    contents = [f"The {number} of spades" for number in range(2000)]
    store = LangChainFaissStore(save_faiss(tmp_path / "store", contents))
    migrate(store, executor(), publishes=False)
    (built,) = store.location.path.glob("index.faiss.mlxi-*")
    content, row = built.read_bytes(), 16 * 4
    first, second = (slice(45 + place * row, 45 + (place + 1) * row) for place in (700, 701))
    exchanged = bytearray(content)
    exchanged[first], exchanged[second] = content[second], content[first]
    built.write_bytes(exchanged)
    with pytest.raises(VerificationError, match="vectors: 1998 of 2000 rows have the vector"):
        verify(store, executor())


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda vectors: vectors.__setitem__((3, 0), np.nan), "finite"),
        (lambda vectors: vectors.__setitem__(3, 0), "finite"),
    ],
)
def test_vectors_that_no_search_can_use_are_found(store: LangChainFaissStore, change: Any, failing: str) -> None:
    migrate(store, executor(), publishes=False)
    (built,) = store.location.path.glob("index.faiss.mlxi-*")
    change(np.memmap(built, "<f4", "r+", offset=45, shape=(40, 16)))
    with pytest.raises(VerificationError, match=failing):
        verify(store, executor())


def test_what_is_published_is_read_back_and_taken_back_if_it_is_not_what_was_built(
    store: LangChainFaissStore, folder: Path
) -> None:
    before = (folder / "index.faiss").read_bytes()
    migrate(store, executor(), publishes=False)
    (built,) = folder.glob("index.faiss.mlxi-*")
    np.memmap(built, "<f4", "r+", offset=45, shape=(40, 16))[5] = np.inf
    with pytest.raises(VerificationError, match="finite"):
        publish(store)
    assert (folder / "index.faiss").read_bytes() == before
    known = status(store)
    assert known is not None and (known.phase, known.in_use) == ("rolled back", "old")


def test_runs_can_be_kept_elsewhere(store: LangChainFaissStore, tmp_path: Path) -> None:
    work = tmp_path / "work"
    migrate(store, executor(), batch_rows=16, should_stop=lambda: True, work=work)
    assert status(store) is None
    known = status(store, work=work)
    assert known is not None and known.embedded == 16
    assert not (tmp_path / ".mlxi-migrate").exists()
    assert migrate(store, executor(), work=work).in_use == "new"
    assert gc(store, work=work)
    assert not work.exists()


def child(folder: Path, preparation: str) -> dict[str, Any]:
    """Migrate in a process of its own, and tell how it ended."""
    script = f"""
import json, os, resource, signal
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.migration.stores import executor
store, model = LangChainFaissStore({str(folder)!r}), executor()
model.fingerprint()
{preparation}
try:
    migrate(store, model, batch_rows=64)
    print(json.dumps({{"error": None}}))
except MLXIntegrationsError as error:
    print(json.dumps({{"error": type(error).__name__, "message": error.message, "hint": error.hint}}))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("limit_kilobytes", [0, 1, 40, 70, 90, 130])
def test_a_full_disk_costs_nothing(tmp_path: Path, limit_kilobytes: int) -> None:
    """The kernel refuses to let any file grow beyond the limit: at the journal, the vectors, or the new index."""
    folder = save_faiss(tmp_path / "store", texts(2000))
    before = contents_of(folder)
    limit = limit_kilobytes * 1024
    report = child(folder, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    assert report["error"] == "StoreError", report
    assert "cannot write" in report["message"]
    assert "goes on" in report["hint"]
    assert contents_of(folder) == before
    done = migrate(LangChainFaissStore(folder), executor(), batch_rows=64)
    assert (done.in_use, done.embedded) == ("new", 2000)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", texts(20))
    before = contents_of(folder)
    (tmp_path / "store").chmod(0o555)
    tmp_path.chmod(0o555)
    nobody = "os.setgroups([]); os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else ""
    try:
        report = child(folder, nobody)
    finally:
        tmp_path.chmod(0o755)
        (tmp_path / "store").chmod(0o755)
    assert report["error"] == "StoreError"
    assert "Permission denied" in report["message"]
    assert contents_of(folder) == before


def test_errors_of_the_model_stay_what_they_are(store: LangChainFaissStore) -> None:
    from mlx_integrations.errors import RemoteConnectionError

    class Absent(InstantExecutor):
        def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
            raise RemoteConnectionError("nobody answers", endpoint="x")
            yield

    with pytest.raises(RemoteConnectionError):
        migrate(store, Absent())


@pytest.mark.parametrize("long_texts", ["error", "truncate", "mean"])
def test_long_texts_are_treated_as_asked(tmp_path: Path, long_texts: Any) -> None:
    words = " ".join(f"word{number}" for number in range(50))
    folder = save_faiss(tmp_path / "store", ["short", words])
    store = LangChainFaissStore(folder)
    if long_texts == "error":
        with pytest.raises(RowsError, match="model reads 16") as caught:
            migrate(store, executor(long_texts=long_texts, max_tokens=16))
        assert caught.value.ids == ("doc-00001",)
        return
    done = migrate(store, executor(long_texts=long_texts, max_tokens=16))
    assert (done.in_use, done.truncated) == ("new", 1 if long_texts == "truncate" else 0)


def test_every_error_has_a_hint_or_speaks_for_itself(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        LangChainFaissStore(tmp_path)
    assert isinstance(caught.value, MLXIntegrationsError)
    assert "save_local" in caught.value.hint
