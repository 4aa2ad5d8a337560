"""Chroma's own client, as a migration uses it: beside whatever clients a program has, and with its own settings."""

import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import MissingExtraError, StoreError
from mlx_integrations.migration.files import take_over_rights
from mlx_integrations.migration.records import Row
from mlx_integrations.migration.stores.chroma.file import (
    DATABASE,
    DATABASE_NAME,
    DOCUMENT,
    TENANT,
    URI,
    ChromaFile,
    Collection,
)
from mlx_integrations.migration.stores.chroma.settings import PREFIX
from mlx_integrations.migration.stores.json_numbers import as_given

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "add_rows",
    "delete_collection",
    "hand_on_rights",
    "hide_vectors",
    "make_pending",
    "new_collection",
    "opened_client",
]

_WHEN_REFUSED: Final = (
    "Make room, let yourself write to the folder, or end the program that keeps it to itself, and run it again: "
    "it goes on where it stopped. Nothing is lost."
)


@contextmanager
def opened_client(folder: Path, *, is_new: bool = False) -> Iterator[Any]:
    """The client of a database.

    Args:
        folder: The folder of the database.
        is_new: Whether there is none yet, and one is to be made.

    Raises:
        MissingExtraError: Chroma is not installed.
        StoreError: There is none, or it cannot be written to or read, as when its disk is full.
    """
    try:
        import chromadb.errors
        from chromadb.config import Settings
    except ImportError as error:
        raise MissingExtraError("Chroma's collections need `chromadb`.", extra="chroma") from error
    if not is_new and not (folder / DATABASE).is_file():  # the client would make an empty one
        raise StoreError(f"`{folder / DATABASE}` is missing.", store=str(folder))
    try:
        # Clients of one path in one process share their settings, or are refused, and are closed together. By another
        # name of the folder this one has nothing to do with those that the program around it has open.
        client: Any = chromadb.PersistentClient(
            f"{folder}/.",
            settings=Settings(_env_file=None, anonymized_telemetry=False),  # type: ignore[call-arg]
            tenant=TENANT,
            database=DATABASE_NAME,
        )
        try:
            yield client
        finally:
            client.close()
    except chromadb.errors.ChromaError as error:
        raise StoreError(
            f"Chroma cannot write to the database in `{folder}`, or cannot read it: {error}.",
            store=str(folder),
            hint=_WHEN_REFUSED,
        ) from error


def new_collection(client: Any, name: str, like: Collection) -> Any:
    """Make a collection that compares and searches as another one does.

    The model that Chroma remembers with that one is left out, as it made other vectors.
    """
    from chromadb import Schema

    metadata = {key: value for key, value in like.metadata.items() if not key.startswith(PREFIX)} or None
    if like.schema is None:
        how: dict[str, Any] = {"configuration": {"hnsw": dict(like.settings)}}
    else:
        how = {"schema": Schema.deserialize_from_json(dict(like.schema))}
    return client.create_collection(name, metadata=metadata, embedding_function=None, **how)


def make_pending(client: Any, name: str) -> None:
    """Have Chroma make the changes of a collection that a program was killed over; what it cannot make it leaves."""
    from chromadb.errors import ChromaError

    with suppress(ChromaError):
        client.get_collection(name, embedding_function=None).count()


def add_rows(collection: Any, rows: Sequence[Row], vectors: "NDArray[np.float32]") -> None:
    """Add rows, as they are read from a collection, with their vectors; no more of them than the client takes."""
    special = {DOCUMENT, URI}
    rows = [as_given(row) for row in rows]
    metadatas = [{key: value for key, value in row.metadata.items() if key not in special} or None for row in rows]
    uris = [row.metadata.get(URI) for row in rows]
    collection.add(
        ids=[row.id for row in rows],
        embeddings=vectors,
        documents=[row.metadata.get(DOCUMENT, row.text) for row in rows],
        metadatas=metadatas,
        uris=uris if any(uris) else None,
    )


def delete_collection(client: Any, file: ChromaFile, name: str) -> None:
    """Delete a collection, if it is there, and what Chroma would leave behind of it: a folder of vectors, and lists.

    Those go first: who is cut off then still finds the collection, and deletes it the next time.
    """
    found = file.collections().get(name)
    if found is None:
        return
    if (folder := _vectors_of(file, found)) is not None and folder.is_dir():
        shutil.rmtree(folder)
    file.delete_lists(found)
    client.delete_collection(name)


def hide_vectors(file: ChromaFile, name: str) -> None:
    """Make the folder of a new collection's vectors before Chroma does, which would let everybody read them."""
    if (folder := _vectors_of(file, file.collections()[name])) is not None:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        folder.chmod(stat.S_IRWXU)


def hand_on_rights(file: ChromaFile, name: str, like: Collection | None) -> None:
    """Let those read and write the vectors of a new collection who may do so with the vectors of another one.

    Args:
        file: The database.
        name: The new collection.
        like: The other one; without it, those who may read and write the database.
    """
    folder = _vectors_of(file, file.collections()[name])
    if folder is None or not folder.is_dir():
        return
    old = None if like is None else _vectors_of(file, like)
    known = old is not None and old.is_dir()
    files = sorted(path for path in old.iterdir() if path.is_file()) if old is not None and known else []
    for path in folder.iterdir():
        take_over_rights(path, files[0] if files else file.path)
    take_over_rights(folder, old if old is not None and known else file.path)
    if not known:  # who may read a file may look into a folder
        mode = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)) >> 2)


def _vectors_of(file: ChromaFile, collection: Collection) -> Path | None:
    return file.path.parent / collection.vectors_folder if collection.vectors_folder else None
