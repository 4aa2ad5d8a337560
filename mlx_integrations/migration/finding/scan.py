"""Finds every vector store under a folder, and says what each of them is and how it is doing. Writes nothing."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import MLXIntegrationsError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.engine.journal import Phase
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.finding.glimpse import glimpse
from mlx_integrations.migration.finding.places import Listing, Place, places_in
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.records import Finding, Metric, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.opening import open_store

__all__ = ["UNREADABLE", "Found", "look_at", "places_at", "places_under", "scan"]

UNREADABLE: Final = "folder"
"""The kind of what could not be looked into."""

_MOST_DEPTH: Final = 12
_READ_BYTES: Final = 64_000_000  # about a second
_SKIPPED: Final = frozenset(
    ".git .hg .svn .Trash __pycache__ .mypy_cache .pytest_cache .ruff_cache .tox .nox node_modules "
    "site-packages".split()
)
_OURS: Final = ".mlxi-"  # in the name of whatever a migration makes
_ENVIRONMENT: Final = "pyvenv.cfg"
_TABLE: Final = ".lance"
_WORDS: Final = {
    "mixed-dimensions": "of another size",
    "missing-texts": "without text",
    "misaligned": "half-written, misaligned",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A store, or something that looks like one.

    Attributes:
        location: Where it is; of the kind `UNREADABLE` for a folder that could not be looked into.
        fault: Why it cannot be read; empty if it can.
        hint: What to do about that.
        count: Rows that have a vector; `None` if they were not counted.
        about: About how many there are, if they were not counted.
        dimensions: Of its vectors, each kind that occurs.
        metric: How it compares them.
        index: The kind of its index, in the store's own words.
        fingerprint: The record of its model, if it has one.
        likely_model: A guess, if it has none.
        bytes: What it takes on the disk.
        findings: What is wrong with it.
        uncounted: What was not looked for, because the store is large.
        phase: Of the migration that was begun; `None` if none was.
        embedded: How many of its rows have a new vector.
    """

    location: StoreLocation
    fault: str = ""
    hint: str = ""
    count: int | None = None
    about: int = 0
    dimensions: tuple[int, ...] = ()
    metric: Metric = "unknown"
    index: str = ""
    fingerprint: EmbeddingFingerprint | None = None
    likely_model: str | None = None
    bytes: int | None = None
    findings: tuple[Finding, ...] = ()
    uncounted: tuple[str, ...] = ()
    phase: Phase | None = None
    embedded: int = 0

    @property
    def is_store(self) -> bool:
        """Whether it is a store that can be read."""
        return not self.fault

    @property
    def health(self) -> tuple[str, ...]:
        """What is wrong, and what is under way, in a few words each; empty if nothing is."""
        if self.fault:
            return ("not readable" if self.location.kind != UNREADABLE else "not looked into",)
        told = [f"{_WORDS.get(each.code, each.code.replace('-', ' '))}: {each.count:,}" for each in self.findings]
        if self.phase is not None:
            is_counted = self.phase == "embedding" and self.count
            share = f" {self.embedded / self.count:.0%}" if is_counted and self.count else ""
            told.append(f"migration: {self.phase}{share}")
        return tuple(told)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return {**values.pop("location"), **values, "health": list(self.health)}


def scan(
    folder: str | Path,
    *,
    depth: int = _MOST_DEPTH,
    whole: bool = False,
    work: Path | None = None,
    on_found: Callable[[Found], None] = lambda found: None,
) -> list[Found]:
    """Every store under a folder. What cannot be read is listed with the reason.

    Links to folders are followed, each folder once, and none that leads back above `folder`. Folders of version
    control, of installed packages and of migrations are left out.

    Args:
        folder: Where to begin; a store itself is found, too.
        depth: How many folders deep to look.
        whole: Read stores of any size to their end. Otherwise large ones show what their headers say, and `uncounted`
            names the rest.
        work: Where migrations are kept, if not beside their stores.
        on_found: Told about each one as it is found.

    Raises:
        StoreError: There is nothing at that place.
    """
    root = Path(folder).expanduser()
    seen: set[StoreLocation] = set()
    found: list[Found] = []
    for place in places_under(root, depth):
        one = place if isinstance(place, Found) else look_at(place, whole=whole, work=work)
        if one.location not in seen:
            seen.add(one.location)
            found.append(one)
            on_found(one)
    return found


def places_at(address: Path) -> list[Place]:
    """The stores at one place, without looking further down."""
    if address.is_file():
        return [Place(kind="langchain-in-memory", path=address, read_bytes=address.stat().st_size)]
    listing = _listed(address)
    return list(places_in(listing))


def look_at(place: Place, *, whole: bool = False, work: Path | None = None) -> Found:
    """What a place is.

    Args:
        place: Where a store seems to be.
        whole: As for `scan`.
        work: As for `scan`.
    """
    location = StoreLocation(kind=place.kind, address=os.path.realpath(place.path), name=place.name)
    if place.fault:
        return Found(location=location, fault=place.fault)
    try:
        seen = None if whole or place.read_bytes <= _READ_BYTES else _glimpsed(location, place)
        return _with_run(seen or _described(place), work)
    except (MLXIntegrationsError, OSError) as error:
        message = error.message if isinstance(error, MLXIntegrationsError) else str(error)
        return Found(location=location, fault=message, hint=getattr(error, "hint", ""))
    except Exception as error:  # noqa: BLE001 -- whatever damaged bytes do to a library, the other stores are listed
        return Found(location=location, fault=f"It cannot be read: {type(error).__name__}: {error}")


def _described(place: Place) -> Found:
    store = open_store(place.path, place.name)
    try:
        info: StoreInfo = store.describe()
    finally:
        store.close()
    return Found(
        location=info.location,
        count=info.count,
        dimensions=info.dimensions,
        metric=info.metric,
        index=info.index,
        fingerprint=info.fingerprint,
        likely_model=info.likely_model,
        bytes=info.bytes,
        findings=info.findings,
    )


def _glimpsed(location: StoreLocation, place: Place) -> Found | None:
    seen = glimpse(place)
    if seen is None:
        return None
    return Found(
        location=location,
        count=seen.count,
        about=seen.about,
        dimensions=seen.dimensions,
        metric=seen.metric,
        index=seen.index,
        fingerprint=seen.fingerprint,
        likely_model=likely_model(seen.dimensions, fingerprint=seen.fingerprint, hints=seen.hints),
        bytes=_bytes_of(place.path),
        uncounted=seen.uncounted,
    )


def _with_run(found: Found, work: Path | None) -> Found:
    """The same, with how far a migration of it is."""
    try:
        with Workspace.seen(found.location, work) as place:
            if place is None or not place.has_run:
                return found
            return replace(found, phase=place.journal.phase, embedded=place.journal.count())
    except (MLXIntegrationsError, OSError, sqlite3.Error) as error:
        broken = Finding(code="unreadable-migration", message=f"Its migration cannot be read: {error}.", count=1)
        return replace(found, findings=(*found.findings, broken))


def places_under(root: Path, depth: int = _MOST_DEPTH) -> Iterator[Place | Found]:
    """Places under a folder in the order of their paths, and what could not be looked into. Opens no store.

    Raises:
        StoreError: There is nothing at that place.
    """
    if not root.exists():
        raise StoreError(f"There is nothing at `{root}`.", store=str(root))
    if root.is_file():
        yield from places_at(root)
        return
    above = {str(parent) for parent in root.resolve().parents}
    visited: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    too_deep: list[Path] = []
    while waiting:
        folder, level = waiting.pop()
        try:
            facts = folder.stat()
            if (facts.st_dev, facts.st_ino) in visited or os.path.realpath(folder) in above:
                continue
            visited.add((facts.st_dev, facts.st_ino))
            listing = _listed(folder)
        except OSError as error:
            yield _not_seen(folder, f"It cannot be looked into: {error.strerror}.")
            continue
        if _ENVIRONMENT in listing.files and level:
            continue
        yield from places_in(listing)
        below = [folder / name for name in sorted(listing.folders, reverse=True) if _is_worth_it(name)]
        if level < depth:
            waiting += [(each, level + 1) for each in below]
        else:
            too_deep += below
    if too_deep:
        reason = f"{len(too_deep)} folders are deeper than {depth} and were not looked into, such as this one."
        yield _not_seen(too_deep[0], reason)


def _not_seen(folder: Path, reason: str) -> Found:
    return Found(location=StoreLocation(kind=UNREADABLE, address=os.path.realpath(folder)), fault=reason)


def _is_worth_it(name: str) -> bool:
    return name not in _SKIPPED and not name.endswith(_TABLE) and _OURS not in name


def _listed(folder: Path) -> Listing:
    files: dict[str, int] = {}
    folders: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # gone meanwhile, or a link to nowhere
                if entry.is_dir():
                    folders.add(entry.name)
                elif entry.is_file():
                    files[entry.name] = entry.stat().st_size
    return Listing(path=folder, files=files, folders=folders)


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.iterdir() if each.is_file())
