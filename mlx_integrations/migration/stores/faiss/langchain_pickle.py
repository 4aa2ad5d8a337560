"""Reads `index.pkl` of LangChain's FAISS without running anything that it brings.

A pickle names functions and calls them. Here only the names in a list are known, and none of them stands for what it
says: classes of LangChain become empty shells, numbers of NumPy become Python's. LangChain itself is not imported, so
stores of its earliest versions, whose modules are gone, are read as well.

Files above some size are read a second way, that keeps documents in a temporary database instead of memory.
"""

import pickle
import pickletools
import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import may_not_read
from mlx_integrations.migration.stores.pickle_values import (
    BROKEN,
    TOLD_VALUES,
    Call,
    RefusedError,
    Shell,
    TangledError,
    check_tree,
    look_up,
)

__all__ = ["STREAMED_BYTES", "Documents", "read_documents"]

STREAMED_BYTES: Final = 256 * 1024 * 1024
"""Files from this size on are not held in memory: there they take about four times as much."""

_COMMITTED_DOCUMENTS: Final = 10_000


class Documents:
    """The documents of a store, by row.

    Attributes:
        ids: Of each row, as the store has them.
        count: Documents, with or without a row.
    """

    def __init__(self, ids: Sequence[Any], count: int, find: Callable[[Any], "tuple[Any, Any] | None"]) -> None:
        self.ids = ids
        self.count = count
        self._find = find

    def find(self, row_id: Any) -> tuple[str | None, Mapping[str, Any]] | None:
        """Text and metadata; `None` if there is no document of that id."""
        found = self._find(row_id)
        if found is None:
            return None
        text, metadata = found
        return str(text) if isinstance(text, str) else None, metadata if isinstance(metadata, dict) else {}


def read_documents(path: Path, *, streamed_bytes: int = STREAMED_BYTES) -> Documents:
    """Read the file.

    Args:
        path: `index.pkl`.
        streamed_bytes: From which size on documents are kept on disk.

    Raises:
        StoreError: It is damaged, not such a file, or names something that such a file does not need.
    """
    try:
        if path.stat().st_size >= streamed_bytes:
            return _streamed(path)
        with path.open("rb") as file:
            documents, rows = _Reader(file).load()
        for row_id, document in documents.documents.items():
            _check(row_id, document)
        return Documents(_ids(rows), len(documents.documents), lambda row_id: _parts(documents.documents.get(row_id)))
    except FileNotFoundError as error:
        raise StoreError(f"`{path}` is missing.", store=str(path.parent)) from error
    except PermissionError as error:
        raise may_not_read(path) from error
    except RefusedError as error:
        raise StoreError(
            f"`{path}` asks for `{error}`, which no store of documents needs. Nothing of it was run.",
            store=str(path.parent),
            hint="Do not open it with `allow_dangerous_deserialization=True` unless you know who made it.",
        ) from error
    except TangledError as error:
        raise StoreError(
            f"`{path}` cannot be read: the metadata of {error}.",
            store=str(path.parent),
            hint="Give that document other metadata, and save the store again.",
        ) from error
    except BROKEN as error:
        raise StoreError(
            f"`{path}` is no list of documents of LangChain, or was cut off while it was written: "
            f"{type(error).__name__}: {error}.",
            store=str(path.parent),
            hint="Save the store once more with its own library, or restore the file from a copy.",
        ) from error


class _Document(Shell):
    """Stands for `Document` of any version."""

    __slots__ = ("metadata", "text")
    shown: ClassVar[tuple[str, ...]] = ("text", "metadata")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):  # with slots, as dataclasses of some versions have
            state = {**(state[0] or {}), **(state[1] or {})}
        values = state.get("__dict__", state)
        self.text = values.get("page_content")
        self.metadata = values.get("metadata")


class _Docstore(Shell):
    """Stands for `InMemoryDocstore` of any version."""

    __slots__ = ("documents",)
    shown: ClassVar[tuple[str, ...]] = __slots__

    def __setstate__(self, state: Any) -> None:
        self.documents: dict[Any, Any] = state["_dict"]


def _reconstructed(cls: Any, base: Any, state: Any) -> Any:
    """`copyreg._reconstructor`, which protocols before 2 use."""
    if cls not in (_Document, _Docstore) or base is not object or state is not None:
        raise TypeError("not a document")
    return cls.__new__(cls)


_DOCUMENT_MODULES: Final = (
    "langchain.docstore.document",
    "langchain.schema",
    "langchain.schema.document",
    "langchain_classic.docstore.document",
    "langchain_classic.schema",
    "langchain_core.documents",
    "langchain_core.documents.base",
    "langchain_schema.documents",
)
_DOCSTORE_MODULES: Final = (
    "langchain.docstore.in_memory",
    "langchain_classic.docstore.in_memory",
    "langchain_community.docstore.in_memory",
)
_KNOWN: Final[dict[tuple[str, str], Any]] = {
    **TOLD_VALUES,
    **{(module, "Document"): _Document for module in _DOCUMENT_MODULES},
    **{(module, "InMemoryDocstore"): _Docstore for module in _DOCSTORE_MODULES},
    **{(module, "object"): object for module in ("builtins", "__builtin__")},
    ("copyreg", "_reconstructor"): Call(_reconstructed),
    ("copy_reg", "_reconstructor"): Call(_reconstructed),
}


def _known(module: str, name: str) -> Any:
    return look_up(_KNOWN, module, name)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _known(module, name)


def _check(row_id: Any, document: Any) -> None:
    try:
        check_tree(document.metadata if isinstance(document, _Document) else document)
    except TangledError as error:
        raise TangledError(f"`{row_id}` {error}") from None


def _parts(document: Any) -> tuple[Any, Any] | None:
    return (document.text, document.metadata) if isinstance(document, _Document) else None


def _ids(rows: Any) -> list[Any]:
    """The id of each row, from a mapping of rows to ids."""
    if not isinstance(rows, dict) or not all(type(row) is int for row in rows):
        raise TypeError("the second half is not a mapping of rows to ids")
    if sorted(rows) != list(range(len(rows))):
        raise ValueError("rows are missing between the first and the last")
    if not all(isinstance(each, Hashable) for each in rows.values()):
        raise TypeError("an id is one that no document can have")
    return [rows[row] for row in range(len(rows))]


def _streamed(path: Path) -> Documents:
    spool = _Spool()
    with path.open("rb") as file:
        fetched = _fetched(file)
        file.seek(0)
        docstore, rows = _StreamReader(file, fetched, spool).load()
    if not isinstance(docstore, _Docstore):
        raise TypeError("the first half is not a list of documents")
    spool.commit()
    return Documents(_ids(rows), spool.count(), spool.find)


class _Spool:
    """Documents in a temporary database, gone when nobody refers to it any more."""

    def __init__(self) -> None:
        # Without a name SQLite takes a file that the system deletes however this process ends:
        # https://sqlite.org/inmemorydb.html#temp_db
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE document (id BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID")
        self._waiting: list[tuple[bytes, bytes]] = []

    def __del__(self) -> None:
        self._database.close()

    def add(self, row_id: Any, document: Any) -> None:
        _check(row_id, document)
        self._waiting.append((_packed(row_id), _packed(_parts(document))))
        if len(self._waiting) >= _COMMITTED_DOCUMENTS:
            self.commit()

    def commit(self) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO document VALUES (?, ?)", self._waiting)
        self._database.execute("COMMIT")
        self._waiting.clear()

    def count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM document").fetchone()[0])

    def find(self, row_id: Any) -> tuple[Any, Any] | None:
        query = "SELECT content FROM document WHERE id = ?"
        found = self._database.execute(query, (_packed(row_id),)).fetchone()
        # This process packed it a moment ago, from values that passed the list.
        unpacked: tuple[Any, Any] | None = None if found is None else pickle.loads(found[0])
        return unpacked


def _packed(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


def _fetched(file: IO[bytes]) -> frozenset[int]:
    """The places of a pickle's memory that are ever read again; the others need not be kept."""
    found: set[int] = set()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("BINGET", "LONG_BINGET", "GET"):
            found.add(int(argument or 0))
    return frozenset(found)


class _Memory(dict[int, Any]):
    """Keeps only what is read again. It counts what it was given, as places are numbered by that."""

    def __init__(self, fetched: frozenset[int]) -> None:
        super().__init__()
        self._fetched = fetched
        self._given = 0

    def __setitem__(self, place: int, value: Any) -> None:
        self._given += 1
        if place in self._fetched:
            super().__setitem__(place, value)

    def __len__(self) -> int:
        return self._given


# Python's own reader, as the fast one in C cannot be told to let go of what it has read.
class _StreamReader(pickle._Unpickler):
    """Puts documents into a spool as soon as they are read."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, file: IO[bytes], fetched: frozenset[int], spool: _Spool) -> None:
        super().__init__(file)
        self._memory = _Memory(fetched)
        self._spool = spool

    def load(self) -> Any:
        # `load` of the base class makes a memory of its own only in `__init__`.
        self.memo = self._memory
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        return _known(module, name)

    def _is_docstore(self) -> bool:
        """Whether what is being filled is the documents' own mapping: below it are its name, its owner's state, and
        its owner.
        """
        stack = self.stack
        return len(stack) == 4 and isinstance(stack[0], _Docstore) and stack[2] == "_dict" and type(stack[3]) is dict

    def load_setitems(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        target = self.stack[-1]
        is_docstore = self._is_docstore()
        for at in range(0, len(items), 2):
            self._put(target, items[at], items[at + 1], is_docstore)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put(self.stack[-1], key, value, self._is_docstore())

    def _put(self, target: Any, key: Any, value: Any, is_docstore: bool) -> None:
        if is_docstore and isinstance(value, _Document):
            self._spool.add(key, value)
        else:
            target[key] = value

    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.SETITEM[0]] = load_setitem
