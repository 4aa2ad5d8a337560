"""Finds out what kind of store is at a place."""

import logging
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import may_not_read
from mlx_integrations.migration.protocol import Store

__all__ = ["ENTRY_POINTS", "open_store"]

ENTRY_POINTS: Final = "mlx_integrations.stores"
"""The group of entry points in which other packages name a function that opens their stores: it is given the address
and the name, and returns a `Store`, or `None` if it is not one of its own."""

_logger = logging.getLogger(__name__)
_KNOWN: Final = (
    "These can be migrated: a folder that `FAISS.save_local` of LangChain or `persist` of LlamaIndex wrote, a file of "
    "`InMemoryVectorStore.dump`, the folder of a persistent Chroma, of LanceDB or of `QdrantClient(path=...)`, and "
    "addresses of PostgreSQL (`postgresql://`) and Qdrant (`http://`, `https://`)."
)


def open_store(address: str | Path, name: str | None = None) -> Store:
    """The store at a place.

    Args:
        address: A folder, a file, or the URL of a server.
        name: Which of its indexes, collections or tables, where it has several.

    Raises:
        StoreError: There is none, or it is of a kind that cannot be migrated.
    """
    if (added := _of_another_package(str(address), name)) is not None:
        return added
    if "://" in str(address):
        return _on_a_server(str(address), name)
    path = Path(address).expanduser()
    if path.is_symlink():
        path = path.resolve()  # one store, and one run, by whatever name it is called
    if not path.exists():
        raise StoreError(f"There is nothing at `{address}`.", store=str(address))
    store = _in_a_file(path) if path.is_file() else _in_a_folder(path, name)
    if store is not None:
        return store
    others = sorted(file.stem for file in path.glob("*.faiss") if file.with_suffix(".pkl").is_file())
    hint = f"It has {', '.join(f'`{other}`' for other in others)}: say which with `--name`." if others else _KNOWN
    raise StoreError(f"`{address}` is no vector store that can be migrated.", store=str(address), hint=hint)


def _of_another_package(address: str, name: str | None) -> Store | None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            opened = entry.load()
        except Exception:  # the other stores can be opened, migrated and rolled back without it
            _logger.warning(
                "`%s`, which opens stores of another package, cannot be loaded.", entry.value, exc_info=True
            )
            continue
        store = opened(address, name)
        if store is not None:
            if not isinstance(store, Store):
                message = f"What `{entry.value}` opened at `{address}` is no store: it lacks a method of `Store`."
                raise StoreError(message, store=address, hint="Report it to the package that brings it.")
            return store
    return None


def _on_a_server(url: str, name: str | None) -> Store:
    scheme = url.partition("://")[0]
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        from mlx_integrations.migration.stores.pgvector.store import PgvectorStore

        return PgvectorStore(url, name)
    if scheme in ("http", "https"):
        from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore

        return QdrantServerStore(url, name)
    if scheme == "db":
        raise StoreError(
            "Tables of LanceDB Cloud cannot be migrated: their files, which a migration works with, are not at hand.",
            store=url,
            hint="Export the table to a local LanceDB, migrate that one, and upload it.",
        )
    raise StoreError(f"No store is known by addresses that begin with `{scheme}://`.", store=scheme, hint=_KNOWN)


def _in_a_file(path: Path) -> Store:
    from mlx_integrations.migration.stores.in_memory import InMemoryDump

    return InMemoryDump(path)


def _in_a_folder(path: Path, name: str | None) -> Store | None:
    if (path / f"{name or 'index'}.faiss").is_file():
        from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore

        return LangChainFaissStore(path, name or "index")
    if (path / f"{name or 'default'}__vector_store.json").is_file():
        return _llama_index(path, name or "default")
    if path.suffix == ".lance" or any(path.glob("*.lance")):
        from mlx_integrations.migration.stores.lancedb.store import LanceDBStore

        return LanceDBStore(path, name)
    if (path / "chroma.sqlite3").is_file():
        from mlx_integrations.migration.stores.chroma.store import ChromaStore

        return ChromaStore(path, name)
    if (path / "meta.json").is_file() and (path / "collection").is_dir():
        from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore

        return QdrantLocalStore(path, name)
    return None


def _llama_index(folder: Path, name: str) -> Store:
    """The storage of LlamaIndex; a FAISS index is kept under the same name as the JSON of its own vectors."""
    from mlx_integrations.migration.stores.faiss.llama_index import LlamaIndexFaissStore
    from mlx_integrations.migration.stores.llama_index_simple import LlamaIndexSimpleStore

    path = folder / f"{name}__vector_store.json"
    try:
        with path.open("rb") as file:
            is_json = file.read(1) in (b"{", b"")
    except PermissionError as error:
        raise may_not_read(path) from error
    return LlamaIndexSimpleStore(folder, name) if is_json or name != "default" else LlamaIndexFaissStore(folder)
