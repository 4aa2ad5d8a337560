"""JSON is read a value at a time, and comes out as Python's own reader reads it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.stores.json_reader import JsonCursor, JsonFile, Members, Places

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=9), VALUES, max_size=9)


def as_file(folder: Path, content: str | bytes, read_bytes: int = 1 << 18) -> JsonFile:
    path = folder / "some.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return JsonFile(path, read_bytes=read_bytes)


def everything(cursor: JsonCursor) -> dict[str, Any]:
    found = {name: cursor.read() for name in cursor.members()}
    cursor.end()
    return found


def same(found: Any, expected: Any) -> bool:
    return json.dumps(found) == json.dumps(expected)  # where NaN is NaN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


@settings(max_examples=100, deadline=None)
@given(content=OBJECTS, read_bytes=st.integers(1, 40), indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
def test_values_come_out_as_python_reads_them(
    folder: Path, content: dict[str, Any], read_bytes: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    file = as_file(folder, text, read_bytes)
    cursor = file.cursor()
    assert same(everything(cursor), content)
    cursor = file.cursor()
    spans = {name: cursor.skip() for name in cursor.members()}
    assert same({name: file.value(span) for name, span in spans.items()}, content)
    members = Members(file)
    expected = list(enumerate(content.items()))
    for first in reversed(range(len(expected) + 1)):
        found = [(number, (name, cursor.read())) for number, name, cursor in members.read(first)]
        assert same(found, expected[first:])
    some = expected[1::2]
    found = [
        (number, (name, cursor.read())) for number, name, cursor in Members(file).find([n for n, _ in some] + [99])
    ]
    assert same(found, some)


@settings(max_examples=40, deadline=None)
@given(content=OBJECTS.filter(bool), read_bytes=st.integers(1, 40), share=st.floats(0, 0.999))
def test_a_file_that_was_cut_off_is_told(folder: Path, content: dict[str, Any], read_bytes: int, share: float) -> None:
    whole = json.dumps(content).encode()
    cursor = as_file(folder, whole[: int(len(whole) * share)], read_bytes).cursor()
    with pytest.raises(StoreError, match="cut off"):
        everything(cursor)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '{"a" 1}',
        '{"a":1 "b":2}',
        '{"a":1,}',
        "{1: 2}",
        '{"a":}',
        '{"a": tru}',
        '{"a": [1, 2}',
        '{"a": 1} 2',
    ]
    + ['{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", b'{"a": "\xff"}', b"\x93NUMPY"],
    ids=range(14),
)
def test_what_is_no_json_is_told(folder: Path, content: str | bytes) -> None:
    cursor = as_file(folder, content).cursor()
    with pytest.raises(StoreError):
        everything(cursor)


def test_a_missing_file_is_told(folder: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        JsonFile(folder / "nothing.json")


def test_what_is_opened_stays_when_the_name_is_given_to_another_file(folder: Path) -> None:
    file = as_file(folder, '{"a": 1}')
    (folder / "other").write_text('{"b": 2}')
    (folder / "other").replace(folder / "some.json")
    assert everything(file.cursor()) == {"a": 1}


def test_places_of_any_name_are_found(folder: Path) -> None:
    places = Places()
    names = ["", "a", "é", "\ud800", "x" * 1000]
    for number, name in enumerate(names * 2):
        places.add("one", name, (number, number + 1))
    places.add("two", "a", (100, 101))
    assert [places.find("one", name) for name in names] == [(number, number + 1) for number in range(5, 10)]
    assert (places.find("two", "a"), places.find("two", "b"), places.count("one")) == ((100, 101), None, 5)


def test_places_leave_nothing_behind_when_their_process_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from mlx_integrations.migration.stores.json_reader import Places\n"
        "places = Places()\n"
        "for number in range(100_000): places.add('one', str(number), (number, number))\n"
        "assert places.count('one') == 100_000\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    names = {name: str(tmp_path) for name in ("TMPDIR", "SQLITE_TMPDIR")}
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **names}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.iterdir()) == []
