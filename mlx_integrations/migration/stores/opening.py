"""Finds out what kind of store a folder is."""

from pathlib import Path

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.protocol import Store

__all__ = ["open_store"]


def open_store(address: str | Path, name: str | None = None) -> Store:
    """The store at a place.

    Args:
        address: A folder.
        name: Which of its indexes or collections, where it has several.

    Raises:
        StoreError: There is none, or it is of a kind that cannot be migrated.
    """
    folder = Path(address).expanduser()
    if not folder.exists():
        raise StoreError(f"There is nothing at `{address}`.", store=str(address))
    if (folder / f"{name or 'index'}.faiss").is_file():
        from mlx_integrations.migration.stores.langchain_faiss import LangChainFaissStore

        return LangChainFaissStore(folder, name or "index")
    others = sorted(path.stem for path in folder.glob("*.faiss") if path.with_suffix(".pkl").is_file())
    hint = "LangChain's FAISS folders can be migrated: name the one that `save_local` was given."
    if others:
        hint = f"It has {', '.join(f'`{other}`' for other in others)}: say which with `--name`."
    raise StoreError(f"`{address}` is no vector store that can be migrated.", store=str(address), hint=hint)
