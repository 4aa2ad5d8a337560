"""Names for the shell's completion: found by looking at folder names, so that the Tab key does not wait."""

__all__ = ["complete_any_model", "complete_installed_model", "complete_provider", "complete_setting"]


def complete_installed_model(incomplete: str) -> list[str]:
    """Models on this machine."""
    return _starting_with(incomplete, _installed())


def complete_any_model(incomplete: str) -> list[str]:
    """Models on this machine and models that are known."""
    from mlx_integrations.registry import ModelRegistry

    known = [entry.id for entry in ModelRegistry.embedded().entries if not entry.deprecated]
    return _starting_with(incomplete, [*known, *_installed()])


def complete_provider(incomplete: str) -> list[str]:
    """This machine, configured endpoints, and kinds of endpoints that need no configuration."""
    from mlx_integrations.cloud.presets import PRESETS
    from mlx_integrations.errors import ConfigurationError
    from mlx_integrations.settings import Settings

    try:
        configured = list(Settings().endpoints)
    except ConfigurationError:  # a broken file is told of when a command runs, not while it is typed
        configured = []
    return _starting_with(incomplete, ["mlx", *configured, *(name for name in PRESETS if PRESETS[name].base_url)])


def complete_setting(incomplete: str) -> list[str]:
    """Names of settings."""
    from mlx_integrations.settings import Settings
    from mlx_integrations.settings.checks import leaves

    return _starting_with(incomplete, [name for name, _ in leaves(Settings)])


def _installed() -> list[str]:
    """Names of the models on this machine, those of the registry first, which are shorter."""
    from mlx_integrations.errors import ConfigurationError
    from mlx_integrations.manager.locate import known_models
    from mlx_integrations.registry import ModelRegistry
    from mlx_integrations.settings import Settings

    try:
        settings = Settings()
        found = known_models(settings.models.folders, cache_dir=settings.hub.cache_dir)
    except ConfigurationError:  # a broken file is told of when a command runs, not while it is typed
        found = known_models()
    registry = ModelRegistry.embedded()
    return [*(entry.id for name in found if (entry := registry.get(name)) is not None), *found]


def _starting_with(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
