"""Qdrant servers that are slow, strict, or lose an answer, and keys that are not quite right."""

import gc as garbage
import os
from typing import Any

import pytest
from qdrant_client import models

from mlx_integrations.errors import RowsError, StoreBusyError, StoreError
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.engine.passes import Progress
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.stores.qdrant import server as qdrant_server
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.stores.qdrant.server import QdrantServer
from mlx_integrations.migration.targets.opening import open_target
from tests.migration.qdrant_stores import client, fill
from tests.migration.stores import OLD_DIMENSIONS, executor
from tests.migration.test_qdrant import runs, shown
from tests.qdrant_server import Server, serving

SECRET = "the-secret"


@pytest.fixture(autouse=True)
def _quick(qdrant: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long."""
    monkeypatch.setattr(qdrant_server, "_PAUSES_SECONDS", (0.01, 0.01))


def strict(**settings: Any) -> models.StrictModeConfig:
    return models.StrictModeConfig(enabled=True, **settings)


def test_what_was_done_and_not_answered_is_not_taken_for_a_fault(server: Server, name: str) -> None:
    fill(client(), documents(20), name)
    store = QdrantServerStore(server.url, name)
    server.lost |= {"create", "upsert", "change_aliases", "delete", "index"}
    assert migrate(store, executor()).in_use == "new"
    assert not server.lost - {"index"}
    server.lost |= {"change_aliases"}
    assert rollback(store).in_use == "old"
    server.lost |= {"change_aliases", "delete"}
    assert gc(store)
    server.lost.clear()
    assert len(runs(name)) == 2


def test_a_server_that_asks_for_patience_gets_it(server: Server, name: str) -> None:
    fill(client(), documents(20), name)
    server.faults |= {"scroll": [429] * 20, "upsert": [429] * 20}
    assert migrate(QdrantServerStore(server.url, name), executor()).in_use == "new"
    server.faults["scroll"] = [429] * 100
    with pytest.raises(StoreBusyError, match="too much is asked"):
        migrate(QdrantServerStore(server.url, name), executor(seed=2))
    server.faults.clear()


@pytest.mark.parametrize(
    "limits", [{"max_query_limit": 7}, {"upsert_max_batchsize": 3}, {"write_rate_limit": 5, "max_query_limit": 1}]
)
def test_what_strict_mode_allows_for_one_request_is_kept_to(server: Server, name: str, limits: Any) -> None:
    fill(client(), [], name, strict_mode_config=strict(**limits))
    for each in documents(20):
        fill(client(), [each], name)
    store = QdrantServerStore(server.url, name)
    assert migrate(store, executor()).embedded == 20
    assert len(list(store.rows())) == 20


def test_pages_of_large_points_have_few_of_them(server: Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_server, "_READ_BYTES", 100_000)
    monkeypatch.setattr(qdrant_server, "_FIRST_POINTS", 2)
    made = [
        models.PointStruct(id=at, vector=[1.0] * OLD_DIMENSIONS, payload={"page_content": "x" * 20_000})
        for at in range(40)
    ]
    fill(client(), [], name)
    client().upsert(name, made)
    server.log.clear()
    assert sum(1 for _ in QdrantServer(server.url, None).points(name)) == 40
    assert 8 <= server.kinds().count("scroll") <= 14


def test_answers_are_freed_as_soon_as_they_are_read(server: Server, name: str) -> None:
    import httpx

    fill(client(), documents(600), name)
    known = QdrantServer(server.url, None)
    garbage.collect()
    garbage.disable()
    try:
        assert sum(1 for _ in known.points(name, vectors=True)) == 600
        known.write(name, known.points(name, vectors=True))
        left = [
            each for each in garbage.get_objects() if type(each) is httpx.Response and name in str(each.request.url)
        ]
    finally:
        garbage.enable()
    assert left == []


def test_texts_are_looked_for_under_a_key_with_a_dot(server: Server, name: str) -> None:
    fill(client(), [], name)
    made = [
        models.PointStruct(id=at, vector=[1.0] * OLD_DIMENSIONS, payload={"the.text": text})
        for at, text in enumerate(["a", "b", "", "c"])
    ]
    client().upsert(name, made)
    store = QdrantServerStore(server.url, name)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, finding.examples) == ("missing-texts", 1, ("2",))
    assert migrate(store, executor(), accept=True).embedded == 3


def test_a_payload_that_has_our_own_key_is_not_cut(server: Server, name: str) -> None:
    fill(client(), documents(3), name)
    payload = {"page_content": "mine", "qdrant:vectors": {"a": 1}}
    client().upsert(name, [models.PointStruct(id=99, vector=[1.0] * OLD_DIMENSIONS, payload=payload)])
    with pytest.raises(RowsError, match="means something else here"):
        migrate(QdrantServerStore(server.url, name), executor())
    assert payload in [each[1] for each in shown(name)]


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_key_from_a_file_is_used_without_its_end_of_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(SECRET) as guarded:
        for ending in ("\n", "\r\n", " "):
            monkeypatch.setenv("QDRANT_API_KEY", f"{SECRET}{ending}")
            with pytest.raises(StoreError, match="0 collections"):
                open_store(guarded.url)


@pytest.mark.parametrize("key", ["the\nsecret", "дом-secret", "the-secret\x7f"])
def test_a_key_that_cannot_be_sent_is_told_and_not_shown(server: Server, key: str) -> None:
    with pytest.raises(StoreError, match="characters that no key has") as refused:
        QdrantServerStore(server.url, environ={"QDRANT_API_KEY": key})
    assert "secret" not in f"{refused.value} {refused.value.hint} {refused.value.__cause__!r}"


@pytest.mark.parametrize("key", ["the/secret", "the?secret", "the#secret"])
def test_a_key_that_ends_an_address_is_told_and_not_shown(key: str) -> None:
    for opened in (lambda url: open_store(url), lambda url: open_target(url, name="notes")):
        with pytest.raises(StoreError, match="character that ends it") as refused:
            opened(f"http://:{key}@localhost:1")
        assert "secret" not in f"{refused.value} {refused.value.hint} {refused.value.__cause__!r}"


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_key_in_an_address_can_have_any_character_that_is_escaped() -> None:
    with serving("a/secret") as guarded, pytest.raises(StoreError, match="0 collections"):
        open_store(guarded.url.replace("//", "//:a%2Fsecret@"))


@pytest.mark.parametrize("wrong", ["", ".", "..", "a/b", "a:b", "a?b", "a\x1fb", "\ud800", "a.mlxi-b", "本" * 86])
@pytest.mark.parametrize("kind", ["qdrant", "qdrant-server"])
def test_names_that_no_collection_has_are_told_before_anything_is_made(server: Server, wrong: str, kind: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_target(server.url if kind == "qdrant-server" else f"{os.devnull}-db", kind, wrong)
    assert refused.value.hint


def test_a_long_name_leaves_room_for_what_a_run_adds_to_it(server: Server) -> None:
    name = "本" * 84
    fill(client(), documents(5), name)
    store = QdrantServerStore(server.url, name)
    assert migrate(store, executor()).in_use == "new"
    assert max(len(each.encode()) for each in runs("本")) <= 255
    assert rollback(store).in_use == "old"


def test_a_name_that_looks_like_one_of_ours_is_found_afterwards(server: Server) -> None:
    name = "x.mlxi-y"
    fill(client(), documents(5), name)
    assert migrate(QdrantServerStore(server.url, name), executor()).in_use == "new"
    assert rollback(QdrantServerStore(server.url, name)).in_use == "old"
    assert gc(QdrantServerStore(server.url, name))
    assert len(shown(name)) == 5
    mark = next(each for each in runs(name) if each != name)
    with pytest.raises(StoreError, match="goes by the alias"):
        QdrantServerStore(server.url, mark)


def test_a_collection_that_is_deleted_in_between_is_told(server: Server, name: str) -> None:
    fill(client(), documents(20), name)

    def delete(progress: Progress) -> None:
        client().delete_collection(name)

    with pytest.raises(StoreError, match="doesn't exist") as told:
        migrate(QdrantServerStore(server.url, name), executor(), on_progress=delete)
    assert "deleted the collection" in str(told.value.hint)
