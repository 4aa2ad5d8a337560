"""The places that settings are read from. Each knows, for every key that it sets, where exactly that stands."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource
from pydantic_settings.sources import DotEnvSettingsSource

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.checks import check_keys, check_variables, variable_name
from mlx_integrations.settings.lines import json_lines, toml_lines, variable_lines
from mlx_integrations.settings.places import CONFIG_VARIABLE, user_config_path

__all__ = [
    "DOTENV_FILE",
    "PROJECT_FILE",
    "SECRETS",
    "SECRET_HINT",
    "Arguments",
    "DotEnv",
    "File",
    "HubVariables",
    "Origin",
    "Source",
    "Variables",
    "configuration_files",
    "read_files",
]

PROJECT_FILE: Final = Path("mlxi.toml")
DOTENV_FILE: Final = Path(".env")
SECRETS: Final = ("hub.token",)
"""Settings that no configuration file may hold, and that are never shown."""
SECRET_HINT: Final = "Configuration files are shared: run `hf auth login`, or set HF_TOKEN in the environment."
_TRUE: Final = ("1", "ON", "YES", "TRUE")
"""What huggingface_hub takes for true in its variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from.

    Attributes:
        kind: The sort of place, strongest first in this list.
        place: The variable's name or the file's path; empty for arguments and defaults.
        line: The line in the file, from 1.
    """

    kind: Literal["argument", "variable", "dotenv", "file", "default"]
    place: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """In words, short enough for a table."""
        return f"{self.place}:{self.line}" if self.line else self.place or self.kind


class Source(Protocol):
    """One place that settings are read from."""

    def __call__(self) -> dict[str, Any]:
        """What it sets, as nested sections."""
        ...

    def origin(self, key: str) -> Origin:
        """Where in it a key stands."""
        ...


class Arguments(InitSettingsSource):
    """What was handed to `Settings(...)`."""

    def origin(self, key: str) -> Origin:
        """Arguments have no place of their own."""
        return Origin(kind="argument")


class Variables(EnvSettingsSource):
    """MLXI_* variables of the process."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        check_variables(tuple(os.environ), settings_cls, where="the environment")
        super().__init__(settings_cls)

    def origin(self, key: str) -> Origin:
        """The variable of the key, or that of its section."""
        name = variable_name(key)
        while name.lower() not in self.env_vars and "__" in name:
            name = name.rpartition("__")[0]
        return Origin(kind="variable", place=name)


class HubVariables(InitSettingsSource):
    """The variables of huggingface_hub, which other programs on this machine obey as well."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._names: dict[str, str] = {}
        hub = {}
        offline = next((n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(n)), None)
        if is_offline := offline is not None and environ[offline].upper() in _TRUE:
            self._names["offline"] = offline or ""
        for key, name in (("cache_dir", "HF_HUB_CACHE"), ("endpoint", "HF_ENDPOINT"), ("token", "HF_TOKEN")):
            if value := environ.get(name):
                hub[key] = value
                self._names[f"hub.{key}"] = name
        if "cache_dir" not in hub and (home := environ.get("HF_HOME")):
            hub["cache_dir"] = str(Path(home) / "hub")
            self._names["hub.cache_dir"] = "HF_HOME"
        super().__init__(settings_cls, {**({"offline": True} if is_offline else {}), **({"hub": hub} if hub else {})})

    def origin(self, key: str) -> Origin:
        """The variable that says so."""
        return Origin(kind="variable", place=self._names[key])


class DotEnv(DotEnvSettingsSource):
    """A .env file is shared with other programs: only names with our prefix are ours."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, env_file=DOTENV_FILE)
        check_variables(tuple(self.env_vars), settings_cls, where=f"`{DOTENV_FILE}`")

    def __call__(self) -> dict[str, Any]:
        """What it sets, without the names of other programs."""
        return {key: value for key, value in super().__call__().items() if key in self.settings_cls.model_fields}

    def origin(self, key: str) -> Origin:
        """The line of the variable of the key, or of its section."""
        lines = variable_lines(DOTENV_FILE.read_text(encoding="utf-8"))
        name = variable_name(key)
        while name not in lines and "__" in name:
            name = name.rpartition("__")[0]
        return Origin(kind="dotenv", place=str(DOTENV_FILE), line=lines.get(name))


class File(InitSettingsSource):
    """A configuration file, TOML or JSON by its suffix.

    Raises:
        ConfigurationError: It is not valid, sets something that does not exist, or holds a secret.
    """

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        self.path = path
        self._text = ""
        values = self._read()
        check_keys(values, settings_cls, where=f"`{path}`", lines=self._lines if values else None)
        for key in SECRETS:
            if key in flat_names(values):
                raise ConfigurationError(f"`{key}` cannot be set in `{self.origin(key)}`.", hint=SECRET_HINT)
        super().__init__(settings_cls, values)

    def origin(self, key: str) -> Origin:
        """The line of the key, or of the section that holds it."""
        name = key
        while name not in self._lines and "." in name:
            name = name.rpartition(".")[0]
        return Origin(kind="file", place=str(self.path), line=self._lines.get(name))

    def _read(self) -> dict[str, Any]:
        name = "JSON" if self.path.suffix == ".json" else "TOML"
        try:
            self._text = self.path.read_text(encoding="utf-8")
            values = json.loads(self._text) if name == "JSON" else tomllib.loads(self._text)
        except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"`{self.path}` is not valid {name}: {exc}.") from exc
        except OSError as exc:
            raise ConfigurationError(f"`{self.path}` cannot be read: {exc.strerror}.") from exc
        if not isinstance(values, dict):
            raise ConfigurationError(f"`{self.path}` is not a JSON object.")
        return values

    @cached_property
    def _lines(self) -> dict[str, int]:
        return json_lines(self._text) if self.path.suffix == ".json" else toml_lines(self._text)


def read_files(settings_cls: type[BaseSettings]) -> tuple[File, ...]:
    """The configuration files that are there, strongest first.

    Raises:
        ConfigurationError: One of them is wrong, or MLXI_CONFIG names one that is not there.
    """
    return tuple(File(settings_cls, path) for path in configuration_files())


def configuration_files() -> tuple[Path, ...]:
    """Where configuration files are: the project's, then the user's; of a pair the TOML file first.

    Raises:
        ConfigurationError: MLXI_CONFIG names one that is not there.
    """
    user, is_named = user_config_path(), bool(os.environ.get(CONFIG_VARIABLE))
    if is_named and not user.is_file():
        raise ConfigurationError(f"`{CONFIG_VARIABLE}` names `{user}`, which is not a file.")
    paths = [PROJECT_FILE, PROJECT_FILE.with_suffix(".json"), user]
    if not is_named:
        paths.append(user.with_suffix(".json"))
    return tuple(path for path in paths if path.is_file())


def flat_names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all that is set, innermost ones only."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
