"""The one place where concrete parts are built from settings and meet for the first time."""

import os
import threading
from pathlib import Path
from typing import Final

from mlx_integrations.manager.locate import locate
from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import Settings

__all__ = ["chat_backend", "embedding_backend", "get_runtime", "get_settings", "use_settings"]

_OFFLINE_VARIABLES: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_lock = threading.RLock()
_runtime: Runtime | None = None
_settings: Settings | None = None


def get_settings() -> Settings:
    """The settings that everything in this process shares; read at the first call.

    Raises:
        ConfigurationError: A file or variable sets something that does not exist, or to an impossible value.
    """
    with _lock:
        return _settings if _settings is not None else use_settings(Settings())


def use_settings(settings: Settings) -> Settings:
    """Let everything in this process share these settings. Models and runtimes that were made before keep theirs.

    Args:
        settings: The settings; `offline` also switches the network off for huggingface_hub and transformers.

    Returns:
        The same settings.
    """
    global _settings
    with _lock:
        _settings = settings
        if settings.offline:
            # Both read these when they are imported, which has not happened yet, or are asked again at each call.
            os.environ.update(_OFFLINE_VARIABLES)
        return settings


def get_runtime() -> Runtime:
    """The runtime that everything in this process shares; made from `Settings()` at the first call."""
    global _runtime
    with _lock:
        if _runtime is None or _runtime.is_closed:
            _runtime = Runtime(get_settings().runtime)
        return _runtime


def chat_backend(model: str | Path, runtime: Runtime | None = None) -> ChatBackend:
    """A chat model by name. Reads configuration, no weights: those are loaded at the first request.

    Args:
        model: `demo`, a folder, a name below a configured folder, or a Hub repository id in the local cache.
        runtime: Where it runs; the shared one otherwise.

    Raises:
        ModelNotFoundError: It is not on this machine.
        ModelLoadError: What is there is not a model.
    """
    path = locate(model, get_settings().models.folders)
    return (runtime or get_runtime()).chat(path, model_id=str(model))


def embedding_backend(model: str | Path, runtime: Runtime | None = None) -> EmbeddingBackend:
    """An embedding model by name. Reads configuration, no weights: those are loaded at the first request.

    Args:
        model: A folder, a name below a configured folder, or a Hub repository id in the local cache.
        runtime: Where it runs; the shared one otherwise.

    Raises:
        ModelNotFoundError: It is not on this machine.
        ModelLoadError: What is there is not an embedding model.
    """
    path = locate(model, get_settings().models.folders)
    return (runtime or get_runtime()).embedding(path, model_id=str(model))
