"""LangChain's `InMemoryVectorStore`, dumped: the contract of all stores, and what is its own."""

import datetime
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from mlx_integrations.errors import EmbeddingMismatchError, RowsError, StoreError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.migration.api import migrate, rollback
from mlx_integrations.migration.contract import Document, StoreContract, documents
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.in_memory import InMemoryDump
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor, vectors

OLD_MODEL = DeterministicFakeEmbedding(size=OLD_DIMENSIONS)


def new_model() -> MLXEmbeddings:
    backend = FakeEmbeddingBackend(model_id="new-model", dimensions=16, seed=1, max_tokens=64)
    return MLXEmbeddings(model="new-model", backend=backend)


def add_to(store: InMemoryVectorStore, contents: Sequence[Document]) -> InMemoryVectorStore:
    if contents:
        texts, metadatas = [each.text for each in contents], [each.metadata for each in contents]
        store.add_texts(texts, metadatas, ids=[each.id for each in contents])
    return store


def dumped(path: Path, contents: Sequence[Document]) -> Path:
    add_to(InMemoryVectorStore(OLD_MODEL), contents).dump(str(path))
    return path


def load(path: Path, embeddings: Embeddings = OLD_MODEL) -> InMemoryVectorStore:
    return InMemoryVectorStore.load(str(path), embeddings)


class TestInMemory(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        dumped(folder / "notes.json", contents)

    def open(self, folder: Path) -> Store:
        return InMemoryDump(folder / "notes.json")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        add_to(load(folder / "notes.json"), contents).dump(str(folder / "notes.json"))


def test_langchain_finds_its_documents_afterwards_and_the_guard_accepts_it(tmp_path: Path) -> None:
    path = dumped(tmp_path / "notes.json", documents(30))
    with pytest.raises(EmbeddingMismatchError):
        verify_store(guarded(load(path, new_model()), path=path))
    migrate(InMemoryDump(path), executor())
    store = guarded(load(path, new_model()), path=path)
    assert verify_store(store).differences(executor().fingerprint()) == ()
    wanted = documents(30)[13]
    (found,) = store.similarity_search(wanted.text, k=1)
    assert (found.id, found.page_content, found.metadata) == (wanted.id, wanted.text, wanted.metadata)
    store.add_texts(["A new one."])
    store.dump(str(path))
    again = guarded(load(path, new_model()), path=path)
    assert again.similarity_search("A new one.", k=1)[0].page_content == "A new one."


def test_the_old_file_is_back_after_a_rollback(tmp_path: Path) -> None:
    path = dumped(tmp_path / "notes.json", documents(10))
    before = path.read_bytes()
    migrate(InMemoryDump(path), executor())
    rollback(InMemoryDump(path))
    assert path.read_bytes() == before
    with pytest.raises(EmbeddingMismatchError):
        verify_store(guarded(load(path, new_model()), path=path))


def test_everything_but_the_vectors_is_kept(tmp_path: Path) -> None:
    path = dumped(tmp_path / "notes.json", documents(7))
    old = json.loads(path.read_text())
    old["doc-00002"]["text"] = 'a "vector": [1, 2] \\ é'
    old["doc-00003"] |= {"later": {"vector": [1]}, "metadata": {"vector": [3], "deep": [{"}": None}]}}
    old["doc-00004"]["metadata"] = None
    path.write_text(json.dumps(old, ensure_ascii=False))
    migrate(InMemoryDump(path), executor())
    new = json.loads(path.read_text())
    assert list(new) == list(old)
    for name, entry in old.items():
        assert {**new[name], "vector": None} == {**entry, "vector": None}
        assert len(new[name]["vector"]) == 16


def test_values_that_langchain_could_not_write_are_told_and_kept(tmp_path: Path) -> None:
    contents = documents(4)
    contents[2].metadata["when"] = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    store = InMemoryDump(dumped(tmp_path / "notes.json", contents))
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == ("unreadable-metadata", ("doc-00002",), False)
    before: dict[str, Any] = {row.id: row.metadata for row in store.rows()}
    assert migrate(store, executor()).embedded == 4
    assert {row.id: row.metadata for row in store.rows()} == before


def test_vectors_of_several_sizes_are_told_and_become_one(tmp_path: Path) -> None:
    path = dumped(tmp_path / "notes.json", documents(5))
    add_to(load(path, DeterministicFakeEmbedding(size=40)), documents(2, first=5)).dump(str(path))
    store = InMemoryDump(path)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count, store.describe().dimensions) == ("mixed-dimensions", 2, (24, 40))
    assert store.vectors(["5", "6"]).shape == (2, 40)
    with pytest.raises(StoreError, match="several sizes"):
        store.vectors(["4", "5"])
    migrate(store, executor())
    assert (store.describe().dimensions, store.describe().findings) == ((16,), ())


def test_entries_without_text_are_left_out_only_when_that_is_accepted(tmp_path: Path) -> None:
    path = dumped(tmp_path / "notes.json", documents(6))
    content = json.loads(path.read_text())
    content["doc-00000"]["text"] = " \n"
    content["doc-00005"]["text"] = None
    path.write_text(json.dumps(content))
    store = InMemoryDump(path)
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples) == ("missing-texts", ("doc-00000", "doc-00005"))
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert json.loads(path.read_text()) == content
    assert migrate(store, executor(), accept=True).embedded == 4
    assert list(load(path, new_model()).store) == ["doc-00001", "doc-00002", "doc-00003", "doc-00004"]


def test_the_same_id_twice_is_told_and_nothing_of_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    one, two = (json.dumps({"id": "a", "vector": [1, 0], "text": text, "metadata": {}}) for text in ("one", "two"))
    path.write_text(f'{{"a": {one}, "a": {two}}}')
    store = InMemoryDump(path)
    (finding,) = store.describe().findings
    assert (finding.code, finding.count) == ("duplicate-ids", 1)
    assert migrate(store, executor()).embedded == 2
    assert [row.text for row in store.rows()] == ["one", "two"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, share: float) -> None:
    path = dumped(tmp_path / "notes.json", documents(30))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    before = contents_of(tmp_path)
    with pytest.raises(StoreError):
        migrate(InMemoryDump(path), executor())
    path.write_bytes(before["notes.json"])


@pytest.mark.parametrize(
    "content", ["[]", "null", "7", '{"a": 1}', '{"a": {}}', '{"a": {"text": "x"}}', '{"a": {"vector": [1], "text": 1}}']
)
def test_other_files_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.json").write_text(content)
    with pytest.raises(StoreError):
        InMemoryDump(tmp_path / "notes.json").describe()


def test_reading_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    entry = json.dumps({"id": "x", "vector": [0.123456789] * 1000, "text": "some text", "metadata": {"page": 1}})
    with path.open("w") as file:
        file.write("{")
        for number in range(1500):
            file.write(f'{", " if number else ""}"doc-{number}": {entry}')
        file.write("}")
    store = InMemoryDump(path)
    assert path.stat().st_size > 18_000_000
    tracemalloc.start()
    try:
        assert store.describe().count == sum(1 for _ in store.rows()) == 1500
        assert store.vectors(["3", "1499"]).shape == (2, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


def test_what_looks_like_a_note_of_langchain_and_is_none_is_not_told(tmp_path: Path) -> None:
    contents = documents(2)
    contents[0].metadata["kind"] = "not_implemented"
    contents[1].metadata["kind"] = {"lc": 1, "type": "not_implemented"}
    path = dumped(tmp_path / "notes.json", contents)
    assert InMemoryDump(path).describe().findings == ()
    assert load(path).get_by_ids(["doc-00001"])[0].metadata == contents[1].metadata


class OfNumpy(Embeddings):
    """A model that gives vectors, or their numbers, as NumPy has them."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def embed_documents(self, texts: list[str]) -> list[Any]:
        made = vectors(len(texts), OLD_DIMENSIONS)
        return list(made) if self._whole else [list(each) for each in made]

    def embed_query(self, text: str) -> Any:
        return self.embed_documents([text])[0]


@pytest.mark.parametrize("whole", [True, False])
def test_vectors_that_langchain_could_not_write_are_told_and_repaired(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "notes.json"
    InMemoryVectorStore.from_texts(["one", "two"], OfNumpy(whole=whole)).dump(str(path))
    with pytest.raises(NotImplementedError):
        load(path)
    before = path.read_bytes()
    store = InMemoryDump(path)
    info = store.describe()
    assert ([each.code for each in info.findings], info.count, info.dimensions) == (["unreadable-vectors"], 2, ())
    with pytest.raises(StoreError, match="no lists of numbers"):
        store.vectors(["0", "1"])
    migrate(store, executor())
    assert {each["text"] for each in load(path).store.values()} == {"one", "two"}
    rollback(store)
    assert path.read_bytes() == before
