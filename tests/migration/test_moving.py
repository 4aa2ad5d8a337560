"""Moves: what the new store cannot hold is told, and what may go wrong on the way harms nobody."""

import datetime
import decimal
import math
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import JournalError, RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import Document, documents
from mlx_integrations.migration.moving import Move, open_move
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.records import Finding
from mlx_integrations.migration.stores.chroma.store import ChromaStore
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.targets.chroma import ChromaTarget
from mlx_integrations.migration.targets.in_memory import InMemoryTarget
from mlx_integrations.migration.targets.langchain_faiss import FaissTarget
from mlx_integrations.migration.targets.opening import KINDS, open_target
from tests.migration.memory_store import ListReader
from tests.migration.places import (
    FRAMEWORKS,
    NAME,
    LangChainChroma,
    LangChainFaiss,
    LangChainInMemory,
    LangChainLanceDB,
    LlamaIndexChroma,
    LlamaIndexSimple,
    Place,
    chroma_at,
)
from tests.migration.stores import contents_of, executor, save_faiss, texts

VALUES: dict[str, Any] = {
    "nothing": None,
    "truth": False,
    "whole": -(2**63),
    "large": 2**63,
    "huge": 2**70,
    "real": 0.1 + 0.2,
    "zero with a sign": -0.0,
    "zeros with signs": [0.0, -0.0],
    "no number": float("nan"),
    "infinite": float("-inf"),
    "text": 'a "quoted" line\n\x00 and é',
    "half": "\ud800",
    "date": datetime.date(2026, 1, 2),
    "time": datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
    "bytes": b"\x00\xff",
    "exact": decimal.Decimal("1.10"),
    "unique": uuid.UUID(int=7),
    "set": {1, 2},
    "tuple": (1, 2),
    "empty": [],
    "wholes": [3, 1, 2],
    "reals": [0.5, 1.5],
    "truths": [True, False],
    "texts": ["b", "a"],
    "mixed": [1, 2.5],
    "truth among wholes": [True, 1],
    "nothing among texts": ["a", None],
    "no number among reals": [1.5, float("nan")],
    "large among wholes": [1, 2**63],
    "lists": [[1], [2]],
    "mapping": {"a": {"b": [1, None, {"c": "d"}]}},
    "empty mapping": {},
    "mapping of numbers": {1: "a"},
    "date inside": {"a": [datetime.date(2026, 1, 2)]},
    "tuple inside": {"a": (1, 2)},
    "path": PurePosixPath("/data/x.txt"),
    "path among texts": ["x", PurePosixPath("y")],
    "path inside": {"a": (PurePosixPath("x"), {"b": PurePosixPath("y")})},
    "paths in a set": {PurePosixPath("x")},
    "mapping of paths": {PurePosixPath("x"): 1},
    "day of NumPy": np.datetime64("2026-01-02"),
    "lc": 1,
    "object": {"lc": 1, "type": "constructor", "id": ["langchain", "no_such_thing"], "kwargs": {}},
    "escaped": {"__lc_escaped__": {"lc": 1}},
    "#tag": 1,
    "$price": 1,
    "chroma:uri": "u",
    "chroma:document": "another text",
    "chroma:other": 1,
    "_id": "x",
    "page_content": "x",
    "_node_content": '{"text": "another text"}',
    "_node_type": "TextNode",
    "NUL in \0 name": 1,
    "NUL in names inside": {"a": [{"b\0": 1}]},
    "odd names inside": {"a.b": 1, "": 2, "$c": 3, "A": 4, "a": 5},
    "vector": [0.5, 1.5],
    "metadata": {"id": 1},
    "text_": "x",
    "with.dot": 1,
    "": 1,
    "é": "ü",
    "half \udc00": 1,
}
LANGCHAIN, LLAMA_INDEX = FRAMEWORKS
NAMED = ("chroma", "lancedb", "pgvector", "qdrant", "qdrant-server")

pytestmark = pytest.mark.usefixtures("own_data")


def same(old: Any, new: Any) -> bool:
    """Whether two values are the same in every respect; a number that is none is itself."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, float) and old == new == 0:
        return math.copysign(1, old) == math.copysign(1, new)
    return bool(old == new or (old != old and new != new))


def moved(tmp_path: Path, source: Place, target: Place, contents: list[Document]) -> Callable[..., Move]:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    source.fill(tmp_path / "here", contents)
    return lambda **options: Move(source.source(tmp_path / "here"), target.target(tmp_path / "there"), **options)


def lost(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.message.split("`")[1] for finding in findings if finding.code == "not-held"}


@pytest.mark.parametrize("target", LANGCHAIN, ids=lambda place: place.kind)
def test_whatever_is_not_read_as_it_was_is_told_before_and_after(tmp_path: Path, target: Place) -> None:
    contents = [
        Document(id=f"doc {number}", text=f"text {number}", metadata={"page": number, name: value})
        for number, (name, value) in enumerate(VALUES.items())
    ]
    open_it = moved(tmp_path, LangChainFaiss(), target, contents)
    plan = plan_migration(open_it(), executor(), probe=False)
    # Columns of LanceDB are there for all documents, which is told as well.
    told = lost(tuple(each for each in plan.info.findings if "get `None`" not in each.message))
    assert plan.is_blocked is bool(told)
    if told:
        with pytest.raises(RowsError, match="faults"):
            migrate(open_it(), executor())
        assert not target.is_there(tmp_path / "there")
    done = migrate(open_it(), executor(), batch_rows=16, accept=True)
    assert done.embedded == len(VALUES)
    assert set(done.accepted) == {finding for finding in plan.info.findings if finding.is_blocking}
    read = target.read(tmp_path / "there")
    changed = set()
    for document in contents:
        text, metadata = read[document.id]
        assert (text, metadata["page"]) == (document.text, document.metadata["page"])
        (name,) = document.metadata.keys() - {"page"}
        if name not in metadata or not same(document.metadata[name], metadata[name]):
            changed.add(name)
    assert changed == told - {"id"}  # which some stores write in another way
    is_faiss = target.kind == "langchain-faiss"
    assert is_faiss is (told == {name for name in VALUES if "path" in name or "NumPy" in name})


def test_a_loss_is_told_with_how_often_and_where(tmp_path: Path) -> None:
    contents = documents(9)
    for number in (2, 3, 5):
        contents[number].metadata["when"] = datetime.date(2026, 1, number)
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), contents)
    findings = plan_migration(open_it(), executor(), probe=False).info.findings
    (finding,) = [each for each in findings if each.is_blocking]
    assert (finding.message, finding.count) == ("`when`: values of `date`, left out.", 3)
    assert finding.examples == ("doc-00002", "doc-00003", "doc-00005")
    done = migrate(open_it(), executor(), accept=True)
    assert done.accepted == (finding,)
    known = status(open_it())
    assert known is not None and known.accepted == (finding,)


def test_documents_without_a_text_are_left_behind_only_when_that_is_accepted(tmp_path: Path) -> None:
    folder = save_faiss(tmp_path / "store", ["a", " ", "b"])
    move = Move(LangChainFaissStore(folder), open_target(str(tmp_path / "notes.json"), "langchain-in-memory"))
    (told,) = (each for each in move.describe().findings if each.is_blocking)
    assert (told.code, told.count, told.examples) == ("missing-texts", 1, ("doc-00001",))
    assert told.message.endswith("they are not moved.")  # nobody has to delete them, as in place
    done = migrate(move, executor(), accept=True)
    assert (done.embedded, done.unembedded, done.accepted) == (2, 1, (told,))
    assert [row.text for row in open_store(tmp_path / "notes.json").rows()] == ["a", "b"]


def test_paths_become_text_and_that_is_told(tmp_path: Path) -> None:
    values: list[dict[Any, Any]] = [{"file": PurePosixPath("/data/x.txt")}, {"file": "y", PurePosixPath("z"): 1}]
    folder = save_faiss(tmp_path / "store", ["a", "b"], metadata=values)
    for place in ("elsewhere", "notes.json"):
        target = open_target(str(tmp_path / place), "langchain-in-memory" if "." in place else "langchain-faiss")
        move = Move(LangChainFaissStore(folder), target)
        file, name = (each for each in move.describe().findings if each.code == "not-held")
        assert (file.message, name.message) == tuple(f"`{each}`: paths, which become text." for each in ("file", "z"))
        assert (file.count, file.examples, file.is_blocking) == (1, ("doc-00000",), True)
        asked = Move(LangChainFaissStore(folder), target, as_json=["file"])
        assert [each for each in asked.describe().findings if each.code == "not-held"] == [name]
        assert migrate(asked, executor(), accept=True).in_use == "new"
        read = [row.metadata for row in open_store(tmp_path / place).rows()]
        assert read == [{"file": "/data/x.txt"}, {"file": "y", "z": 1}]
        assert {type(each) for metadata in read for each in (*metadata, *metadata.values())} == {str, int}


def test_values_can_become_text_instead(tmp_path: Path) -> None:
    contents = documents(4)
    odd = {"when": datetime.date(2026, 1, 2), "deep": {"a": [1, None], "é": {2, 1}}, "plain": "text"}
    contents[1].metadata.update(odd)
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), contents)
    assert migrate(open_it(), executor(), accept=True, publishes=False).accepted != ()
    made: list[int] = []
    done = migrate(
        open_it(as_json=["when", "deep", "plain", "page"]),
        executor(),
        on_progress=lambda progress: made.append(progress.embedded),
    )
    assert (done.in_use, done.accepted, made[-1]) == ("new", (), 0)
    metadata = LangChainChroma().read(tmp_path / "there")["doc-00001"][1]
    expected = {"when": '"2026-01-02"', "deep": '{"a": [1, null], "é": [1, 2]}', "plain": "text", "page": "1"}
    assert {name: metadata[name] for name in expected} == expected


def test_nodes_keep_in_themselves_what_a_collection_cannot_be_asked_for(tmp_path: Path) -> None:
    contents = documents(5)
    contents[2].metadata.update(deep={"a": [1, None]}, large=2**70, nothing=None, empty=[])
    open_it = moved(tmp_path, LlamaIndexSimple(), LlamaIndexChroma(), contents)
    before = LlamaIndexSimple().read(tmp_path / "here")
    findings = plan_migration(open_it(), executor(), probe=False).info.findings
    assert lost(findings) == {"deep", "large", "empty"}
    assert not any(finding.is_blocking for finding in findings)
    assert migrate(open_it(), executor()).in_use == "new"
    assert LlamaIndexChroma().read(tmp_path / "there") == before


def save_nodes(folder: Path, nodes: list[Any]) -> None:
    from llama_index.core import StorageContext, VectorStoreIndex

    storage = StorageContext.from_defaults()
    VectorStoreIndex(nodes=nodes, storage_context=storage, embed_model=_mock())
    storage.persist(str(folder / "store"))


def test_nodes_of_classes_that_a_database_does_not_know_are_told(tmp_path: Path) -> None:
    from llama_index.core import Document as WholeDocument
    from llama_index.core.schema import ImageDocument, ImageNode, IndexNode, MediaResource, Node, TextNode

    nodes = [
        WholeDocument(text="a document", id_="whole", metadata={"page": 1}),
        ImageDocument(text="a picture", id_="picture", image="aGVsbG8="),
        ImageNode(text="an image", id_="image", image="aGVsbG8=", image_path="/x.png"),
        IndexNode(text="an index", id_="index", index_id="another"),
        Node(id_="several", text_resource=MediaResource(text="several", mimetype="text/markdown")),
        TextNode(text="a text", id_="text"),
    ]
    save_nodes(tmp_path, nodes)
    source = LlamaIndexSimple()
    before = source.read(tmp_path)
    for target in LLAMA_INDEX:
        if not target.can_be_made:
            continue
        (tmp_path / target.kind).mkdir()
        move = Move(source.source(tmp_path), target.target(tmp_path / target.kind))
        told = {
            each.examples[0]: each.is_blocking for each in move.describe().findings if "`_node_type`" in each.message
        }
        is_known = target.kind == "llama-index-simple"
        assert told == ({"several": False} if is_known else {"whole": False, "picture": True, "several": False})
        if not is_known:
            with pytest.raises(RowsError, match="`ImageDocument`, of which LlamaIndex makes a `TextNode`"):
                migrate(move, executor())
        assert migrate(move, executor(), accept=True).embedded == len(nodes) and gc(move)
        after = {(node[1]["id_"]): node for node in target.read(tmp_path / target.kind).values()}
        changed = {node_id for node_id in before if after[node_id] != before[node_id]}
        assert changed == told.keys()
        assert {each[0] for each in after.values()} == {each[0] for each in before.values()}


def test_a_document_of_which_the_nodes_are_parts_is_known_again(tmp_path: Path) -> None:
    from llama_index.core import Document as WholeDocument
    from llama_index.core import VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter

    def whole(number: int, more: str = "") -> WholeDocument:
        return WholeDocument(text=f"Sentence {number} of many. " * 40 + more, id_=f"whole-{number}")

    splitter = SentenceSplitter(chunk_size=64, chunk_overlap=0)
    made = VectorStoreIndex.from_documents([whole(0), whole(1)], embed_model=_mock(), transformations=[splitter])
    made.storage_context.persist(str(tmp_path / "store"))
    target = LlamaIndexSimple()
    (tmp_path / "there").mkdir()
    move = Move(target.source(tmp_path), target.target(tmp_path / "there"))
    assert migrate(move, executor()).in_use == "new" and gc(move)
    with target.opened(tmp_path / "there", _mock(16)) as index:
        count = len(index.docstore.docs)
        assert index.refresh_ref_docs([whole(0), whole(1)]) == [False, False]
        assert len(index.docstore.docs) == count > 2
        assert index.refresh_ref_docs([whole(0, "More."), whole(1)]) == [True, False]
        index.delete_ref_doc("whole-1", delete_from_docstore=True)
        assert not any(node.ref_doc_id == "whole-1" for node in index.docstore.docs.values())


def test_several_vectors_of_one_document_become_one(tmp_path: Path) -> None:
    contents = documents(6)
    LangChainFaiss().fill(tmp_path, contents)
    repeat_rows(tmp_path / "store", ["doc-00001", "doc-00004"])
    store = LangChainFaissStore(tmp_path / "store")
    assert store.describe().count == 8
    for target in LANGCHAIN:
        there = tmp_path / target.kind
        there.mkdir()
        move = Move(store, target.target(there))
        (finding,) = [each for each in move.describe().findings if each.code == "duplicate-ids"]
        assert (finding.count, finding.is_blocking) == (2, False)
        assert (migrate(move, executor()).embedded, gc(move)) == (6, True)
        assert target.read(there) == {each.id: (each.text, each.metadata) for each in contents}


def repeat_rows(folder: Path, ids: list[str]) -> None:
    """Vectors of documents that have one already, as adding a document twice leaves them."""
    import pickle

    import faiss

    path = folder / "index.pkl"
    docstore, rows = pickle.loads(path.read_bytes())
    index: Any = faiss.read_index(str(folder / "index.faiss"))
    index.add(index.reconstruct_n(0, len(ids)))
    path.write_bytes(pickle.dumps((docstore, {**rows, **{len(rows) + at: each for at, each in enumerate(ids)}})))
    faiss.write_index(index, str(folder / "index.faiss"))


def test_of_other_documents_with_the_same_id_the_last_is_moved_when_that_is_accepted(tmp_path: Path) -> None:
    LangChainInMemory().fill(tmp_path, documents(4))
    path = tmp_path / "store.json"
    path.write_text(path.read_text().replace('"doc-00003": {', '"doc-00001": {'))
    old = LangChainInMemory().read(tmp_path)
    (tmp_path / "there").mkdir()

    def move() -> Move:
        return Move(LangChainInMemory().source(tmp_path), LangChainFaiss().target(tmp_path / "there"))

    (finding,) = [each for each in move().describe().findings if each.code == "duplicate-ids"]
    assert (finding.count, finding.is_blocking) == (1, True)
    with pytest.raises(RowsError):
        migrate(move(), executor())
    done = migrate(move(), executor(), accept=True)
    assert (done.embedded, done.unembedded, done.examples[0][0]) == (3, 1, "doc-00001")
    assert LangChainFaiss().read(tmp_path / "there") == old


def test_documents_that_cannot_be_held_at_all_are_left_out_only_when_that_is_accepted(tmp_path: Path) -> None:
    contents = documents(5)
    contents[2] = Document(id="half \ud800", text="text", metadata={})
    contents[3] = Document(id="doc", text="half \udc00", metadata={})
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), contents)
    (finding,) = open_it().describe().findings
    assert (finding.code, finding.count, finding.is_blocking) == ("refused", 2, True)
    with pytest.raises(RowsError):
        migrate(open_it(), executor())
    done = migrate(open_it(), executor(), accept=True)
    assert (done.embedded, done.unembedded) == (3, 2)
    assert "halves of characters" in done.examples[0][1]


def test_nodes_without_a_vector_stay_behind_only_when_that_is_accepted(tmp_path: Path) -> None:
    open_it = moved(tmp_path, LlamaIndexSimple(), LlamaIndexSimple(), documents(6))
    with LlamaIndexSimple().opened(tmp_path / "here", _mock()) as index:
        index.delete_nodes(["doc-00004"])
        index.storage_context.persist(str(tmp_path / "here" / "store"))
    with pytest.raises(RowsError, match="no vector, and are not moved"):
        migrate(open_it(), executor())
    assert migrate(open_it(), executor(), accept=True).embedded == 5
    assert "doc-00004" not in LlamaIndexSimple().read(tmp_path / "there")


def _mock(dimensions: int = 24) -> Any:
    from llama_index.core import MockEmbedding

    return MockEmbedding(embed_dim=dimensions)


def test_nobody_makes_nodes_of_documents_or_the_other_way_round(tmp_path: Path) -> None:
    open_it = moved(tmp_path, LangChainFaiss(), LlamaIndexSimple(), documents(3))
    with pytest.raises(StoreError, match=r"has documents of LangChain, and .* would hold nodes of LlamaIndex"):
        plan_migration(open_it(), executor())
    with pytest.raises(StoreError, match="documents of LangChain"):
        migrate(open_it(), executor())
    LlamaIndexSimple().fill(tmp_path, documents(3))
    with pytest.raises(StoreError, match="has nodes of LlamaIndex"):
        Move(LlamaIndexSimple().source(tmp_path), FaissTarget(tmp_path / "x")).describe()


def test_what_is_added_meanwhile_is_moved_too(tmp_path: Path) -> None:
    here = tmp_path / "here"
    open_it = moved(tmp_path, LangChainChroma(), LangChainInMemory(), documents(20))
    asked = 0

    def adds_once() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            LangChainChroma().fill(here, documents(4, first=20))
        return False

    migrate(open_it(), executor(), batch_rows=8, should_stop=adds_once, publishes=False)
    LangChainChroma().fill(here, documents(3, first=24))
    with pytest.raises(StoreChangedError):
        publish(open_it())
    assert not (tmp_path / "there" / "store.json").exists()
    assert migrate(open_it(), executor(), batch_rows=8).embedded == 27
    assert LangChainInMemory().read(tmp_path / "there") == LangChainChroma().read(here)


def test_what_is_added_meanwhile_and_cannot_be_held_is_not_lost_silently(tmp_path: Path) -> None:
    here = tmp_path / "here"
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), documents(8))

    def adds() -> bool:
        contents = documents(9)
        contents[8].metadata["when"] = datetime.date(2026, 1, 2)
        LangChainFaiss().fill(here, contents)
        return False

    with pytest.raises(RowsError, match="`when`: values of `date`"):
        migrate(open_it(), executor(), should_stop=adds)
    with pytest.raises(RowsError, match="faults: `when`"):
        migrate(open_it(), executor())
    assert migrate(open_it(), executor(), accept=True).embedded == 9


def test_what_was_added_to_the_new_store_is_not_taken_back(tmp_path: Path) -> None:
    there = tmp_path / "there"
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), documents(5))
    migrate(open_it(), executor())
    # The source goes on with its own life.
    LangChainFaiss().fill(tmp_path / "here", documents(7))
    assert rollback(open_it()).in_use == "nothing"
    assert migrate(open_it(), executor()).embedded == 7
    with chroma_at(there / "store") as client:
        client.get_collection(NAME).add(ids=["new"], embeddings=[[1.0] * 16], documents=["text"])
    with pytest.raises(StoreChangedError, match="was changed since"):
        rollback(open_it())
    assert gc(open_it())
    assert len(LangChainChroma().read(there)) == 8


def test_a_collection_that_joins_a_new_database_is_not_taken_back_with_it(tmp_path: Path) -> None:
    there = tmp_path / "there"
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), documents(5))
    migrate(open_it(), executor())
    with chroma_at(there / "store") as client:
        client.create_collection("another", embedding_function=None)
    with pytest.raises(StoreChangedError):
        rollback(open_it())
    other = Move(LangChainFaiss().source(tmp_path / "here"), ChromaTarget(there / "store", "third"))
    with pytest.raises(StoreError, match="made by another run"):
        migrate(other, executor())
    assert gc(open_it())
    assert migrate(other, executor()).in_use == "new"


def test_a_database_that_exists_gets_one_more_collection(tmp_path: Path) -> None:
    there = tmp_path / "there"
    open_it = moved(tmp_path, LangChainFaiss(), LangChainChroma(), documents(12))
    with chroma_at(there / "store") as client:
        client.create_collection("other", embedding_function=None).add(ids=["a"], embeddings=[[1.0]], documents=["x"])

    def names() -> set[str]:
        with chroma_at(there / "store") as client:
            return {each.name for each in client.list_collections()}

    migrate(open_it(), executor(), publishes=False)
    assert NAME not in names()
    with chroma_at(there / "store") as client:  # somebody was faster
        client.create_collection(NAME, embedding_function=None)
    with pytest.raises(StoreError, match="something at"):
        publish(open_it())
    assert status(open_it()).in_use == "nothing"  # type: ignore[union-attr]
    with chroma_at(there / "store") as client:
        client.delete_collection(NAME)
    assert publish(open_it()).in_use == "new"
    assert names() == {"other", NAME}
    assert rollback(open_it()).in_use == "nothing"
    assert NAME not in names() and "other" in names()
    assert migrate(open_it(), executor()).in_use == "new"
    assert gc(open_it())
    assert names() == {"other", NAME}
    assert LangChainChroma().read(there) == LangChainFaiss().read(tmp_path / "here")
    assert LangChainChroma().search(there, ["The 3 of spades, page 3"]) == ["doc-00003"]
    store = ChromaStore(there / "store", NAME)
    assert migrate(store, executor(8)).in_use == "new"


def test_the_same_database_can_hold_both(tmp_path: Path) -> None:
    LangChainChroma().fill(tmp_path, documents(12))
    move = Move(ChromaStore(tmp_path / "store", NAME), ChromaTarget(tmp_path / "store", "copy"))
    old = LangChainChroma().read(tmp_path)
    assert migrate(move, executor()).in_use == "new"
    assert gc(move)
    assert LangChainChroma().read(tmp_path) == old
    assert ChromaStore(tmp_path / "store", "copy").describe().count == 12
    assert ChromaStore(tmp_path / "store", NAME).describe().dimensions == (24,)


@pytest.mark.parametrize(
    "target", [LangChainFaiss(), LangChainInMemory(), LangChainChroma()], ids=lambda each: each.kind
)
def test_a_place_that_is_taken_is_never_written_to(tmp_path: Path, target: Place) -> None:
    there = tmp_path / "there"
    open_it = moved(tmp_path, LangChainFaiss(), target, documents(5))
    target.fill(there, documents(2))
    before = contents_of(there)
    with pytest.raises(StoreError, match="something at"):
        plan_migration(open_it(), executor())
    with pytest.raises(StoreError, match="something at"):
        migrate(open_it(), executor())
    gc(open_it())
    assert contents_of(there) == before
    assert not (tmp_path / "here" / ".mlxi-migrate").exists()


@pytest.mark.parametrize(
    "target", [LangChainFaiss(), LangChainInMemory(), LangChainChroma()], ids=lambda each: each.kind
)
def test_a_place_that_is_taken_meanwhile_is_never_written_to(tmp_path: Path, target: Place) -> None:
    there = tmp_path / "there"
    open_it = moved(tmp_path, LangChainFaiss(), target, documents(5))
    migrate(open_it(), executor(), publishes=False)
    target.fill(there, documents(2))
    old = target.read(there)
    with pytest.raises(StoreError, match="something at"):
        publish(open_it())
    with pytest.raises(StoreError, match="something at"):
        migrate(open_it(), executor())
    assert gc(open_it())
    assert target.read(there) == old


def test_two_moves_of_one_store_do_not_meet(tmp_path: Path) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(20)))
    moves = [Move(store, InMemoryTarget(tmp_path / name)) for name in ("a.json", "b.json")]
    for move in moves:
        migrate(move, executor(), publishes=False)
    migrate(store, executor(8), publishes=False)
    for move in moves:
        assert publish(move).in_use == "new"
        assert gc(move)
    assert migrate(store, executor(8)).in_use == "new"
    assert status(store) is not None
    with pytest.raises(JournalError):
        migrate(store, executor(12))


def test_an_index_of_the_same_kind_keeps_its_kind_at_another_place(tmp_path: Path) -> None:
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(300), factory="HNSW16"))
    move = Move(store, FaissTarget(tmp_path / "copy", "notes"))
    assert plan_migration(move, executor(12), probe=False).index == "HNSW16"
    migrate(move, executor(12))
    copy = LangChainFaissStore(tmp_path / "copy", "notes")
    assert (copy.describe().index, copy.describe().dimensions) == ("HNSW16", (12,))
    other = Move(store, FaissTarget(tmp_path / "third"))
    with pytest.raises(StoreError, match="PQ5"):
        plan_migration(other, executor(12), index="PQ5")
    with pytest.raises(StoreError, match="no index"):
        plan_migration(Move(store, InMemoryTarget(tmp_path / "x.json")), executor(12), index="Flat")


def test_other_scores_are_told(tmp_path: Path) -> None:
    LangChainInMemory().fill(tmp_path, documents(3))
    move = Move(LangChainInMemory().source(tmp_path), FaissTarget(tmp_path / "faiss"))
    (finding,) = move.describe().findings
    assert (finding.code, finding.is_blocking, move.describe().metric) == ("other-metric", False, "euclidean")


@pytest.mark.parametrize(("metric", "shown"), [("L1", "manhattan"), ("Linf", "unknown")])
def test_another_order_is_told_where_other_scores_make_one(tmp_path: Path, metric: str, shown: str) -> None:
    import faiss

    folder = save_faiss(tmp_path / "store", texts(6))
    index = faiss.index_factory(24, "Flat", getattr(faiss, f"METRIC_{metric}"))
    index.add(np.eye(6, 24, dtype=np.float32))
    faiss.write_index(index, str(folder / "index.faiss"))
    move = Move(LangChainFaissStore(folder), InMemoryTarget(tmp_path / "new.json"))
    (finding,) = [each for each in move.describe().findings if each.code == "other-metric"]
    assert finding.message.endswith(f"by `cosine` instead of `{shown}`: scores are others, and so may be the order.")


def test_a_store_that_says_no_documents_cannot_be_moved(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be moved"):
        open_move(ListReader(), FaissTarget(tmp_path / "x"))


def test_a_target_is_made_of_what_a_person_says(tmp_path: Path) -> None:
    assert open_target(tmp_path / "notes.json").location.kind == "langchain-in-memory"
    LangChainChroma().fill(tmp_path, documents(1))
    assert open_target(tmp_path / "store", name="more").location.kind == "chroma"
    for kind in KINDS:
        urls = {"pgvector": "postgresql://ada:secret@localhost/db", "qdrant-server": "http://:secret@localhost:1"}
        address = urls.get(kind, str(tmp_path / "x"))
        location = open_target(address, kind, NAME if kind in NAMED else None).location
        assert location.kind == kind and "secret" not in str(location)
    wrong: list[tuple[str, str | None, str | None, str]] = [
        ("somewhere", None, None, "cannot be told"),
        ("ftp://example.test", None, None, "cannot be told"),
        ("https://:secret@example.test", None, None, "`example.test` needs a name"),
        ("x", "word", None, "kind `word`"),
        ("x", "chroma", None, "needs a name"),
        ("x.json", None, "n", "no name"),
        ("~nobody-of-that-name/x.json", None, None, "no place for a new store"),
        ("", "langchain-faiss", None, "no place for a new store"),
        ("/", "langchain-in-memory", None, "no place for a new store"),
        ("a\0b", "langchain-faiss", None, "no place for a new store"),
        ("\ud800", "langchain-faiss", None, "no place for a new store"),
        ("x", "langchain-faiss", "\ud800", "can have the name"),
        ("/data", "pgvector", "t", "is on a server, and `/data`"),
        ("localhost:6333", "qdrant-server", "t", "is on a server"),
        ("http://localhost", "pgvector", "t", "is on a server, and `http://localhost`"),
        ("postgresql://localhost/db?password=secret", None, None, "`postgresql://localhost/db` needs a name"),
        ("postgresql://ada:secret?x@localhost/db", None, None, "`postgresql://...` needs a name"),
        ("postgresql://localhost/db?password=x@secret", None, None, "`postgresql://...` needs a name"),
        ("postgresql://localhost/db?password=secret", "qdrant-server", "t", "`postgresql://localhost/db` is no"),
    ]
    for address, wrong_kind, name, told in wrong:
        with pytest.raises(StoreError, match=told) as caught:
            open_target(address, wrong_kind, name)
        assert caught.value.hint and "secret" not in repr(vars(caught.value)) + str(caught.value)


@pytest.mark.parametrize("kind", ["chroma", "lancedb", "langchain-faiss"])
@pytest.mark.parametrize("name", ["a/b", "../x", ".", "..", ".x", "x" * 201, "notes.mlxi-1", "x\0y"])
def test_a_name_that_no_store_can_have_is_told_before_anything_is_embedded(
    tmp_path: Path, kind: str, name: str
) -> None:
    with pytest.raises(StoreError, match="can have the name") as caught:
        open_target(tmp_path / "new", kind, name)
    assert caught.value.hint.startswith("Choose one")


@pytest.mark.parametrize("name", ["x" * 64, "a\0b", "\ud800", "schema.", "y" * 64 + ".x"])
def test_a_name_that_no_table_of_postgresql_can_have_is_told_before_a_server_is_asked(name: str) -> None:
    with pytest.raises(StoreError, match="is no name of a table") as caught:
        open_target("postgresql://127.0.0.1:1/db", None, name).check()
    assert "--to-name" in caught.value.hint


@pytest.mark.parametrize("name", ["n", "a b", "é", "-x", "x-", "a:b", "a", "ab"])
def test_names_of_collections_are_those_that_chroma_takes(tmp_path: Path, name: str) -> None:
    import chromadb

    with pytest.raises(StoreError, match="No collection of Chroma"):
        ChromaTarget(tmp_path / "new", name)
    with pytest.raises(Exception, match="name"):
        chromadb.EphemeralClient().create_collection(name)
    ChromaTarget(tmp_path / "new", f"a{name.encode().hex()}b.c_d-e")


def test_columns_are_of_the_kind_that_all_documents_need(tmp_path: Path) -> None:
    contents = documents(6)
    for number, (name, value) in enumerate(
        [("n", 1), ("n", 2.5), ("n", "three"), ("deep", {"a": 1}), ("deep", {"b": [None, "x"]}), ("none", None)]
    ):
        contents[number].metadata[name] = value
    open_it = moved(tmp_path, LangChainFaiss(), LangChainLanceDB(), contents)
    blocking = [each for each in open_it().describe().findings if each.is_blocking]
    assert [(each.message, each.examples) for each in blocking] == [
        ("`n`: whole numbers among others, which become numbers with a point.", ("doc-00000",)),
        ("`n`: values of another kind than the first one, left out.", ("doc-00002",)),
    ]
    assert migrate(open_it(), executor(), accept=True).embedded == 6
    found = {own_id: each[1] for own_id, each in LangChainLanceDB().read(tmp_path / "there").items()}
    assert [found[each.id]["n"] for each in contents] == [1.0, 2.5, None, None, None, None]
    assert found["doc-00003"]["deep"] == {"a": 1, "b": None}
    assert found["doc-00004"]["deep"] == {"a": None, "b": [None, "x"]}
    assert {name: found["doc-00001"][name] for name in ("page", "source", "tags")} == documents(6)[1].metadata


def test_an_empty_store_is_moved(tmp_path: Path) -> None:
    pairs = [(LangChainFaiss(), target) for target in LANGCHAIN] + [
        (source, LangChainInMemory()) for source in LANGCHAIN
    ]
    for number, (source, target) in enumerate([*pairs, (LlamaIndexSimple(), LlamaIndexSimple())]):
        here, there = tmp_path / str(number), tmp_path / f"{number} there"
        here.mkdir()
        there.mkdir()
        source.fill(here, [])
        assert migrate(Move(source.source(here), target.target(there)), executor()).embedded == 0
        assert target.read(there) == {}
