"""Choose who answers, local or cloud, and go on to the next one when that fails, without showing two answers.

Names are loaded on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.router.attempts import Router
    from mlx_integrations.router.backend import RouterBackend
    from mlx_integrations.router.policy import Deadlines, Policy
    from mlx_integrations.router.report import RouteReport, report_of

__all__ = ["Deadlines", "Policy", "RouteReport", "Router", "RouterBackend", "report_of"]

_HOMES = {
    "Deadlines": "mlx_integrations.router.policy",
    "Policy": "mlx_integrations.router.policy",
    "RouteReport": "mlx_integrations.router.report",
    "Router": "mlx_integrations.router.attempts",
    "RouterBackend": "mlx_integrations.router.backend",
    "report_of": "mlx_integrations.router.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
