"""The record beside a store: where it lies, that it is whole or not there, and what it refuses."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import EmbeddingMismatchError, SidecarError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import (
    SIDECAR_NAME,
    check,
    check_vectors,
    decode,
    encode,
    read_sidecar,
    sidecar_of,
    still_true,
    write_sidecar,
)
from mlx_integrations.testing import FakeEmbeddingBackend

BACKEND = FakeEmbeddingBackend(model_id="minilm", dimensions=8, query_prompt="ask: ")
STORED = BACKEND.fingerprint()


def test_the_record_of_a_folder_lies_in_it_and_that_of_a_file_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    file.touch()
    assert sidecar_of(tmp_path) == tmp_path / SIDECAR_NAME
    assert sidecar_of(str(file)) == tmp_path / f"store.json.{SIDECAR_NAME}"
    assert sidecar_of(tmp_path / "not yet") == tmp_path / "not yet" / SIDECAR_NAME
    assert sidecar_of(tmp_path / "not-yet.json") == tmp_path / f"not-yet.json.{SIDECAR_NAME}"
    assert sidecar_of(tmp_path / "index-v1.5", is_file=False) == tmp_path / "index-v1.5" / SIDECAR_NAME


def test_a_record_comes_back(tmp_path: Path) -> None:
    path = sidecar_of(tmp_path / "new" / "store")
    write_sidecar(path, STORED)
    assert read_sidecar(path) == STORED
    assert [item.name for item in path.parent.iterdir()] == [SIDECAR_NAME], "no temporary file stays behind"
    assert json.loads(path.read_text())["embedding"]["model"] == "minilm"


def test_a_record_is_replaced(tmp_path: Path) -> None:
    other = replace(STORED, model="other")
    for fingerprint in (STORED, other):
        write_sidecar(tmp_path / SIDECAR_NAME, fingerprint)
    assert read_sidecar(tmp_path / SIDECAR_NAME) == other


def test_no_record_is_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_sidecar(tmp_path / SIDECAR_NAME) is None
    assert read_sidecar(tmp_path / "file" / SIDECAR_NAME) is None


def test_readers_never_see_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / SIDECAR_NAME
    write_sidecar(path, STORED)
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            write_sidecar(path, replace(STORED, model="m" * number * 50))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not done.is_set():
        assert read_sidecar(path) is not None
        reads += 1
    thread.join()
    assert reads > 0


def test_a_record_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_sidecar(tmp_path / SIDECAR_NAME, STORED)
    assert (tmp_path / SIDECAR_NAME).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SidecarError, match="cannot be written") as caught:
        write_sidecar(tmp_path / "file" / SIDECAR_NAME, STORED)
    assert caught.value.path == str(tmp_path / "file" / SIDECAR_NAME)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / SIDECAR_NAME
    path.mkdir()
    (path / "something").touch()
    with pytest.raises(SidecarError):
        write_sidecar(path, STORED)
    assert [item.name for item in tmp_path.iterdir()] == [SIDECAR_NAME]


DAMAGED = {
    "empty": b"",
    "cut": encode(STORED).encode()[:-20],
    "binary": b"\x80\x81\xff",
    "a list": b"[1, 2]",
    "no embedding": b'{"format": 1}',
    "embedding is a text": b'{"format": 1, "embedding": "minilm"}',
    "no model": b'{"format": 1, "embedding": {"dimensions": 8}}',
    "dimensions are a text": b'{"format": 1, "embedding": {"model": "a", "dimensions": "8"}}',
    "no dimensions": b'{"format": 1, "embedding": {"model": "a", "dimensions": 0}}',
    "witness of words": b'{"format": 1, "embedding": {"model": "a", "dimensions": 8, "witness": [["x"]]}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / SIDECAR_NAME
    path.write_bytes(content)
    with pytest.raises(SidecarError) as caught:
        read_sidecar(path)
    assert caught.value.path == str(path)
    assert str(path) in caught.value.message
    assert "delete it" in caught.value.hint


def test_a_folder_in_the_place_of_a_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / SIDECAR_NAME).mkdir()
    with pytest.raises(SidecarError, match="cannot be read"):
        read_sidecar(tmp_path / SIDECAR_NAME)


def test_a_record_of_a_later_version_says_to_update() -> None:
    text = encode(STORED).replace('"format": 1', '"format": 2')
    with pytest.raises(SidecarError, match=r"has the format `2`, and 1 is the newest known\. Update"):
        decode(text, "the collection")


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_record_or_an_error(text: str) -> None:
    with pytest.raises(SidecarError):
        decode(text, "x")


def test_the_same_model_passes_whatever_it_is_called() -> None:
    check(STORED, STORED, "`x`")
    check(STORED, replace(STORED, model="/models/all-minilm"), "`x`")


def refused(current: EmbeddingFingerprint) -> EmbeddingMismatchError:
    with pytest.raises(EmbeddingMismatchError) as caught:
        check(STORED, current, "`./index`")
    assert (caught.value.stored, caught.value.current) == (STORED.to_dict(), current.to_dict())
    assert caught.value.store == "`./index`"
    return caught.value


def test_another_model_is_refused_with_both_names_and_dimensions() -> None:
    error = refused(FakeEmbeddingBackend(model_id="bge", dimensions=6, query_prompt="ask: ").fingerprint())
    assert error.fields == ("dimensions",)
    assert "`./index` were made by `minilm` (8 dimensions), and it was opened with `bge` (6 dimensions)" in str(error)
    assert "Open it with `minilm`, `dimensions=8`; or fill a new store from its documents with `bge`." in error.hint


def test_another_model_of_the_same_dimensions_is_refused_by_its_vectors() -> None:
    error = refused(FakeEmbeddingBackend(model_id="bge", dimensions=8, query_prompt="ask: ", seed=1).fingerprint())
    assert error.fields == ("witness",)
    assert "the same texts get other vectors" in error.message
    assert error.hint == "Open it with `minilm`; or fill a new store from its documents with `bge`."


def test_other_weights_of_the_same_name_are_refused() -> None:
    error = refused(FakeEmbeddingBackend(model_id="minilm", dimensions=8, query_prompt="ask: ", seed=1).fingerprint())
    assert error.hint.startswith("Open it with the weights that it was made with, of `minilm`; or")


def test_another_prompt_is_refused_with_the_setting_to_change() -> None:
    error = refused(FakeEmbeddingBackend(model_id="minilm", dimensions=8).fingerprint())
    assert error.fields == ("query_prompt",)
    assert "`query_prompt` was `ask: ` and is empty" in error.message
    assert error.hint.startswith("Open it with `minilm`, `query_prompt='ask: '`; or")


def test_settings_that_change_vectors_explain_the_other_vectors() -> None:
    made = FakeEmbeddingBackend(model_id="minilm", dimensions=8, query_prompt="ask: ", document_prompt="d: ")
    error = refused(made.fingerprint())
    assert set(error.fields) == {"witness", "document_prompt"}
    assert error.hint.startswith("Open it with `minilm`, `document_prompt=''`; or")


def test_a_record_of_vectors_of_another_size_is_left_aside(caplog: pytest.LogCaptureFixture) -> None:
    record = EmbeddingFingerprint(model="minilm", dimensions=4)
    assert still_true(record, 4, "the store") is still_true(record, None, "the store") is record
    assert caplog.text == ""
    assert still_true(record, 8, "the store") is None
    assert "the store has 8 dimensions and a record of 4" in caplog.text


@pytest.mark.parametrize(
    ("again", "field"),
    [([[0.0, 0.9, 0.1]], None), ([[0.1, 0.4, 1.0]], "witness"), ([[0.0, 0.0, 0.0]], "witness")],
    ids=["alike", "another", "nothing"],
)
def test_vectors_without_a_record_are_compared_by_angle(again: list[list[float]], field: str | None) -> None:
    current = EmbeddingFingerprint(model="minilm", dimensions=3)
    if field is None:
        check_vectors([[0.0, 2.0, 0.0]], again, current, "the store")
        return
    with pytest.raises(EmbeddingMismatchError, match="at best") as caught:
        check_vectors([[0.0, 2.0, 0.0]], again, current, "the store")
    assert caught.value.fields == (field,) and "adopt=True" in str(caught.value.hint)


def test_vectors_without_a_record_are_compared_by_size() -> None:
    with pytest.raises(EmbeddingMismatchError, match="have 2 dimensions") as caught:
        check_vectors([[0.0, 2.0]], [[0.0, 2.0, 0.0]], EmbeddingFingerprint(model="m", dimensions=3), "the store")
    assert caught.value.fields == ("dimensions",)
