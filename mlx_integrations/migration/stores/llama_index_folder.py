"""A folder that `StorageContext.persist` of LlamaIndex wrote: nodes, and beside them a file of their vectors.

Only the file of the vectors is replaced; the nodes stay byte for byte.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Document, Finding, Row, StoreLocation
from mlx_integrations.migration.stores.file_swap import FileSwap, file_state, until_changed
from mlx_integrations.migration.stores.llama_index_nodes import DOCSTORE, Nodes

__all__ = ["SHARED", "NodesFolder", "check_alone", "check_files", "nodes_without_vector"]

SHARED: Final = "It shares its folder with a store of FAISS of LangChain, and there is one record for both."
"""Why a store cannot be migrated where it is."""

_LANGCHAIN: Final = ("index.faiss", "index.pkl")


class NodesFolder:
    """The nodes of a folder with one of its files of vectors.

    Args:
        location: Of the store.
        swap: The names of the file that is replaced.
        vectors: The file that is read.
        nodes: Another reader of the same folder, whose nodes need not be read again.
    """

    def __init__(
        self, location: StoreLocation, swap: FileSwap, vectors: Path, nodes: "NodesFolder | None" = None
    ) -> None:
        self._location = location
        self._swap = swap
        self._path = vectors
        self._nodes: tuple[str, Nodes] | None = None if nodes is None else nodes._nodes

    @property
    def location(self) -> StoreLocation:
        """Where the store is."""
        return self._location

    def rows(self, after: str | None = None) -> Iterator[Row]:
        """The nodes that have a vector, as long as no file is written anew."""
        return until_changed(self._rows(_first(after)), self.state)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        """The same, as LlamaIndex writes them into databases."""
        return until_changed(self._documents(_first(after)), self.state)

    def state(self) -> str:
        """That of the files; it begins with the one of the vectors."""
        raise NotImplementedError

    def _rows(self, first: int) -> Iterator[Row]:
        raise NotImplementedError

    def _documents(self, first: int) -> Iterator[Document]:
        raise NotImplementedError

    def _read_nodes(self) -> Nodes:
        path = self._path.with_name(DOCSTORE)
        state = file_state(path)
        if self._nodes is None or self._nodes[0] != state:
            self._nodes = state, Nodes(path)
        return self._nodes[1]


def _first(after: str | None) -> int:
    return 0 if after is None else int(after) + 1


def check_files(folder: str | Path, files: Sequence[Path]) -> None:
    """See to it that a folder has what such a folder has.

    Raises:
        StoreError: It lacks a file.
    """
    for file in files:
        if not file.is_file():
            raise StoreError(
                f"`{folder}` is no storage of LlamaIndex: it has no `{file.name}`.",
                store=str(folder),
                hint="Name the folder that `persist` was given.",
            )


def check_alone(folder: Path) -> None:
    """See to it that the record and the run of a folder are those of its only store.

    Raises:
        StoreError: LangChain has saved an index of FAISS in it, by its usual name.
    """
    if all((folder / name).is_file() for name in _LANGCHAIN):
        raise StoreError(
            f"The nodes of LlamaIndex in `{folder}` cannot be migrated. {SHARED}",
            store=str(folder),
            hint="Move `index.faiss` and `index.pkl` to a folder of their own.",
        )


def nodes_without_vector(count: int) -> Finding:
    """What is told of nodes that no vector belongs to."""
    message = "Nodes without a vector, deleted or parents of others; they stay as they are."
    return Finding(code="orphans", message=message, count=count)
