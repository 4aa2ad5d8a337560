"""Many stores: one model for all that want it, one journal each, and no fault that stops the others."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.migration import api
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.engine.passes import Progress
from mlx_integrations.migration.many.bulk import (
    Executors,
    Outcome,
    gc_all,
    migrate_all,
    plan_all,
    publish_all,
    rollback_all,
    status_all,
    verify_all,
)
from mlx_integrations.migration.many.jobs import Job, Wanted, jobs_of
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.standing import MigrationStatus
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import contents_of, save_faiss, texts
from tests.migration.test_in_memory import TestInMemory as InMemory
from tests.migration.test_llama_index_simple import TestLlamaIndexSimple as LlamaIndexSimple


class Models:
    """Fake models by name, and how often each was asked for."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.backends: dict[str, FakeEmbeddingBackend] = {}

    def __call__(self, name: str) -> FakeEmbeddingBackend:
        self.loaded.append(name)
        if name == "absent":
            raise ModelNotFoundError(f"There is no model `{name}`.", model=name)
        return self.backends.setdefault(name, FakeEmbeddingBackend(model_id=name, dimensions=16, seed=len(name)))

    @property
    def embedded(self) -> int:
        """Texts that were embedded, those of verifications included."""
        return sum(len(request.texts) for backend in self.backends.values() for request in backend.requests)


class Diary:
    """A watcher that writes everything down."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def began(self, job: Job, rows: int) -> None:
        self.told.append(f"{job.label} begins with {rows}")

    def went_on(self, progress: Progress) -> None:
        self.told.append(f"at {progress.done}")

    def ended(self, outcome: Outcome) -> None:
        self.told.append(f"{outcome.job.label} {outcome.state}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    save_faiss(folder / "a", texts(30))
    InMemory().make(folder / "b", documents(20))
    LlamaIndexSimple().make(folder / "c", documents(10))
    return folder


@pytest.fixture
def models() -> Models:
    return Models()


def jobs(folder: Path, model: str = "new", **wanted: object) -> list[Job]:
    return jobs_of(folder, Wanted(model=model, **wanted))[0]  # type: ignore[arg-type]


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def dimensions(folder: Path) -> set[tuple[int, ...]]:
    return {open_store(job.address, job.name).describe().dimensions for job in jobs(folder)}


def test_all_are_migrated_with_one_model(folder: Path, models: Models) -> None:
    diary, ticks = Diary(), iter(range(100))
    done = migrate_all(jobs(folder), Executors(models), batch_rows=16, watcher=diary, clock=lambda: next(ticks))
    assert states(done) == ["done"] * 3
    assert [(one.rows, one.before, one.result.in_use, one.seconds) for one in done] == [
        (30, (24,), "new", 1),
        (20, (24,), "new", 1),
        (10, (24,), "new", 1),
    ]
    assert models.loaded == ["new"]
    assert dimensions(folder) == {(16,)}
    assert diary.told == [
        *("a begins with 30", "at 16", "at 30", "a done"),
        *("b/notes.json begins with 20", "at 16", "at 20", "b/notes.json done"),
        *("c begins with 10", "at 10", "c done"),
    ]


def test_the_same_call_does_nothing_a_second_time(folder: Path, models: Models) -> None:
    migrate_all(jobs(folder), Executors(models))
    before, embedded = contents_of(folder), models.embedded
    assert states(migrate_all(jobs(folder), Executors(models))) == ["was done"] * 3
    assert (contents_of(folder), models.embedded) == (before, embedded)
    assert states(gc_all(jobs(folder))) == ["done"] * 3
    # No journal is left, and the record of each store says which model it has.
    again = migrate_all(jobs(folder), Executors(models))
    assert states(again) == ["has it"] * 3 and [one.rows for one in again] == [30, 20, 10]
    assert models.embedded == embedded
    assert states(migrate_all(jobs(folder, "another"), Executors(models))) == ["done"] * 3


def test_another_kind_of_index_is_a_reason_to_do_it_again(folder: Path, models: Models) -> None:
    migrate_all(jobs(folder), Executors(models))
    gc_all(jobs(folder))
    (first, *_) = migrate_all(jobs(folder, index="HNSW8")[:1], Executors(models))
    assert first.state == "done" and open_store(folder / "a").describe().index.startswith("HNSW8")


def test_one_fault_does_not_stop_the_others(folder: Path, models: Models) -> None:
    index = folder / "a" / "index.faiss"
    index.write_bytes(index.read_bytes()[:-5])
    (save_faiss(folder / "half", texts(3)) / "index.pkl").unlink()
    diary = Diary()
    done = migrate_all(jobs(folder), Executors(models), watcher=diary)
    assert states(done) == ["failed", "done", "done", "failed"]
    assert "cut off" in done[0].error and "index.pkl" in done[3].error
    assert diary.told[-1] == "half failed" and diary.told[0] == "a failed"
    assert done[0].to_dict()["goes_on"] == done[0].job.command()
    assert json.loads(json.dumps([one.to_dict() for one in done]))[0]["state"] == "failed"


def test_rows_that_cannot_be_embedded_fail_their_store_alone(tmp_path: Path, models: Models) -> None:
    folder = tmp_path / "projects"
    save_faiss(folder / "a", ["one", "two", " "])
    LlamaIndexSimple().make(folder / "b", documents(5))
    (failed, done) = migrate_all(jobs(folder), Executors(models))
    assert (failed.state, done.state) == ("failed", "done")
    assert "no text" in failed.error and "cannot be migrated with them" in failed.hint
    (again, _) = migrate_all(jobs(folder), Executors(models), accept=True)
    assert again.state == "failed"  # without embedding anything: FAISS cannot leave rows out
    assert not (folder / ".mlxi-migrate" / "a" / "vectors.f32").exists()


def test_an_error_that_nobody_foresaw_is_one_of_its_store_alone(
    folder: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(store: Store, *, work: Path | None = None) -> MigrationStatus | None:
        if "notes.json" in str(store.location):
            raise ZeroDivisionError("what?")
        return status(store, work=work)

    status = api.status
    monkeypatch.setattr(api, "status", unforeseen)
    done = migrate_all(jobs(folder), Executors(models))
    assert states(done) == ["done", "failed", "done"]
    assert done[1].error == "ZeroDivisionError: what?"


def test_a_model_that_is_not_here_fails_its_stores_only(folder: Path, models: Models) -> None:
    (folder / "stores.toml").write_text(
        '[[stores]]\naddress = "a"\nmodel = "absent"\n[[stores]]\naddress = "b/notes.json"\n[[stores]]\naddress = "c"\n'
    )
    done = migrate_all(jobs_of(folder / "stores.toml", Wanted(model="new"))[0], Executors(models))
    assert states(done) == ["failed", "done", "done"] and "no model" in done[0].error


def test_stores_of_one_model_come_after_each_other(folder: Path, models: Models) -> None:
    (folder / "stores.toml").write_text(
        '[[stores]]\naddress = "a"\nmodel = "x"\n[[stores]]\naddress = "b/notes.json"\nmodel = "y"\n'
        '[[stores]]\naddress = "c"\nmodel = "x"\ndimensions = 8\n'
    )
    done = migrate_all(jobs_of(folder / "stores.toml", Wanted(model="new"))[0], Executors(models))
    assert [(one.job.label, one.result.target.dimensions) for one in done] == [
        ("a", 16),
        ("c", 8),
        ("b/notes.json", 16),
    ]
    assert models.loaded == ["x", "y"]


def test_it_can_be_told_to_stop_and_goes_on(folder: Path, models: Models) -> None:
    asked: Iterator[bool] = iter([False, False, True, True, True, True])
    stopped = migrate_all(jobs(folder), Executors(models), batch_rows=16, should_stop=lambda: next(asked))
    assert states(stopped) == ["stopped"] * 3
    assert stopped[0].result.embedded == 30 and stopped[0].result.phase == "embedding"
    assert dimensions(folder) == {(24,)}
    assert states(migrate_all(jobs(folder), Executors(models))) == ["done"] * 3


def test_a_run_with_another_model_fails_until_it_is_told_to_start_afresh(folder: Path, models: Models) -> None:
    migrate_all(jobs(folder), Executors(models), publishes=False)
    failed = migrate_all(jobs(folder, "another"), Executors(models))
    assert states(failed) == ["failed"] * 3 and "--restart" in failed[0].hint
    assert states(migrate_all(jobs(folder, "another"), Executors(models), restart=True)) == ["done"] * 3


def test_the_whole_way_there_and_back(folder: Path, models: Models) -> None:
    before = contents_of(folder)
    planned = plan_all(jobs(folder), Executors(models))
    assert states(planned) == ["done"] * 3
    assert [one.result.target.dimensions for one in planned] == [16] * 3
    assert contents_of(folder) == before
    nothing = [status_all(jobs(folder)), publish_all(jobs(folder)), rollback_all(jobs(folder)), gc_all(jobs(folder))]
    assert [states(each) for each in nothing] == [["nothing"] * 3] * 4
    assert states(verify_all(jobs(folder), Executors(models))) == ["nothing"] * 3

    assert states(migrate_all(jobs(folder), Executors(models), publishes=False)) == ["built"] * 3
    assert [one.result.phase for one in status_all(jobs(folder))] == ["verified"] * 3
    checked = verify_all(jobs(folder, "whatever"), Executors(models))  # the model of the run counts
    assert states(checked) == ["done"] * 3 and all(check.is_passed for one in checked for check in one.result)
    assert states(rollback_all(jobs(folder))) == ["nothing"] * 3
    assert states(publish_all(jobs(folder))) == ["done"] * 3
    assert states(publish_all(jobs(folder))) == ["was done"] * 3
    assert states(plan_all(jobs(folder), Executors(models))) == ["was done"] * 3
    assert dimensions(folder) == {(16,)}
    assert states(rollback_all(jobs(folder))) == ["done"] * 3
    assert states(rollback_all(jobs(folder))) == ["was done"] * 3
    assert dimensions(folder) == {(24,)}
    assert states(gc_all(jobs(folder))) == ["done"] * 3
    assert contents_of(folder) == before
    json.dumps([one.to_dict() for one in (*planned, *checked)], default=str)


def test_runs_can_be_kept_elsewhere(folder: Path, models: Models, tmp_path: Path) -> None:
    work = tmp_path / "runs"
    migrate_all(jobs(folder, work=work), Executors(models))
    assert len(list(work.iterdir())) == 3 and not list(folder.rglob(".mlxi-migrate"))
    assert states(status_all(jobs(folder))) == ["nothing"] * 3
    assert states(gc_all(jobs(folder, work=work))) == ["done"] * 3
