"""How Qdrants are made for tests: folders of its local mode, and collections of a server, by their own client."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.records import Row, StoreInfo
from mlx_integrations.migration.stores.qdrant import QdrantServerStore
from mlx_integrations.migration.stores.qdrant_local import QdrantLocalStore
from tests.migration.contract import Document, StoreContract
from tests.migration.stores import OLD_DIMENSIONS, vectors

URL_VARIABLE = "TEST_QDRANT_URL"
NAMESPACE = UUID("6c1b2f0e-6d0a-4f43-8a3e-5f2b1f1e0c11")


def point_id(document: Document) -> int | str:
    """A number or a UUID, as Qdrant takes no other ids; every third is a number."""
    number = int(document.id.removeprefix("doc-"))
    return number if number % 3 == 0 else str(uuid5(NAMESPACE, document.id))


def points(contents: Sequence[Document]) -> list[models.PointStruct]:
    made = vectors(len(contents), OLD_DIMENSIONS).tolist()
    return [
        models.PointStruct(
            id=point_id(each), vector=vector, payload={"page_content": each.text, "metadata": each.metadata}
        )
        for each, vector in zip(contents, made, strict=True)
    ]


def fill(client: QdrantClient, contents: Sequence[Document], name: str = "notes", **options: Any) -> None:
    """A collection as a program fills it that makes its own vectors."""
    if not client.collection_exists(name):
        params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.DOT)
        client.create_collection(name, **{"vectors_config": params, **options})
    if contents:
        client.upsert(name, points(contents))


def filled(folder: Path, contents: Sequence[Document], name: str = "notes", **options: Any) -> Path:
    client = QdrantClient(path=str(folder))
    fill(client, contents, name, **options)
    client.close()
    return folder


def alias(folder: Path, name: str, collection: str) -> None:
    client = QdrantClient(path=str(folder))
    made = models.CreateAlias(collection_name=collection, alias_name=name)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    client.close()


class FolderContract(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def open(self, folder: Path) -> Store:
        return QdrantLocalStore(folder, "notes")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def id_of(self, document: Document) -> str:
        return str(point_id(document))


class FolderAliasContract(FolderContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents, "notes-2025")
        alias(folder, "notes", "notes-2025")


def client() -> QdrantClient:
    return QdrantClient(url=os.environ[URL_VARIABLE], check_compatibility=False)


def name_of(folder: Path) -> str:
    """A collection of its own for each test."""
    return f"notes-{hashlib.md5(str(folder).encode()).hexdigest()}"


class ServerContract(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fill(client(), contents, name_of(folder))

    def open(self, folder: Path) -> Store:
        return QdrantServerStore(os.environ[URL_VARIABLE], name_of(folder))

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        fill(client(), contents, name_of(folder))

    def id_of(self, document: Document) -> str:
        return str(point_id(document))


class EvenBetween(QdrantServerStore):
    """Shows what is kept while there is nothing of the name: that is what a cut-off publishing leaves, and is whole."""

    def describe(self) -> StoreInfo:
        kept = self._kept()
        return super().describe() if kept is None else kept.describe()

    def rows(self, after: str | None = None) -> Iterator[Row]:
        kept = self._kept()
        return super().rows(after) if kept is None else kept.rows(after)

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        kept = self._kept()
        return super().vectors(keys) if kept is None else kept.vectors(keys)

    def _kept(self) -> Any:
        aliases = self._server.aliases()
        if self._name in aliases or self._name in self._server.collections():
            return None
        (kept,) = (each for each in aliases if each.startswith(f"{self._name}.mlxi-") and each.endswith(".kept"))
        return self._shown(kept)


class KilledServerContract(ServerContract):
    def open(self, folder: Path) -> Store:
        return EvenBetween(os.environ[URL_VARIABLE], name_of(folder))


class ServerAliasContract(ServerContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fill(client(), contents, f"{name_of(folder)}-2025")
        alias = models.CreateAlias(collection_name=f"{name_of(folder)}-2025", alias_name=name_of(folder))
        client().update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
