"""Folders of Qdrant's local mode that are not quite as they should be, or that somebody else writes to."""

import base64
import datetime
import decimal
import json
import os
import pickle
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from mlx_integrations.errors import RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
from mlx_integrations.migration.targets.opening import open_target
from tests.migration.qdrant_stores import alias, filled
from tests.migration.stores import OLD_DIMENSIONS, executor
from tests.migration.test_qdrant_local import shown, storage


def add(folder: Path, name: str, number: int) -> None:
    """A program adds a document."""
    client = QdrantClient(path=str(folder))
    vector = [1.0] * OLD_DIMENSIONS
    client.upsert(name, [models.PointStruct(id=number, vector=vector, payload={"page_content": f"late {number}"})])
    client.close()


def put(folder: Path, payloads: dict[Any, dict[str, Any]], name: str = "notes") -> None:
    """Write points as they are given, as earlier clients did; later ones make JSON of payloads first."""
    with closing(sqlite3.connect(storage(folder, name))) as database:
        for own_id, payload in payloads.items():
            point = models.PointStruct.model_construct(id=own_id, vector=[1.0] * OLD_DIMENSIONS, payload=payload)
            key = base64.b64encode(pickle.dumps(own_id, protocol=4)).decode()
            database.execute("INSERT INTO points VALUES (?, ?)", (key, pickle.dumps(point)))
        database.commit()


def test_uuids_of_digits_alone_stay_uuids(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3))
    written = ["0" * 30 + "12", "12345678" * 4]  # as earlier clients kept them, which write them as they are given
    put(folder, {own_id: {"page_content": own_id} for own_id in written})
    before = {str(each[0]): each[1] for each in shown(Path(shutil.copytree(folder, tmp_path / "copy")), "notes")}
    assert len(before) == 5
    store = QdrantLocalStore(folder)
    assert store.vectors([row.key for row in store.rows()]).shape == (5, OLD_DIMENSIONS)
    migrate(store, executor())
    assert {str(each[0]): each[1] for each in shown(folder, "notes")} == before


def test_what_is_written_to_an_old_collection_by_its_own_name_is_not_deleted(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(5), "notes-2025")
    alias(folder, "notes", "notes-2025")
    store = QdrantLocalStore(folder, "notes")
    migrate(store, executor())
    shown(folder, "notes")  # to be opened changes nothing
    add(folder, "notes-2025", 500)
    with pytest.raises(StoreChangedError, match="written to the old vectors"):
        gc(store)
    assert 500 in {each[0] for each in shown(folder, "notes-2025")}
    rollback(store)
    assert migrate(store, executor()).embedded == 6
    assert gc(store)
    assert 500 in {each[0] for each in shown(folder, "notes")}


def test_an_old_collection_that_is_used_by_another_alias_can_be_written_to(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(5), "notes-2025")
    for name in ("notes", "other"):
        alias(folder, name, "notes-2025")
    store = QdrantLocalStore(folder, "notes")
    migrate(store, executor())
    add(folder, "other", 500)
    assert gc(store)
    assert 500 in {each[0] for each in shown(folder, "other")}


def test_a_collection_in_the_folder_of_another_is_not_deleted_with_it(tmp_path: Path) -> None:
    folder = filled(filled(tmp_path / "db", documents(5), "a"), documents(3), "b")
    meta = json.loads((folder / "meta.json").read_text())
    meta["collections"]["a/b"] = meta["collections"].pop("b")  # which earlier clients let one make
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "collection" / "b").rename(folder / "collection" / "a" / "b")
    before = shown(folder, "a/b")
    store = QdrantLocalStore(folder, "a")
    migrate(store, executor())
    gc(store)
    assert shown(folder, "a/b") == before
    assert not storage(folder, "a").exists()
    inner = QdrantLocalStore(folder, "a/b")
    assert migrate(inner, executor()).in_use == "new"
    gc(inner)
    assert [each[:2] for each in shown(folder, "a/b")] == [each[:2] for each in before]


@pytest.mark.parametrize("name", ["Größe 日本 #%&", " ", "n" * 240, "本" * 84, "notes.mlxi-x"])
def test_names_of_any_kind_are_kept(tmp_path: Path, name: str) -> None:
    folder = filled(tmp_path / "db", documents(3), name)
    store = QdrantLocalStore(folder, name)
    assert migrate(store, executor()).in_use == "new"
    assert len(shown(folder, name)) == 3
    rollback(store)
    assert len(shown(folder, name)[0][2]) == OLD_DIMENSIONS


@pytest.mark.parametrize(
    "settings",
    [
        {"vectors": {"size": 4}},
        {"vectors": [1]},
        {"vectors": {"a": None}},
        {"vectors": {"size": "4", "distance": "Dot"}},
    ],
)
def test_settings_that_are_damaged_are_told(tmp_path: Path, settings: Any) -> None:
    folder = filled(tmp_path / "db", documents(3))
    (folder / "meta.json").write_text(json.dumps({"collections": {"notes": settings}, "aliases": {}}))
    with pytest.raises(StoreError, match="damaged") as told:
        QdrantLocalStore(folder).describe()
    assert told.value.hint


def test_what_cannot_be_deleted_is_told_and_deleted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "db", documents(5))
    store = QdrantLocalStore(folder)
    migrate(store, executor())
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == storage(folder):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)  # as tests may run as a user whom nothing is forbidden
        with pytest.raises(StoreError, match="Permission denied"):
            gc(store)
    assert storage(folder).exists()
    assert gc(store)
    assert not storage(folder).parent.exists()


def test_a_folder_of_a_client_before_sqlite_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3))
    storage(folder).rename(storage(folder).with_suffix(".dbm"))
    with pytest.raises(StoreError, match="is missing") as told:
        QdrantLocalStore(folder).describe()
    assert "1.1.7" in str(told.value.hint)
    with pytest.raises(ValueError, match="legacy dbm"):
        QdrantClient(path=str(folder))


KEPT: dict[str, Any] = {
    "day": datetime.date(2026, 1, 2),
    "price": decimal.Decimal("1.50"),
    "pair": (1, {2}),
    "uuid": UUID(int=7),
    "number": np.int64(3),
}
ONLY_PYTHONS: dict[str, Any] = {
    "file": PurePosixPath("/data/x.txt"),
    "inside": {"files": [PureWindowsPath("c:\\x"), "y"]},
    "names": {PurePosixPath("z"): 1},
    "moment": np.datetime64("2026-01-02T03:04:05.123456789"),
}
AS_TEXT: dict[str, Any] = {
    "file": "/data/x.txt",
    "inside": {"files": ["c:\\x", "y"]},
    "names": {"z": 1},
    "moment": "2026-01-02T03:04:05.123456789",
}
TOLD = [
    ("`file`: paths, which become text.", 2, ("501", "502")),
    ("`inside`: paths, which become text.", 1, ("501",)),
    ("`moment`: times of NumPy, which become text.", 1, ("501",)),
    ("`names`: paths, which become text.", 1, ("501",)),
    ("`where`: paths, which become text.", 1, ("502",)),
]


def of_an_earlier_client(folder: Path) -> Path:
    """A folder with values of which pickles know and JSON does not."""
    filled(folder, documents(3))
    more = {"file": PurePosixPath("a"), "where": PurePosixPath("b")}
    payloads: dict[Any, dict[str, Any]] = {
        501: {"page_content": "many of them", "metadata": {**KEPT, **ONLY_PYTHONS}},
        502: {"page_content": "beside the metadata", "metadata": {"file": more["file"]}, "where": more["where"]},
    }
    put(folder, payloads)
    return folder


def payloads_of(path: Path) -> dict[Any, dict[str, Any]]:
    """What Python itself reads of the points: nothing of this package."""
    with closing(sqlite3.connect(path)) as database:
        contents = [content for (content,) in database.execute("SELECT point FROM points")]
    assert not any(b"mlx_integrations" in content for content in contents)
    return {point.id: point.payload for point in map(pickle.loads, contents)}


def test_values_that_only_python_has_become_text_when_that_is_accepted(tmp_path: Path) -> None:
    folder = of_an_earlier_client(tmp_path / "db")
    old, before = storage(folder).read_bytes(), payloads_of(storage(folder))
    store = QdrantLocalStore(folder)
    found = store.describe().findings
    assert [(each.message, each.count, each.examples) for each in found] == TOLD
    with pytest.raises(RowsError, match="`file`: paths, which become text"):
        migrate(store, executor())
    assert list((folder / "collection").iterdir()) == [storage(folder).parent]
    done = migrate(store, executor(), accept=True)
    assert (done.embedded, done.accepted) == (5, found)
    (made,) = {*(folder / "collection").iterdir()} - {storage(folder).parent}
    after = payloads_of(made / "storage.sqlite")
    assert after[501]["metadata"] == KEPT | AS_TEXT
    assert (after[502]["metadata"], after[502]["where"]) == ({"file": "a"}, "b")
    assert {number: after[number] for number in before.keys() - {501, 502}} == {
        number: before[number] for number in before.keys() - {501, 502}
    }
    assert store.describe().findings == ()
    rollback(store)
    assert storage(folder).read_bytes() == old
    assert payloads_of(storage(folder)) == before


@pytest.mark.parametrize("kind", ["langchain-faiss", "qdrant", "langchain-in-memory"])
def test_moves_tell_of_values_that_only_python_has(tmp_path: Path, kind: str) -> None:
    store = QdrantLocalStore(of_an_earlier_client(tmp_path / "db"))
    place = tmp_path / ("moved.json" if kind == "langchain-in-memory" else "moved")

    def move(**options: Any) -> Move:
        return Move(store, open_target(str(place), kind, "notes" if kind == "qdrant" else None), **options)

    found = [(each.message, each.count, each.examples) for each in move().describe().findings if each.is_blocking]
    assert len(found) == len({message for message, *_ in found})
    assert set(TOLD) <= set(found)
    asked = [each.message for each in move(as_json=[*AS_TEXT, "where"]).describe().findings]
    assert not [message for message in asked if "become text" in message]
    with pytest.raises(RowsError, match="which become text"):
        migrate(move(), executor())
    assert migrate(move(), executor(), accept=True).in_use == "new"
    rows = {row.text: row.metadata for row in open_store(place).rows()}
    many, beside = rows["many of them"], rows["beside the metadata"]
    assert AS_TEXT.items() <= many.get("metadata", many).items()
    assert {"file": "a", "where": "b"}.items() <= beside.get("metadata", beside).items()
    files = [path for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    assert not any(b"TextOf" in path.read_bytes() for path in files)


def test_the_texts_are_not_taken_for_paths(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", [])
    put(folder, {1: {"body": "a text", "file": PurePosixPath("x")}})
    (row,) = QdrantLocalStore(folder).rows()
    assert row.text == "a text"


def test_a_payload_that_has_itself_in_it_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3))
    endless: list[Any] = []
    endless.append(endless)
    put(folder, {7: {"page_content": "x", "metadata": {"more": endless}}})
    with pytest.raises(StoreError, match="payload of `7` refers to itself") as told:
        QdrantLocalStore(folder).describe()
    assert told.value.hint


@pytest.mark.parametrize(
    "value",
    [
        np.dtype("float32"),
        np.dtype,
        models.SparseVector(indices=[1], values=[0.5]),
        models.PointStruct,
        PurePosixPath,
        datetime.datetime,
    ],
)
def test_a_payload_with_what_cannot_be_written_again_is_told_before_anything_is_embedded(
    tmp_path: Path, value: Any
) -> None:
    folder = filled(tmp_path / "db", documents(3))
    put(folder, {7: {"page_content": "x", "metadata": {"more": [value]}}})
    with pytest.raises(StoreError, match="payload of `7` has something in it that is no plain value") as told:
        QdrantLocalStore(folder).describe()
    assert told.value.hint


def test_a_path_is_no_id(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(3))
    put(folder, {PurePosixPath("x"): {"page_content": "x"}})
    with pytest.raises(StoreError, match="number or a text"):
        QdrantLocalStore(folder).describe()


def rights(folder: Path) -> set[tuple[int, int, int]]:
    facts = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {(stat.S_IMODE(each.st_mode), each.st_uid, each.st_gid) for each in facts}


def test_nobody_else_may_read_the_new_points_and_their_owner_may(tmp_path: Path) -> None:
    folder = filled(tmp_path / "db", documents(5))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.getuid() == 0:  # only an administrator can give files to others, and should not keep them
            os.chown(path, 65534, 65534)
    before = rights(folder)
    assert len(before) == 1
    place = storage(folder).parent.stat().st_mode
    store = QdrantLocalStore(folder)
    migrate(store, executor(), work=tmp_path / "work", publishes=False)
    assert rights(folder) == before
    publish(store, work=tmp_path / "work")
    assert rights(folder) == before
    (built,) = (path for path in (folder / "collection").iterdir() if path.name != "notes")
    assert built.stat().st_mode == place
    gc(store, work=tmp_path / "work")
    assert rights(folder) == before
