"""A project remembers which embedding model its stores have: in its own `mlxi.toml`, which `MLXEmbeddings()` reads.

    [embedding]
    default = "minilm-l6-v2"

Another model that somebody has written there is left alone unless that is asked for. What was written is noted in the
journal of the store first, so that a rollback takes it back.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Literal

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.migration.engine.workspace import Workspace
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.settings.edit import read_text, remove_setting, write_setting
from mlx_integrations.settings.sources import PROJECT_FILE

__all__ = ["Choice", "forget_choice", "project_of", "remember_choice"]

_MARKS: Final = (
    "mlxi.toml",
    "mlxi.json",
    ".git",
    "pyproject.toml",
    "setup.py",
    "requirements.txt",
    "environment.yml",
    "Pipfile",
    "package.json",
)
_PROGRAMS: Final = ("*.py", "*.ipynb")
_MOST_ABOVE: Final = 6  # further up, folders are nobody's project
_FACT: Final = "choice"
_MODEL, _DIMENSIONS = "embedding.default", "embedding.dimensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a project says about its embedding model.

    Attributes:
        path: Its configuration file.
        state: `written`: now it is the model of its stores; `there`: it was before; `other`: it says something else,
            and was left so; `forgotten`: what a migration had written is taken back.
        says: The model that it says now, if it says one.
    """

    path: Path
    state: Literal["written", "there", "other", "forgotten"]
    says: str | None


def project_of(location: StoreLocation, within: Path | None = None) -> Path:
    """The folder of the project that a store belongs to: where its programs are started.

    That is the nearest folder above the store with a file that projects have, or else with programs or notebooks in it.
    Where there is none, it is the first folder below `within` on the way to the store; or the one above it.

    Args:
        location: The store.
        within: The folder that was searched, or that of the manifest.
    """
    here = within.resolve() if within is not None else Path.cwd()
    if location.is_remote:
        return here
    start = location.path if location.path.is_dir() else location.path.parent
    ends = {Path.home(), here.parent} if start.is_relative_to(here) else {Path.home()}
    above = list(takewhile(lambda folder: folder not in ends, (start, *start.parents)))[:_MOST_ABOVE]
    for marks in (_MARKS, _PROGRAMS):
        for folder in above:
            if any(next(folder.glob(mark), None) for mark in marks):
                return folder
    if start != here and start.is_relative_to(here):
        below = here / start.relative_to(here).parts[0]
        return below if within is not None and below != location.path else here
    return start.parent if start == location.path else start


def remember_choice(
    location: StoreLocation,
    project: Path,
    model: str,
    dimensions: int | None = None,
    *,
    work: Path | None = None,
    replaces: bool = False,
) -> Choice:
    """Write a store's new model into the configuration of its project.

    Args:
        location: The store, whose migration is published.
        project: The folder of the project.
        model: The model.
        dimensions: Coordinates that were kept; `None` for all.
        work: Where the store's run is kept, if not beside it.
        replaces: Whether another model in that file is replaced.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    path = _file_of(project)
    name = _lasting(model)
    before = _said(path)
    if (before.get("default"), before.get("dimensions")) == (name, dimensions):
        return Choice(path=path, state="there", says=name)
    if before.get("default") not in (None, name) and not replaces:
        return Choice(path=path, state="other", says=str(before["default"]))
    with Workspace.locked(location, work) as place:
        if place.has_run and place.journal.fact(_FACT) is None:
            fact = {"path": str(path), "model": name, "dimensions": dimensions, "before": before}
            with place.journal.transaction():
                place.journal.set_fact(_FACT, fact)
    _write(path, name, dimensions)
    return Choice(path=path, state="written", says=name)


def forget_choice(location: StoreLocation, *, work: Path | None = None) -> Choice | None:
    """Take back what a store's migration has written into the configuration of its project.

    Returns:
        What the file says now; `None` if nothing was written, or if somebody has changed it since.
    """
    with Workspace.seen(location, work) as seen:
        known = None if seen is None else seen.journal.fact(_FACT)
    if known is None:
        return None
    path, before = Path(known["path"]), known["before"]
    changed = None
    if _said(path) == _values(known["model"], known["dimensions"]):
        _write(path, before.get("default"), before.get("dimensions"))
        changed = Choice(path=path, state="forgotten", says=before.get("default"))
    with Workspace.locked(location, work) as place, place.journal.transaction():
        place.journal.set_fact(_FACT, None)
    return changed


def _file_of(project: Path) -> Path:
    """The configuration file of a project: the one that is there, TOML before JSON."""
    path = project / PROJECT_FILE
    other = path.with_suffix(".json")
    return other if other.is_file() and not path.is_file() else path


def _said(path: Path) -> dict[str, Any]:
    """What a file says of the embedding model.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        text = read_text(path)
        values = (json.loads(text) if path.suffix == ".json" else tomllib.loads(text)) if text.strip() else {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"`{path}` cannot be read: {error}.") from error
    section = values.get("embedding") if isinstance(values, Mapping) else None
    known = section if isinstance(section, Mapping) else {}
    return {name: known[name] for name in ("default", "dimensions") if name in known}


def _values(model: str | None, dimensions: int | None) -> dict[str, Any]:
    said = {"default": model, "dimensions": dimensions}
    return {name: value for name, value in said.items() if value is not None}


def _write(path: Path, model: str | None, dimensions: int | None) -> None:
    """Make a file say this, and nothing else of it otherwise. The sizes of one model never stand beside another."""
    said = _said(path)
    if "dimensions" in said and said["dimensions"] != dimensions:
        remove_setting(path, _DIMENSIONS)
    if model is not None and model != said.get("default"):
        write_setting(path, _MODEL, model)
    elif model is None:
        remove_setting(path, _MODEL)
    if dimensions is not None and dimensions != said.get("dimensions"):
        write_setting(path, _DIMENSIONS, str(dimensions))
    if not read_text(path).replace("[embedding]", "").strip():
        path.unlink(missing_ok=True)  # nothing but what was written by us is left


def _lasting(model: str) -> str:
    """A model's name from any folder."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model
