"""Where a new store appears: built beside its place, and there by one call or not at all.

    notes.mlxi-RUN.part     being written
    notes.mlxi-RUN          whole, and not in use
    notes                   in use

A folder gets its name by one rename; while its run is kept, a file in it says which run made it. An empty folder that
had the name gives it its rights, which that file notes, and is there again when it is taken back. A file gets a second
name by one link: as long as its run is kept it has both, and so is known to be the run's.

Nobody may read what is made here who may not read what it is made of.
"""

import contextlib
import glob
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.files import flush, flush_folder, is_same_file, take_over_rights, write_whole
from mlx_integrations.migration.protocol import Published, Run
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.sidecar import sidecar_of, write_sidecar

__all__ = ["FilePlace", "FolderPlace", "check_room", "existing_folder", "not_built", "rights_of", "taken"]

_UNFINISHED: Final = ".part"
_MARK: Final = ".mlxi-"
_IS_MARK: Final = re.compile(r"\.mlxi-[0-9a-z]{12}").fullmatch
_LONGEST_ENDING: Final = f"{_MARK}{'0' * 12}{_UNFINISHED}"
_OTHERS: Final = (stat.S_IRWXG, stat.S_IRWXO)


def taken(location: StoreLocation) -> StoreError:
    """The error of moving to where something is."""
    return StoreError(
        f"There is something at `{location}` already, and nothing is moved into a store that exists.",
        store=str(location),
        hint="Name a place where nothing is, with `--to` or `--to-name`.",
    )


def not_built(location: StoreLocation) -> StoreError:
    """The error of asking for what is not there."""
    hint = "If somebody has deleted it, start afresh with `mlxi migrate run --restart`."
    return StoreError(f"Nothing was built for `{location}`.", store=str(location), hint=hint)


def existing_folder(path: Path) -> Path:
    """The nearest folder above a place that exists: on its disk."""
    return next(folder for folder in path.absolute().parents if _is_folder(folder, os.F_OK))


def check_room(place: Path, location: StoreLocation) -> None:
    """Look whether something can be made at a place, and beside it.

    Raises:
        StoreError: It cannot.
    """
    above = next(folder for folder in place.parents if os.path.lexists(folder))
    rights = os.R_OK | os.W_OK | os.X_OK  # names in it are looked for, and are brought to the disk
    if not _is_folder(above, rights):
        raise _no_room(location, f"`{above}` is no folder that can be read and written to")
    missing = place.relative_to(above).parts
    for name in (*missing, f"{missing[-1]}{_LONGEST_ENDING}"):
        try:
            (above / name).lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # the second for characters that no file's name has
            reason = getattr(error, "strerror", None) or str(error)
            raise _no_room(location, f"no file can have the name `{name}` ({reason})") from error


def _is_folder(path: Path, rights: int) -> bool:
    """Whether it is a folder with which the rights can be used; where nobody may look, it is none."""
    return os.access(f"{path}{os.sep}.", rights, effective_ids=os.access in os.supports_effective_ids)


def _no_room(location: StoreLocation, reason: str) -> StoreError:
    hint = "Name another place with `--to`, or let yourself write there."
    return StoreError(f"Nothing can be made at `{location}`: {reason}.", store=str(location), hint=hint)


def rights_of(made: Path, source: StoreLocation) -> int:
    """What others may do with something new: as much as is usual, if they may read all that it is made of.

    Args:
        made: A file or a folder that was just made.
        source: The store whose texts go into it; one on a server has no rights here.

    Returns:
        Its mode.
    """
    mode = stat.S_IMODE(made.stat().st_mode)
    known = _shared(source.path) if not source.is_remote and source.path.exists() else 0o777
    for others in _OTHERS:
        if not known & others & (stat.S_IRGRP | stat.S_IROTH):
            mode &= ~others
    return mode


def _shared(path: Path) -> int:
    """What is allowed with all files of a store; what runs have put among them does not count."""
    mode = path.stat().st_mode
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if _MARK not in name]
        for name in (*folders, *(name for name in files if _MARK not in name)):
            with contextlib.suppress(FileNotFoundError):
                own = (Path(folder) / name).lstat().st_mode
                mode &= mode if stat.S_ISLNK(own) else own
    return mode


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
        """Look whether the place is free, and can be written to, or has what this run has put there."""
        if run is not None and self._is_published(run):
            return
        check_room(self.folder, self.location)
        if self._is_taken():
            raise taken(self.location)
        if os.path.ismount(self.folder):
            raise _no_room(self.location, "it is where a disk begins, and cannot be given to anything else")

    def is_published(self) -> bool:
        """Whether a run, any, has put there what is at the place."""
        return any(_IS_MARK(path.name) for path in self.folder.glob(f"{_MARK}*"))

    def has(self, run: Run) -> bool:
        """Whether this run has put something there, or has it ready."""
        return self._is_published(run) or self._built(run).is_dir()

    @contextlib.contextmanager
    def filling(self, run: Run, source: StoreLocation) -> Iterator[Path]:
        """A new folder to be filled; once this ends it is on the disk, and has the name of what was built.

        Args:
            run: The run.
            source: The store whose texts go into it.
        """
        self.check(run)
        built, part = self._built(run), self._part(run)
        part.parent.mkdir(parents=True, exist_ok=True)
        for folder in (part, built):
            self._delete(folder)
        try:
            part.mkdir()
            mode = rights_of(part, source)
            part.chmod(stat.S_IRWXU)  # until it is known to be whole
            (part / self._mark(run)).touch()
            yield part
            part.chmod(mode)
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
        if self.folder.is_dir():
            write_whole(built / self._mark(run), f"{stat.S_IMODE(self.folder.stat().st_mode):o}".encode())
            at_most = built.stat().st_mode | ~(stat.S_IRWXG | stat.S_IRWXO)
            take_over_rights(built, self.folder, at_most=at_most)
        else:
            write_whole(built / self._mark(run), b"")
        try:
            built.rename(self.folder)
        except OSError as error:
            if self._is_taken():  # somebody was faster
                raise taken(self.location) from error
            raise
        flush_folder(built.parent)

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        built = self._built(run)
        if self._is_published(run):
            self.folder.rename(built)
        mark = built / self._mark(run)
        if mark.exists() and (mode := mark.read_bytes()) and not self._is_taken():
            self.folder.mkdir(exist_ok=True)
            take_over_rights(self.folder, built)
            self.folder.chmod(int(mode, 8))
        if built.exists():
            flush_folder(built.parent)

    def discard(self, run: Run) -> None:
        """Delete what was built; of what is published only the mark."""
        if self._is_published(run):
            (self.folder / self._mark(run)).unlink()
            flush_folder(self.folder)
        for folder in (self._part(run), self._built(run)):
            self._delete(folder)

    def _is_taken(self) -> bool:
        """An empty folder is not in the way."""
        try:
            return self.folder.is_symlink() or any(self.folder.iterdir())
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return True
        except OSError as error:
            raise _no_room(self.location, f"it cannot be looked into ({error.strerror})") from error

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
        """Look whether the place is free, and can be written to, or has what this run has put there."""
        if run is not None and self._is_published(run):
            return
        check_room(self.file, self.location)
        if self._is_taken():
            raise taken(self.location)

    def is_published(self) -> bool:
        """Whether a run, any, has put there what is at the place."""
        names = self.file.parent.glob(f"{glob.escape(self.file.name)}.mlxi-*")
        return any(is_same_file(name, self.file) for name in names)

    @contextlib.contextmanager
    def filling(self, run: Run, source: StoreLocation) -> Iterator[Path]:
        """A new file to be written; once this ends it is on the disk, and has the name of what was built.

        Args:
            run: The run.
            source: The store whose texts go into it.
        """
        self.check(run)
        built, part = self._built(run), self._part(run)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.unlink(missing_ok=True)
            part.touch()
            mode = rights_of(part, source)
            part.chmod(stat.S_IRUSR | stat.S_IWUSR)  # until it is known to be whole
            yield part
            part.chmod(mode)
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
        record = self._new_record(run)
        write_sidecar(record, run.fingerprint)
        record.replace(self._record)
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
        if self._is_published(run):
            self.file.unlink()
        if not self._is_taken():
            self._record.unlink(missing_ok=True)
        if self.file.parent.is_dir():
            flush_folder(self.file.parent)

    def discard(self, run: Run) -> None:
        """Delete what was built; of what is published only its other name."""
        record = self._new_record(run)
        unfinished = self.file.parent.glob(f"*{glob.escape(record.name)}.*")
        for name in (self._part(run), self._built(run), record, *unfinished):
            name.unlink(missing_ok=True)
        if self.file.parent.is_dir():
            flush_folder(self.file.parent)

    def _is_taken(self) -> bool:
        return os.path.lexists(self.file)

    def _is_published(self, run: Run) -> bool:
        return is_same_file(self._built(run), self.file)

    def _built(self, run: Run) -> Path:
        return self.file.with_name(f"{self.file.name}.mlxi-{run.id}")

    def _part(self, run: Run) -> Path:
        return self.file.with_name(f"{self._built(run).name}{_UNFINISHED}")

    def _new_record(self, run: Run) -> Path:
        return self._record.with_name(f"{self._record.name}{_MARK}{run.id}")
