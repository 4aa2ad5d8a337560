"""Which of many stores become what: from a folder that is searched, or from a manifest that lists them.

model = "minilm-l6-v2"          # for all stores that do not say otherwise

[[stores]]
address = "notes/chroma"        # relative to the manifest; without `name`, every collection in it

[[stores]]
address = "wiki/index"
model = "bge-small-en-v1.5"
index = "HNSW32"
"""

import difflib
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.migration.executors.protocol import LongTexts
from mlx_integrations.migration.finding.glimpse import glimpse
from mlx_integrations.migration.finding.places import Place
from mlx_integrations.migration.finding.scan import Found, places_at, places_under
from mlx_integrations.settings.lines import toml_lines

__all__ = ["Job", "Wanted", "jobs_of"]

_STORES: Final = "stores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What stores are to become, where they do not say so themselves.

    Attributes:
        model: The model.
        dimensions: Coordinates to keep; `None` for all.
        long_texts: What happens to texts that are longer than the model reads.
        index: The kind of index, in the store's own words; empty for the one that each has.
        work: The folder of all runs; `None` for one beside each store.
    """

    model: str
    dimensions: int | None = None
    long_texts: LongTexts = "truncate"
    index: str = ""
    work: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One of many stores.

    Attributes:
        address: A folder, a file, or a URL.
        name: Which of several in one place.
        wanted: What it is to become.
        place: What its files look like; `None` for a server, or where nothing was recognised.
        folder: The folder that was searched, or that of the manifest.
    """

    address: str
    name: str | None
    wanted: Wanted
    place: Place | None = None
    folder: Path | None = field(default=None, compare=False)

    @property
    def shown_address(self) -> str:
        """The address without passwords and keys."""
        return _without_secrets(self.address) if "://" in self.address else self.address

    @property
    def label(self) -> str:
        """What to call it: its address below the folder that all are in, and its name."""
        address = self.shown_address
        if self.folder is not None and "://" not in address and Path(address).is_relative_to(self.folder):
            address = str(Path(address).relative_to(self.folder))
        return address if self.name is None else f"{address}: {self.name}"

    @property
    def about_rows(self) -> int:
        """About how many rows it has, as far as its headers tell; 0 where they do not."""
        try:
            seen = None if self.place is None or self.place.fault else glimpse(self.place)
        except Exception:  # noqa: BLE001 -- whatever is wrong with it, opening it will say
            return 0
        return 0 if seen is None else seen.count if seen.count is not None else seen.about

    def command(self, verb: str = "run") -> str:
        """The command that does this for this store alone, and goes on with what was begun."""
        words = ["mlxi", "migrate", verb, self.shown_address]
        options: dict[str, Any] = {"--name": self.name, "--work-dir": self.wanted.work}
        if verb == "run":
            long_texts = None if self.wanted.long_texts == "truncate" else self.wanted.long_texts
            options |= {"--model": self.wanted.model, "--dimensions": self.wanted.dimensions}
            options |= {"--long-texts": long_texts, "--index": self.wanted.index or None}
        for option, value in options.items():
            words += [] if value is None else [option, str(value)]
        return shlex.join(words)


def jobs_of(
    source: str | Path, wanted: Wanted, given: Mapping[str, Any] | None = None
) -> tuple[list[Job], list[Found]]:
    """The stores of a folder, or of a manifest.

    Args:
        source: A folder, which is searched, or a file whose name ends with `.toml`.
        wanted: What they are to become.
        given: What of it a person has asked for expressly: that is stronger than what a manifest says for all stores,
            and weaker than what it says for one.

    Returns:
        The stores, and folders that could not be looked into.

    Raises:
        ConfigurationError: The manifest is wrong; the message names the line.
        StoreError: There is nothing at that place.
    """
    path = Path(source).expanduser()
    if path.suffix == ".toml" and path.is_file():
        return list(_listed(path, wanted, given or {})), []
    jobs: list[Job] = []
    unseen: list[Found] = []
    for place in places_under(path):
        if isinstance(place, Found):
            unseen.append(place)
        else:
            jobs.append(_job(place, wanted, path))
    return _once(jobs), unseen


def _job(place: Place, wanted: Wanted, folder: Path) -> Job:
    path = place.path.resolve()
    return Job(address=str(path), name=place.name, wanted=wanted, place=place, folder=folder.resolve())


def _without_secrets(url: str) -> str:
    """A URL with no more of it than scheme, host and path; of databases the user, too. Elsewhere that is a key."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, _, host = place.rpartition("@")
    name = user.partition(":")[0] if user and scheme.startswith("postgres") else ""
    return f"{scheme}://{name}{'@' if name else ''}{host}{slash}{path.partition('?')[0]}"


def _once(jobs: list[Job]) -> list[Job]:
    """Each store once, by whatever names it was found."""
    return list({(job.address, job.name): job for job in reversed(jobs)}.values())[::-1]


class _Defaults(BaseModel):
    """What a manifest says for all of its stores."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str | None = Field(default=None, min_length=1)
    dimensions: int | None = Field(default=None, ge=1)
    long_texts: Literal["truncate", "mean", "error"] | None = None
    index: str | None = Field(default=None, min_length=1)
    work_dir: str | None = Field(default=None, min_length=1)


class _Entry(_Defaults):
    """What it says for one of them."""

    address: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)


_Part = TypeVar("_Part", bound=_Defaults)
_RULES: Final = {"dimensions": "a whole number of at least 1", "long_texts": "`truncate`, `mean` or `error`"}


def _listed(path: Path, wanted: Wanted, given: Mapping[str, Any]) -> Iterator[Job]:
    values, lines = _read(path)
    entries = values.pop(_STORES, None)
    defaults = _checked(_Defaults, values, path, lines, "")
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise ConfigurationError(
            f"`{path}` lists no stores.", hint="Each store is a section `[[stores]]` with an `address`."
        )
    folder = path.parent
    for_all = replace(_with(wanted, defaults, folder), **given)
    seen: dict[tuple[str, str | None], int] = {}
    for number, values_of_one in enumerate(entries):
        entry = _checked(_Entry, values_of_one, path, lines, f"{_STORES}.{number}.")
        line = lines.get(f"{_STORES}.{number}", 0)
        for job in _jobs_of_entry(entry, _with(for_all, entry, folder), folder):
            if (first := seen.setdefault((job.address, job.name), line)) != line:
                message = f"`{job.label}` is listed twice in `{path}`, in the sections at lines {first} and {line}."
                raise ConfigurationError(message, hint="Take one of them out.")
            yield job


def _jobs_of_entry(entry: _Entry, wanted: Wanted, folder: Path) -> Iterator[Job]:
    if "://" in entry.address:
        yield Job(address=entry.address, name=entry.name, wanted=wanted, folder=folder)
        return
    path = (folder / Path(entry.address).expanduser()).resolve()
    places = [place for place in _places_or_none(path) if entry.name in (None, place.name)]
    for place in places:
        yield _job(place, wanted, folder)
    if not places:  # opening it says what is wrong
        yield Job(address=str(path), name=entry.name, wanted=wanted, folder=folder.resolve())


def _places_or_none(path: Path) -> list[Place]:
    try:
        return places_at(path)
    except OSError:
        return []


def _with(wanted: Wanted, said: _Defaults, folder: Path) -> Wanted:
    """What is wanted, with what a part of a manifest says over it."""
    changes = said.model_dump(include={"model", "dimensions", "long_texts", "index"}, exclude_none=True)
    if said.work_dir is not None:
        changes["work"] = (folder / Path(said.work_dir).expanduser()).resolve()
    if "model" in changes and "dimensions" not in changes:
        changes["dimensions"] = None  # those of another model mean nothing for this one
    return replace(wanted, **changes)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), toml_lines(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"`{path}` is not valid TOML: {error}.") from error
    except OSError as error:
        raise ConfigurationError(f"`{path}` cannot be read: {error.strerror}.") from error


def _checked(kind: type[_Part], values: Mapping[str, Any], path: Path, lines: Mapping[str, int], prefix: str) -> _Part:
    """A part of a manifest.

    Raises:
        ConfigurationError: It says something that there is not, or something impossible.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        # A name that does not exist comes first: it explains why another one is missing.
        problem = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    name = str(problem["loc"][0])
    line = lines.get(f"{prefix}{name}") or lines.get(prefix.rstrip(".")) or lines.get(name)
    where = f"`{path}`, line {line}" if line else f"`{path}`"
    if problem["type"] == "missing":
        raise ConfigurationError(f"A store has no `{name}` (in {where}).", hint="Name its folder, file or URL.")
    if name not in kind.model_fields:
        near = difflib.get_close_matches(name, kind.model_fields, n=1, cutoff=0.5)
        known = ", ".join(f"`{each}`" for each in kind.model_fields)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are {known}."
        raise ConfigurationError(f"A manifest has no `{name}` (in {where}).", hint=hint)
    rule = _RULES.get(name, "text that is not empty")
    raise ConfigurationError(f"`{name}` cannot be `{problem['input']}` (in {where}): it is {rule}.")
