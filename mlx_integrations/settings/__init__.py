"""Settings: defaults < user file < ./mlxi.toml < .env < HF_* and MLXI_* environment < arguments.

Nothing is read when this room is imported; `Settings()` reads its sources once and is frozen from then on.
"""

from mlx_integrations.settings.model import Settings, find_origins
from mlx_integrations.settings.places import user_config_path
from mlx_integrations.settings.sections import (
    DEFAULT_PROFILES,
    ChatSettings,
    EmbeddingProfile,
    EmbeddingSettings,
    EndpointKind,
    EndpointSettings,
    HubSettings,
    ModelSettings,
    RegistrySettings,
    RouterSettings,
    RuntimeSettings,
)
from mlx_integrations.settings.sources import Origin

__all__ = [
    "DEFAULT_PROFILES",
    "ChatSettings",
    "EmbeddingProfile",
    "EmbeddingSettings",
    "EndpointKind",
    "EndpointSettings",
    "HubSettings",
    "ModelSettings",
    "Origin",
    "RegistrySettings",
    "RouterSettings",
    "RuntimeSettings",
    "Settings",
    "find_origins",
    "user_config_path",
]
