"""What stores a folder seems to hold, by the names in it: nothing is opened but where a name says too little.

Each kind is one entry of `KINDS`: a function that is shown a folder and says which stores of its kind are there.
Whether they can be read, the stores themselves say.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.stores.json_reader import JsonFile
from mlx_integrations.migration.stores.llama_index_folder import SHARED
from mlx_integrations.migration.stores.qdrant.layout import shown_names

__all__ = ["KINDS", "Listing", "Place", "places_in"]

_OURS: Final = ".mlxi-"  # in the name of whatever a migration makes
_VECTORS: Final = "__vector_store.json"
_IMAGES: Final = f"image{_VECTORS}"
_USUAL: Final = f"default{_VECTORS}"
_DOCSTORE: Final = "docstore.json"
_CHROMA: Final = "chroma.sqlite3"
_QDRANT: Final = "meta.json"
_LANCE: Final = ".lance"
_DUMPS: Final = frozenset({"", ".db", ".dump", ".json", ".store"})
_HEAD_BYTES: Final = 1 << 19  # a first entry of 4,096 coordinates takes 100 kB
_FIRST_ENTRY: Final = re.compile(rb'\s*\{\s*"(?:[^"\\]++|\\.)*+"\s*:\s*\{\s*"')
_SEVERAL: Final = 2
_FEW_BYTES: Final = 4_096
_FLAT: Final = (b"IxF2", b"IxFI")  # how an index of FAISS begins that is not read as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A folder, as it is listed.

    Attributes:
        path: The folder.
        files: Its files, with their bytes.
        folders: Names of its folders.
    """

    path: Path
    files: Mapping[str, int]
    folders: Set[str]

    def bytes_of(self, *names: str) -> int:
        """What some of its files take."""
        return sum(self.files.get(name, 0) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store seems to be.

    Attributes:
        kind: As in `StoreLocation`.
        path: Its folder, or its file.
        name: Which of several in one place; `None` if there is one, or the usual one.
        read_bytes: What has to be read to look at all of it.
        fault: Why it cannot be opened, where its files say so.
    """

    kind: str
    path: Path
    name: str | None = None
    read_bytes: int = 0
    fault: str = ""


def places_in(folder: Listing) -> Iterator[Place]:
    """The stores that a folder seems to hold."""
    for kind, looks in KINDS.items():
        try:
            yield from looks(folder)
        except Exception as error:  # noqa: BLE001 -- one folder that cannot be read must not hide all others
            yield Place(kind=kind, path=folder.path, fault=f"It cannot be read: {type(error).__name__}: {error}.")


def _langchain_faiss(folder: Listing) -> Iterator[Place]:
    for name in sorted(folder.files):
        stem, point, ending = name.rpartition(".")
        if not point or ending != "faiss" or _OURS in name:
            continue
        other = f"{stem}.pkl"
        fault = "" if other in folder.files else f"It has no `{other}`: it was cut off while it was saved."
        yield Place(
            kind="langchain-faiss",
            path=folder.path,
            name=None if stem == "index" else stem,
            read_bytes=folder.bytes_of(other, *(() if _is_flat(folder.path / name) else (name,))),
            fault=fault,
        )


def _langchain_in_memory(folder: Listing) -> Iterator[Place]:
    if _DOCSTORE in folder.files:
        return  # files of LlamaIndex
    for name, size in sorted(folder.files.items()):
        path = folder.path / name
        if size and path.suffix in _DUMPS and _OURS not in name and _is_dump(path):
            yield Place(kind="langchain-in-memory", path=path, read_bytes=size)


def _llama_index(folder: Listing) -> Iterator[Place]:
    for name in sorted(folder.files):
        if not name.endswith(_VECTORS) or _OURS in name:
            continue
        path, size = folder.path / name, folder.files[name]
        is_faiss = not _begins(path).startswith(b"{")
        stem = name.removesuffix(_VECTORS)
        is_usual = stem == "default"
        if not is_usual and (is_faiss or _has_no_vectors(path)):
            # Every storage has an empty one for images; FAISS can be the usual one only.
            continue
        yield Place(
            kind="llama-index-faiss" if is_faiss and size else "llama-index-simple",
            path=folder.path,
            name=None if is_usual else stem,
            read_bytes=folder.bytes_of(_DOCSTORE, *(() if _is_flat(path) else (name,))),
            fault=_llama_index_fault(folder, name, size),
        )


def _llama_index_fault(folder: Listing, name: str, size: int) -> str:
    if name == _IMAGES:
        return "It has vectors of images, which cannot be made from texts."
    if not size:
        return f"`{name}` is empty: it was cut off while it was written."
    if _DOCSTORE not in folder.files:
        return f"It has no `{_DOCSTORE}`: it was cut off while it was written."
    if name == _USUAL and folder.files.keys() >= {"index.faiss", "index.pkl"}:
        return SHARED
    return ""


def _chroma(folder: Listing) -> Iterator[Place]:
    if _CHROMA not in folder.files:
        return
    size = folder.files[_CHROMA]
    from mlx_integrations.migration.stores.chroma.file import ChromaFile

    try:
        names = sorted(ChromaFile(folder.path).collections())
    except StoreError as error:
        yield Place(kind="chroma", path=folder.path, fault=error.message)
        return
    for name in names:
        if _OURS not in name:
            yield Place(kind="chroma", path=folder.path, name=name, read_bytes=size)


def _qdrant(folder: Listing) -> Iterator[Place]:
    if _QDRANT not in folder.files or "collection" not in folder.folders:
        return
    try:
        known = json.loads((folder.path / _QDRANT).read_text(encoding="utf-8"))
        aliases = {str(alias): str(name) for alias, name in known["aliases"].items()}
        names = shown_names(map(str, known["collections"]), aliases)
        vectors = {name: _vectors_of(known["collections"].get(aliases.get(name, name), {})) for name in names}
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        fault = f"`{_QDRANT}` cannot be read: {error}."
        yield Place(kind="qdrant", path=folder.path, fault=fault)
        return
    for name in names:
        size = _size_of(folder.path / "collection" / aliases.get(name, name) / "storage.sqlite")
        for vector in vectors[name]:
            shown = name if vector is None else f"{name}:{vector}"
            yield Place(kind="qdrant", path=folder.path, name=shown, read_bytes=size)


def _vectors_of(settings: Mapping[str, Any]) -> list[str | None]:
    """Which vectors of a collection can be named; one of several has to be."""
    vectors = settings.get("vectors") or {}
    return [None] if "size" in vectors or len(vectors) < _SEVERAL else [*sorted(map(str, vectors))]


def _lancedb(folder: Listing) -> Iterator[Place]:
    for entry in sorted(folder.folders):
        table = folder.path / entry
        if entry.endswith(_LANCE) and _OURS not in entry and (table / "_versions").is_dir():
            yield Place(kind="lancedb", path=folder.path, name=entry.removesuffix(_LANCE))


KINDS: Final[Mapping[str, Callable[[Listing], Iterator[Place]]]] = {
    "langchain-faiss": _langchain_faiss,
    "llama-index": _llama_index,
    "chroma": _chroma,
    "qdrant": _qdrant,
    "lancedb": _lancedb,
    "langchain-in-memory": _langchain_in_memory,
}
"""For each kind of store, what finds those of a folder."""


class _Head(JsonFile):
    """The beginning of a file: what a dump is known by; the rest of another program's file is nobody's business."""

    def read(self, place: int, size: int) -> bytes:
        return super().read(place, max(min(size, _HEAD_BYTES - place), 0))


def _is_dump(path: Path) -> bool:
    """Whether a file begins as `InMemoryVectorStore.dump` writes it: its first entry has a vector, then a text."""
    if _FIRST_ENTRY.match(_begins(path)) is None:
        return False
    has_vector = False
    try:
        cursor = _Head(path, read_bytes=1 << 15).cursor()
        cursor.enter()
        cursor.member(is_first=True)
        for part in cursor.members():
            if part == "text" and has_vector:
                return True
            if part == "vector":
                has_vector = _is_vector(cursor.read())
            else:
                cursor.skip()
    except StoreError:
        return has_vector  # cut off, or longer than what is looked at
    except OSError:
        pass
    return False


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, float | int) for each in value)


def _has_no_vectors(path: Path) -> bool:
    """Whether a vector store of LlamaIndex is one of those that it writes although nothing is in them."""
    try:
        cursor = _Head(path).cursor()
        for section in cursor.members():
            if section == "embedding_dict":
                return next(cursor.members(), None) is None
            cursor.skip()
    except (StoreError, OSError):
        return False
    return True


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FEW_BYTES)
    except OSError:
        return b""


def _is_flat(path: Path) -> bool:
    return _begins(path)[:4] in _FLAT


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
