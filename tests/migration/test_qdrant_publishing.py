"""What programs write to a Qdrant server while a migration switches a collection over: nothing of it is lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import models

from mlx_integrations.errors import JournalError, MigrationError, StoreBusyError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import documents
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from tests.migration.qdrant_stores import client, fill
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, executor
from tests.migration.test_qdrant import alias, runs, shown
from tests.qdrant_server import Server


@pytest.fixture(autouse=True)
def _alone_at_last(qdrant: Server) -> Iterator[None]:
    """Nobody writes to the server when the next test begins."""
    yield
    qdrant.before = lambda method: None


Write = Callable[[Any, str], Any]


def late(known: Any, name: str, number: int = 500) -> None:
    """A program adds a document."""
    vector = [1.0] * OLD_DIMENSIONS
    known.upsert(name, [models.PointStruct(id=number, vector=vector, payload={"page_content": f"late {number}"})])


def delete(known: Any, name: str) -> None:
    """A program deletes a document."""
    known.delete(name, [0])


def before(server: Server, method: str, write: Callable[[Any], Any]) -> None:
    """Write something before the next request of a kind is done."""

    def look(asked: str) -> None:
        if asked == method:
            server.before = lambda method: None
            with server.backend.lock:
                write(server.backend.client)

    server.before = look


def aliases(name: str) -> dict[str, str]:
    found = client().get_aliases().aliases
    return {each.alias_name: each.collection_name for each in found if each.alias_name.startswith(name)}


def ids(name: str) -> set[Any]:
    return {each[0] for each in shown(name)}


@pytest.mark.parametrize("write", [late, delete])
def test_what_is_added_or_deleted_while_a_copy_is_compared_is_not_lost(server: Server, name: str, write: Write) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    marks = aliases(name)
    before(server, "change_aliases", lambda known: write(known, name))  # all of it has been compared by then
    with pytest.raises(StoreChangedError, match="while it was copied"):
        publish(store)
    expected = ids(name)
    assert (500 in expected) is (write is late) and (0 in expected) is (write is late)
    assert aliases(name) == marks
    known = status(store)
    assert known is not None and (known.phase, known.in_use) == ("verified", "old")
    assert migrate(store, executor()).in_use == "new"
    assert ids(name) == expected
    rollback(store)
    assert ids(name) == expected


@pytest.mark.parametrize("write", [late, delete])
def test_what_is_written_while_an_alias_is_moved_is_not_lost(server: Server, name: str, write: Write) -> None:
    fill(client(), documents(10), f"{name}-2025")
    alias(name, f"{name}-2025")
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    before(server, "change_aliases", lambda known: write(known, name))
    with pytest.raises(StoreChangedError, match="after it was embedded"):
        publish(store)
    expected = ids(name)
    assert len(shown(name)[0][2]) == OLD_DIMENSIONS
    assert len(expected) == (11 if write is late else 9)
    assert migrate(store, executor()).in_use == "new"
    assert ids(name) == expected
    assert gc(store)


def test_what_is_written_to_an_old_collection_by_its_own_name_is_not_deleted(server: Server, name: str) -> None:
    fill(client(), documents(10), f"{name}-2025")
    alias(name, f"{name}-2025")
    store = QdrantServerStore(server.url, name)
    migrate(store, executor())
    late(client(), f"{name}-2025")
    with pytest.raises(StoreChangedError, match="written to the old vectors"):
        gc(store)
    assert 500 in ids(f"{name}-2025")
    assert gc(store, accept=True)
    assert f"{name}-2025" not in runs(name)


def test_an_old_collection_that_is_used_by_another_alias_can_be_written_to(server: Server, name: str) -> None:
    fill(client(), documents(10), f"{name}-2025")
    alias(name, f"{name}-2025")
    alias(f"{name}-other", f"{name}-2025")
    store = QdrantServerStore(server.url, name)
    migrate(store, executor())
    late(client(), f"{name}-other")
    assert gc(store)
    assert 500 in ids(f"{name}-other")
    assert len(shown(name)[0][2]) == NEW_DIMENSIONS


def cut_off(server: Server, store: QdrantServerStore, name: str) -> None:
    """Publish, and get no further than to the deletion of the original."""
    migrate(store, executor(), publishes=False)

    def fail(asked: str) -> None:
        if asked == "delete":
            server.faults["change_aliases"] = [500] * 10

    server.before = fail
    with pytest.raises(StoreBusyError):
        publish(store)
    server.before = lambda method: None
    server.faults.clear()
    assert not client().collection_exists(name)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long."""
    monkeypatch.setattr("mlx_integrations.migration.stores.qdrant.server._PAUSES_SECONDS", (0.01,))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("verb", ["migrate", "publish", "rollback"])
def test_every_verb_completes_a_publishing_that_was_cut_off(server: Server, name: str, verb: str) -> None:
    fill(client(), documents(10), name)
    old = shown(name)
    cut_off(server, QdrantServerStore(server.url, name), name)
    store = QdrantServerStore(server.url, name)
    assert {row.id for row in store.rows()} == {str(each[0]) for each in old}
    assert store.describe().count == 10
    known = status(store)
    assert known is not None and known.in_use == "between"
    done = {"migrate": lambda: migrate(store, executor()), "publish": lambda: publish(store)}
    assert done.get(verb, lambda: rollback(store))().in_use == ("old" if verb == "rollback" else "new")
    assert [each[:2] for each in shown(name)] == [each[:2] for each in old]
    gc(store)
    assert len(runs(name)) == 2


@pytest.mark.usefixtures("quick")
def test_a_collection_that_a_program_makes_in_the_gap_is_not_taken_for_the_original(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    old = shown(name)
    cut_off(server, QdrantServerStore(server.url, name), name)
    fill(client(), documents(2, first=700), name)  # LangChain and LlamaIndex make a collection that is not there
    store = QdrantServerStore(server.url, name)
    left = runs(name)
    verbs: list[Callable[[], Any]] = [
        lambda: migrate(store, executor()),
        lambda: publish(store),
        lambda: migrate(store, executor()),
        lambda: gc(store),
        lambda: migrate(store, executor(), restart=True),
        lambda: rollback(store),
        lambda: gc(store),
        lambda: migrate(store, executor()),
    ]
    for verb in verbs:
        with pytest.raises(MigrationError):
            verb()
        assert runs(name) == left
    (copy,) = (each for each in left if each.endswith(".old"))
    assert shown(copy) == old
    with pytest.raises(StoreError, match=f"made `{name}` anew") as told:
        publish(store)
    assert copy in str(told.value) and "delete the collection" in str(told.value.hint)
    client().delete_collection(name)
    assert migrate(store, executor()).in_use == "new"
    assert [each[:2] for each in shown(name)] == [each[:2] for each in old]


def test_a_program_that_is_quicker_than_the_alias_is_told(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.DOT)

    def hurry(asked: str) -> None:
        if asked == "delete":  # it comes between this request and the next
            before(server, "change_aliases", lambda known: known.create_collection(name, vectors_config=params))

    server.before = hurry
    with pytest.raises(StoreError, match=f"made `{name}` anew"):
        publish(store)
    server.backend.settings[name] = models.CreateCollection(vectors=params)
    client().delete_collection(name)
    assert publish(store).in_use == "new"
    assert len(shown(name)) == 10


@pytest.mark.parametrize("write", [late, delete])
def test_what_is_written_to_a_copy_that_is_in_use_is_not_lost(server: Server, name: str, write: Write) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor())
    rollback(store)  # from here on its name is an alias of the copy
    migrate(store, executor(), publishes=False)
    before(server, "change_aliases", lambda known: write(known, name))
    with pytest.raises(StoreChangedError):
        publish(store)
    expected = ids(name)
    assert len(expected) == (11 if write is late else 9)
    assert migrate(store, executor()).in_use == "new"
    assert ids(name) == expected
    assert gc(store)
    assert ids(name) == expected


def test_a_collection_that_its_owner_makes_anew_later_is_migrated_afresh(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor())
    client().delete_collection(aliases(name)[name])
    fill(client(), documents(3), name)
    with pytest.raises(JournalError, match="made anew"):
        migrate(store, executor())
    assert gc(store)
    assert runs(name) == {name}
    assert migrate(QdrantServerStore(server.url, name), executor()).embedded == 3


def test_a_vector_that_a_point_gets_or_loses_is_a_change(server: Server, name: str) -> None:
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.DOT)
    fill(client(), [], name, vectors_config={"text": params, "image": params})
    for number in range(3):
        vector: dict[str, Any] = {"text" if number else "image": [1.0] * OLD_DIMENSIONS}
        client().upsert(
            name, [models.PointStruct(id=number, vector=vector, payload={"page_content": f"text {number}"})]
        )
    store = QdrantServerStore(server.url, f"{name}:text")
    migrate(store, executor(), publishes=False)
    with server.backend.lock:
        added = models.PointVectors(id=0, vector={"text": [2.0] * OLD_DIMENSIONS})
        server.backend.client.update_vectors(name, [added])
    with pytest.raises(StoreChangedError):
        publish(store)
    assert migrate(store, executor()).embedded == 3
    assert [len(each[2]["text"]) for each in shown(name)] == [NEW_DIMENSIONS] * 3
