"""`Settings`: all sections, read from their sources in order of strength."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.checks import ENV_PREFIX, allowed_values, check_keys, field_of, nearest_value
from mlx_integrations.settings.sections import (
    ChatSettings,
    EmbeddingSettings,
    EndpointSettings,
    HubSettings,
    ModelSettings,
    RegistrySettings,
    RouterSettings,
    RuntimeSettings,
)
from mlx_integrations.settings.sources import (
    SECRETS,
    Arguments,
    DotEnv,
    File,
    HubVariables,
    Origin,
    Source,
    Variables,
    flat_names,
    read_files,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Settings", "describe_problem", "find_origins"]


class Settings(BaseSettings):
    """All settings, read once and frozen.

    Every argument is optional and wins over files and environment: `Settings(runtime={"max_batch_size": 8})`.

    Raises:
        ConfigurationError: A key that does not exist (the hint names the nearest one), an impossible value, or a file
            that cannot be read. The message names the file and the line.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        env_file_encoding="utf-8",
    )

    offline: bool = False
    """Whether the network is left alone: no download, no look for updates, no telemetry. HF_HUB_OFFLINE is honoured."""
    force: bool = False
    """Whether a model is downloaded although it seems too large for this machine's memory."""
    runtime: RuntimeSettings = RuntimeSettings()
    models: ModelSettings = ModelSettings()
    hub: HubSettings = HubSettings()
    registry: RegistrySettings = RegistrySettings()
    chat: ChatSettings = ChatSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    router: RouterSettings = RouterSettings()
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        check_keys(values, type(self), where="the arguments")
        try:
            super().__init__(**values)
        except ValidationError as exc:
            raise ConfigurationError(describe_problem(exc.errors(include_url=False)[0], values)) from exc
        except SettingsError as exc:
            raise ConfigurationError(
                f"A variable cannot be read: {exc}.", hint="A whole section in one variable has to be JSON."
            ) from exc

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
        return (init_settings, *_outer_sources(settings_cls))


def find_origins(**values: Any) -> dict[str, Origin]:
    """Where each setting that is not at its default comes from, by its dotted name.

    Args:
        **values: The arguments that `Settings` was made with.
    """
    found: dict[str, Origin] = {}
    sources: tuple[Source, ...] = (Arguments(Settings, values), *_outer_sources(Settings))
    for source in sources:
        for key in flat_names(source()):
            found.setdefault(key, source.origin(key))
    return found


def _outer_sources(
    settings_cls: type[BaseSettings],
) -> tuple[Variables | HubVariables | DotEnv | File, ...]:
    """All sources but the arguments, strongest first."""
    return (
        Variables(settings_cls),
        HubVariables(settings_cls, os.environ),
        DotEnv(settings_cls),
        *read_files(settings_cls),
    )


def describe_problem(problem: "ErrorDetails", values: Mapping[str, Any]) -> str:
    """A value that cannot be, in one line: what, where, and what would be right.

    Args:
        problem: What pydantic says about it.
        values: The arguments that `Settings` was made with.
    """
    path = [str(part) for part in problem["loc"]]
    key = next((name for end in range(len(path), 0, -1) if field_of(Settings, name := ".".join(path[:end]))), "")
    field = field_of(Settings, key)
    name = key or ".".join(path)
    shown = "*****" if _may_be_secret(key, problem["input"]) else problem["input"]
    origin = find_origins(**values).get(name)
    where = f" (in `{origin.place}`{f', line {origin.line}' if origin.line else ''})" if origin and origin.place else ""
    rule = f"it is {allowed_values(field)}" if field else problem["msg"].lower()
    if problem["type"] == "value_error":  # said by a section itself
        rule = str(problem["ctx"]["error"])
    elif field and (near := nearest_value(field, problem["input"])):
        rule += f"; did you mean `{near}`"
    return f"The setting `{name}` cannot be `{shown}`{where}: {rule}."


def _may_be_secret(key: str, value: Any) -> bool:
    """Whether a value is a secret, or an endpoint's setting into which somebody may have written one."""
    is_endpoint = key.startswith("endpoints.")
    return key in SECRETS or (is_endpoint and (key.endswith(".api_key_env") or bool({*"@?"} & {*str(value)})))
