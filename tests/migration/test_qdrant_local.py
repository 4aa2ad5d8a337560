"""Folders of Qdrant's local mode, as LangChain and LlamaIndex fill them: the contract of all stores, and their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from qdrant_client import QdrantClient, models

from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.qdrant_local import QdrantLocalStore
from tests.migration.contract import Document, StoreContract
from tests.migration.stores import OLD_DIMENSIONS, vectors

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


class TestQdrantLocal(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def open(self, folder: Path) -> Store:
        return QdrantLocalStore(folder, "notes")

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents)

    def id_of(self, document: Document) -> str:
        return str(point_id(document))


class TestQdrantLocalAlias(TestQdrantLocal):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents, "notes-2025")
        client = QdrantClient(path=str(folder))
        alias = models.CreateAlias(collection_name="notes-2025", alias_name="notes")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        client.close()

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents, "notes")
