"""A PostgreSQL server: how one is reached, how it is asked, and what its errors mean for a migration."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from mlx_integrations.errors import MissingExtraError, MLXIntegrationsError, StoreBusyError, StoreError

if TYPE_CHECKING:  # types only: the client is an extra
    import psycopg

__all__ = ["LOCK_ATTEMPTS", "LOCK_SECONDS", "Server", "address_without_password"]

LOCK_SECONDS: Final = 2.0
"""How long a lock is waited for. Whoever comes after has to wait as long, so it is little, and tried again."""
LOCK_ATTEMPTS: Final = 5

_SECRETS: Final = frozenset({"password", "sslpassword"})
_CONNECT_SECONDS: Final = 10
_APPLICATION: Final = "mlxi migrate"
# Names are written out whole, so that they mean the same to whoever has another search path; texts and times come out
# alike everywhere; what row level security would hide is an error, since a migration may not leave out rows; and what
# others have committed while a lock was waited for is seen, whatever a database has for its transactions.
_SETTINGS: Final = {
    "search_path": "",
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_URL: Final = (
    "It is `postgresql://user@host:port/database`; characters like `@` and `/` are written as `%40` and `%2F` in it."
)
_AGAIN: Final = "Run it again: it goes on where it stopped. The store is as it was."
_PASSWORD: Final = "Put the password into `PGPASSWORD` or `~/.pgpass`, or the right user into the address."


def address_without_password(url: str) -> str:
    """The URL of a database as it may be shown.

    Args:
        url: For libpq, or for SQLAlchemy, which adds the name of a driver.
    """
    parts = _parts(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] not in _SECRETS], safe="/")
    place = f"{name}@{host}" if name else host
    return f"postgresql://{place}{parts.path or '/'}{'?' if query else ''}{query}"


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split("]")[-1].split(",")
        is_url = (
            url.count("@") == parts.netloc.count("@") < 2
            and not parts.fragment
            and all(port.isdigit() for _, colon, port in map(_cut, hosts) if colon)
        )
    except ValueError:
        is_url = False
    if not is_url:  # a password that is not written as one in a URL has to be: the message may show none of it
        raise StoreError("The address is no URL of a database.", store="postgresql", hint=_URL)
    return parts


def _cut(host: str) -> tuple[str, str, str]:
    return host.partition(":")


class Server:
    """A database, and a connection to it that is made when it is needed, and again if it was lost.

    Args:
        url: Of the database.
        writes: Whether it may be written to; otherwise the server itself refuses all writing.
    """

    def __init__(self, url: str, *, writes: bool = False) -> None:
        self.url = url
        self.address = address_without_password(url)
        self._writes = writes
        self._connection: psycopg.Connection[Any] | None = None
        self._is_locked = False

    def __repr__(self) -> str:
        """Without the password."""
        return f"{type(self).__name__}({self.address!r})"

    def all(self, query: str, parameters: Sequence[Any] = (), *, binary: bool = False) -> list[tuple[Any, ...]]:
        """The rows that a query has; each is a transaction of its own, unless one was begun."""
        with self._told():
            try:
                return self._connected().cursor(binary=binary).execute(query, parameters or None).fetchall()
            except _client().OperationalError:
                # Reading is repeated when the server ended the connection, as it does when it is started again.
                if self._writes or self._connection is None or not self._connection.closed:
                    raise
                return self._connected().cursor(binary=binary).execute(query, parameters or None).fetchall()

    def one(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The one row that a query has.

        Raises:
            StoreError: It has none: what was there a moment ago was dropped.
        """
        for row in self.all(query, parameters):
            return row
        message = f"What was asked for in `{self.address}` is not there any more."
        raise StoreError(message, store=self.address, hint=_AGAIN)

    def do(self, *statements: str) -> None:
        """Run statements that have no parameters."""
        with self._told():
            for statement in statements:
                self._connected().execute(statement)

    def copy_in(self, statement: str, content: bytes) -> None:
        """Send what a `COPY ... FROM STDIN` takes."""
        with self._told(), self._connected().cursor().copy(statement) as copy:
            copy.write(content)

    @contextmanager
    def transaction(self, *, is_repeatable: bool = False) -> Iterator[None]:
        """All that is done inside, or nothing.

        Args:
            is_repeatable: Whether every statement sees the database as the first one did.
        """
        with self._told(), self._connected().transaction():
            if is_repeatable:
                self.do("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.do(f"SET LOCAL lock_timeout = '{int(LOCK_SECONDS * 1000)}ms'")
            yield

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Keep other migrations of the same store out, on whatever machine they run.

        The server itself gives the lock back when the connection ends, also that of a killed process.

        Raises:
            StoreBusyError: Another one is at it.
        """
        self.close()  # one that was made long ago may be dead by now
        key = "hashtextextended(%s, 0)"
        for attempt in range(LOCK_ATTEMPTS):
            if self.one(f"SELECT pg_try_advisory_lock({key})", [name])[0]:
                break
            if attempt + 1 < LOCK_ATTEMPTS:
                time.sleep(LOCK_SECONDS / 2)
        else:
            raise StoreBusyError(f"`{name}` is being migrated by another process.", store=name)
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            if self._connection is not None and not self._connection.closed:
                self.all(f"SELECT pg_advisory_unlock({key})", [name])

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._connection is None or self._connection.closed:
            if self._is_locked:
                hint = f"Nothing that was begun there was done. {_AGAIN}"
                raise StoreError(f"The connection to `{self.address}` was lost.", store=self.address, hint=hint)
            psycopg = _client()
            options: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": _APPLICATION}
            given = dict(parse_qsl(_parts(self.url).query))
            options = {name: value for name, value in options.items() if name not in given}
            url = "postgresql" + self.url[self.url.index("://") :]
            # A plan that is made once for all pages of a table would not know how far each of them is.
            connection = psycopg.connect(url, autocommit=True, prepare_threshold=None, **options)
            self._connection = connection
            _read_all_times(connection)
            settings = {**_SETTINGS, "default_transaction_read_only": "off" if self._writes else "on"}
            connection.execute(
                f"SELECT {', '.join(['set_config(%s, %s, false)'] * len(settings))}",
                [part for pair in settings.items() for part in pair],
            )
            if self._writes:
                self._watch_client(connection)
        return self._connection

    def _watch_client(self, connection: "psycopg.Connection[Any]") -> None:
        """Have the server end a long statement of a process that was killed, which would keep its locks."""
        import contextlib

        with contextlib.suppress(_client().Error):  # not before 14, and not on every platform
            connection.execute("SET client_connection_check_interval = '1s'")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what an error of the server means; which one it is, its code says."""
        psycopg = _client()
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:  # it quotes the whole address
                message = f"`{self.address}` is no address of a database."
                raise StoreError(message, store=self.address, hint=_URL) from None
            raise self._meaning(psycopg, error) from error

    def _meaning(self, psycopg: Any, error: Any) -> MLXIntegrationsError:
        errors, store, said = psycopg.errors, self.address, _said(error)
        if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.SerializationFailure):
            message = f"`{store}` is in use: {said}"
            return StoreBusyError(message, store=store, hint="Wait until whoever writes to it has finished.")
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StoreError(f"`{store}` cannot be written to: {said}", store=store, hint="Name the primary server.")
        if isinstance(error, errors.InsufficientPrivilege):
            hint = "Migrate as the owner of the table, or as one whom row level security does not concern."
            return StoreError(f"`{store}` does not allow it: {said}", store=store, hint=hint)
        if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.ConfigurationLimitExceeded):
            return StoreError(f"`{store}` has no room: {said}", store=store, hint=f"Make room. {_AGAIN}")
        if error.sqlstate is None and error.pgconn is not None and error.pgconn.needs_password:
            return StoreError(f"`{store}` asks for a password.", store=store, hint=_PASSWORD)
        if error.sqlstate is None and error.pgconn is not None and error.pgconn.used_password:
            return StoreError(f"`{store}` refuses the connection: {said}", store=store, hint=_PASSWORD)
        if isinstance(error, psycopg.OperationalError) and (self._connection is None or self._connection.closed):
            hint = f"See that the server is there, and that the address is right. {_AGAIN}"
            return StoreError(f"`{store}` cannot be reached: {said}", store=store, hint=hint)
        return StoreError(f"`{store}` refuses it: {said}", store=store, hint="The store is as it was.")


def _read_all_times(connection: "psycopg.Connection[Any]") -> None:
    """Read what Python has no date, time or span for, such as `infinity`, as the server writes it."""
    from psycopg.types import datetime as types

    def lenient(known: Any) -> Any:
        def load(self: Any, data: Any) -> Any:
            try:
                return known.load(self, data)
            except _client().DataError:
                return bytes(data).decode()

        return type(known.__name__, (known,), {"load": load})

    for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval"):
        connection.adapters.register_loader(name, lenient(getattr(types, f"{name.title()}Loader")))


def _said(error: Any) -> str:
    """What the server says, as one sentence; its messages never have a password."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split()).rstrip(".") + "."


def _client() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("Tables of PostgreSQL need `psycopg`.", extra="pgvector") from error
    return psycopg
