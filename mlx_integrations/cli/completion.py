"""Names for the shell's completion: found by looking at folder names, so that the Tab key does not wait."""

from collections.abc import Iterator

__all__ = ["complete_any_model", "complete_installed_model", "complete_setting"]


def complete_installed_model(incomplete: str) -> list[str]:
    """Models on this machine."""
    return _starting_with(incomplete, _installed())


def complete_any_model(incomplete: str) -> list[str]:
    """Models on this machine and models that are known."""
    from mlx_integrations.registry import ModelRegistry

    known = [entry.id for entry in ModelRegistry.embedded().entries if not entry.deprecated]
    return _starting_with(incomplete, [*_installed(), *known])


def complete_setting(incomplete: str) -> list[str]:
    """Names of settings."""
    from mlx_integrations.settings import Settings
    from mlx_integrations.settings.checks import leaves

    return _starting_with(incomplete, [name for name, _ in leaves(Settings)])


def _installed() -> Iterator[str]:
    from mlx_integrations.errors import ConfigurationError
    from mlx_integrations.manager.locate import known_models
    from mlx_integrations.settings import Settings

    try:
        folders = Settings().models.folders
    except ConfigurationError:  # a broken file is told of when a command runs, not while it is typed
        folders = ()
    yield from known_models(folders)


def _starting_with(incomplete: str, names: Iterator[str] | list[str]) -> list[str]:
    """Names by their beginning, or by the beginning of their last part: `qwen` finds `mlx-community/Qwen3-4B-4bit`."""
    wanted = incomplete.lower()
    return [
        name
        for name in dict.fromkeys(names)
        if name.lower().startswith(wanted) or name.rpartition("/")[2].lower().startswith(wanted)
    ]
