"""One file from the Hub into the cache: resumed where an earlier attempt stopped, checked, and never kept if wrong."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mlx_integrations.errors import (
    ChecksumMismatchError,
    ConfigurationError,
    DownloadCancelledError,
    InsufficientDiskError,
)
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.hub_client import FileStream, HubClient
from mlx_integrations.manager.pacing import Clock, InterruptionError, RetryPolicy
from mlx_integrations.manager.part_file import PartFile
from mlx_integrations.manager.plan import free_disk_bytes
from mlx_integrations.manager.progress import ProgressMeter
from mlx_integrations.manager.records import PlannedFile

__all__ = ["Stop", "Transfer", "disk_errors"]

_RETRIES: Final = RetryPolicy(attempts=8)
_PROGRESS_BYTES: Final = 1024 * 1024  # an attempt that brought less than this counts as a failed one
_NAP_SECONDS: Final = 0.1
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stop:
    """Ends a download on request, wherever it is waiting.

    Args:
        cancel: Set by another thread when it should end.
        repo_id: What is being downloaded.
        clock: Time.
    """

    def __init__(self, cancel: threading.Event | None, repo_id: str, clock: Clock) -> None:
        self._cancel = cancel
        self._repo_id = repo_id
        self._clock = clock

    def check(self) -> None:
        """Go on, or end.

        Raises:
            DownloadCancelledError: It should end.
        """
        if self._cancel is not None and self._cancel.is_set():
            raise DownloadCancelledError(f"The download of `{self._repo_id}` was stopped.", repo_id=self._repo_id)

    def pause(self, seconds: float) -> None:
        """Wait, unless it should end."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self.check()
            self._clock.sleep(min(_NAP_SECONDS, left))
        self.check()

    @contextmanager
    def breaking(self, stream: FileStream) -> Iterator[None]:
        """Break a connection that nothing arrives on when it should end."""
        if self._cancel is None:
            yield
            return
        cancel, is_over = self._cancel, threading.Event()

        def watch() -> None:
            while not is_over.wait(_NAP_SECONDS):
                if cancel.is_set():
                    stream.abort()
                    return

        watcher = threading.Thread(target=watch, name="mlxi-cancel", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()


class _WrongBytesError(Exception):
    """What the server sends is not the file."""

    def __init__(self, actual: str) -> None:
        super().__init__(actual)
        self.actual = actual


class Transfer:
    """Brings files of one commit into the cache.

    Args:
        client: Asks the Hub.
        repository: Where the files go.
        commit: The commit they are taken from.
        meter: Told what arrives.
        stop: Ends it.
        clock: Time and chance.
    """

    def __init__(
        self,
        client: HubClient,
        repository: HubRepository,
        commit: str,
        *,
        meter: ProgressMeter,
        stop: Stop,
        clock: Clock,
    ) -> None:
        self.transferred_bytes = 0
        self._client = client
        self._repository = repository
        self._commit = commit
        self._meter = meter
        self._stop = stop
        self._clock = clock

    def fetch(self, file: PlannedFile) -> None:
        """Make a file's blob. The caller holds its lock.

        Raises:
            ChecksumMismatchError: Twice, something else arrived than was promised.
            InsufficientDiskError: The disk is full; what arrived is kept.
            HubUnavailableError: The connection failed too often; what arrived is kept.
            HubError: The Hub does not give the file.
        """
        part = PartFile(self._repository.part(file.blob_id), blob_id=file.blob_id, size_bytes=file.size_bytes)
        with disk_errors(self._repository, file), part:
            part.read_back(lambda count: self._read_back(file))
            self._meter.arrived(file.path, part.arrived_bytes)
            try:
                self._fill(file, part)
            except _WrongBytesError:  # of an earlier attempt, or on the way: from nothing it may come right
                part.restart()
                try:
                    self._fill(file, part)
                except _WrongBytesError as exc:
                    part.discard()
                    raise self._mismatch(file, exc.actual) from exc
            self._meter.report("verifying", file.path)
            part.become(self._repository.blob(file.blob_id))

    def _read_back(self, file: PlannedFile) -> None:
        self._stop.check()
        self._meter.report("verifying", file.path)

    def _fill(self, file: PlannedFile, part: PartFile) -> None:
        """Receive until the file is whole, through any number of interruptions that each bring something."""
        failures = 0
        while not part.is_whole:
            before = part.arrived_bytes
            try:
                self._receive(file, part)
            except InterruptionError as interruption:
                self._stop.check()
                if interruption.must_restart:
                    part.restart()
                has_progress = part.arrived_bytes - before >= _PROGRESS_BYTES
                failures = 1 if has_progress else failures + 1
                pause = _RETRIES.pause_seconds(failures, interruption, self._clock.random())
                if pause is None:
                    raise self._client.unavailable(self._repository.repo_id, interruption) from interruption
                self._meter.report("waiting", file.path)
                self._stop.pause(pause)
        if part.digest != part.blob_id:
            raise _WrongBytesError(part.digest)

    def _receive(self, file: PlannedFile, part: PartFile) -> None:
        """One answer of the server, as far as it goes."""
        self._stop.check()
        self._meter.report("downloading", file.path)
        with self._client.stream(self._repository.repo_id, self._commit, file.path, start=part.arrived_bytes) as stream:
            if stream.total_bytes not in (None, file.size_bytes):
                raise _WrongBytesError(f"{stream.total_bytes:,} bytes")
            if stream.sha256 not in (None, file.sha256):
                raise _WrongBytesError(str(stream.sha256))
            if stream.start != part.arrived_bytes:
                if stream.start != 0:
                    raise InterruptionError("the server sent another part of the file than was asked for")
                part.restart()
            with self._stop.breaking(stream):
                for chunk in stream.chunks:
                    self._take(chunk, file, part)
        if not part.is_whole:
            raise InterruptionError("the connection ended early")

    def _take(self, chunk: bytes, file: PlannedFile, part: PartFile) -> None:
        if part.arrived_bytes + len(chunk) > file.size_bytes:
            raise _WrongBytesError(f"more than {file.size_bytes:,} bytes")
        part.write(chunk)
        self.transferred_bytes += len(chunk)
        self._meter.arrived(file.path, part.arrived_bytes)
        self._meter.report("downloading", file.path)
        self._stop.check()

    def _mismatch(self, file: PlannedFile, actual: str) -> ChecksumMismatchError:
        expected = f"{file.size_bytes:,} bytes" if actual.endswith(" bytes") else file.blob_id
        return ChecksumMismatchError(
            f"`{file.path}` of `{self._repository.repo_id}` arrived wrong twice: expected {expected}, got {actual}.",
            repo_id=self._repository.repo_id,
            file=file.path,
            expected=expected,
            actual=actual,
            hint="What arrived was thrown away. Try later or from another network; a proxy or mirror may change files.",
        )


@contextmanager
def disk_errors(repository: HubRepository, file: PlannedFile | None = None) -> Iterator[None]:
    """Say what it means when the cache cannot be written to.

    Args:
        repository: What is being written.
        file: The file of it, if it is one.

    Raises:
        InsufficientDiskError: The disk takes no more.
        ConfigurationError: It may not be written to.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise disk_full(repository.repo_id, file, exc, free_disk_bytes(repository.cache_dir)) from exc
        if exc.errno in _NOT_ALLOWED:
            raise unwritable(repository.cache_dir, exc) from exc
        raise


def disk_full(repo_id: str, file: PlannedFile | None, exc: OSError, free_bytes: int) -> InsufficientDiskError:
    """The error for a disk that takes no more, not even the links to files that are there."""
    is_size_limit = exc.errno == errno.EFBIG
    what = f"`{repo_id}`" if file is None else f"`{file.path}` of `{repo_id}` ({file.size_bytes:,} bytes)"
    return InsufficientDiskError(
        f"{what} " + ("is larger than this file system takes." if is_size_limit else "does not fit: the disk is full."),
        repo_id=repo_id,
        needed_bytes=0 if file is None else file.size_bytes,
        free_bytes=free_bytes,
        hint="Set HF_HUB_CACHE to a folder on another disk."
        if is_size_limit
        else "Make room, for example with `mlxi models rm`; the download then goes on.",
    )


def unwritable(cache_dir: object, exc: OSError) -> ConfigurationError:
    """The error for a cache that cannot be written to."""
    return ConfigurationError(
        f"The cache `{cache_dir}` cannot be written to: {exc.strerror}.",
        hint="Set HF_HUB_CACHE to a folder of your own, or repair the permissions.",
    )
