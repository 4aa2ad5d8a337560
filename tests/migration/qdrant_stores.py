"""How Qdrants are made for tests: folders of its local mode, and collections of a server, by their own client."""

import functools
import hashlib
import json
import os
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from qdrant_client import QdrantClient, models

from mlx_integrations.migration.contract import Document, StoreContract
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.stores.qdrant.local import QdrantLocalStore
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


class OfAliasContract(StoreContract):
    """What an alias of a collection has to be tried with besides: it is read as the collection is."""

    test_it_is_a_store = None  # type: ignore[assignment]
    test_every_document_is_read = None  # type: ignore[assignment]
    test_metadata_is_read = None  # type: ignore[assignment]
    test_reading_goes_on_after_any_key = None  # type: ignore[assignment]
    test_vectors_are_those_of_the_keys = None  # type: ignore[assignment]
    test_an_unknown_key_has_no_vector = None  # type: ignore[assignment]
    test_an_empty_store_is_one = None  # type: ignore[assignment]
    test_nothing_is_no_store = None  # type: ignore[assignment]
    test_nothing_is_built_at_first = None  # type: ignore[assignment]
    test_a_build_that_was_cut_off_is_made_again = None  # type: ignore[assignment]
    test_nothing_can_be_published_that_was_not_built = None  # type: ignore[assignment]
    test_what_is_added_meanwhile_is_taken_in = None  # type: ignore[assignment]


class FolderAliasContract(OfAliasContract, FolderContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        filled(folder, contents, "notes-2025")
        alias(folder, "notes", "notes-2025")


def client() -> QdrantClient:
    return _client_of(os.environ[URL_VARIABLE])


@functools.cache
def _client_of(url: str) -> QdrantClient:
    return QdrantClient(url=url, check_compatibility=False)


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

    def committed(self) -> Callable[[], str]:
        """What tells by another value that the server has written something."""
        address = os.environ[URL_VARIABLE] + "/written"
        return lambda: str(json.loads(urllib.request.urlopen(address).read())["result"])

    def forget(self, folder: Path) -> None:
        for each in client().get_collections().collections:
            if each.name.startswith(name_of(folder)):
                client().delete_collection(each.name)


class ServerAliasContract(OfAliasContract, ServerContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fill(client(), contents, f"{name_of(folder)}-2025")
        alias = models.CreateAlias(collection_name=f"{name_of(folder)}-2025", alias_name=name_of(folder))
        client().update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
