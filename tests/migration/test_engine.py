"""Every row is embedded once, whatever happens in between."""

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import JournalError, StoreChangedError
from mlx_integrations.migration.engine import staging
from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.engine.passes import Progress, embed_rows, embedded_rows
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.executors.protocol import Vectors
from mlx_integrations.migration.records import Row, content_digest
from tests.migration.memory_store import DIMENSIONS, InstantExecutor, ListReader, row, vector_of


class Desk:
    """A run's two files, opened anew for each call as after a crash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def embed(self, reader: ListReader, executor: InstantExecutor, **options: Any) -> bool:
        with Journal(self.folder / "journal") as journal, Staging(self.folder / "vectors", DIMENSIONS) as staging:
            return embed_rows(reader, executor, journal, staging, **{"batch_rows": 4, **options})

    def result(self, reader: ListReader) -> dict[str, list[float]]:
        with Journal(self.folder / "journal") as journal, Staging(self.folder / "vectors", DIMENSIONS) as staging:
            parts = list(embedded_rows(reader, journal, staging))
        return {r.key: list(map(float, v)) for part in parts for r, v in zip(part.rows, part.vectors, strict=True)}

    def dead(self) -> dict[str, str]:
        with Journal(self.folder / "journal") as journal:
            return {each.key: each.reason for each in journal.dead_letters()}

    def journal(self) -> Journal:
        return Journal(self.folder / "journal")


def expected(rows: Iterable[Row]) -> dict[str, list[float]]:
    return {each.key: list(map(float, vector_of(each.text or ""))) for each in rows}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def rows(count: int) -> list[Row]:
    return [row(f"{number:04d}", f"text {number}") for number in range(count)]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
def test_every_row_gets_the_vector_of_its_text(desk: Desk, count: int, ahead: int) -> None:
    reader = ListReader(rows(count))
    assert desk.embed(reader, InstantExecutor(ahead))
    assert desk.result(reader) == expected(rows(count))


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_text_is_embedded_once(desk: Desk, ahead: int) -> None:
    reader = ListReader(row(f"{number:04d}", f"text {number % 3}") for number in range(30))
    executor = InstantExecutor(ahead)
    desk.embed(reader, executor)
    assert sorted(executor.embedded) == ["text 0", "text 1", "text 2"]
    assert desk.result(reader) == expected(reader.rows())


def test_a_run_that_is_done_embeds_nothing_again(desk: Desk) -> None:
    reader = ListReader(rows(10))
    desk.embed(reader, InstantExecutor())
    again = InstantExecutor()
    assert desk.embed(reader, again)
    assert again.embedded == []


def test_a_pause_loses_nothing_and_repeats_nothing(desk: Desk) -> None:
    reader, executor = ListReader(rows(30)), InstantExecutor()
    calls = 0
    while not desk.embed(reader, executor, should_stop=lambda: True):
        calls += 1
    assert calls == 8  # batches of 4
    assert executor.embedded == [each.text for each in rows(30)]
    assert desk.result(reader) == expected(rows(30))


def test_rows_without_text_are_listed_and_others_are_not_kept_waiting(desk: Desk) -> None:
    reader = ListReader([row("a", None), row("b", ""), row("c", " \n\t"), row("d", "good")])
    assert desk.embed(reader, InstantExecutor())
    assert desk.dead() == {
        "a": "the store has no text for it",
        "b": "its text is empty",
        "c": "its text is empty",
    }
    assert desk.result(reader) == expected([row("d", "good")])


@pytest.mark.parametrize("ahead", [0, 2])
def test_texts_that_cannot_be_embedded_are_listed_with_every_row_that_has_them(desk: Desk, ahead: int) -> None:
    names = ["bad", "good", "bad", "nan", "good", "bad", "nan", "other", "bad", "bad"]
    reader = ListReader(row(f"{number}", name) for number, name in enumerate(names))
    assert desk.embed(reader, InstantExecutor(ahead, refused=["bad"], not_finite=["nan"]), batch_rows=2)
    assert sorted(desk.dead()) == [str(number) for number, name in enumerate(names) if name in ("bad", "nan")]
    assert desk.dead()["0"] == "it was refused"
    assert "not finite" in desk.dead()["3"]
    assert sorted(desk.result(reader)) == ["1", "4", "7"]


def test_a_zero_vector_is_refused(desk: Desk) -> None:
    class Zeros(InstantExecutor):
        def _made(self, texts: Sequence[str]) -> Vectors:
            return Vectors(vectors=np.zeros((len(texts), DIMENSIONS), np.float32))

    reader = ListReader(rows(3))
    desk.embed(reader, Zeros())
    assert len(desk.dead()) == 3


def test_a_model_of_other_dimensions_is_no_batch(desk: Desk) -> None:
    class Wide(InstantExecutor):
        def _made(self, texts: Sequence[str]) -> Vectors:
            return Vectors(vectors=np.ones((len(texts), DIMENSIONS + 1), np.float32))

    with pytest.raises(ValueError, match="instead of"):
        desk.embed(ListReader(rows(3)), Wide())
    with desk.journal() as journal:
        assert journal.count() == 0


def test_truncated_texts_are_counted_also_when_they_come_again(desk: Desk) -> None:
    long = "a text of more than twenty letters"
    reader = ListReader(row(f"{number}", long if number % 2 else "short") for number in range(8))
    desk.embed(reader, InstantExecutor(), batch_rows=2)
    with desk.journal() as journal:
        assert journal.count_truncated() == 4


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("batch_rows", [1, 2, 8])
def test_the_same_text_is_truncated_in_every_row_that_has_it(desk: Desk, batch_rows: int, ahead: int) -> None:
    reader = ListReader([row(f"{number}", "the same text, longer than the model reads") for number in range(6)])
    desk.embed(reader, InstantExecutor(ahead), batch_rows=batch_rows)
    with desk.journal() as journal:
        assert journal.count_truncated() == 6


def test_a_changed_store_is_caught_up_with(desk: Desk) -> None:
    reader, executor = ListReader(rows(12)), InstantExecutor()
    desk.embed(reader, executor)
    reader.put(row("0003", "another text"))
    reader.put(row("0005", "text 5", page=7))  # the same text: no work
    reader.put(row("0099", "a new one"))
    reader.remove("0000")
    again = InstantExecutor()
    desk.embed(reader, again)
    assert again.embedded == ["another text", "a new one"]
    assert desk.result(reader) == expected(reader.rows())
    with desk.journal() as journal:
        assert journal.count() == 12
        assert journal.content_sum() == sum(int.from_bytes(content_digest(r), "big") for r in reader.rows()) % (
            1 << 128
        )


def test_a_row_that_gets_a_text_is_no_dead_letter_any_more(desk: Desk) -> None:
    reader = ListReader([row("a", None), row("b", "good")])
    desk.embed(reader, InstantExecutor())
    reader.put(row("a", "found"))
    reader.put(row("b", None))
    desk.embed(reader, InstantExecutor())
    assert list(desk.dead()) == ["b"]
    assert desk.result(reader) == expected([row("a", "found")])


def test_a_store_that_never_rests_is_given_up(desk: Desk) -> None:
    reader = ListReader(rows(12))

    def change() -> bool:
        reader.put(row("0003", f"text of version {reader.version}"))
        return False

    with pytest.raises(StoreChangedError, match="each of 4 passes"):
        desk.embed(reader, InstantExecutor(), should_stop=change)
    assert desk.embed(reader, InstantExecutor())  # it rests now
    assert desk.result(reader) == expected(reader.rows())


def test_a_store_that_changed_after_embedding_is_not_built(desk: Desk) -> None:
    reader = ListReader(rows(12))
    desk.embed(reader, InstantExecutor())
    for changed in (row("0003", "another text"), None):
        before = dict(reader.contents)
        if changed is None:
            reader.remove("0011")
        else:
            reader.put(changed)
        with pytest.raises(StoreChangedError):
            desk.result(reader)
        reader.contents = before
    assert desk.result(reader) == expected(reader.rows())


def test_a_last_batch_that_did_not_reach_the_disk_is_repeated(desk: Desk) -> None:
    reader, executor = ListReader(rows(12)), InstantExecutor()
    desk.embed(reader, executor, should_stop=lambda: len(executor.embedded) >= 8)
    content = bytearray((desk.folder / "vectors").read_bytes())
    content[-1] ^= 1
    (desk.folder / "vectors").write_bytes(content)
    again = InstantExecutor()
    desk.embed(reader, again)
    assert again.embedded == [each.text for each in rows(12)[4:]]
    assert desk.result(reader) == expected(rows(12))


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_last_batch_that_reached_only_the_journal_is_repeated(desk: Desk, left: int) -> None:
    reader, executor = ListReader(rows(12)), InstantExecutor()
    desk.embed(reader, executor, should_stop=lambda: len(executor.embedded) >= 8)
    os.truncate(desk.folder / "vectors", (4 + left) * DIMENSIONS * 4)
    again = InstantExecutor()
    desk.embed(reader, again)
    assert again.embedded == [each.text for each in rows(12)[4:]]
    assert desk.result(reader) == expected(rows(12))


def test_a_batch_counts_only_if_its_vectors_were_flushed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, executor, flushes = ListReader(rows(12)), InstantExecutor(), list[int]()

    def fail(descriptor: int) -> None:
        flushes.append(descriptor)
        if len(flushes) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging, "flush", fail)
    with pytest.raises(OSError, match="No space left"):
        desk.embed(reader, executor)
    assert len(executor.embedded) == 8  # the second batch's vectors look intact, and are not believed
    again = InstantExecutor()
    desk.embed(reader, again)
    assert again.embedded == [each.text for each in rows(12)[4:]]
    assert desk.result(reader) == expected(rows(12))


def test_vectors_that_are_damaged_later_are_not_built(desk: Desk) -> None:
    reader = ListReader(rows(12))
    desk.embed(reader, InstantExecutor())
    content = bytearray((desk.folder / "vectors").read_bytes())
    content[3] ^= 1
    (desk.folder / "vectors").write_bytes(content)
    with pytest.raises(JournalError, match="damaged at the vectors from 0 on"):
        desk.result(reader)


def test_lost_vectors_are_told(desk: Desk) -> None:
    reader = ListReader(rows(12))
    desk.embed(reader, InstantExecutor())
    (desk.folder / "vectors").unlink()
    with pytest.raises(JournalError, match="0 vectors, and the journal knows of 12"):
        desk.embed(reader, InstantExecutor())


def test_progress_counts_what_earlier_calls_did(desk: Desk) -> None:
    reader, told = ListReader(rows(12)), list[Progress]()
    desk.embed(reader, InstantExecutor(), should_stop=lambda: True)
    moments = iter(range(100))
    desk.embed(reader, InstantExecutor(), on_progress=told.append, clock=lambda: float(next(moments)))
    assert [(each.done, each.embedded) for each in told] == [(8, 4), (12, 8)]
    assert told[-1].seconds > told[0].seconds > 0


class DiesAt:
    """An executor, a staging file and a journal that stop working at the n-th thing that is asked of them."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


class DyingStaging(Staging):
    death: DiesAt

    def write(self, position: int, vectors: Any) -> int:
        self.death.step()
        checksum = super().write(position, vectors)
        self.death.step()
        return checksum


class DyingExecutor(InstantExecutor):
    death: DiesAt

    def _made(self, texts: Sequence[str]) -> Vectors:
        self.death.step()
        return super()._made(texts)


TEXTS = st.one_of(st.none(), st.sampled_from(["", " ", "same", "other", "bad"]), st.text(min_size=1, max_size=4))
CHANGES = st.lists(st.tuples(st.integers(0, 30), st.one_of(st.just("remove"), TEXTS)), max_size=5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(TEXTS, max_size=25),
    batch_rows=st.integers(1, 7),
    ahead=st.integers(0, 2),
    deaths=st.lists(st.tuples(st.integers(0, 12), CHANGES), max_size=4),
)
def test_whatever_happens_the_result_is_that_of_the_store(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[str | None],
    batch_rows: int,
    ahead: int,
    deaths: list[tuple[int, list[tuple[int, str | None]]]],
) -> None:
    desk = Desk(tmp_path_factory.mktemp("run"))
    reader = ListReader(row(f"{number:04d}", text) for number, text in enumerate(contents))
    total = 0
    for after, changes in deaths:
        executor = DyingExecutor(ahead, refused=["bad"])
        executor.death = DiesAt(after)
        with desk.journal() as journal, DyingStaging(desk.folder / "vectors", DIMENSIONS) as staging:
            staging.death = executor.death
            with contextlib.suppress(KeyboardInterrupt):
                embed_rows(reader, executor, journal, staging, batch_rows=batch_rows)
        total += len(executor.embedded)
        for number, text in changes:
            key = f"{number:04d}"
            if text != "remove":
                reader.put(row(key, text))
            elif key in reader.contents:
                reader.remove(key)
    last = InstantExecutor(ahead, refused=["bad"])
    assert desk.embed(reader, last, batch_rows=batch_rows)
    good = {
        key: each for key, each in reader.contents.items() if each.text and each.text.strip() and each.text != "bad"
    }
    assert desk.result(reader) == expected(good.values())
    assert set(desk.dead()) == set(reader.contents) - set(good)
    if not any(changes for _, changes in deaths):
        # A death repeats the batches that were on their way, and nothing else.
        unique = {text for text in contents if text and text.strip()}
        refused_again = sum(text == "bad" for text in contents)
        assert total + len(last.embedded) <= len(unique) + refused_again + len(deaths) * batch_rows * (ahead + 1)
