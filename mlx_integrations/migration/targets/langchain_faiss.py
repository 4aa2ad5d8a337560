"""A new folder for LangChain's FAISS, as `FAISS.save_local` would write it."""

import datetime
import decimal
import pickle
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from mlx_integrations.migration.files import flush
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Held, Metric, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.faiss.index import write_flat, write_trained
from mlx_integrations.migration.stores.faiss.kinds import FLAT, choose_factory, is_plain_list
from mlx_integrations.migration.stores.faiss.langchain import KIND, LangChainFaissStore
from mlx_integrations.migration.targets.names import FAISS, check_name
from mlx_integrations.migration.targets.place import FolderPlace
from mlx_integrations.migration.targets.placed import PlacedTarget
from mlx_integrations.migration.targets.values import LEFT_OUT, Changed, survivors
from mlx_integrations.sidecar import sidecar_of, write_sidecar

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FaissTarget"]

_METRICS: Final[tuple[Metric, ...]] = ("euclidean", "dot", "manhattan")
_VALUES: Final = (
    *(type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID),
)
_FLOAT_BYTES: Final = 4
_WRITTEN_ROWS: Final = 1_000
_DEEPEST: Final = 40


class FaissTarget(PlacedTarget):
    """A folder that `FAISS.load_local` will read. Implements `Target`.

    Args:
        folder: Its place, where nothing is.
        name: The index's name, as `load_local` will be given it.

    Raises:
        StoreError: No index can have that name.
    """

    def __init__(self, folder: str | Path, name: str = "index") -> None:
        path = Path(folder).expanduser().absolute()
        check_name(name, FAISS, str(path))
        self._name = name
        location = StoreLocation(kind=KIND, address=str(path), name=None if name == "index" else name)
        super().__init__(location, FolderPlace(location, path))

    def bytes_for(self, source: StoreInfo, dimensions: int) -> int:
        """Vectors as they are, and at most as much as the source has beside its own."""
        return _FLOAT_BYTES * source.count * dimensions + (source.bytes or 0)

    def metric_for(self, metric: Metric) -> Metric:
        """FAISS has no cosine; for vectors of length one, which most models make, distances give the same order."""
        return metric if metric in _METRICS else "euclidean"

    def index_for(self, source: StoreInfo, dimensions: int, wanted: str = "") -> str:
        """The kind that is wanted, or that of the source where it is FAISS as well, or `Flat`."""
        return self._factory(source, dimensions, wanted, source.count)

    def _factory(self, source: StoreInfo, dimensions: int, wanted: str, count: int) -> str:
        current = source.index if source.location.kind == KIND else FLAT
        metric = self.metric_for(source.metric)
        return choose_factory(wanted, current, dimensions, metric, str(self.location), count)

    def held(self, document: Document) -> Held:
        """A pickle holds whatever Python does; what would not be read again is left out."""
        metadata, losses = survivors(document.metadata, lambda _, value: _through_pickle(value))
        row = Row(key=document.key, id=document.id, text=document.text, metadata=metadata)
        return Held(row=row, losses=losses)

    def build(self, run: Run, source: StoreInfo, rows: Iterator[Embedded]) -> None:
        """Write vectors and documents in one pass."""
        with self._place.filling(run, source.location) as folder:
            index, documents = folder / f"{self._name}.faiss", folder / f"{self._name}.pkl"
            with documents.open("wb") as file:
                writer = _PickleWriter(file)
                vectors = _noted(rows, writer)
                count = write_flat(index, run.fingerprint.dimensions, run.metric, vectors)
                writer.finish()
                flush(file.fileno())
            factory = self._factory(source, run.fingerprint.dimensions, run.index, count)
            if not is_plain_list(factory, run.metric):
                trained = folder / "trained"
                write_trained(trained, index, factory, run.metric, None)
                trained.replace(index)
            is_usual = self._name == "index"
            write_sidecar(sidecar_of(folder if is_usual else index, is_file=not is_usual), run.fingerprint)

    def built(self, run: Run) -> LangChainFaissStore:
        """The folder."""
        return LangChainFaissStore(self._place.built(run), self._name)

    def state(self) -> str:
        """That of its files."""
        if not self._place.is_published():
            return ""
        return LangChainFaissStore(self._location.path, self._name).state()


def _noted(rows: Iterator[Embedded], writer: "_PickleWriter") -> "Iterator[NDArray[np.float32]]":
    """The vectors; the documents are written as they pass."""
    for part in rows:
        for row in part.rows:
            writer.add(row)
        yield part.vectors


def _through_pickle(value: Any, depth: int = 0) -> Changed:
    """What is read of a value that was pickled: everything of which the reader knows the class."""
    if type(value) not in _VALUES:
        return LEFT_OUT, f"values of `{type(value).__name__}`, left out"
    if depth >= _DEEPEST:
        return LEFT_OUT, "values that are nested too deeply, left out"
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif isinstance(value, datetime.datetime | datetime.time) and type(value.tzinfo) not in (
        type(None),
        datetime.timezone,
    ):
        return LEFT_OUT, "times of a named time zone, left out"
    lost = next((reason for each in parts for _, reason in [_through_pickle(each, depth + 1)] if reason), "")
    return (LEFT_OUT, lost) if lost else (value, "")


class _PickleWriter:
    """Writes `index.pkl` a document at a time; whoever pickles it as a whole has all of it in memory.

    What is written is what Python's own pickler writes of protocol 3 for `(InMemoryDocstore, {row: id})`, with fewer
    references to what was written before. LangChain does not have to be installed for it.
    https://github.com/python/cpython/blob/3.11/Lib/pickletools.py

    Args:
        file: The file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ids: list[str] = []
        self._count = 0
        file.write(
            pickle.PROTO + b"\x03" + _class("langchain_community.docstore.in_memory", "InMemoryDocstore")
            # The object; its state, of which `_dict` is the documents; and the class of these, to be referred to.
            + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.EMPTY_DICT + _pickled("_dict") + pickle.EMPTY_DICT
            + _class("langchain_core.documents.base", "Document") + pickle.BINPUT + b"\x00" + pickle.POP
        )  # fmt: skip

    def add(self, row: Row) -> None:
        """Write a document."""
        if self._count % _WRITTEN_ROWS == 0:
            self._file.write((pickle.SETITEMS if self._count else b"") + pickle.MARK)
        state = {
            "__dict__": {
                "id": row.id,
                "metadata": dict(row.metadata),
                "page_content": row.text,
                "type": "Document",
            },
            "__pydantic_extra__": None,
            "__pydantic_fields_set__": {"id", "metadata", "page_content"},
            "__pydantic_private__": None,
        }
        self._file.write(
            _pickled(row.id) + pickle.BINGET + b"\x00" + pickle.EMPTY_TUPLE + pickle.NEWOBJ
            + _pickled(state) + pickle.BUILD
        )  # fmt: skip
        self._ids.append(row.id)
        self._count += 1

    def finish(self) -> None:
        """Write what comes after the documents."""
        self._file.write((pickle.SETITEMS if self._count else b"") + pickle.SETITEM + pickle.BUILD + pickle.EMPTY_DICT)
        for first in range(0, self._count, _WRITTEN_ROWS):
            self._file.write(pickle.MARK)
            for row in range(first, min(first + _WRITTEN_ROWS, self._count)):
                self._file.write(_pickled(row) + _pickled(self._ids[row]))
            self._file.write(pickle.SETITEMS)
        self._file.write(pickle.TUPLE2 + pickle.STOP)
        self._file.flush()


def _class(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _pickled(value: Any) -> bytes:
    """A value as part of a pickle: without beginning and end, and without numbers for what is in it."""
    content = BytesIO()
    pickler = pickle.Pickler(content, protocol=3)  # the last one that has no frames
    pickler.fast = True
    pickler.dump(value)
    return content.getvalue()[2:-1]
