"""Which models exist: the catalogue in the package, a remote file merged over it, and the user's own entries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.registry.catalogue import ModelRegistry
    from mlx_integrations.registry.entry import ModelEntry
    from mlx_integrations.registry.news import Notice, notices
    from mlx_integrations.registry.overlay import load_registry
    from mlx_integrations.registry.selection import Recommendation, recommend

__all__ = ["ModelEntry", "ModelRegistry", "Notice", "Recommendation", "load_registry", "notices", "recommend"]

_HOMES = {
    "ModelEntry": "mlx_integrations.registry.entry",
    "ModelRegistry": "mlx_integrations.registry.catalogue",
    "Notice": "mlx_integrations.registry.news",
    "Recommendation": "mlx_integrations.registry.selection",
    "load_registry": "mlx_integrations.registry.overlay",
    "notices": "mlx_integrations.registry.news",
    "recommend": "mlx_integrations.registry.selection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
