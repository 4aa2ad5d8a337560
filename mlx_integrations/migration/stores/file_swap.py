"""Publishing for stores whose vectors are one file: that file is replaced by one rename, and nothing else is.

    vectors                  in use
    vectors.mlxi-RUN         new vectors that are built and not in use
    vectors.mlxi-RUN.old     the old vectors, while the new ones are in use: another name of the same file
    mlxi-embedding.json...   the record of the model, with the same endings

Which vectors are in use is seen from these names alone: the new ones if there is an `.old` that is another file.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar, cast

from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.migration.files import copy_whole, flush, flush_folder, is_same_file, take_over_rights
from mlx_integrations.migration.protocol import Published, Run
from mlx_integrations.migration.records import Document, Row, StoreLocation
from mlx_integrations.sidecar import read_sidecar, write_sidecar

if TYPE_CHECKING:  # a type only: importing this module stays fast
    from mlx_integrations.fingerprint import EmbeddingFingerprint
    from mlx_integrations.migration.protocol import Reader

__all__ = ["FileSwap", "SwappedStore", "file_state", "until_changed"]

_UNFINISHED: Final = ".part"
_NO_LINKS: Final = "Move the store to a file system that has hard links, such as APFS or ext4."
# https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-hardlinks
_NOT_OURS: Final = "Run it as the owner of that file, or with the right to write to it: Linux wants that. Otherwise:"
_AFRESH: Final = (
    "Put the old vectors back with `mlxi migrate rollback` if it is half published, and run it with `--restart`."
)
Read = TypeVar("Read", Row, Document)


def file_state(path: Path) -> str:
    """A short text that changes when a file may have changed."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    return f"{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"


def until_changed(rows: "Iterator[Read]", state: Callable[[], str]) -> "Iterator[Read]":
    """Rows or documents, as long as the files that they come from are what they were.

    LlamaIndex and LangChain write their files in place, so that what is read of them afterwards means nothing. Ending
    early loses nothing: whoever reads a store compares its state before and after, and reads it again.

    Args:
        rows: Of the store.
        state: Of the store.
    """
    begun = state()
    while True:
        try:
            row = next(rows, None)
        except StoreError:
            if state() == begun:
                raise
            return
        if row is None or state() != begun:
            return
        yield row


class FileSwap:
    """The names of one file of vectors, and the record of its model.

    Args:
        location: The store, for messages.
        file: The file in use.
        sidecar: Its record.
    """

    def __init__(self, location: StoreLocation, file: Path, sidecar: Path) -> None:
        self.location = location
        self.file = file
        self.sidecar = sidecar

    def record(self) -> "EmbeddingFingerprint | None":
        """The record of the model, if there is one that can be read."""
        try:
            return read_sidecar(self.sidecar)
        except SidecarError:
            return None

    @contextlib.contextmanager
    def placing(self, run: Run) -> Iterator[Path]:
        """Where to write what is to be built; files that add to this name are deleted, too.

        It has to be on the disk when this ends, and only then has the name of what was built.
        """
        built = self._built(run)
        part = built.with_name(f"{built.name}{_UNFINISHED}")
        try:
            part.touch(mode=0o600)  # until it has the rights of the file that it replaces
            yield part
            take_over_rights(part, self.file)
            part.replace(built)
        finally:
            self._delete_unfinished(built)
        flush_folder(built.parent)

    @contextlib.contextmanager
    def writing(self, run: Run) -> Iterator[IO[bytes]]:
        """Write what is to be built."""
        with self.placing(run) as part, part.open("wb") as file:
            yield file
            file.flush()
            flush(file.fileno())

    def built(self, run: Run) -> Path:
        """The file that was built, wherever it is by now.

        Raises:
            StoreError: It was not built, or not to its end.
        """
        place = self.file if self._is_new_in_use(run) else self._built(run)
        self._check_built(place)
        return place

    def replaced(self, run: Run) -> "FileSwap":
        """The old file, wherever it is by now, with its record.

        Raises:
            StoreError: It was deleted.
        """
        if self._is_new_in_use(run):
            return FileSwap(self.location, self._old(run), self._old_record(run))
        if not self._built(run).exists():  # the new file has become the only one
            raise self._no_longer_there()
        is_moved = self._old_record(run).exists() and not self.sidecar.exists()  # publishing was cut off
        return FileSwap(self.location, self.file, self._old_record(run) if is_moved else self.sidecar)

    def kept(self, run: Run) -> Path:
        """The name that the old file has by now, whether or not it is still there."""
        return self._old(run) if self._is_new_in_use(run) else self.file

    def published(self, run: Run) -> Published:
        """Which vectors are in use."""
        if self._is_new_in_use(run):
            is_whole = self.record() == run.fingerprint and not self._built(run).exists()
            return "new" if is_whole else "between"
        is_cut_off = self._old(run).exists() or (self._old_record(run).exists() and not self.sidecar.exists())
        return "between" if is_cut_off else "old"

    def publish(self, run: Run) -> None:
        """Put the new file in place of the old one, which keeps another name."""
        built, old = self._built(run), self._old(run)
        if not old.exists():
            self._check_built(built)
            if self.sidecar.exists():
                copy_whole(self.sidecar, self._old_record(run))
            self._link(self.file, old)
        if not self._is_new_in_use(run):
            self._check_built(built)
            # Without a record a store is known by its vectors, so at no moment does a record lie beside others'.
            self.sidecar.unlink(missing_ok=True)
            built.replace(self.file)
            flush_folder(built.parent)
        elif built.exists():
            built.unlink()  # a second name of the file in use, from a rollback that was cut off
        record = self._new_record(run)
        write_sidecar(record, run.fingerprint)
        record.replace(self.sidecar)
        flush_folder(built.parent)

    def rollback(self, run: Run) -> None:
        """Put the old file back in place; the new one is then built and not in use, as before publishing."""
        built, old = self._built(run), self._old(run)
        if not old.exists() and not built.exists():
            raise self._no_longer_there()
        if self._is_new_in_use(run):
            if not built.exists():
                self._link(self.file, built)
            self.sidecar.unlink(missing_ok=True)
            old.replace(self.file)
            flush_folder(built.parent)
        if self.sidecar.exists():  # publishing was cut off before it was taken away, and it may be a later one
            self._old_record(run).unlink(missing_ok=True)
        elif self._old_record(run).exists():
            self._old_record(run).replace(self.sidecar)
        old.unlink(missing_ok=True)  # after a publish that was cut off: a second name of the file in use
        flush_folder(built.parent)

    def discard(self, run: Run) -> None:
        """Delete the old file after publishing, otherwise the new one."""
        built, old = self._built(run), self._old(run)
        if not self._is_new_in_use(run) and self.published(run) == "between":
            self.rollback(run)
        # What is in use has a name of its own, which is none of these.
        for place in (built, old):
            place.unlink(missing_ok=True)
        self._delete_unfinished(built)
        for name in (self._old_record(run).name, self._new_record(run).name):
            (built.parent / name).unlink(missing_ok=True)
            for place in built.parent.glob(f"*{glob.escape(name)}.*"):  # it was being written
                place.unlink(missing_ok=True)
        flush_folder(built.parent)

    def _delete_unfinished(self, built: Path) -> None:
        for place in built.parent.glob(f"{glob.escape(built.name)}{_UNFINISHED}*"):
            place.unlink(missing_ok=True)

    def _is_new_in_use(self, run: Run) -> bool:
        built, old = self._built(run), self._old(run)
        # A program may have put a file of its own in the old one's place, after that was given its second name.
        is_ours = not built.exists() or is_same_file(built, self.file)
        return is_ours and old.exists() and not is_same_file(old, self.file)

    def _built(self, run: Run) -> Path:
        return self.file.with_name(f"{self.file.name}.mlxi-{run.id}")

    def _old(self, run: Run) -> Path:
        return self.file.with_name(f"{self.file.name}.mlxi-{run.id}.old")

    def _old_record(self, run: Run) -> Path:
        return self.sidecar.with_name(f"{self.sidecar.name}.mlxi-{run.id}.old")

    def _new_record(self, run: Run) -> Path:
        return self.sidecar.with_name(f"{self.sidecar.name}.mlxi-{run.id}")

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))

    def _check_built(self, built: Path) -> None:
        if not built.is_file():
            raise StoreError(
                f"Nothing was built for `{self.location}`, or it was deleted.", store=str(self.location), hint=_AFRESH
            )

    def _link(self, file: Path, name: Path) -> None:
        try:
            if file.is_symlink():  # systems differ in whether a second name of a link is one of the link
                name.symlink_to(file.readlink())
            else:
                name.hardlink_to(file)
        except OSError as error:
            is_ours = file.stat().st_uid == os.geteuid()
            raise StoreError(
                f"`{file}` cannot be given a second name: {error.strerror}.",
                store=str(self.location),
                hint=_NO_LINKS if is_ours else f"{_NOT_OURS} {_NO_LINKS}",
            ) from error
        flush_folder(name.parent)


class SwappedStore:
    """What every `Store` does whose vectors are one file. Its state begins with that of this file.

    Attributes:
        _swap: The names of that file.
    """

    _swap: FileSwap

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by the names in the folder."""
        return self._swap.published(run)

    def state_once_published(self, run: Run) -> str:
        """What `state` will say as soon as the new file is in place, if nobody writes to it in that moment."""
        _, *others = cast("Reader", self).state().split(" ")  # that of the file is the first part of it
        return " ".join((file_state(self._swap.built(run)), *others))

    def kept_state(self, run: Run) -> str | None:
        """The state of the old file, which may have been written to in the moment before it was replaced."""
        return None if self._swap.published(run) == "old" else file_state(self._swap.kept(run))

    def publish(self, run: Run) -> None:
        """Put the new file in place of the old one, which keeps another name."""
        self._swap.publish(run)

    def rollback(self, run: Run) -> None:
        """Put the old file back in place; the new one is then built and not in use, as before publishing."""
        self._swap.rollback(run)

    def discard(self, run: Run) -> None:
        """Delete the file that is not in use."""
        self._swap.discard(run)
