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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.lancedb_records import record_in, table_name
from mlx_integrations.errors import SidecarError, StoreChangedError, StoreError
from mlx_integrations.migration.files import is_same_file
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation, as_document
from mlx_integrations.migration.stores.lancedb_building import RUN, build_table
from mlx_integrations.migration.stores.lancedb_folders import (
    exchange,
    files_below,
    flush_below,
    latest_version,
    link_missing,
    state_of,
    versions,
    write_json,
)
from mlx_integrations.migration.stores.lancedb_indexes import index_for, index_of_vectors, indexes_of
from mlx_integrations.migration.stores.lancedb_table import (
    Content,
    LanceTable,
    connected,
    embedding_functions,
    model_of,
    told,
)

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "LanceDBStore"]

KIND: Final = "lancedb"
_SUFFIX: Final = ".lance"
_ROLLED_BACK: Final = "rolled-back.json"
_BASE: Final = "base.json"
_READ_ROWS: Final = 1024
_EXAMPLES: Final = 5
_SPACES: Final = " \t\n\r\x0b\x0c"
_logger = logging.getLogger(__name__)


class _Reader:
    """A table of a database.

    Args:
        location: Of the store.
        folder: The database, which is the store's own or one that a run made.
        name: The table.
        columns: Names of the columns of vectors and texts, where they are not to be guessed.
    """

    def __init__(self, location: StoreLocation, folder: Path, name: str, columns: tuple[str, str]) -> None:
        self._location = location
        self._folder = folder
        self._name = name
        self._columns = columns
        self._opened: tuple[str, LanceTable] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    @property
    def _place(self) -> Path:
        return self._folder / f"{self._name}{_SUFFIX}"

    def describe(self) -> StoreInfo:
        table = self._table()
        try:
            record = record_in(table.field.metadata or {}, table_name(self._name))
        except SidecarError:
            record = None
        count = len(table.row_ids())
        dimensions = (table.dimensions,) if count else ()
        index = index_of_vectors(table)
        functions = [each for each in embedding_functions(table.schema) if table.makes_vectors(each)]
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=dimensions,
            # Without an index it is the distance that LanceDB takes unless a search names another one.
            metric="euclidean" if index is None else index.metric,
            index=index_for(index, ""),
            fingerprint=record,
            likely_model=likely_model(dimensions, fingerprint=record, hints=[model_of(each) for each in functions]),
            bytes=sum((self._place / path).stat().st_size for path in files_below(self._place)),
            findings=tuple(self._findings(table)),
            extra={"vectors": table.columns.vector, "texts": table.columns.text, "version": table.handle.version},
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        for each in self._contents(after):
            yield _row(each)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        for each in self._contents(after):
            document = as_document(_row(each))
            if each.node is None:
                yield document
            else:
                yield replace(document, content=each.own_text or "", metadata=each.node, framework="llama-index")

    def _contents(self, after: str | None) -> Iterator[Content]:
        begun = self.state()
        table = self._table()
        ids = table.row_ids()
        if after is not None:
            ids = ids[ids > int(after)]
        for first in range(0, len(ids), _READ_ROWS):
            try:
                part = list(table.contents(ids[first : first + _READ_ROWS].tolist()))
            except StoreError:
                if self.state() == begun:
                    raise
                return  # its files were cleaned up; whoever reads a store compares its state, and reads it again
            yield from part

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        return self._table().vectors([int(key) for key in keys])

    def state(self) -> str:
        return state_of(self._place)

    def close(self) -> None:
        self._opened = None

    def _table(self) -> LanceTable:
        """The table as it is now."""
        state = state_of(self._place)
        if state == "missing":
            raise StoreError(
                f"`{self._place}` is no table of LanceDB, or was cut off while it was made.", store=str(self._location)
            )
        if self._opened is None or self._opened[0] != state:
            vector, text = self._columns
            self._opened = state, LanceTable(self._folder, self._name, vector=vector, text=text)
        return self._opened[1]

    def _findings(self, table: LanceTable) -> Iterator[Finding]:
        missing = [row.id for row in self._without_text(table)]
        if missing:
            yield Finding(
                code="missing-texts",
                message="There is no text for them, and so nothing to embed.",
                count=len(missing),
                examples=tuple(missing[:_EXAMPLES]),
                is_blocking=True,
            )
        for index in indexes_of(table):
            if not index.can_be_made:
                yield Finding(
                    code="index-lost",
                    message=f"The index `{index.name}` is a `{index.kind}`, which is not made again.",
                    examples=(index.column,),
                )
        for each in embedding_functions(table.schema):
            if table.makes_vectors(each):
                yield Finding(
                    code="embedding-function",
                    message=f"LanceDB makes vectors for it with `{model_of(each)}`, and will not do so any more.",
                )
        if kept := _references(self._place):
            yield Finding(
                code="tags",
                message="Tags or branches keep earlier versions: deleting the old vectors is left to `optimize`.",
                count=len(kept),
                examples=tuple(kept[:_EXAMPLES]),
            )

    def _without_text(self, table: LanceTable) -> Iterator[Row]:
        column = table.columns.text
        found = table.row_ids_where(f"`{column}` IS NULL OR btrim(`{column}`, '{_SPACES}') = ''")
        rows = (_row(each) for each in table.contents(found))
        return (row for row in rows if not (row.text or "").strip())


class LanceDBStore(_Reader):
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
        if path.suffix == _SUFFIX and not name:
            path, name = path.parent, path.stem
        table, vector, text = (*(name or "").split(":"), "", "")[:3]
        tables = sorted(each.stem for each in path.glob(f"*{_SUFFIX}") if each.is_dir())
        if not table and len(tables) == 1:
            table = tables[0]
        if table not in tables:
            listed = ", ".join(tables)
            raise StoreError(
                f"`{folder}` has no table `{table}`." if table else f"`{folder}` has {len(tables)} tables of LanceDB.",
                store=str(folder),
                hint=f"Say which: {listed}." if tables else "Name the folder that `lancedb.connect` was given.",
            )
        location = StoreLocation(kind=KIND, address=str(path), name=table if not (vector or text) else name)
        super().__init__(location, path, table, (vector, text))
        self._table()

    def state(self) -> str:
        """A short text that changes with each commit, but for the one by which a rollback goes back to an old one."""
        state, latest = state_of(self._place), latest_version(self._place)
        for note in self._folder.glob(f".{self._name}.mlxi-*/{_ROLLED_BACK}"):
            with contextlib.suppress(FileNotFoundError):
                known = json.loads(note.read_text(encoding="utf-8"))
                if known["versions"][-1] == latest:
                    return str(known["state"])
        return state

    def index_for(self, dimensions: int, asked: str) -> str:
        """The kind of index that would be built.

        Raises:
            StoreError: LanceDB has no such kind.
        """
        del dimensions
        return index_for(index_of_vectors(self._table()), asked)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a table of its own with the new vectors and everything else, and make its indexes."""
        table, base, state = self._table(), latest_version(self._place), self.state()
        if self._settle(run):
            self._forget(run, "new")
        self._delete_parts(run)
        part = self._home(run) / "part"
        place = part / self._place.name
        manifest = versions(self._place)[base]
        (place / manifest.parent.name).mkdir(parents=True)
        shutil.copy2(manifest, place / manifest.parent.name)
        build_table(part, self._name, table, run, rows)
        versions(place)[base].unlink()  # it names files that are not here
        write_json(part / _BASE, {"version": base, "state": state, "built": latest_version(place)})
        flush_below(part)
        part.rename(self._home(run) / "new")
        flush_below(self._home(run), folders_only=True)

    def built(self, run: Run) -> _Reader:
        """The new table."""
        if self._is_new_in_use(run):
            return self._reader(self._folder)
        self._base(run)
        return self._reader(self._home(run) / "new")

    def replaced(self, run: Run) -> _Reader:
        """The old table."""
        if not self._is_new_in_use(run):
            return self._reader(self._folder)
        self._settle(run)
        if not (self._home(run) / "old").is_dir():
            raise self._no_longer_there()
        return self._reader(self._home(run) / "old")

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the table says of its column."""
        return "new" if self._is_new_in_use(run) else "old"

    def publish(self, run: Run) -> None:
        """Exchange the folders, or if that was done before, go back to the new version."""
        if self._is_new_in_use(run):
            self._settle(run)
            return
        base, home, is_exchanged = self._base(run), self._home(run), self._settle(run)
        if self.state() != base["state"]:
            raise StoreChangedError(f"`{self.location}` was changed after it was embedded.", store=str(self.location))
        if is_exchanged:
            self._restore(home / "new", base["built"])
            return
        both = home / "both" / self._place.name
        part = home / "both.part" / self._place.name
        link_missing(home / "new" / self._place.name, part)
        link_missing(self._place, part)
        part.parent.rename(both.parent)
        flush_below(home, folders_only=True)
        exchange(self._place, both)
        if not self._settle(run):
            self.publish(run)  # which says that it was changed

    def rollback(self, run: Run) -> None:
        """Go back to the old version."""
        is_exchanged = self._settle(run)
        if not self._is_new_in_use(run):
            self._base(run)
            return
        if not is_exchanged:
            raise self._no_longer_there()
        base, home = self._base(run), self._home(run)
        self._restore(home / "old", base["version"])
        made = [*self._rolled_back(run), latest_version(self._place)]
        write_json(home / _ROLLED_BACK, {"versions": made, "state": base["state"]})

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
        if which == "old" and _references(self._place):
            _logger.warning("Tags or branches of `%s` keep its old vectors.", self._place)
            return
        last = max(rolled_back, default=base["built"] + 1)
        # Manifests first: what they name may then be missing, and not the other way round.
        for number, path in versions(self._place).items():
            is_old = number <= base["version"] or number in rolled_back
            is_own = is_old if which == "old" else base["version"] < number < last
            if is_own and number != latest_version(self._place):
                path.unlink(missing_ok=True)
        other = home / ("new" if which == "old" else "old") / self._place.name
        for path in files_below(home / which / self._place.name):
            if path.suffix not in (".json", ".manifest") and not (other / path).exists():
                (self._place / path).unlink(missing_ok=True)

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
        both = home / "both" / self._place.name
        if both.is_dir():
            is_exchanged = not self._has_new(run, both)
            if is_exchanged and latest_version(both) != self._base(run)["version"]:
                exchange(self._place, both)  # somebody's commit came just before the first time
                is_exchanged = False
            if is_exchanged:
                both.parent.rename(home / "old")
                flush_below(home, folders_only=True)
            else:
                shutil.rmtree(both.parent)
        return (home / "old").is_dir()

    def _has_new(self, run: Run, place: Path) -> bool:
        """Whether a folder has the new version, not only one of the same number that another program has made."""
        built, own = self._base(run)["built"], versions(self._home(run) / "new" / self._place.name)
        theirs = versions(place)
        return built in theirs and is_same_file(theirs[built], own[built])

    def _restore(self, kept: Path, version: int) -> None:
        """Make an earlier version the latest one, after its files have their names again."""
        link_missing(kept / self._place.name, self._place)
        with told(str(self._location)):
            handle = connected(self._folder).open_table(self._name)
            handle.checkout(version)
            handle.restore()
        flush_below(self._place, folders_only=True)

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

    def _reader(self, folder: Path) -> _Reader:
        return _Reader(self._location, folder, self._name, self._columns)

    def _home(self, run: Run) -> Path:
        return self._folder / f".{self._name}.mlxi-{run.id}"

    def _delete_parts(self, run: Run) -> None:
        for name in ("part", "both.part", "both", "old", "new"):
            shutil.rmtree(self._home(run) / name, ignore_errors=True)

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))


def _references(place: Path) -> list[str]:
    """Names of the tags and branches of a table."""
    return sorted(path.stem for path in (place / "_refs").rglob("*.json"))


def _row(content: Content) -> Row:
    return Row(key=str(content.number), id=content.id, text=content.text, metadata=content.values)
