"""WHERE models are on this machine, and how they get there.

Names are loaded on first use (PEP 562): importing the package reads nothing and imports no client of the Hub.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.manager.model_manager import ModelManager
    from mlx_integrations.manager.records import (
        FileProblem,
        InstalledModel,
        PartialFile,
        PlannedFile,
        PulledModel,
        PullPlan,
        PullProgress,
        Removal,
        Update,
        Verification,
    )

__all__ = [
    "FileProblem",
    "InstalledModel",
    "ModelManager",
    "PartialFile",
    "PlannedFile",
    "PullPlan",
    "PullProgress",
    "PulledModel",
    "Removal",
    "Update",
    "Verification",
]

_HOMES = {"ModelManager": "mlx_integrations.manager.model_manager"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    home = import_module(_HOMES.get(name, "mlx_integrations.manager.records"))
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
