"""`index.pkl` is read as data: whatever it asks to be run is refused and not run."""

import datetime
import decimal
import os
import pickle
import pickletools
import sys
import types
import uuid
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Row, content_digest
from mlx_integrations.migration.stores.faiss.langchain_pickle import read_documents
from tests.migration.stores import metadatas, save_faiss, texts

WAYS = [pytest.param(1 << 40, id="in memory"), pytest.param(0, id="streamed")]


@pytest.mark.parametrize("streamed_bytes", WAYS)
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1001, 2500])
def test_documents_of_langchain_are_read(tmp_path: Path, count: int, streamed_bytes: int) -> None:
    folder = save_faiss(tmp_path / "store", texts(count))
    documents = read_documents(folder / "index.pkl", streamed_bytes=streamed_bytes)
    assert documents.ids == [f"doc-{number:05d}" for number in range(count)]
    assert documents.count == count
    assert [documents.find(each) for each in documents.ids] == list(zip(texts(count), metadatas(count), strict=True))
    assert documents.find("no such document") is None


@pytest.mark.parametrize("streamed_bytes", WAYS)
def test_values_of_metadata_come_out_as_they_went_in(tmp_path: Path, streamed_bytes: int) -> None:
    values: dict[str, Any] = {
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "key": uuid.UUID(int=7),
        "kinds": {"a", "b"},
        "nested": {0: "zero", "documents": [{"x": None}]},
        "flag": True,
    }
    folder = save_faiss(tmp_path / "store", ["a", "b"], metadata=[values, {}])
    documents = read_documents(folder / "index.pkl", streamed_bytes=streamed_bytes)
    assert documents.find("doc-00000") == ("a", values)
    numbers = {"score": np.float32(0.5), "count": np.int64(3), "name": np.str_("x"), "is_new": np.bool_(True)}
    folder = save_faiss(tmp_path / "numbers", ["a"], metadata=[numbers])
    found = read_documents(folder / "index.pkl", streamed_bytes=streamed_bytes).find("doc-00000")
    assert found == ("a", {"score": 0.5, "count": 3, "name": "x", "is_new": True})


@pytest.mark.parametrize("streamed_bytes", WAYS)
def test_what_only_python_has_becomes_text_that_says_so(tmp_path: Path, streamed_bytes: int) -> None:
    values = {
        "file": Path("/data/x.txt"),
        "elsewhere": PureWindowsPath("c:\\data\\x.txt"),
        "day": np.datetime64("2026-01-02"),
        "moment": np.datetime64("2026-01-02T03:04:05.123456789"),
        "wait": np.timedelta64(15, "m"),
    }
    folder = save_faiss(tmp_path / "store", ["a"], metadata=[values])
    found = read_documents(folder / "index.pkl", streamed_bytes=streamed_bytes).find("doc-00000")
    assert found is not None
    assert found[1] == {name: str(value) for name, value in values.items()}
    assert [each.was for each in found[1].values()] == ["paths"] * 2 + ["times of NumPy"] * 3


@pytest.mark.parametrize("streamed_bytes", WAYS)
def test_a_text_is_nothing_but_text(tmp_path: Path, streamed_bytes: int) -> None:
    file = save_faiss(tmp_path / "store", ["a"]) / "index.pkl"
    docstore, rows = pickle.loads(file.read_bytes())
    docstore._dict["doc-00000"].page_content = PureWindowsPath("c:\\x")
    file.write_bytes(pickle.dumps((docstore, rows)))
    text, _ = read_documents(file, streamed_bytes=streamed_bytes).find("doc-00000") or (None, None)
    assert (text, type(text)) == ("c:\\x", str)


def tangled(kind: str) -> Any:
    """Metadata of a few bytes that nobody could write out."""
    value: Any = {"name": "x"} if kind == "a mapping" else ["x"]
    if kind == "a mapping":
        value["self"] = value
    elif kind == "a list":
        value.append(value)
    elif kind == "deep":
        for _ in range(150):
            value = [value]
    else:
        for _ in range(40):
            value = [value, value]
    return {"page": 1, "inside": (value,)}


@pytest.mark.parametrize("streamed_bytes", WAYS)
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("a list", "refers to itself"),
        ("a mapping", "refers to itself"),
        ("deep", "is nested more than 100 deep"),
        ("wide", "repeats the same values more than 10,000,000 times"),
    ],
)
def test_metadata_that_have_no_end_are_told(tmp_path: Path, kind: str, told: str, streamed_bytes: int) -> None:
    folder = save_faiss(tmp_path / "store", ["a", "b"], metadata=[{"page": 1}, tangled(kind)])
    with pytest.raises(StoreError, match=f"metadata of `doc-00001` {told}") as caught:
        read_documents(folder / "index.pkl", streamed_bytes=streamed_bytes)
    assert "other metadata" in caught.value.hint


def test_metadata_that_share_what_they_have_are_read(tmp_path: Path) -> None:
    shared = [1, 2, {"a": "b"}]
    values = {"one": shared, "two": shared, "three": {"four": shared}}
    folder = save_faiss(tmp_path / "store", ["a"], metadata=[values])
    assert read_documents(folder / "index.pkl").find("doc-00000") == ("a", values)


def test_documents_in_metadata_have_the_same_digest_each_time(tmp_path: Path) -> None:
    from langchain_core.documents import Document

    values = {"parent": Document(page_content="whole", metadata={"page": 1}), "type": np.dtype("<M8[D]")}
    folder = save_faiss(tmp_path / "store", ["a"], metadata=[values])
    digests = set()
    for _ in range(3):
        found = read_documents(folder / "index.pkl").find("doc-00000")
        assert found is not None
        digests.add(content_digest(Row(key="0", id="doc-00000", text=found[0], metadata=found[1])))
        values["again"] = found  # its shells stay, so that the next ones are at another place
    assert len(digests) == 1


def old_layout(kind: str, protocol: int) -> bytes:
    """A pickle as earlier versions wrote it: the same classes in other modules, with other states.

    The states are those of pydantic 1 (0.0.x to 0.2), pydantic 2 (0.3), and of classes without pydantic.
    """
    modules = {
        "pydantic 1": ("langchain.docstore.in_memory", "langchain.schema.document"),
        "pydantic 2": ("langchain_community.docstore.in_memory", "langchain_core.documents.base"),
        "plain": ("langchain.docstore.in_memory", "langchain.schema"),
    }[kind]
    before = {name: sys.modules.get(name) for name in modules}
    store_module, document_module = (types.ModuleType(name) for name in modules)

    class InMemoryDocstore:
        pass

    class Document:
        def __getstate__(self) -> Any:
            fields = {"page_content": "text", "metadata": {"page": 1}}
            if kind == "plain":
                return {**fields, "lookup_str": "", "lookup_index": 0}
            if kind == "pydantic 1":
                return {
                    "__dict__": fields,
                    "__fields_set__": {"page_content", "metadata"},
                    "__private_attribute_values__": {},
                }
            return {"__dict__": {**fields, "id": None}, "__pydantic_extra__": None, "__pydantic_fields_set__": set()}

    for cls, module in ((InMemoryDocstore, store_module), (Document, document_module)):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    sys.modules.update({store_module.__name__: store_module, document_module.__name__: document_module})
    try:
        docstore = InMemoryDocstore()
        docstore._dict = {"a": Document(), "b": Document()}  # type: ignore[attr-defined]
        return pickle.dumps((docstore, {0: "b", 1: "a"}), protocol=protocol)
    finally:
        for name, known in before.items():
            if known is None:
                del sys.modules[name]
            else:
                sys.modules[name] = known


@pytest.mark.parametrize("streamed_bytes", WAYS)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["plain", "pydantic 1", "pydantic 2"])
def test_stores_of_earlier_versions_are_read(tmp_path: Path, kind: str, protocol: int, streamed_bytes: int) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(old_layout(kind, protocol))
    documents = read_documents(path, streamed_bytes=streamed_bytes)
    assert documents.ids == ["b", "a"]
    assert documents.count == 2
    assert documents.find("a") == ("text", {"page": 1})


def attack(function: Any, *args: Any) -> bytes:
    class Bait:
        def __reduce__(self) -> Any:
            return function, args

    return pickle.dumps((Bait(), {0: "a"}))


def assembled(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def string(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def name(module: str, attribute: str) -> bytes:
    return string(module) + string(attribute) + pickle.STACK_GLOBAL


# A class instead of an object of it, given a state: that would change the class for the whole process.
OVER_A_CLASS = assembled(
    name("langchain_core.documents.base", "Document"), b"}(", string("text"), string("changed"), b"ub}\x86"
)
OVER_A_FUNCTION = assembled(name("numpy.core.multiarray", "scalar"), b"}(", string("__wrapped__"), b"Nub}\x86")


@pytest.mark.parametrize("streamed_bytes", WAYS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(attack(os.system, "touch {witness}"), id="a command"),
        pytest.param(attack(eval, "__import__('pathlib').Path('{witness}').touch()"), id="an expression"),
        pytest.param(
            assembled(name("datetime", "sys.modules"), b"}\x86"), id="a dotted name that leads out of its module"
        ),
        pytest.param(assembled(name("builtins", "getattr"), b"}\x86"), id="a harmless function as a step"),
        pytest.param(assembled(b"cposix\nsystem\n", string("touch {witness}"), b"\x85R}\x86"), id="an old opcode"),
        pytest.param(OVER_A_CLASS, id="a state for a class"),
        pytest.param(OVER_A_FUNCTION, id="a state for a function"),
    ],
)
def test_attacks_are_refused(
    tmp_path: Path, content: bytes, streamed_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # "{witness}" is the name of the file that a successful attack would make
    list(pickletools.genops(content))  # they are whole pickles: nothing else is wrong with them
    path = tmp_path / "index.pkl"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        read_documents(path, streamed_bytes=streamed_bytes)
    assert list(tmp_path.iterdir()) == [path]


def test_the_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(attack(os.system, "true"))
    with pytest.raises(StoreError, match=r"posix\.system.*Nothing of it was run"):
        read_documents(path)


def test_a_type_of_numpy_cannot_be_given_a_state_that_reads_foreign_memory(tmp_path: Path) -> None:
    path = tmp_path / "index.pkl"
    folder = save_faiss(tmp_path / "store", ["a"], metadata=[{"bad": np.array([object()])[0:0].dtype}])
    path.write_bytes((folder / "index.pkl").read_bytes())
    documents = read_documents(path)  # a bare type is a value nobody can use, and does no harm
    assert documents.ids == ["doc-00000"]
    code = assembled(name("numpy", "dtype"), string("O8"), b"\x85R", b"C\x08" + b"\x01" * 8, b"\x86")
    scalar = code[:2] + name("numpy.core.multiarray", "scalar") + code[2:-1] + b"R}\x86."
    path.write_bytes(scalar)
    with pytest.raises(StoreError, match="not a number of NumPy"):
        read_documents(path)


@pytest.mark.parametrize("streamed_bytes", WAYS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, share: float, streamed_bytes: int) -> None:
    path = save_faiss(tmp_path / "store", texts(50)) / "index.pkl"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match="cut off"):
        read_documents(path, streamed_bytes=streamed_bytes)


@pytest.mark.parametrize("content", [("x", {0: "a"}), {"a": 1}, ({}, {1: "a"}), ({}, [1]), ({}, {"0": "a"})])
@pytest.mark.parametrize("streamed_bytes", WAYS)
def test_other_pickles_are_told(tmp_path: Path, content: Any, streamed_bytes: int) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(StoreError):
        read_documents(path, streamed_bytes=streamed_bytes)


@pytest.mark.parametrize("streamed_bytes", WAYS)
def test_ids_that_no_document_can_have_are_told(tmp_path: Path, streamed_bytes: int) -> None:
    from langchain_community.docstore.in_memory import InMemoryDocstore

    path = tmp_path / "index.pkl"
    path.write_bytes(pickle.dumps((InMemoryDocstore({}), {0: ["a"]})))
    with pytest.raises(StoreError, match="an id is one that no document can have"):
        read_documents(path, streamed_bytes=streamed_bytes)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        read_documents(tmp_path / "index.pkl")
