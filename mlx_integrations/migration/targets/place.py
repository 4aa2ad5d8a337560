"""Where a new store appears: built beside its place, and there by one call or not at all.

    notes.mlxi-RUN.part     being written
    notes.mlxi-RUN          whole, and not in use
    notes                   in use

A folder gets its name by one rename; while its run is kept, a file in it says which run made it. A file gets
a second name by one link: as long as its run is kept it has both, and so is known to be the run's.
"""

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import flush, flush_folder, is_same_file
from mlx_integrations.migration.protocol import Published, Run
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.sidecar import sidecar_of, write_sidecar

__all__ = ["FilePlace", "FolderPlace", "existing_folder", "not_built", "taken"]

_UNFINISHED: Final = ".part"
_MARK: Final = ".mlxi-"


def taken(location: StoreLocation) -> StoreError:
    """The error of moving to where something is."""
    return StoreError(
        f"There is something at `{location}` already, and nothing is moved into a store that exists.",
        store=str(location),
        hint="Name a place where nothing is, with `--to` or `--to-name`.",
    )


def not_built(location: StoreLocation) -> StoreError:
    """The error of asking for what is not there."""
    return StoreError(f"Nothing was built for `{location}`.", store=str(location))


def existing_folder(path: Path) -> Path:
    """The nearest folder above a place that exists: on its disk."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _flush_tree(folder: Path) -> None:
    """Return when everything below a folder is on the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb") as file:
                flush(file.fileno())
        flush_folder(Path(place))


class FolderPlace:
    """A store that is a folder.

    Args:
        location: The store, for messages.
        folder: Its place.
    """

    def __init__(self, location: StoreLocation, folder: Path) -> None:
        self.location = location
        self.folder = folder

    def check(self, run: Run | None) -> None:
        """Look whether the place is free, or has what this run has put there."""
        if not (run is not None and self._is_published(run)) and self._is_taken():
            raise taken(self.location)

    def is_published(self) -> bool:
        """Whether a run, any, has put there what is at the place."""
        return next(self.folder.glob(f"{_MARK}*"), None) is not None

    def has(self, run: Run) -> bool:
        """Whether this run has put something there, or has it ready."""
        return self._is_published(run) or self._built(run).is_dir()

    @contextlib.contextmanager
    def filling(self, run: Run) -> Iterator[Path]:
        """A new folder to be filled; once this ends it is on the disk, and has the name of what was built."""
        self.check(run)
        built, part = self._built(run), self._part(run)
        part.parent.mkdir(parents=True, exist_ok=True)
        for folder in (part, built):
            self._delete(folder)
        try:
            part.mkdir()
            (part / self._mark(run)).touch()
            yield part
            _flush_tree(part)
            part.rename(built)
            flush_folder(built.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def built(self, run: Run) -> Path:
        """The folder that was built, wherever it is by now."""
        if self._is_published(run):
            return self.folder
        if not self._built(run).is_dir():
            raise not_built(self.location)
        return self._built(run)

    def published(self, run: Run) -> Published:
        """Whether it is at its place."""
        return "new" if self._is_published(run) else "nothing"

    def publish(self, run: Run) -> None:
        """Give it its name."""
        if self._is_published(run):
            return
        built = self.built(run)
        if self._is_taken():
            raise taken(self.location)
        built.rename(self.folder)
        flush_folder(built.parent)

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        if self._is_published(run):
            self.folder.rename(self._built(run))
            flush_folder(self.folder.parent)
        self.built(run)

    def discard(self, run: Run) -> None:
        """Delete what was built; of what is published only the mark."""
        if self._is_published(run):
            (self.folder / self._mark(run)).unlink()
            flush_folder(self.folder)
        for folder in (self._part(run), self._built(run)):
            self._delete(folder)

    def _is_taken(self) -> bool:
        """An empty folder is not in the way."""
        if self.folder.is_dir():
            return any(self.folder.iterdir())
        return self.folder.exists() or self.folder.is_symlink()

    def _is_published(self, run: Run) -> bool:
        return (self.folder / self._mark(run)).exists()

    def _delete(self, folder: Path) -> None:
        """A folder that is half deleted has no name that stands for a whole one."""
        if folder.exists() and not folder.name.endswith(_UNFINISHED):
            folder = folder.rename(folder.with_name(f"{folder.name}{_UNFINISHED}"))
        if folder.exists():
            shutil.rmtree(folder)

    def _mark(self, run: Run) -> str:
        return f"{_MARK}{run.id}"

    def _built(self, run: Run) -> Path:
        return self.folder.with_name(f"{self.folder.name}.mlxi-{run.id}")

    def _part(self, run: Run) -> Path:
        return self.folder.with_name(f"{self._built(run).name}{_UNFINISHED}")


class FilePlace:
    """A store that is one file, with the record of its model beside it.

    Args:
        location: The store, for messages.
        file: Its place.
    """

    def __init__(self, location: StoreLocation, file: Path) -> None:
        self.location = location
        self.file = file
        self._record = sidecar_of(file, is_file=True)

    def check(self, run: Run | None) -> None:
        """Look whether the place is free, or has what this run has put there."""
        if self._is_taken() and not (run is not None and self._is_published(run)):
            raise taken(self.location)

    def is_published(self) -> bool:
        """Whether a run, any, has put there what is at the place."""
        names = self.file.parent.glob(f"{glob.escape(self.file.name)}.mlxi-*")
        return any(is_same_file(name, self.file) for name in names)

    @contextlib.contextmanager
    def filling(self, run: Run) -> Iterator[Path]:
        """A new file to be written; once this ends it is on the disk, and has the name of what was built."""
        self.check(run)
        built, part = self._built(run), self._part(run)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb") as file:
                flush(file.fileno())
            part.replace(built)
            flush_folder(built.parent)
        finally:
            part.unlink(missing_ok=True)

    def built(self, run: Run) -> Path:
        """The file that was built; it keeps this name when it is published."""
        if not self._built(run).is_file():
            raise not_built(self.location)
        return self._built(run)

    def published(self, run: Run) -> Published:
        """Whether it is at its place."""
        return "new" if self._is_published(run) else "nothing"

    def publish(self, run: Run) -> None:
        """Write the record, and give the file its name; a record of a file that is not there yet harms nobody."""
        if self._is_published(run):
            return
        built = self.built(run)
        if self._is_taken():
            raise taken(self.location)
        write_sidecar(self._record, run.fingerprint)
        try:
            self.file.hardlink_to(built)
        except FileExistsError as error:
            raise taken(self.location) from error
        except OSError as error:
            raise StoreError(
                f"`{built}` cannot be given a second name: {error.strerror}.",
                store=str(self.location),
                hint="Move it to a file system that has hard links, such as APFS or ext4.",
            ) from error
        flush_folder(built.parent)

    def rollback(self, run: Run) -> None:
        """Take its name away, and the record."""
        self.built(run)
        if self._is_published(run):
            self.file.unlink()
        if not self._is_taken():
            self._record.unlink(missing_ok=True)
        flush_folder(self.file.parent)

    def discard(self, run: Run) -> None:
        """Delete what was built; of what is published only its other name."""
        for name in (self._part(run), self._built(run)):
            name.unlink(missing_ok=True)
        if self.file.parent.is_dir():
            flush_folder(self.file.parent)

    def _is_taken(self) -> bool:
        return self.file.exists() or self.file.is_symlink()

    def _is_published(self, run: Run) -> bool:
        return is_same_file(self._built(run), self.file)

    def _built(self, run: Run) -> Path:
        return self.file.with_name(f"{self.file.name}.mlxi-{run.id}")

    def _part(self, run: Run) -> Path:
        return self.file.with_name(f"{self._built(run).name}{_UNFINISHED}")
