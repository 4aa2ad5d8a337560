"""What several modules share: a server of Qdrant, databases, a folder of the user's. Each asks for what it needs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # most modules here need neither, and importing them takes its time
    from tests.qdrant_server import Server


@pytest.fixture
def own_data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's in which the journals of stores on servers are."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def server() -> "Iterator[Server]":
    """A server of Qdrant."""
    from tests.qdrant_server import serving

    with serving() as running:
        yield running


@pytest.fixture
def qdrant(server: "Server", own_data: Path, monkeypatch: pytest.MonkeyPatch) -> "Server":
    """The server, its address where also a forked process finds it, and a folder for journals."""
    from tests.migration.qdrant_stores import URL_VARIABLE

    monkeypatch.setenv(URL_VARIABLE, server.url)
    return server


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection of its own for a test."""
    return hashlib.md5(request.node.nodeid.encode()).hexdigest()[:12]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database of PostgreSQL of its own for a test."""
    from tests.postgres import make_database

    return make_database(tmp_path)


@pytest.fixture
def role(url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A user of PostgreSQL to whom nothing is granted, one for each module: users belong to the server."""
    from tests.migration.pgvector_tables import done, make_role

    name = make_role(url, f"mlxi_test_{request.module.__name__.rpartition('_')[2]}")
    yield name
    done(url, f"DROP OWNED BY {name}")
