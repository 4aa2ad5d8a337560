"""Makes a target of what a person says about it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Target

__all__ = ["KINDS", "open_target"]


def _faiss(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.langchain_faiss import FaissTarget

    return FaissTarget(address, name or "index")


def _in_memory(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.in_memory import InMemoryTarget

    _no_name(address, name)
    return InMemoryTarget(address)


def _chroma(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.chroma import ChromaTarget

    return ChromaTarget(address, _needed(address, name, "collection"))


def _lancedb(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.lancedb import LanceDBTarget

    return LanceDBTarget(address, _needed(address, name, "table"))


def _pgvector(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.pgvector import PgvectorTarget

    return PgvectorTarget(address, _needed(_without_password(address), name, "table"))


def _qdrant(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.qdrant_local import QdrantLocalTarget

    return QdrantLocalTarget(address, _needed(address, name, "collection"))


def _qdrant_server(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.qdrant import QdrantServerTarget

    return QdrantServerTarget(address, _needed(_without_password(address), name, "collection"))


def _llama_index_simple(address: str, name: str | None) -> Target:
    from mlx_integrations.migration.targets.llama_index_simple import LlamaIndexSimpleTarget

    _no_name(address, name)
    return LlamaIndexSimpleTarget(address)


_OPENERS: Final[dict[str, Callable[[str, str | None], Target]]] = {
    "chroma": _chroma,
    "lancedb": _lancedb,
    "langchain-faiss": _faiss,
    "langchain-in-memory": _in_memory,
    "llama-index-simple": _llama_index_simple,
    "pgvector": _pgvector,
    "qdrant": _qdrant,
    "qdrant-server": _qdrant_server,
}
KINDS: Final = tuple(_OPENERS)
"""What can be moved to."""

_SCHEMES: Final = {
    "http": "qdrant-server",
    "https": "qdrant-server",
    "postgres": "pgvector",
    "postgresql": "pgvector",
}


def open_target(address: str | Path, kind: str | None = None, name: str | None = None) -> Target:
    """The new store that is to be made at a place.

    Args:
        address: A folder, a file, or the URL of a server.
        kind: Of the store, one of `KINDS`; told from the address where that is left out and can be.
        name: Of the index, collection or table.

    Raises:
        StoreError: The kind cannot be told, or is unknown, or something is missing.
    """
    text = str(address)
    shown = _without_password(text) if "://" in text else text
    place = text if "://" in text else _by_one_name(text)
    found = kind or _kind_at(place)
    if found is None:
        raise StoreError(
            f"It cannot be told from `{shown}` which kind of store is to be made.",
            store=shown,
            hint=f"Say it with `--to-kind`: {', '.join(KINDS)}.",
        )
    if found not in _OPENERS:
        message = f"Nothing can be moved to a store of the kind `{found}`."
        raise StoreError(message, store=shown, hint=f"These can be made: {', '.join(KINDS)}.")
    if "://" in text and found not in _SCHEMES.values():  # a folder of that name would be made
        message = f"A store of the kind `{found}` is files, and `{shown}` is an address of a server."
        raise StoreError(message, store=shown, hint="Name a place on this disk, or another kind with `--to-kind`.")
    if found in _SCHEMES.values() and _kind_of_url(text) != found:
        schemes = " or ".join(f"`{scheme}://HOST`" for scheme, of in _SCHEMES.items() if of == found)
        message = f"A store of the kind `{found}` is on a server, and `{shown}` is no address of such a one."
        raise StoreError(message, store=shown, hint=f"Write it as {schemes}, or name another kind with `--to-kind`.")
    return _OPENERS[found](place, name)


def _without_password(url: str) -> str:
    """What can be shown of an address; a key or a password can be before an `@`, or after a `?`, or have them in it."""
    shown, _, rest = url.partition("?")
    return f"{url.partition('://')[0]}://..." if "@" in rest else shown.rpartition("@")[2]


def _by_one_name(address: str) -> str:
    """A place on the disk by the name that it has from everywhere: a move is known by where it goes."""
    try:
        place = os.path.realpath(Path(address).expanduser())
        reason = "" if address and Path(place).name else "nothing can be given that name"
    except (RuntimeError, ValueError) as error:  # a user whom nobody knows, or characters that no name has
        place, reason = "", str(error).rstrip(".")
    if reason:
        shown = address.encode(errors="backslashreplace").decode()
        hint = "Name another one with `--to`."
        raise StoreError(f"`{shown}` is no place for a new store: {reason}.", store=shown, hint=hint)
    return place


def _kind_at(address: str) -> str | None:
    if "://" in address:
        return _kind_of_url(address)
    path = Path(address)
    if os.access(path / "chroma.sqlite3", os.F_OK):
        return "chroma"
    return "langchain-in-memory" if path.suffix == ".json" else None


def _kind_of_url(address: str) -> str | None:
    scheme, separator, _ = address.partition("://")
    return _SCHEMES.get(scheme.partition("+")[0]) if separator else None


def _needed(address: str, name: str | None, what: str) -> str:
    if not name:
        raise StoreError(f"A {what} in `{address}` needs a name.", store=address, hint="Say it with `--to-name`.")
    return name


def _no_name(address: str, name: str | None) -> None:
    if name:
        message = f"There is one store at `{address}`, which has no name but that."
        raise StoreError(message, store=address, hint="Leave out `--to-name`.")
