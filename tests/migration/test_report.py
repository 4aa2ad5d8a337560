"""What a report measures, on stores whose answers are known."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_integrations.errors import MigrationError, ModelNotFoundError, StoreError
from mlx_integrations.migration.api import migrate, publish, rollback
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.migration.protocol import KeepsOld, Reader, Run, Store
from mlx_integrations.migration.records import Row, StoreInfo, StoreLocation
from mlx_integrations.migration.report.measure import measure_migration
from mlx_integrations.migration.report.quality import NearnessCounts, Search, name_of
from mlx_integrations.migration.report.questions import question_of
from mlx_integrations.migration.report.reading import choose_documents, read_texts, search_all, shortened
from mlx_integrations.migration.report.records import MigrationReport
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingResult
from tests.migration.stores import contents_of, save_faiss

WORDS = (
    "ace king queen jack ten nine spade heart club diamond red black game card deck hand table lamp door window".split()
)


def sentences(count: int, length: int = 12) -> list[str]:
    """Texts of random words: those that share many of them are near, for any model made of words."""
    chance = np.random.default_rng(3)
    return [f"Text {number}: {' '.join(chance.choice(WORDS, length))}." for number in range(count)]


def model(dimensions: int = 96, *, seed: int = 1, max_tokens: int = 64, **options: Any) -> FakeEmbeddingBackend:
    return FakeEmbeddingBackend(
        model_id="new-model", dimensions=dimensions, seed=seed, max_tokens=max_tokens, **options
    )


def embedded(backend: FakeEmbeddingBackend, contents: Sequence[str]) -> NDArray[np.float32]:
    return EmbeddingResult.join(backend.stream(contents)).vectors


def dumped(path: Path, contents: Sequence[str], vectors: Iterable[Iterable[float]]) -> InMemoryDump:
    """A store of given vectors, as LangChain's `InMemoryVectorStore` dumps it."""
    rows = enumerate(zip(contents, vectors, strict=True))
    entries = {
        f"doc-{number:04d}": {
            "id": f"doc-{number:04d}",
            "vector": [float(x) for x in vector],
            "text": text,
            "metadata": {},
        }
        for number, (text, vector) in rows
    }
    path.write_text(json.dumps(entries))
    return InMemoryDump(path)


def reported(
    store: Store, backend: FakeEmbeddingBackend, *, long_texts: LongTexts = "truncate", **options: Any
) -> MigrationReport:
    migrate(store, LocalExecutor(backend, long_texts=long_texts), accept=True)
    return measure_migration(store, backend, **options)


def codes(report: MigrationReport, *, warnings: bool = False) -> list[str]:
    return [note.code for note in report.notes if note.is_warning or not warnings]


def note_of(report: MigrationReport, code: str) -> str:
    return next(note.message for note in report.notes if note.code == code)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.json"


class TestNeighbours:
    def test_the_same_vectors_have_the_same_neighbours(self, path: Path) -> None:
        texts = sentences(120)
        report = reported(dumped(path, texts, embedded(model(), texts)), model())
        assert report.overlap is not None
        assert [at.mean for at in report.overlap.at] == [1, 1, 1]
        assert report.overlap.distribution == (0,) * 10 + (120,)
        assert report.changed == ()
        assert report.verdict == "passed"
        assert report.scores is not None
        for threshold in report.scores.scales[0].old:
            assert report.scores.map_threshold(threshold) == pytest.approx(threshold, abs=1e-3)

    def test_another_model_keeps_some(self, path: Path) -> None:
        texts = sentences(150)
        old = embedded(model(200, seed=9), texts)
        report = reported(dumped(path, texts, old), model())
        assert report.overlap is not None
        assert 0.2 < report.overlap.at[-1].mean < 0.95
        assert report.overlap.at[-1].chance == pytest.approx(10 / 149)
        assert codes(report, warnings=True) == []
        assert report.changed[0].overlap == min(each.overlap for each in report.changed)
        common = {each.id for each in report.changed[0].old if each.is_common}
        assert common.isdisjoint({each.id for each in report.changed[0].new if not each.is_common})

    def test_vectors_of_other_rows_are_a_warning(self, path: Path) -> None:
        texts = sentences(150)
        shifted = np.roll(embedded(model(), texts), 1, axis=0)
        report = reported(dumped(path, texts, shifted), model())
        assert report.overlap is not None
        assert report.overlap.at[-1].mean < 0.1
        assert codes(report, warnings=True) == ["near-chance"]
        assert report.verdict == "look"

    def test_few_texts_say_little_and_are_no_warning(self, path: Path) -> None:
        texts = sentences(8)
        report = reported(dumped(path, texts, np.random.default_rng(0).normal(size=(8, 5))), model())
        assert report.overlap is not None
        assert report.overlap.at[-1].mean == 1
        assert codes(report) == ["few-texts"]

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_hardly_anything_is_a_report_too(self, path: Path, count: int) -> None:
        report = reported(dumped(path, sentences(count), np.ones((count, 3))), model())
        assert report.counts.embedded == count
        assert report.verdict == "passed"
        assert json.dumps(report.to_dict(), allow_nan=False)

    def test_rows_of_one_text_count_once(self, path: Path) -> None:
        texts = sentences(60)
        old = embedded(model(), texts)
        report = reported(dumped(path, [*texts, *texts], np.concatenate([old, old])), model())
        assert report.overlap is not None
        assert (report.overlap.texts, report.overlap.documents) == (60, 60)
        assert (report.counts.embedded, report.counts.texts, report.counts.shared) == (120, 60, 60)
        assert report.overlap.at[-1].mean == 1

    def test_a_part_of_the_texts_can_be_searched(self, path: Path) -> None:
        texts = sentences(200)
        store = dumped(path, texts, embedded(model(), texts))
        report = reported(store, model(), documents=20, against=100)
        assert report.overlap is not None
        assert report.overlap.documents == 20
        assert report.overlap.texts == 100
        assert report.overlap.at[-1].mean == 1
        assert measure_migration(store, model(), documents=20, against=100).overlap == report.overlap


class TestBothSides:
    def test_it_is_the_same_before_and_after_publishing(self, tmp_path: Path) -> None:
        store = LangChainFaissStore(save_faiss(tmp_path / "store", sentences(80)))
        migrate(store, LocalExecutor(model()), publishes=False)
        reports = [measure_migration(store, model())]
        for change in (publish, rollback):
            change(store)
            reports.append(measure_migration(store, model()))
        assert [report.in_use for report in reports] == ["old", "new", "old"]
        for report in reports[1:]:
            assert report.old is not None
            for field in ("overlap", "scores", "known_items", "changed"):
                assert getattr(report, field) == getattr(reports[0], field)
            assert report.new.dimensions == (96,)
            assert report.old.dimensions == (24,)

    def test_measuring_writes_nothing(self, tmp_path: Path) -> None:
        store = LangChainFaissStore(save_faiss(tmp_path / "store", sentences(30)))
        migrate(store, LocalExecutor(model()))
        before = contents_of(tmp_path)
        measure_migration(store, model())
        after = contents_of(tmp_path)
        journal = {name for name in after if "journal.sqlite" in name}
        assert {name: after[name] for name in after if name not in journal} == {
            name: before[name] for name in before if name not in journal
        }

    def test_vectors_of_several_sizes_are_not_compared(self, path: Path) -> None:
        texts = sentences(60)
        old = [[1.0] * (3 if number == 7 else 4) for number in range(60)]
        report = reported(dumped(path, texts, old), model())
        assert (report.overlap, report.scores, report.changed) == (None, None, ())
        assert report.old is not None
        assert report.old.dimensions == (3, 4)
        assert "several sizes (3, 4)" in note_of(report, "old-vectors")
        assert report.known_items is not None

    def test_old_vectors_that_are_gone_are_not_compared(self, path: Path) -> None:
        class Lost(InMemoryDump):
            def replaced(self, run: Run) -> Any:
                raise StoreError("The old vectors are no longer there.", store=str(self.location))

        texts = sentences(60)
        dumped(path, texts, embedded(model(), texts))
        report = reported(Lost(path), model())
        assert (report.overlap, report.old) == (None, None)
        assert "no longer there" in note_of(report, "old-vectors")
        assert report.known_items is not None

    def test_old_vectors_that_are_not_numbers_are_left_out(self, tmp_path: Path) -> None:
        import faiss

        texts = sentences(60)
        folder = save_faiss(tmp_path / "store", texts)
        index = faiss.IndexFlatL2(24)
        vectors = np.random.default_rng(0).normal(size=(60, 24)).astype(np.float32)
        vectors[5] = np.nan
        index.add(vectors)
        faiss.write_index(index, str(folder / "index.faiss"))
        report = reported(LangChainFaissStore(folder), model())
        assert "1 old vectors are not finite" in note_of(report, "old-vectors")
        assert report.overlap is not None
        assert json.dumps(report.to_dict(), allow_nan=False)

    def test_a_store_that_keeps_nothing_is_compared_before_it_is_published(self, path: Path) -> None:
        class Plain:
            """A store that does not show its old vectors."""

            def __init__(self, store: InMemoryDump) -> None:
                self._store = store

            def __getattr__(self, name: str) -> Any:
                if name == "replaced":
                    raise AttributeError(name)
                return getattr(self._store, name)

        texts = sentences(60)
        store: Any = Plain(dumped(path, texts, embedded(model(), texts)))
        assert not isinstance(store, KeepsOld)
        migrate(store, LocalExecutor(model()), publishes=False)
        assert measure_migration(store, model()).overlap is not None
        publish(store)
        report = measure_migration(store, model())
        assert report.overlap is None
        assert "does not show them" in note_of(report, "old-vectors")

    def test_a_compressed_index_is_said_to_be_one(self, tmp_path: Path) -> None:
        folder = save_faiss(tmp_path / "store", sentences(150), factory="SQ8")
        report = reported(LangChainFaissStore(folder), model())
        assert "old and the new vectors" in note_of(report, "compressed")
        assert report.old is not None
        assert not report.old.is_exact

    def test_a_store_that_was_changed_since_is_a_warning(self, path: Path) -> None:
        texts = sentences(60)
        store = dumped(path, texts, embedded(model(), texts))
        assert reported(store, model()).verdict == "passed"
        entries = json.loads(path.read_text())
        entries["more"] = {"id": "more", "vector": [0.5] * 96, "text": "more", "metadata": {}}
        path.write_text(json.dumps(entries))
        assert codes(measure_migration(InMemoryDump(path), model()), warnings=True) == ["changed"]

    def test_a_move_is_compared_with_its_source(self, tmp_path: Path) -> None:
        from mlx_integrations.migration.moving import open_move
        from mlx_integrations.migration.targets.opening import open_target

        source = LangChainFaissStore(save_faiss(tmp_path / "store", sentences(60)))
        target = open_target(str(tmp_path / "new.json"), "langchain-in-memory", None)
        report = reported(open_move(source, target), model())
        assert report.overlap is not None
        assert report.scores is not None
        assert report.old is not None
        assert (report.old.metric, report.new.metric) == ("euclidean", "cosine")
        assert report.scores.scales[0].is_distance
        assert max(report.scores.scales[0].old) > 2 > 1 >= max(report.scores.scales[0].new)
        assert report.accepted == () and "accepted" not in codes(report)

    def test_what_was_accepted_is_listed(self, tmp_path: Path) -> None:
        from mlx_integrations.migration.moving import open_move
        from mlx_integrations.migration.targets.opening import open_target

        metadata = [{"tags": {"a"}} if number in (2, 5) else {} for number in range(60)]
        source = LangChainFaissStore(save_faiss(tmp_path / "store", sentences(60), metadata=metadata))
        move = open_move(source, open_target(str(tmp_path / "new.json"), "langchain-in-memory", None))
        report = reported(move, model())
        (lost,) = report.accepted
        assert (lost.message, lost.count) == ("`tags`: values of `set`, left out.", 2)
        assert lost.examples == ("doc-00002", "doc-00005")
        assert "listed below" in note_of(report, "accepted")


class TestRows:
    def test_texts_that_were_cut_are_all_listed(self, path: Path) -> None:
        texts = sentences(80)
        texts[3] = texts[40] = " ".join(WORDS * 4)
        old = embedded(model(max_tokens=1000), texts)
        report = reported(dumped(path, texts, old), model(max_tokens=20))
        assert [row.id for row in report.truncated] == ["doc-0003", "doc-0040"]
        assert {(row.tokens, row.read_tokens, row.characters) for row in report.truncated} == {
            (1 + 4 * len(WORDS), 20, len(texts[3]))
        }
        assert report.counts.truncated == 2
        assert "truncated" not in codes(report, warnings=True)
        assert "2 rows (2 %)" in note_of(report, "truncated")

    def test_many_of_them_are_a_warning(self, path: Path) -> None:
        texts = sentences(60)
        report = reported(dumped(path, texts, embedded(model(), texts)), model(max_tokens=5))
        assert "truncated" in codes(report, warnings=True)

    def test_rows_without_a_vector_are_listed_and_searched_on_neither_side(self, path: Path) -> None:
        texts = sentences(80)
        old = embedded(model(), texts)
        texts[7] = ""
        texts[9] = " ".join(WORDS * 4)
        report = reported(dumped(path, texts, old), model(), long_texts="error")
        assert {row.id: row.reason.partition(" ")[0] for row in report.unembedded} == {
            "doc-0007": "its",
            "doc-0009": "it",
        }
        assert report.overlap is not None
        assert report.overlap.at[-1].mean == 1
        assert "unembedded" in codes(report, warnings=True)

    def test_what_happened_is_told(self, path: Path) -> None:
        texts = sentences(60)
        report = reported(dumped(path, texts, embedded(model(), texts)), model())
        assert [event.what for event in report.events][-1] == "published"
        assert report.embedding_seconds > 0
        assert report.counts.passes == 1
        assert [check.is_passed for check in report.checks] == [True] * len(report.checks)


class TestQuestions:
    def test_sentences_find_their_documents(self, path: Path) -> None:
        texts = [f"{text} {other}" for text, other in zip(sentences(100), sentences(200)[100:], strict=True)]
        report = reported(dumped(path, texts, embedded(model(), texts)), model())
        assert report.known_items is not None
        assert report.known_items.questions == 100
        assert report.known_items.hits[1] > 0.5
        assert report.known_items.hits[1] <= report.known_items.hits[5] <= report.known_items.hits[10]
        assert 0 < report.known_items.reciprocal_rank <= 1

    def test_they_are_asked_as_questions(self, path: Path) -> None:
        texts = sentences(60)
        backend = model(query_prompt="query: ")
        reported(dumped(path, texts, embedded(backend, texts)), backend)
        assert [request.options.side for request in backend.requests][-1] == "query"

    def test_another_document_with_the_same_sentence_is_as_good(self, path: Path) -> None:
        shared = "This page was left empty on purpose by its author."
        texts = [f"{shared}\nNo. {number}." for number in range(60)]
        report = reported(dumped(path, texts, embedded(model(), texts)), model())
        assert report.known_items is not None
        assert report.known_items.hits[1] == 1
        assert report.known_items.misses == ()

    def test_what_finds_nothing_is_shown(self, path: Path) -> None:
        texts = [f"{text} {other}" for text, other in zip(sentences(100), sentences(200)[100:], strict=True)]
        backend = model(dimensions=2)  # too few for anything to be told apart
        report = reported(dumped(path, texts, embedded(model(), texts)), backend)
        assert report.known_items is not None
        assert report.known_items.hits[10] < 1
        miss = report.known_items.misses[0]
        assert (miss.place, miss.question in texts[int(miss.id[-4:])]) == (0, True)
        assert miss.found is not None
        assert miss.found.id != miss.id

    def test_without_the_model_the_rest_is_measured(self, path: Path) -> None:
        texts = sentences(60)
        store = dumped(path, texts, embedded(model(), texts))
        migrate(store, LocalExecutor(model(max_tokens=5)))
        report = measure_migration(store)
        assert report.known_items is None
        assert report.overlap is not None
        assert "was not given" in note_of(report, "no-questions")
        assert report.truncated[0].tokens is None

    @pytest.mark.parametrize(
        ("backend", "reason"),
        [
            (model(seed=77), "makes other vectors"),
            (model(error=ModelNotFoundError("it is not loaded", model="new-model")), "it is not loaded"),
        ],
    )
    def test_another_model_is_not_asked(self, path: Path, backend: FakeEmbeddingBackend, reason: str) -> None:
        texts = sentences(60)
        store = dumped(path, texts, embedded(model(), texts))
        migrate(store, LocalExecutor(model()))
        report = measure_migration(store, backend)
        assert report.known_items is None
        assert reason in note_of(report, "no-questions")

    @given(st.text(min_size=1, max_size=400).filter(str.strip), st.integers(0, 2**64 - 1))
    @settings(max_examples=200, deadline=None)
    def test_a_question_is_a_part_of_its_text(self, text: str, choice: int) -> None:
        question = question_of(text, choice)
        assert question.text.strip()
        assert question.text in text
        assert len(question.text) <= 200
        assert question_of(text, choice) == question
        assert question.is_whole is (question.text == text.strip())

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("# How rooms are heated\n\nNo.", {"How rooms are heated"}),
            (
                "file_path: /home/user/notes/a.txt\n\nThe museum is closed on Mondays.",
                {"The museum is closed on Mondays."},
            ),
            (
                "One sentence is here now. Another one is there then!",
                {"One sentence is here now.", "Another one is there then!"},
            ),
            (
                "図書館は午前九時に開きます、そして午後五時に閉まります。博物館は毎週月曜日と祝日に休みます、ご注意ください。",
                {
                    "図書館は午前九時に開きます、そして午後五時に閉まります。",
                    "博物館は毎週月曜日と祝日に休みます、ご注意ください。",
                },
            ),
            ("short", {"short"}),
        ],
    )
    def test_questions_are_sentences_and_headings(self, text: str, expected: set[str]) -> None:
        assert {question_of(text, choice).text for choice in range(10)} == expected


class TestTheSample:
    def test_it_is_of_different_texts_and_the_same_each_time(self, path: Path) -> None:
        texts = sentences(200) * 2
        store = dumped(path, texts, np.ones((400, 3)))
        migrate(store, LocalExecutor(model()))
        with Workspace.seen(store.location) as place:
            assert place is not None
            chosen = choose_documents(place.journal, 50)
            again = choose_documents(place.journal, 50, against=100)
            everything = choose_documents(place.journal, 1000)
        assert len(set(chosen.names.tolist())) == 50
        assert set(chosen.names.tolist()) <= {name_of(text) for text in texts}
        assert again.names.tolist() == chosen.names.tolist()
        assert (chosen.share, again.share) == (1, 0.5)
        rows = {row.key: row.text for row in store.rows()}
        assert [name_of(rows[key] or "") for key in everything.keys] == everything.names.tolist()
        assert len(everything.names) == 200


class TestNothingToMeasure:
    def test_there_is_no_migration(self, path: Path) -> None:
        store = dumped(path, sentences(5), np.ones((5, 3)))
        with pytest.raises(MigrationError, match="No migration"):
            measure_migration(store)

    def test_nothing_is_built(self, path: Path) -> None:
        store = dumped(path, sentences(50), np.ones((50, 3)))
        migrate(store, LocalExecutor(model()), batch_rows=8, should_stop=lambda: True)
        with pytest.raises(MigrationError, match="Nothing is built"):
            measure_migration(store)


class Generated:
    """Rows and vectors that are made as they are read; implements `Reader`."""

    def __init__(self, count: int, dimensions: int = 64) -> None:
        self.location = StoreLocation(kind="generated", address="nowhere")
        self._count = count
        self._dimensions = dimensions

    def describe(self) -> StoreInfo:
        return StoreInfo(location=self.location, count=self._count, dimensions=(self._dimensions,), metric="cosine")

    def rows(self, after: str | None = None) -> Iterator[Row]:
        for number in range(0 if after is None else int(after) + 1, self._count):
            yield Row(key=str(number), id=f"doc-{number}", text=f"The text of row {number}, which is not long.")

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        seed = int(keys[0]) if keys else 0
        made: NDArray[np.float32] = (
            np.random.default_rng(seed).normal(size=(len(keys), self._dimensions)).astype(np.float32)
        )
        return made

    def state(self) -> str:
        return "at rest"

    def close(self) -> None: ...


def test_memory_does_not_grow_with_the_store() -> None:
    def peak(count: int) -> int:
        reader: Reader = Generated(count)
        asked = np.random.default_rng(1).normal(size=(100, 64)).astype(np.float32)
        own = np.arange(100, dtype=np.uint64)
        tracemalloc.start()
        counts = NearnessCounts.for_queries(asked, "cosine")
        search = Search(asked, "cosine", 10, own=own, counts=counts)
        assert search_all(reader, [search], 1.0).rows == count
        read_texts(reader, set(search.found().names.ravel().tolist()), {})
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1_500)
    assert peak(8_000) - peak(2_000) < 1_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("short", "short"), ("two\n\n  lines", "two lines"), ("word " * 100, "word " * 31 + "word…"[:4] + "…")],
)
def test_texts_are_shortened_to_a_line(text: str, expected: str) -> None:
    assert shortened(text) == expected
    assert len(shortened(text)) <= 160
