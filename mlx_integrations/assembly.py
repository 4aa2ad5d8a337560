"""The one place where concrete parts are built from settings and meet for the first time."""

import threading
from pathlib import Path

from mlx_integrations.manager.locate import DEMO_MODEL, locate
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import Settings

__all__ = ["chat_backend", "get_runtime"]

_lock = threading.RLock()
_runtime: Runtime | None = None
_settings: Settings | None = None
_backends: dict[Path, MLXChatBackend] = {}


def get_runtime() -> Runtime:
    """The runtime that everything in this process shares; made from `Settings()` at the first call."""
    global _runtime
    with _lock:
        if _runtime is None or _runtime.is_closed:
            _runtime = Runtime(_read_settings().runtime)
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
    path = locate(model, _read_settings().models.folders).resolve()
    name = DEMO_MODEL if model == DEMO_MODEL else str(model)
    shared = get_runtime()
    if runtime is not None and runtime is not shared:
        return MLXChatBackend(path, runtime=runtime, model_id=name)
    with _lock:
        backend = _backends.get(path)
        if backend is None or backend.runtime is not shared:
            backend = _backends[path] = MLXChatBackend(path, runtime=shared, model_id=name)
        return backend


def _read_settings() -> Settings:
    global _settings
    with _lock:
        if _settings is None:
            _settings = Settings()
        return _settings
