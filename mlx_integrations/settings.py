"""Settings: defaults < user file < ./mlxi.toml < .env < MLXI_* environment < arguments.

Nothing is read when this module is imported; `Settings()` reads its sources once and is frozen from then on.
"""

import difflib
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import DotEnvSettingsSource

from mlx_integrations.errors import ConfigurationError

__all__ = [
    "DEFAULT_PROFILES",
    "EmbeddingProfile",
    "EmbeddingSettings",
    "ModelSettings",
    "RuntimeSettings",
    "Settings",
    "user_config_path",
]

ENV_PREFIX = "MLXI_"
PROJECT_FILE = Path("mlxi.toml")
DOTENV_FILE = Path(".env")
DEFAULT_PROFILES: Final = ("projects", "user_profile")
"""Embedding profiles that exist without being configured, with the default model."""
_CONFIG_VARIABLE = "MLXI_CONFIG"
_ANY_NAME = "<name>"


class RuntimeSettings(BaseModel):
    """How models run in this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_budget_bytes: int | None = Field(default=None, gt=0)
    """What loaded models and their caches may take; `None` means what the machine allows."""
    idle_unload_seconds: float | None = Field(default=None, gt=0)
    """A model that nobody used for this long is unloaded; `None` means never."""
    max_batch_size: int = Field(default=32, ge=1)
    """Answers that one model generates at the same time at most."""
    prefill_step_tokens: int = Field(default=512, ge=1)
    """Prompt tokens read between two decoding steps; fewer means steadier streams, more means faster first tokens."""
    prefix_cache_bytes: int | None = Field(default=None, ge=0)
    """What each model keeps of earlier prompts, so that a conversation is not read again; `None` means a tenth of the
    memory budget, 0 keeps nothing."""
    max_queued_requests: int = Field(default=256, ge=0)
    """Requests that may wait; one more is refused with `QueueFullError`."""
    blas_preload: bool = True
    """On a Linux CPU, lend MLX the fast BLAS of the faiss-cpu wheel if that is installed."""
    cpu_float32: bool = True
    """On a CPU, turn weights into float32 when they are loaded: half precision and quantised weights are slow there."""
    embedding_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one batch of texts to embed, padding included; `None` means 2,048 on a CPU, whose caches hold no more,
    and 16,384 on a GPU."""
    default_max_tokens: int = Field(default=8192, ge=1)
    """Longest answer when a request does not say, within what is left of the model's window."""


class ModelSettings(BaseModel):
    """Which models are used when nobody says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = Field(default="demo", min_length=1)
    """The model that is used when none is named."""
    folders: Annotated[tuple[Path, ...], NoDecode] = ()
    """More folders to look for models in; `~` is the home folder."""

    @field_validator("folders", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        """In the environment, folders are separated as in PATH."""
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("folders")
    @classmethod
    def _expand_home(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser() for path in value)


class EmbeddingProfile(BaseModel):
    """How one kind of text is embedded, wherever it is stored or asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, min_length=1)
    """The embedding model; `None` means `embedding.default`."""
    dimensions: int | None = Field(default=None, ge=1)
    """Coordinates to keep of each vector; `None` means all."""
    allow_fallback: bool = False
    """For routers: whether another backend, such as a cloud, may embed when this model cannot. Its vectors are other
    ones, and the texts may leave this machine. `MLXEmbeddings` itself never asks anyone else."""


class EmbeddingSettings(BaseModel):
    """Which embedding models are used, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = Field(default="minilm-l6-v2", min_length=1)
    """The embedding model that is used when none is named."""
    profiles: dict[str, EmbeddingProfile] = Field(default_factory=dict, validate_default=True)
    """By name; `projects` and `user_profile` always exist."""

    @field_validator("profiles")
    @classmethod
    def _add_the_usual_ones(cls, value: dict[str, EmbeddingProfile]) -> dict[str, EmbeddingProfile]:
        return {**{name: EmbeddingProfile() for name in DEFAULT_PROFILES}, **value}

    def profile(self, name: str) -> EmbeddingProfile:
        """A profile with its model filled in.

        Raises:
            ConfigurationError: There is no such profile; the hint names those that exist.
        """
        found = self.profiles.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.profiles, n=1)
            known = ", ".join(f"`{known}`" for known in self.profiles)
            hint = f"Did you mean `{near[0]}`?" if near else f"There are {known}."
            raise ConfigurationError(
                f"There is no embedding profile `{name}`.",
                hint=f"{hint} A new one is a section `[embedding.profiles.{name}]` in `mlxi.toml`.",
            )
        return found if found.model else found.model_copy(update={"model": self.default})


class Settings(BaseSettings):
    """All settings, read once and frozen.

    Every argument is optional and wins over files and environment: `Settings(runtime={"max_batch_size": 8})`.

    Raises:
        ConfigurationError: A key that does not exist (the hint names the nearest one), an impossible value, or a file
            that is not valid TOML.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=DOTENV_FILE,
        env_file_encoding="utf-8",
    )

    runtime: RuntimeSettings = RuntimeSettings()
    models: ModelSettings = ModelSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()

    def __init__(self, **values: Any) -> None:
        _check_keys(values, type(self), where="the arguments")
        _check_variables(os.environ, where="the environment")
        try:
            super().__init__(**values)
        except ValidationError as exc:
            raise ConfigurationError(_first_problem(exc)) from exc

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first."""
        files = [PROJECT_FILE, user_config_path()]
        return (
            init_settings,
            env_settings,
            _DotEnv(settings_cls),
            *(InitSettingsSource(settings_cls, _read_toml(path, settings_cls)) for path in files),
        )


class _DotEnv(DotEnvSettingsSource):
    """A .env file is shared with other programs: only names with our prefix are ours."""

    def __call__(self) -> dict[str, Any]:
        _check_variables(self.env_vars, where=f"`{DOTENV_FILE}`")
        return {key: value for key, value in super().__call__().items() if key in self.settings_cls.model_fields}


def user_config_path(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The user's own configuration file; it need not exist unless MLXI_CONFIG names it."""
    if named := environ.get(_CONFIG_VARIABLE):
        return Path(named).expanduser()
    if platform == "darwin":
        mac = Path("~/Library/Application Support/mlxi/config.toml").expanduser()
        if mac.is_file():
            return mac
    return Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "mlxi" / "config.toml"


def _read_toml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """What a file sets; nothing when there is no such file."""
    if not path.is_file():
        if os.environ.get(_CONFIG_VARIABLE) and path == user_config_path():
            raise ConfigurationError(f"`{_CONFIG_VARIABLE}` names `{path}`, which is not a file.")
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"`{path}` is not valid TOML: {exc}.") from exc
    _check_keys(values, model, where=f"`{path}`")
    return values


def _check_keys(values: Mapping[str, Any], model: type[BaseModel], *, where: str, prefix: str = "") -> None:
    """Refuse a key that no section has, at any depth."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in model.model_fields:
            known = [*(_filled(leaf, name, ".") for leaf, _ in _leaves(Settings)), *Settings.model_fields]
            raise _unknown(name, known, where)
        section = model.model_fields[key].annotation
        entry = _entry_of(section)
        if not isinstance(value, Mapping):
            continue
        if isinstance(section, type) and issubclass(section, BaseModel):
            _check_keys(value, section, where=where, prefix=f"{name}.")
        elif entry is not None:
            for label, inner in value.items():
                if isinstance(inner, Mapping):
                    _check_keys(inner, entry, where=where, prefix=f"{name}.{label}.")


def _check_variables(variables: Mapping[str, Any], *, where: str) -> None:
    """Refuse MLXI_* variables that set nothing: a misspelt one would otherwise be ignored in silence."""
    leaves = [f"{ENV_PREFIX}{leaf.upper().replace('.', '__')}" for leaf, _ in _leaves(Settings)]
    sections = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in (name.upper() for name in variables):
        known = {_CONFIG_VARIABLE, *(_filled(leaf, name, "__") for leaf in leaves)}
        if name.startswith(ENV_PREFIX) and name not in known | sections:
            raise _unknown(name, sorted(known), where)


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as `section.name` with its default; `<name>` stands for names that the user gives."""
    for name, field in model.model_fields.items():
        entry = _entry_of(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        elif entry is not None:
            yield from _leaves(entry, f"{prefix}{name}.{_ANY_NAME}.")
        else:
            yield f"{prefix}{name}", field.default


def _entry_of(annotation: Any) -> type[BaseModel] | None:
    """What a dictionary of sections holds; `None` if it is none."""
    values = get_args(annotation)[1:] if get_origin(annotation) is dict else ()
    return next((value for value in values if isinstance(value, type) and issubclass(value, BaseModel)), None)


def _filled(leaf: str, given: str, separator: str) -> str:
    """A setting's name with `<name>` replaced by what `given` has in that place, if it has anything there."""
    parts = zip_longest(leaf.split(separator), given.split(separator)[: leaf.count(separator) + 1])
    return separator.join(mine if part.lower() == _ANY_NAME and mine else part for part, mine in parts)


def _unknown(key: str, known: list[str], where: str) -> ConfigurationError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        by_last_part = {name.rpartition(".")[2]: name for name in known}
        near = [by_last_part[hit] for hit in difflib.get_close_matches(key.rpartition(".")[2], by_last_part, n=1)]
    hint = f"Did you mean `{near[0]}`?" if near else "Known settings: " + ", ".join(f"`{name}`" for name in known) + "."
    return ConfigurationError(f"There is no setting `{key}` (in {where}).", hint=hint)


def _first_problem(exc: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    problem = exc.errors(include_url=False)[0]
    name = ".".join(str(part) for part in problem["loc"])
    return f"The setting `{name}` cannot be `{problem['input']}`: {problem['msg'].lower()}."
