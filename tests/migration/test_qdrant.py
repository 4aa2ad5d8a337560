"""Collections of a Qdrant server, over sockets: the contract of all stores, and what is their own."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.stores.qdrant import QdrantServerStore
from tests.migration.contract import Document, StoreContract
from tests.migration.test_qdrant_local import fill, point_id
from tests.qdrant_server import Server, serving

URL_VARIABLE = "MLXI_TEST_QDRANT_URL"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def places(server: Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's address, where also a forked process finds it, and a folder of the user's for journals."""
    monkeypatch.setenv(URL_VARIABLE, server.url)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))


def client() -> QdrantClient:
    return QdrantClient(url=os.environ[URL_VARIABLE], check_compatibility=False)


def name_of(folder: Path) -> str:
    """A collection of its own for each test."""
    return f"notes-{hashlib.md5(str(folder).encode()).hexdigest()}"


class TestQdrantServer(StoreContract):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fill(client(), contents, name_of(folder))

    def open(self, folder: Path) -> Store:
        return QdrantServerStore(os.environ[URL_VARIABLE], name_of(folder))

    def add(self, folder: Path, contents: Sequence[Document]) -> None:
        fill(client(), contents, name_of(folder))

    def id_of(self, document: Document) -> str:
        return str(point_id(document))


class TestQdrantServerAlias(TestQdrantServer):
    def make(self, folder: Path, contents: Sequence[Document]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fill(client(), contents, f"{name_of(folder)}-2025")
        alias = models.CreateAlias(collection_name=f"{name_of(folder)}-2025", alias_name=name_of(folder))
        client().update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
