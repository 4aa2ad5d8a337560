"""The journal keeps what was committed, and takes nothing else for one of its own."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import JournalError, StoreError
from mlx_integrations.migration.engine.journal import DeadLetter, Entry, Journal, Written
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.engine.text_index import TextIndex
from mlx_integrations.migration.records import Row, content_digest, text_digest


def entry(position: int) -> Entry:
    key = f"key-{position}"
    content = content_digest(Row(key=key, id=key, text=key))
    return Entry(position=position, key=key, text=text_digest(key), content=content)


def add(journal: Journal, first: int, count: int) -> None:
    entries = [entry(first + number) for number in range(count)]
    written = Written(first=first, count=count, checksum=7)
    journal.add_batch(entries, [], written=written, number=1, cursor=entries[-1].key, seconds=0.1)


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", clock=lambda: 12.0) as journal:
        journal.begin_pass(1, "a state")
        add(journal, 0, 3)
        journal.set_phase("embedded", "it took long", note=[1, "two"])
    with Journal(tmp_path / "journal") as journal:
        assert (journal.phase, journal.fact("state"), journal.fact("cursor")) == ("embedded", "a state", "key-2")
        assert journal.fact("note") == [1, "two"]
        assert journal.fact("nothing") is None
        assert journal.events() == [(12.0, "pass", "1"), (12.0, "embedded", "it took long")]
        assert journal.entries_of_keys(["key-1", "nobody"]) == {"key-1": entry(1)}
        assert journal.text_at(2) == (text_digest("key-2"), False)
        assert journal.text_at(3) is None
        assert list(journal.texts()) == [(text_digest(f"key-{number}"), number) for number in range(3)]
        assert journal.last_written() == Written(first=0, count=3, checksum=7)
        assert (journal.next_position(), journal.count()) == (3, 3)


def test_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        add(journal, 0, 3)
        with pytest.raises(sqlite3.IntegrityError):
            add(journal, 2, 3)  # position 2 is taken
        assert (journal.count(), journal.fact("cursor")) == (3, "key-2")
        add(journal, 3, 3)
        assert journal.count() == 6


def test_a_forgotten_batch_leaves_no_trace(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.forget_last_batch(None)  # there is none
        add(journal, 0, 3)
        add(journal, 3, 2)
        journal.forget_last_batch(journal.key_before(3))
        assert (journal.count(), journal.next_position(), journal.fact("cursor")) == (3, 3, "key-2")
        journal.forget_last_batch(journal.key_before(0))
        assert (journal.count(), journal.next_position(), journal.fact("cursor")) == (0, 0, None)


def test_dead_letters_are_replaced_by_newer_ones(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        for reason in ("first", "second"):
            journal.add_batch(
                [],
                [DeadLetter(key="a", id="A", reason=reason)],
                written=Written(first=0, count=0, checksum=0),
                number=1,
                cursor="a",
                seconds=0.0,
            )
        assert list(journal.dead_letters()) == [DeadLetter(key="a", id="A", reason="second")]
        assert journal.dead_among(["a", "b"]) == {"a"}


@pytest.mark.parametrize("content", [b"no database at all, but some text" * 40, b"SQLite format 3\0" + b"\xff" * 2000])
def test_a_damaged_journal_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(JournalError, match="cannot be used") as caught:
        Journal(tmp_path / "journal")
    assert "--restart" in caught.value.hint


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "journal")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(JournalError, match="another program"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "journal").read_bytes() == before


def test_the_journal_of_a_later_version_is_told(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.set_fact("format", 99)
    with pytest.raises(JournalError, match="99") as caught:
        Journal(tmp_path / "journal")
    assert "Update" in caught.value.hint


def test_it_can_be_read_while_another_process_writes(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as writer, writer.transaction():
        writer.set_fact("phase", "built")
        with Journal(tmp_path / "journal") as reader:
            assert reader.phase == "embedding"


def test_vectors_are_read_back_from_any_places(tmp_path: Path) -> None:
    made = np.arange(40, dtype=np.float32).reshape(10, 4)
    with Staging(tmp_path / "vectors", 4) as staging:
        checksum = staging.write(0, made[:6])
        staging.write(6, made[6:])
        assert np.array_equal(staging.read([9, 0, 1, 2, 5, 5]), made[[9, 0, 1, 2, 5, 5]])
        assert staging.read([]).shape == (0, 4)
        assert staging.is_intact(0, 6, checksum)
        assert not staging.is_intact(0, 5, checksum)
        assert not staging.is_intact(6, 40, checksum)
        with pytest.raises(EOFError):
            staging.read([10])
        assert staging.count() == 10
    with Staging(tmp_path / "vectors", 4) as staging:
        assert np.array_equal(staging.read(range(10)), made)


def test_vectors_of_other_layouts_are_written_right(tmp_path: Path) -> None:
    made = np.arange(40, dtype=np.float64).reshape(4, 10).T
    with Staging(tmp_path / "vectors", 4) as staging:
        staging.write(0, made)  # type: ignore[arg-type]
        assert np.array_equal(staging.read(range(10)), made)


def test_the_digest_of_a_row_is_that_of_its_contents() -> None:
    def digest(**changes: Any) -> bytes:
        values: dict[str, Any] = {"key": "k", "id": "i", "text": "t", "metadata": {"a": 1, "b": [2]}, **changes}
        return content_digest(Row(**values))

    assert digest() == digest(key="elsewhere") == digest(metadata={"b": [2], "a": 1})
    others: list[dict[str, Any]] = [
        {"id": "j"},
        {"text": "u"},
        {"text": None},
        {"metadata": {}},
        {"metadata": {"a": 1, "b": [3]}},
    ]
    assert len({digest(), *(digest(**other) for other in others)}) == len(others) + 1


def test_metadata_that_json_cannot_hold_has_a_digest_that_does_not_depend_on_order() -> None:
    def digest(metadata: object) -> bytes:
        return content_digest(Row(key="k", id="i", text="t", metadata=metadata))  # type: ignore[arg-type]

    assert digest({1: "a", "b": {"x", "y"}}) == digest({"b": {"y", "x"}, 1: "a"})
    assert digest({"b": {"x", "y"}}) == digest({"b": {"y", "x"}})
    assert digest({(1, 2): "a"}) != digest({(1, 3): "a"})
    assert digest({1: "a"}) != digest({2: "a"})


def test_digests_of_sets_are_the_same_in_every_process() -> None:
    import subprocess
    import sys

    script = (
        "from mlx_integrations.migration.records import Row, content_digest;"
        "print(content_digest(Row(key='k', id='i', text='t', metadata={'s': set('abcdefgh'), 1: None})).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize("share", [1, 3, 1000])
def test_texts_are_found_where_they_were_put(share: int) -> None:
    pairs = [(text_digest(f"text {number}"), number) for number in range(5000)]
    index = TextIndex(pairs[:1000])
    for first in range(1000, 5000, share * 4):
        index.add(pairs[first : first + share * 4])
    asked = [digest for digest, _ in pairs[::7]]
    assert set(index.find(asked)) >= set(pairs[::7])
    assert len(list(index.find(asked))) < len(asked) + 10  # four bytes of a digest tell nearly all texts apart
    assert list(index.find([])) == []
    others = [text_digest(f"another text {number}") for number in range(1000)]
    assert len(list(index.find(others))) < 10


def test_texts_whose_digests_begin_alike_are_all_given() -> None:
    alike = [(b"same" + bytes([number]) * 12, number) for number in range(5)]
    index = TextIndex(alike[:3])
    index.add(alike[3:])
    assert sorted(position for _, position in index.find([b"same" + b"x" * 12])) == [0, 1, 2, 3, 4]
    assert list(TextIndex().find([b"same" + b"x" * 12])) == []


@pytest.mark.parametrize("name", ["x", 1])
def test_metadata_that_refer_to_themselves_have_no_digest(name: object) -> None:
    inside: list[object] = [1]
    inside.append(inside)
    metadata: dict[Any, Any] = {name: inside}
    with pytest.raises(StoreError, match=r"metadata of `doc-7`.*refer to themselves") as caught:
        content_digest(Row(key="7", id="doc-7", text="text", metadata=metadata))
    assert caught.value.hint
