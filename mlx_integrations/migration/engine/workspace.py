"""The folder of a run: its lock, its journal and its vectors. It lies beside the store, never in it."""

import contextlib
import hashlib
import logging
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from mlx_integrations.errors import (
    JournalError,
    MigrationError,
    MLXIntegrationsError,
    SidecarError,
    StoreBusyError,
    StoreError,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.engine.journal import Journal
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.files import WHEN_FULL
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.records import StoreInfo, StoreLocation
from mlx_integrations.settings.places import migrations_folder, state_folder

__all__ = ["Workspace", "work_folder"]

_FOLDER: Final = ".mlxi-migrate"
_JOURNAL: Final = "journal.sqlite"
_VECTORS: Final = "vectors.f32"
_LOCK: Final = "lock"
_FILES: Final = (_JOURNAL, f"{_JOURNAL}-wal", f"{_JOURNAL}-shm", _VECTORS)
_LOCKS: Final = "migration-locks"
_PORTS: Final = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432}
_ID_LENGTH: Final = 12
_LONGEST_NAME: Final = 60
_NO_NAME: Final = re.compile(r"[^\w.]+")
_logger = logging.getLogger(__name__)
_AFRESH: Final = "Go on with the model and the options that it was begun with, or start afresh with `--restart`."


def work_folder(location: StoreLocation, base: Path | None = None) -> Path:
    """Where a store's run is kept.

    Args:
        location: The store.
        base: The folder of all runs; otherwise `.mlxi-migrate` beside the store, or for one on a server a folder of the
            user's data.
    """
    if location.is_remote:
        return (base or migrations_folder()) / _name_of(location)
    path = location.path
    if base is not None:  # where runs of stores of several folders may be, and stores themselves
        return base / _name_of(location)
    if location.name is None and location.target is None:
        return path.parent / _FOLDER / path.name
    # Without the folder that both are in, which may be moved with the store.
    own = replace(location, address=path.name)
    return path.parent / _FOLDER / _name_of(own)


def _name_of(location: StoreLocation) -> str:
    """A folder's name for a store: readable, and another one for each."""
    parts = [location.address, location.name or "", "" if location.target is None else str(location.target)]
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    shown = str(location).partition("://")[2] if location.is_remote else location.path.name
    if location.name is not None and not location.is_remote:
        shown = f"{shown}.{location.name}"
    if location.target is not None:
        shown = f"{shown[: _LONGEST_NAME // 2]}.to-{location.target.path.name}"
    return f"{_NO_NAME.sub('-', shown)[:_LONGEST_NAME]}-{digest}"


class Workspace:
    """An open run. `locked` makes one; reading only needs no lock.

    Attributes:
        folder: Where its files are.
        journal: What is done.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder
        self.journal = journal

    @property
    def has_run(self) -> bool:
        """Whether a run was begun."""
        return self.journal.fact("run") is not None

    @property
    def run(self) -> Run:
        """The run that was begun.

        Raises:
            MigrationError: None was.
        """
        known = self.journal.fact("run")
        if known is None:
            raise no_run(self.folder.name)
        fingerprint = EmbeddingFingerprint.from_dict(known["fingerprint"])
        return Run(id=known["id"], fingerprint=fingerprint, metric=known["metric"], index=known["index"])

    def begin(self, info: StoreInfo, fingerprint: EmbeddingFingerprint, *, long_texts: str, index: str) -> Run:
        """Begin a run, or go on with the one that was begun with the same model and options.

        Raises:
            JournalError: It was begun with others.
        """
        known = self.journal.fact("run")
        metric = "cosine" if info.metric == "unknown" else info.metric
        if known is None:
            run_id = uuid4().hex[:_ID_LENGTH]
            facts = {"id": run_id, "metric": metric, "index": index, "long_texts": long_texts, "total": info.count}
            with self.journal.transaction():
                self.journal.set_fact("run", {**facts, "fingerprint": fingerprint.to_dict()})
            return self.run
        different = _differences(known, fingerprint, long_texts, index)
        if known["metric"] != metric and self.journal.phase not in ("publishing", "published"):
            # The store was made anew meanwhile. One that has new vectors may be without the index that told its metric.
            different.append(f"the store's `metric` was `{known['metric']}` and is `{metric}`")
        if different:
            raise JournalError(
                f"A migration of `{info.location}` was begun otherwise: {'; '.join(different)}.",
                store=str(info.location),
                hint=_AFRESH if self.journal.phase not in ("publishing", "published") else _KEEPS_OLD,
            )
        return self.run

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """The vectors of the run."""
        with Staging(self.folder / _VECTORS, self.run.fingerprint.dimensions) as staging:
            yield staging

    def staged_bytes(self) -> int:
        """What the vectors take on the disk."""
        path = self.folder / _VECTORS
        return path.stat().st_size if path.exists() else 0

    def forget(self) -> None:
        """Delete journal and vectors; the lock stays as long as it is held."""
        self.journal.close()
        for name in _FILES:
            (self.folder / name).unlink(missing_ok=True)

    @staticmethod
    @contextlib.contextmanager
    def locked(location: StoreLocation, base: Path | None = None) -> Iterator["Workspace"]:
        """Open a store's run, alone.

        Raises:
            StoreBusyError: Another process has it open.
            StoreError: The disk is full, or the folder cannot be written to.
            JournalError: The journal is damaged.
        """
        folder = work_folder(location, base)
        with told(location):
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder / _LOCK, location), _lock_of_user(location):
                place = Workspace(folder, Journal(folder / _JOURNAL))
                try:
                    yield place
                finally:
                    place.journal.close()

    @staticmethod
    @contextlib.contextmanager
    def seen(location: StoreLocation, base: Path | None = None) -> Iterator["Workspace | None"]:
        """Look at a store's run while another process may be at it; `None` if there is none."""
        folder = work_folder(location, base)
        if not (folder / _JOURNAL).exists():
            yield None
            return
        with told(location), Journal(folder / _JOURNAL) as journal:
            yield Workspace(folder, journal)

    @staticmethod
    def delete(location: StoreLocation, base: Path | None = None) -> None:
        """Delete what a run left, and the folder of runs if this was the last one."""
        folder = work_folder(location, base)
        with contextlib.suppress(OSError):  # there is something else in it, or there are others
            for name in (*_FILES, _LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


_KEEPS_OLD: Final = (
    "That one is published and keeps the old vectors. Delete them with `mlxi migrate gc`, or put them back with "
    "`mlxi migrate rollback`, before you migrate again."
)


def no_run(store: str) -> MigrationError:
    """The error of asking about a run where there is none."""
    message = f"No migration of `{store}` was begun."
    return MigrationError(message, store=store, hint="Begin one with `mlxi migrate run`.")


def _differences(known: dict[str, Any], fingerprint: EmbeddingFingerprint, long_texts: str, index: str) -> list[str]:
    begun = EmbeddingFingerprint.from_dict(known["fingerprint"])
    found = [
        "the same texts get other vectors"
        if name == "witness"
        else f"`{name}` was `{getattr(begun, name)}` and is `{getattr(fingerprint, name)}`"
        for name in begun.differences(fingerprint)
    ]
    if begun.max_tokens != fingerprint.max_tokens:
        found.append(f"`max_tokens` was `{begun.max_tokens}` and is `{fingerprint.max_tokens}`")
    options = {"long_texts": long_texts, "index": index}
    return found + [
        f"`{name}` was `{known[name]}` and is `{value}`" for name, value in options.items() if known[name] != value
    ]


@contextlib.contextmanager
def _lock(path: Path, location: StoreLocation) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreBusyError(f"`{location}` is being migrated by another process.", store=str(location)) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _lock_of_user(location: StoreLocation) -> Iterator[None]:
    """A second lock, where runs that are kept in other folders see it; one for each store, by whatever name it goes."""
    digest = hashlib.blake2b(_identity(location).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    path = state_folder() / _LOCKS / f"{digest}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        _logger.warning("Runs of other folders are not seen: `%s` cannot be written (%s).", path, error.strerror)
        yield
        return
    with _lock(path, location):
        yield


def _identity(location: StoreLocation) -> str:
    """Equal for equal stores, through symbolic links, relative paths, and other users of one server."""
    if not location.is_remote:
        return f"{location.path.expanduser().resolve()}\n{location.name or ''}"
    parts = urlsplit(location.address)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(f":{_PORTS.get(parts.scheme)}")
    scheme = {"postgres": "postgresql", "https": "http"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{host}{parts.path.rstrip('/')}?{parts.query}\n{location.name or ''}"


@contextlib.contextmanager
def told(location: StoreLocation) -> Iterator[None]:
    """Say what a disk that is full, or a folder that cannot be written to, means for a migration."""
    try:
        yield
    except (OSError, sqlite3.OperationalError, SidecarError) as error:
        if isinstance(error, SidecarError) and isinstance(error.__cause__, OSError):
            error = error.__cause__
        if isinstance(error, MLXIntegrationsError):  # an endpoint that does not answer is also an `OSError`
            raise
        reason = getattr(error, "strerror", None) or str(error)
        place = f" (`{error.filename}`)" if isinstance(error, OSError) and error.filename else ""
        raise StoreError(
            f"The migration of `{location}` cannot write: {reason}{place}.", store=str(location), hint=WHEN_FULL
        ) from error
