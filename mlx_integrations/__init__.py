"""LangChain and LlamaIndex models that run in this process on MLX.

Names are loaded on first use (PEP 562): importing the package imports no framework and no MLX, and starts nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations import errors
    from mlx_integrations.assembly import get_runtime
    from mlx_integrations.runtime.engine import Runtime
    from mlx_integrations.settings import Settings

__all__ = ["Runtime", "Settings", "__version__", "errors", "get_runtime"]

__version__ = "0.1.0"

_HOMES = {
    "Runtime": "mlx_integrations.runtime.engine",
    "Settings": "mlx_integrations.settings",
    "get_runtime": "mlx_integrations.assembly",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("mlx_integrations.errors")
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
