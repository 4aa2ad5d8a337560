"""Programs that save to a store of files in the very moment in which it is published. Nothing of theirs may be lost."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import pytest
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

from mlx_integrations.errors import JournalError, MLXIntegrationsError, StoreChangedError
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.protocol import Run, Store
from mlx_integrations.migration.stores.file_swap import FileSwap
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.sidecar import SIDECAR_NAME
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor

ROWS = 6
KINDS = ("langchain-faiss", "langchain-in-memory", "llama-index-simple", "llama-index-faiss", "llama-index-faiss-map")
Save = Callable[[Sequence[str]], None]
"""Adds texts to a store that a program has had open since it was made, and saves it."""


def program(kind: str, folder: Path) -> tuple[Path, Save]:
    """A store of some texts, and a program that has it open; it saves in the order in which its library does."""
    address = folder / ("store.json" if kind == "langchain-in-memory" else "store")
    texts = [f"text {number}" for number in range(ROWS)]
    fake = DeterministicFakeEmbedding(size=OLD_DIMENSIONS)
    store: Any
    if kind == "langchain-faiss":
        store = FAISS.from_texts(texts, fake)
    elif kind == "langchain-in-memory":
        store = InMemoryVectorStore.from_texts(texts, fake)
    else:
        return address, _llama_index(kind, address, texts)

    def save(added: Sequence[str]) -> None:
        if added:
            store.add_texts(list(added))
        (store.save_local if kind == "langchain-faiss" else store.dump)(str(address))

    save(())
    return address, save


def _llama_index(kind: str, address: Path, texts: Sequence[str]) -> Save:
    index = faiss.IndexFlatL2(OLD_DIMENSIONS)
    made: dict[str, Callable[[], Any]] = {
        "llama-index-simple": lambda: None,
        "llama-index-faiss": lambda: FaissVectorStore(index),
        "llama-index-faiss-map": lambda: FaissMapVectorStore(faiss.IndexIDMap2(index)),
    }
    context = StorageContext.from_defaults(vector_store=made[kind]())
    model = MockEmbedding(embed_dim=OLD_DIMENSIONS)
    opened = VectorStoreIndex([], storage_context=context, embed_model=model, store_nodes_override=True)

    def save(added: Sequence[str]) -> None:
        opened.insert_nodes([TextNode(text=text) for text in added])
        context.persist(str(address))

    save(texts)
    return save


class BusySwap(FileSwap):
    """Names of a file to which something else is written directly before, or after, the new one takes its place."""

    def __init__(self, swap: FileSwap, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__(swap.location, swap.file, swap.sidecar)
        self._before, self._after = before, after

    def publish(self, run: Run) -> None:
        self._before()
        super().publish(run)
        self._after()


def nothing() -> None:
    """What most programs do."""


def busy(address: Path, *, before: Callable[[], None] = nothing, after: Callable[[], None] = nothing) -> Store:
    store: Any = open_store(address)
    store._swap = BusySwap(store._swap, before, after)
    found: Store = store
    return found


def texts_of(address: Path) -> set[str | None]:
    return {row.text for row in open_store(address).rows()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_before_the_switch_is_taken_in_by_the_next_run(tmp_path: Path, kind: str) -> None:
    address, save = program(kind, tmp_path)
    store = busy(address, before=lambda: save(["written meanwhile"]))
    with pytest.raises(StoreChangedError):
        migrate(store, executor())
    again = open_store(address)
    assert "written meanwhile" in texts_of(address)
    assert again.describe().dimensions == (OLD_DIMENSIONS,)
    assert migrate(again, executor()).in_use == "new"
    assert len(texts_of(address)) == ROWS + 1
    gc(again)
    assert "written meanwhile" in texts_of(address)
    assert again.describe().findings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_after_the_switch_stays_in_use(tmp_path: Path, kind: str) -> None:
    address, save = program(kind, tmp_path)
    saved: dict[str, bytes] = {}

    def write() -> None:
        save(["written meanwhile"])
        saved.update(contents_of(tmp_path))

    with pytest.raises(JournalError, match="does not have the vectors any more") as caught:
        migrate(busy(address, after=write), executor())
    assert "mlxi migrate gc" in caught.value.hint
    assert saved.items() <= {**contents_of(tmp_path), **_journals(saved)}.items()
    store = open_store(address)
    for verb in (rollback, publish):
        with pytest.raises((StoreChangedError, JournalError)):
            verb(store)
    gc(store)
    assert migrate(store, executor()).in_use == "new"
    assert "written meanwhile" in texts_of(address)
    assert len(texts_of(address)) == ROWS + 1


class KilledError(BaseException):
    """Nothing is done after it, as if the process were gone."""


def cut_off(address: Path, moment: str, patch: pytest.MonkeyPatch) -> None:
    """Migrate a store, but for what comes after a moment of publishing, or of the rollback that follows."""
    real = Path.replace
    is_of_run = re.compile(r"\.mlxi-[0-9a-f]{12}").search

    def replace(path: Path, target: Path) -> Path:
        seen = "rollback" if path.name.endswith(".old") else "record" if SIDECAR_NAME in path.name else "switch"
        if seen == moment and is_of_run(path.name) and not is_of_run(target.name):
            raise KilledError
        return real(path, target)

    with patch.context() as patched, contextlib.suppress(KilledError):
        patched.setattr(Path, "replace", replace)
        migrate(open_store(address), executor())
        rollback(open_store(address))
        pytest.fail("it was not cut off")


@pytest.mark.parametrize("verb", [publish, rollback])
@pytest.mark.parametrize("moment", ["switch", "record", "rollback"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_before_a_switch_is_completed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, moment: str, verb: Callable[[Store], Any]
) -> None:
    address, save = program(kind, tmp_path)
    cut_off(address, moment, monkeypatch)
    save(["written meanwhile"])
    for completes in (verb, verb, publish):
        with contextlib.suppress(MLXIntegrationsError):
            completes(open_store(address))
        assert "written meanwhile" in texts_of(address)
        assert open_store(address).describe().dimensions == (OLD_DIMENSIONS,)
        assert not list(tmp_path.rglob(f"*{SIDECAR_NAME}"))
    gc(open_store(address))
    assert "written meanwhile" in texts_of(address)
    assert migrate(open_store(address), executor()).in_use == "new"
    assert len(texts_of(address)) == ROWS + 1


def test_a_file_that_a_program_puts_in_the_place_of_the_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = program("langchain-in-memory", tmp_path)
    cut_off(address, "switch", monkeypatch)
    saved = address.read_bytes().replace(b"text 0", b"written meanwhile")
    other = tmp_path / "other"
    other.write_bytes(saved)
    other.replace(address)
    with pytest.raises(StoreChangedError):
        publish(open_store(address))
    assert address.read_bytes() == saved
    assert migrate(open_store(address), executor()).in_use == "new"
    rollback(open_store(address))
    gc(open_store(address))
    assert contents_of(tmp_path) == {address.name: saved}


def _journals(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if ".mlxi-migrate" in name}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_later_does_not_keep_the_old_vectors_from_being_deleted(tmp_path: Path, kind: str) -> None:
    address, _ = program(kind, tmp_path)
    store = open_store(address)
    migrate(store, executor())
    for file in [address] if address.is_file() else address.iterdir():
        if ".mlxi-" not in file.name:  # every file but the old vectors is another one now
            file.write_bytes(file.read_bytes())
    assert gc(store)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".old")]
