"""CALL a model behind an endpoint, in a cloud or on this machine, that speaks the protocol of OpenAI.

Names are loaded on first use (PEP 562): importing the package imports no client and opens no connection.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.cloud.chat import OpenAIChatBackend
    from mlx_integrations.cloud.client import Connection
    from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
    from mlx_integrations.cloud.health import EndpointHealth, aprobe, probe
    from mlx_integrations.cloud.presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Connection",
    "EndpointHealth",
    "OpenAIChatBackend",
    "OpenAIEmbeddingBackend",
    "Preset",
    "aprobe",
    "probe",
]

_HOMES = {
    "PRESETS": "presets",
    "Connection": "client",
    "EndpointHealth": "health",
    "OpenAIChatBackend": "chat",
    "OpenAIEmbeddingBackend": "embedding",
    "Preset": "presets",
    "aprobe": "health",
    "probe": "health",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(f"mlx_integrations.cloud.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
