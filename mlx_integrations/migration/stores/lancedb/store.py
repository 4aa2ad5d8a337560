"""LanceDB: a table of a database in a folder, as LangChain, LlamaIndex or a program of one's own fills it.

    notes.lance                      in use
    .notes.mlxi-RUN/part             new, and being filled
    .notes.mlxi-RUN/new              new, whole: its versions go on counting where the old ones were
    .notes.mlxi-RUN/both             second names of all files of both, for a moment
    .notes.mlxi-RUN/old              the old folder, while the table's own folder is the one of both

Lance makes each index of a table in a commit of its own. Overwriting the table and making its indexes again would show
it without them for as long as that takes: slow to search by vectors, and not searchable by words at all. A new table
that is renamed would break whoever has the old one open, and a program that adds to it by an old handle would damage
the new one: it commits what it knows as the next version, whatever lies there. So the new table is built with all its
indexes as later versions of the old one, in a folder of its own; the files of the old one get second names there; and
the two folders are exchanged in one step. Open handles then read on in the version that they know, new ones see the new
version, and what an old handle tries to write is refused by Lance itself, because the table was overwritten since.

From then on the table's folder has both. Going back, and forth again, is a commit of Lance (`restore`), which is atomic
and takes the indexes along; exchanging the folders again is not an option, for the reason above. Whether the new
vectors are in use is told by the metadata of their column, which also have the record of the model.

A cleanup of the table by its owner (`optimize`) may delete the version that is not in use. Its files keep their second
names in the run's folder, and get them back before they are needed. `discard` deletes the old versions' files.
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.files import is_same_file, take_over_rights
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.migration.stores.lancedb.building import RUN, build_table
from mlx_integrations.migration.stores.lancedb.folders import (
    exchange,
    files_below,
    flush_below,
    give_rights,
    latest_version,
    link_missing,
    state_of,
    versions,
    write_json,
)
from mlx_integrations.migration.stores.lancedb.indexes import index_for, index_of_vectors
from mlx_integrations.migration.stores.lancedb.reader import SUFFIX, LanceReader, references
from mlx_integrations.migration.stores.lancedb.table import connected, told

__all__ = ["KIND", "LanceDBStore"]

KIND: Final = "lancedb"
_ROLLED_BACK: Final = "rolled-back.json"
_PUBLISHED: Final = "published.json"
_BASE: Final = "base.json"
_logger = logging.getLogger(__name__)


class LanceDBStore(LanceReader):
    """A table of a LanceDB in a folder. Implements `Store`.

    Args:
        folder: The folder of the database, or of the table.
        name: The table; the only one there is if left out. `TABLE:VECTORS:TEXTS` also names the columns of vectors and
            of texts, of which either may be left out; otherwise they are known by their kinds and names.

    Raises:
        StoreError: There is no such table, or there are several and none is named, or its columns are not known.
    """

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        if path.suffix == SUFFIX and not name:
            path, name = path.parent, path.stem
        table, vector, text, *more = *(name or "").split(":"), "", ""
        if any(more):
            message = f"`{name}` names more than a table and its columns of vectors and texts."
            raise StoreError(message, store=str(folder), hint="Say `TABLE:VECTORS:TEXTS`, or less.")
        tables = sorted(each.stem for each in path.glob(f"*{SUFFIX}") if each.is_dir())
        if not table and len(tables) == 1:
            table = tables[0]
        if table not in tables:
            listed = ", ".join(tables)
            raise StoreError(
                f"`{folder}` has no table `{table}`." if table else f"`{folder}` has {len(tables)} tables of LanceDB.",
                store=str(folder),
                hint=f"Say which: {listed}." if tables else "Name the folder that `lancedb.connect` was given.",
            )
        whole = f"{table}:{vector}:{text}".rstrip(":")
        location = StoreLocation(kind=KIND, address=str(path), name=whole)
        super().__init__(location, path, table, (vector, text))
        self._table()

    def state(self) -> str:
        """A short text that changes with each commit, but for the one by which a rollback goes back to an old one."""
        state, latest = state_of(self.table_folder), latest_version(self.table_folder)
        for note in self._folder.glob(f".{self._name}.mlxi-*/{_ROLLED_BACK}"):
            with contextlib.suppress(FileNotFoundError):
                known = json.loads(note.read_text(encoding="utf-8"))
                if known["versions"][-1] == latest and known["shown"] == state:
                    return str(known["state"])
        return state

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that would be built.

        Raises:
            StoreError: LanceDB has no such kind.
        """
        del dimensions
        return index_for(index_of_vectors(self._table()), wanted)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a table of its own with the new vectors and everything else, and make its indexes."""
        table, base, state = self._table(), latest_version(self.table_folder), self.state()
        if self._settle(run):
            self._forget(run, "new")
        self._delete_parts(run)
        (self._home(run) / _PUBLISHED).unlink(missing_ok=True)
        part = self._home(run) / "part"
        place = part / self.table_folder.name
        manifest = versions(self.table_folder)[base]
        self._home(run).mkdir(mode=0o700, exist_ok=True)
        take_over_rights(self._home(run), self.table_folder)
        (place / manifest.parent.name).mkdir(parents=True)
        shutil.copy2(manifest, place / manifest.parent.name)
        build_table(part, self._name, table, run, rows)
        if (known := versions(place).get(base)) is not None:  # unless the table's own settings have it cleaned up
            known.unlink()  # it names files that are not here
        give_rights(place, self.table_folder, manifest)
        write_json(part / _BASE, {"version": base, "state": state, "built": latest_version(place)})
        flush_below(part)
        part.rename(self._home(run) / "new")
        flush_below(self._home(run), folders_only=True)

    def built(self, run: Run) -> LanceReader:
        """The new table."""
        if self._is_new_in_use(run):
            return self._reader(self._folder)
        self._base(run)
        return self._reader(self._home(run) / "new")

    def replaced(self, run: Run) -> LanceReader:
        """The old table."""
        if not self._is_new_in_use(run):
            return self._reader(self._folder)
        for name in ("old", "both"):  # the second one after an exchange that was cut off
            if (self._home(run) / name).is_dir():
                return self._reader(self._home(run) / name)
        raise self._no_longer_there()

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the table says of its column."""
        return "new" if self._is_new_in_use(run) else "old"

    def publish(self, run: Run) -> None:
        """Exchange the folders, or if that was done before, go back to the new version."""
        if self._is_new_in_use(run):
            self._settle(run)
            return
        base, home, is_exchanged = self._base(run), self._home(run), self._settle(run)
        latest = latest_version(self.table_folder)
        self._check_state(base)
        if is_exchanged:
            write_json(home / _PUBLISHED, {"version": latest + 1})
            if self._restore(home / "new", base["built"], latest) != latest + 1:
                raise self._changed()
            return
        both = home / "both" / self.table_folder.name
        part = home / "both.part" / self.table_folder.name
        link_missing(home / "new" / self.table_folder.name, part)
        link_missing(self.table_folder, part)
        give_rights(part, self.table_folder, versions(self.table_folder)[base["version"]])
        part.parent.rename(both.parent)
        flush_below(home, folders_only=True)
        self._check_state(base)  # giving names takes a while
        exchange(self.table_folder, both)
        if not self._settle(run):
            self.publish(run)  # which says that it was changed

    def rollback(self, run: Run) -> None:
        """Go back to the old version.

        Raises:
            StoreChangedError: Something was written to the new one since it is in use, which is told once.
        """
        is_exchanged = self._settle(run)
        if not self._is_new_in_use(run):
            self._base(run)
            return
        if not is_exchanged:
            raise self._no_longer_there()
        base, home, latest = self._base(run), self._home(run), latest_version(self.table_folder)
        is_alone = latest == self._published_as(run)
        if is_alone:
            made = self._restore(home / "old", base["version"], latest)
            is_alone = made == latest + 1
            made_by_us, shown = [*self._rolled_back(run), made], state_of(self.table_folder)
            write_json(home / _ROLLED_BACK, {"versions": made_by_us, "shown": shown, "state": base["state"]})
        if not is_alone:
            write_json(home / _PUBLISHED, {"version": latest_version(self.table_folder)})
            raise StoreChangedError(
                f"Something was written to `{self.location}` just before it was to be rolled back.",
                store=str(self.location),
                hint="Its new vectors are still in use. Roll it back once more to do without what was written.",
            )

    def discard(self, run: Run) -> None:
        """Delete the files of the versions that are not in use, and the folder of the run."""
        home = self._home(run)
        if not home.exists():
            return
        if self._settle(run):
            self._forget(run, "old" if self._is_new_in_use(run) else "new")
        self._delete_parts(run)
        shutil.rmtree(home, ignore_errors=True)

    def _forget(self, run: Run, which: str) -> None:
        """Delete what only the versions of one of the two folders consist of: of the one that is not in use."""
        base, home, rolled_back = self._base(run), self._home(run), self._rolled_back(run)
        if which == "old" and references(self.table_folder):
            _logger.warning("Tags or branches of `%s` keep its old vectors.", self.table_folder)
            return
        last = max(rolled_back, default=base["built"] + 1)
        # Manifests first: what they name may then be missing, and not the other way round.
        for number, path in versions(self.table_folder).items() if self._is_same_table(run) else ():
            is_old = number <= base["version"] or number in rolled_back
            is_own = is_old if which == "old" else base["version"] < number < last
            if is_own and number != latest_version(self.table_folder):
                path.unlink(missing_ok=True)
        other = home / ("new" if which == "old" else "old") / self.table_folder.name
        for path in files_below(home / which / self.table_folder.name):
            if path.suffix not in (".json", ".manifest") and not (other / path).exists():
                (self.table_folder / path).unlink(missing_ok=True)

    def _is_same_table(self, run: Run) -> bool:
        """Whether the table still has one of the versions that it had; one that was made anew counts from one again."""
        theirs, home = versions(self.table_folder), self._home(run)
        kept = [versions(home / which / self.table_folder.name) for which in ("new", "old")]
        return any(
            number in theirs and theirs[number].read_bytes() == path.read_bytes()
            for own in kept
            for number, path in own.items()
        )

    def _rolled_back(self, run: Run) -> list[int]:
        """The versions by which rollbacks went back to the old one."""
        with contextlib.suppress(FileNotFoundError):
            note = json.loads((self._home(run) / _ROLLED_BACK).read_text(encoding="utf-8"))
            return [int(each) for each in note["versions"]]
        return []

    def _settle(self, run: Run) -> bool:
        """Finish an exchange that was cut off, or take back what was to be exchanged; whether there was one."""
        home = self._home(run)
        shutil.rmtree(home / "both.part", ignore_errors=True)
        both = home / "both" / self.table_folder.name
        if both.is_dir():
            is_exchanged = not self._has_new(run, both)
            if is_exchanged and latest_version(both) != self._base(run)["version"]:
                exchange(self.table_folder, both)  # somebody's commit came just before the first time
                is_exchanged = False
            if is_exchanged:
                both.parent.rename(home / "old")
                flush_below(home, folders_only=True)
            else:
                shutil.rmtree(both.parent)
        return (home / "old").is_dir()

    def _has_new(self, run: Run, place: Path) -> bool:
        """Whether a folder has the new version, not only one of the same number that another program has made."""
        built, own = self._base(run)["built"], versions(self._home(run) / "new" / self.table_folder.name)
        theirs = versions(place)
        return built in theirs and is_same_file(theirs[built], own[built])

    def _restore(self, kept: Path, version: int, latest: int) -> int:
        """Make an earlier version the latest one, after its files have their names again.

        Args:
            kept: Where its files have other names.
            version: Its number.
            latest: The number of the one that is the latest now.

        Returns:
            Its new number. If that is not the next one, somebody else has made others in the same moment, behind which
            Lance goes back without a word: the last of them is then the latest again.
        """
        link_missing(kept / self.table_folder.name, self.table_folder)
        with told(str(self._location)):
            handle = connected(self._folder).open_table(self._name)
            handle.checkout(version)
            handle.restore()
            made = int(handle.version)
            if made != latest + 1:
                handle.checkout(made - 1)
                handle.restore()
        give_rights(self.table_folder, self.table_folder, versions(kept / self.table_folder.name)[version])
        flush_below(self.table_folder, folders_only=True)
        return made

    def _published_as(self, run: Run) -> int:
        """The version that was put in use last."""
        with contextlib.suppress(FileNotFoundError):
            return int(json.loads((self._home(run) / _PUBLISHED).read_text(encoding="utf-8"))["version"])
        return int(self._base(run)["built"])

    def _check_state(self, base: dict[str, Any]) -> None:
        if self.state() != base["state"]:
            raise self._changed()

    def _changed(self) -> StoreChangedError:
        return StoreChangedError(f"`{self.location}` was changed after it was embedded.", store=str(self.location))

    def _base(self, run: Run) -> dict[str, Any]:
        """What the run's folder says of the versions before and after.

        Raises:
            StoreError: Nothing was built, or not to its end.
        """
        try:
            found: dict[str, Any] = json.loads((self._home(run) / "new" / _BASE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location)) from None
        return found

    def _is_new_in_use(self, run: Run) -> bool:
        return (self._table().field.metadata or {}).get(RUN) == run.id.encode()

    def _reader(self, folder: Path) -> LanceReader:
        return LanceReader(self._location, folder, self._name, self._columns)

    def _home(self, run: Run) -> Path:
        return self._folder / f".{self._name}.mlxi-{run.id}"

    def _delete_parts(self, run: Run) -> None:
        for name in ("part", "both.part", "both", "old", "new"):
            shutil.rmtree(self._home(run) / name, ignore_errors=True)

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))
