"""Everything that is wrong with what is set, where `Settings` names the first thing and stops."""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.checks import check_keys, check_variables
from mlx_integrations.settings.lines import json_lines, toml_lines, variable_lines
from mlx_integrations.settings.model import Settings, describe_problem
from mlx_integrations.settings.sources import DOTENV_FILE, File, configuration_files

__all__ = ["find_problems"]

_Path = tuple[str, ...]


def find_problems(**values: Any) -> list[ConfigurationError]:
    """What has to be put right before `Settings(**values)` can be made; empty if it can.

    Names that no setting has come first. Only without them are values looked at, because only then they can be read.
    """
    names = [*_variables(), *_dotenv(), *_files()]
    if names:
        return list({error.message: error for error in names}.values())
    try:
        Settings(**values)
    except ConfigurationError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            return [error]
        return [ConfigurationError(describe_problem(one, values)) for one in cause.errors(include_url=False)]
    return []


def _variables() -> Iterator[ConfigurationError]:
    for name in sorted(os.environ):
        yield from _refusals([partial(check_variables, (name,), Settings, where="the environment")])


def _dotenv() -> Iterator[ConfigurationError]:
    try:
        lines = variable_lines(DOTENV_FILE.read_text(encoding="utf-8")) if DOTENV_FILE.is_file() else {}
    except (OSError, UnicodeDecodeError) as exc:
        yield ConfigurationError(f"`{DOTENV_FILE}` cannot be read: {exc}.")
        return
    for name, line in lines.items():
        yield from _refusals([partial(check_variables, (name,), Settings, where=f"`{DOTENV_FILE}`, line {line}")])


def _files() -> Iterator[ConfigurationError]:
    try:
        paths = configuration_files()
    except ConfigurationError as error:
        yield error
        return
    for path in paths:
        for refusal in _refusals([partial(File, Settings, path)]):
            yield from _unknown_keys(path) or [refusal]


def _unknown_keys(path: Path) -> list[ConfigurationError]:
    """Each key of a file that no section has; none if the file cannot be read, or if that is not what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        is_json = path.suffix == ".json"
        values = json.loads(text) if is_json else tomllib.loads(text)
        lines = json_lines(text) if is_json else toml_lines(text)
    except (OSError, ValueError):
        return []
    where = f"`{path}`"
    attempts = [
        partial(check_keys, _nested(name, value), Settings, where=where, lines=lines) for name, value in _leaves(values)
    ]
    return list(_refusals(attempts))


def _refusals(attempts: Iterable[Callable[[], object]]) -> Iterator[ConfigurationError]:
    for attempt in attempts:
        try:
            attempt()
        except ConfigurationError as error:
            yield error


def _leaves(values: Mapping[str, Any], path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """What a file sets, innermost names only; a table without any counts as one."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _nested(path: _Path, value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)
