"""The folder of a run: its lock, its journal and its vectors. It lies beside the store, never in it.

The record of the run is there a second time, in a file of its own. Its id is in all names that the run makes up, so
that what it left is found also if the journal cannot be read any more; and that what is written to a store which has
its new vectors in use is not lost by going back, the state in which it was published is there, too.
"""

import contextlib
import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from mlx_integrations.errors import (
    JournalDamagedError,
    JournalError,
    MigrationError,
    MLXIntegrationsError,
    SidecarError,
    StoreBusyError,
    StoreError,
)
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.engine.journal import IN_USE, Journal
from mlx_integrations.migration.engine.staging import Staging
from mlx_integrations.migration.files import WHEN_FULL, write_whole
from mlx_integrations.migration.protocol import Run
from mlx_integrations.migration.records import StoreInfo, StoreLocation
from mlx_integrations.settings.places import migrations_folder, state_folder

__all__ = ["Workspace", "work_folder"]

_FOLDER: Final = ".mlxi-migrate"
_JOURNAL: Final = "journal.sqlite"
_VECTORS: Final = "vectors.f32"
_RECORD: Final = "run.json"
_NOTED: Final = "published"
_LOCK: Final = "lock"
_BESIDE_JOURNAL: Final = (f"{_JOURNAL}-wal", f"{_JOURNAL}-shm")
_NEW_JOURNAL: Final = f"{_JOURNAL}.new"
_UNFINISHED_JOURNAL: Final = (_NEW_JOURNAL, f"{_NEW_JOURNAL}-wal", f"{_NEW_JOURNAL}-shm")
# The record last: as long as it is there, everything else that the run left can be found.
_FILES: Final = (
    _JOURNAL,
    *_BESIDE_JOURNAL,
    *_UNFINISHED_JOURNAL,
    _VECTORS,
    f"{_RECORD}.part",
    _RECORD,
)
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
        return _run_of(known)

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
            record = {**facts, "fingerprint": fingerprint.to_dict()}
            write_whole(self.folder / _RECORD, json.dumps(record).encode())
            with self.journal.transaction():
                self.journal.set_fact("run", record)
            return self.run
        different = _differences(known, fingerprint, long_texts, index)
        if known["metric"] != metric and self.journal.phase not in IN_USE:
            # The store was made anew meanwhile. One that has new vectors may be without the index that told its metric.
            different.append(f"the store's `metric` was `{known['metric']}` and is `{metric}`")
        if different:
            raise JournalError(
                f"A migration of `{info.location}` was begun otherwise: {'; '.join(different)}.",
                store=str(info.location),
                hint=_AFRESH if self.journal.phase not in IN_USE else _KEEPS_OLD,
            )
        return self.run

    def note(self, **facts: Any) -> None:
        """Put facts of what is published beside the journal, instead of those of an earlier time."""
        record = {**self.journal.fact("run"), _NOTED: facts}
        write_whole(self.folder / _RECORD, json.dumps(record).encode())

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
    def locked(
        location: StoreLocation, base: Path | None = None, salvage: Callable[[Run], dict[str, Any]] | None = None
    ) -> Iterator["Workspace"]:
        """Open a store's run, alone.

        Args:
            location: The store.
            base: The folder of all runs, if not the usual one.
            salvage: Says the facts of a new journal, should the old one be damaged.

        Raises:
            StoreBusyError: Another process has it open.
            StoreError: The disk is full, or the folder cannot be written to.
            JournalDamagedError: The journal is damaged, and there is no `salvage`.
            JournalError: A later version wrote it.
        """
        folder = work_folder(location, base)
        with told(location):
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder / _LOCK, location), _lock_of_user(location):
                place = Workspace(folder, _opened(folder, salvage))
                try:
                    with _read(location, place.journal):
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
        with told(location), Journal(folder / _JOURNAL) as journal, _read(location, journal):
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


def _opened(folder: Path, salvage: Callable[[Run], dict[str, Any]] | None) -> Journal:
    """The journal of a folder; a new one with what is known of the run, if it is damaged and may be given up."""
    try:
        journal = Journal(folder / _JOURNAL)
        if salvage is not None:
            journal.check()
    except JournalDamagedError:
        if salvage is None:
            raise
        _logger.warning("The journal in `%s` is damaged; a new one takes its place.", folder)
    else:
        return journal
    for name in _UNFINISHED_JOURNAL:
        (folder / name).unlink(missing_ok=True)
    known = _record_in(folder)
    with Journal(folder / _NEW_JOURNAL) as made:
        if known is not None:
            noted = known.pop(_NOTED, {})
            facts = {"run": known, **salvage(_run_of(known))}
            facts |= noted if facts["phase"] == "published" else {}
            with made.transaction():
                for name, value in facts.items():
                    made.set_fact(name, value)
    for name in _BESIDE_JOURNAL:
        (folder / name).unlink(missing_ok=True)
    (folder / _NEW_JOURNAL).replace(folder / _JOURNAL)
    return Journal(folder / _JOURNAL)


def _record_in(folder: Path) -> dict[str, Any] | None:
    try:
        known = json.loads((folder / _RECORD).read_bytes())
        _run_of(known)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return dict(known)


def _run_of(known: dict[str, Any]) -> Run:
    fingerprint = EmbeddingFingerprint.from_dict(known["fingerprint"])
    return Run(id=known["id"], fingerprint=fingerprint, metric=known["metric"], index=known["index"])


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
        f"`{name}` was {_shown(known[name])} and is {_shown(value)}"
        for name, value in options.items()
        if known[name] != value
    ]


def _shown(option: str) -> str:
    return f"`{option}`" if option else "left out"


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


@contextlib.contextmanager
def _read(location: StoreLocation, journal: Journal) -> Iterator[None]:
    """Say which database it is that cannot be read: the journal, or the one of a store that is kept in SQLite."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        journal.check()
        raise StoreError(f"`{location}` cannot be read: {error}.", store=str(location)) from error
