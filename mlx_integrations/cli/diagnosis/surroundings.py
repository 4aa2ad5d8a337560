"""What the checks ask about: the interpreter, the packages, MLX, the disk, the Hub and the settings."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_integrations.cli.memory import guess_folder
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.trial import Trial, TrialError
from mlx_integrations.errors import ConfigurationError, RegistryError
from mlx_integrations.manager.plan import free_disk_bytes
from mlx_integrations.registry import ModelRegistry
from mlx_integrations.runtime.hardware import read_sysctl
from mlx_integrations.settings import Origin, Settings, find_origins
from mlx_integrations.types import Chip, Machine

if TYPE_CHECKING:
    from mlx_integrations.manager import InstalledModel, ModelManager
    from mlx_integrations.memory_estimate import Fit

__all__ = ["Distribution", "Surroundings", "look_around", "machine_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An installed Python package.

    Attributes:
        version: Its version.
        requires: What it needs, as its metadata says.
    """

    version: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything that checks ask; tests hand in their own.

    Attributes:
        system: `sys.platform`.
        architecture: What the interpreter was built for, such as `arm64`.
        is_translated: Whether it runs under Rosetta.
        macos_version: Such as `15.1`; empty elsewhere.
        python_version: Such as `3.12.4`.
        executable: The interpreter.
        environ: Environment variables.
        distribution: Looks up an installed package.
        settings: The settings; their defaults if they cannot be read.
        problems: Why they cannot be read.
        origins: Where each setting comes from.
        config_files: The configuration files that are there.
        trial: Where MLX is tried.
        registry: The models that are known.
        refreshed_at: When the remote list was last confirmed, in seconds since 1970, and why the last attempt failed.
        manager: The models on this machine.
        fit: Whether a model fits a machine; `None` if that cannot be told.
        free_bytes: Free space where a folder is, or would be.
        may: Whether a path may be read, written or entered; `os.access`.
        exists: Whether there is something at a path.
        now: Seconds since 1970.
    """

    system: str
    architecture: str
    is_translated: bool
    macos_version: str
    python_version: str
    executable: str
    environ: Mapping[str, str]
    distribution: Callable[[str], Distribution | None]
    settings: Settings
    problems: tuple[ConfigurationError, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    config_files: Sequence[Path] = ()
    trial: Trial
    registry: Callable[[], ModelRegistry]
    refreshed_at: Callable[[], tuple[float | None, str]]
    manager: "Callable[[], ModelManager]"
    fit: "Callable[[InstalledModel, Machine], Fit | None]"
    free_bytes: Callable[[Path], int] = free_disk_bytes
    may: Callable[[Path, int], bool] = os.access
    exists: Callable[[Path], bool] = Path.exists
    now: float

    def machine(self) -> Machine | None:
        """The machine as MLX sees it; `None` if MLX could not say."""
        try:
            return machine_from(self.trial.step("machine")["machine"])
        except TrialError:
            return None


def look_around(
    invocation: Invocation, settings: Settings, problems: Sequence[ConfigurationError], trial: Trial
) -> Surroundings:
    """The real surroundings.

    Args:
        invocation: What the command is made of.
        settings: The settings, or their defaults.
        problems: Why they are only the defaults.
        trial: Where MLX is tried.
    """
    known = replace(invocation.parts, settings=lambda **_: settings)
    is_mac = sys.platform == "darwin"
    return Surroundings(
        system=sys.platform,
        architecture=platform.machine(),
        is_translated=is_mac and read_sysctl(["sysctl.proc_translated"]).get("sysctl.proc_translated") == "1",
        macos_version=platform.mac_ver()[0] if is_mac else "",
        python_version=platform.python_version(),
        executable=sys.executable,
        environ=os.environ,
        distribution=find_distribution,
        settings=settings,
        problems=tuple(problems),
        origins={} if problems else find_origins(**invocation.overrides),
        config_files=_config_files(),
        trial=trial,
        registry=known.model_registry,
        refreshed_at=lambda: _refreshed_at(settings),
        manager=lambda: _manager(settings, known.model_manager),
        fit=lambda model, machine: _fit(Invocation(parts=replace(known, machine=lambda: machine)), model),
        now=time.time(),
    )


def find_distribution(name: str) -> Distribution | None:
    """An installed package; `None` if it is not."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return Distribution(version=found.version, requires=tuple(found.requires or ()))


def machine_from(record: Mapping[str, Any]) -> Machine:
    """A machine out of the plain values that the trial passes on."""
    chip = record.get("chip")
    return Machine(**{**record, "chip": Chip(**chip) if chip else None})


def _config_files() -> tuple[Path, ...]:
    from mlx_integrations.settings.sources import configuration_files

    try:
        return configuration_files()
    except ConfigurationError:  # told of among the problems
        return ()


def _refreshed_at(settings: Settings) -> tuple[float | None, str]:
    from mlx_integrations.registry.overlay import refresh_state
    from mlx_integrations.settings.places import cache_folder

    if settings.registry.url is None:
        return None, ""
    state = refresh_state(cache_folder(), settings.registry.url)
    return state.fetched_at, state.failure


def _manager(settings: Settings, make: "Callable[[], ModelManager]") -> "ModelManager":
    """The manager; without the user's own list of models if that is broken, which the registry's check tells."""
    try:
        return make()
    except RegistryError:
        from mlx_integrations import assembly
        from mlx_integrations.manager import ModelManager
        from mlx_integrations.runtime.architectures import describe_support

        return ModelManager(
            cache_dir=settings.hub.cache_dir,
            folders=assembly.model_folders(),
            endpoint=settings.hub.endpoint,
            token=settings.hub.token.get_secret_value() if settings.hub.token else None,
            offline=settings.offline,
            describe_support=describe_support,
        )


def _fit(invocation: Invocation, model: "InstalledModel") -> "Fit | None":
    guess = guess_folder(invocation, model.path, kind=model.kind)
    return guess[1] if guess else None
