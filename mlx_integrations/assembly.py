"""The one place where concrete parts are built from settings and meet for the first time."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_integrations.manager.locate import locate
from mlx_integrations.offline import switch_off_network
from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
from mlx_integrations.registry import ModelRegistry, load_registry
from mlx_integrations.runtime.architectures import describe_support
from mlx_integrations.runtime.device import ask_mlx
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import Settings, user_config_path
from mlx_integrations.settings.places import cache_folder, models_folder
from mlx_integrations.types import Machine

if TYPE_CHECKING:  # so that a chat does not wait for what only downloads, conversions and endpoints need
    from mlx_integrations.manager import ModelManager
    from mlx_integrations.runtime.convert.conversion import ConvertedModel, Dtype, OnProgress

__all__ = [
    "chat_backend",
    "describe_machine",
    "embedding_backend",
    "get_runtime",
    "get_settings",
    "import_model",
    "model_folders",
    "model_manager",
    "model_path",
    "model_registry",
    "use_settings",
]

_lock = threading.RLock()
_runtime: Runtime | None = None
_settings: Settings | None = None
_registry: ModelRegistry | None = None


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
        settings: The settings; `offline` also switches the network off for other libraries.

    Returns:
        The same settings.
    """
    global _registry, _settings
    with _lock:
        _settings, _registry = settings, None
        if settings.offline:
            switch_off_network()
        return settings


def get_runtime() -> Runtime:
    """The runtime that everything in this process shares; made from `Settings()` at the first call."""
    global _runtime
    with _lock:
        if _runtime is None or _runtime.is_closed:
            _runtime = Runtime(get_settings().runtime)
        return _runtime


def model_registry(*, refresh: bool = False) -> ModelRegistry:
    """The models that are known.

    Args:
        refresh: Ask the server of `registry.url` for newer facts, if there is one and the last time is long enough ago.
            Otherwise nothing is asked, and what the last time brought counts.

    Raises:
        RegistryError: The user's own list cannot be read.
    """
    global _registry
    settings = get_settings()
    with _lock:
        if _registry is None or refresh:
            _registry = load_registry(
                cache_dir=cache_folder(),
                url=settings.registry.url,
                user_file=settings.registry.user_file or _user_models(),
                offline=settings.offline,
                refresh=refresh,
                refresh_hours=settings.registry.refresh_hours,
            )
        return _registry


def model_manager() -> "ModelManager":
    """The models on this machine, and the way to more of them. Asks no network when it is made."""
    from mlx_integrations.manager import ModelManager

    settings = get_settings()
    token = settings.hub.token
    return ModelManager(
        cache_dir=settings.hub.cache_dir,
        folders=model_folders(),
        registry=model_registry(),
        endpoint=settings.hub.endpoint,
        token=token.get_secret_value() if token else None,
        offline=settings.offline,
        describe_support=describe_support,
    )


def import_model(
    source: str | Path,
    *,
    name: str | None = None,
    target: Path | None = None,
    quantize_bits: int | None = None,
    group_size: int = 64,
    dtype: "Dtype | None" = None,
    on_progress: "OnProgress | None" = None,
) -> "ConvertedModel":
    """Convert a model from another format, so that it can be run here by its name. Uses no network.

    Args:
        source: A folder with safetensors or PyTorch weights, one of its checkpoints, or a GGUF file. Which it is, is
            told by content.
        name: What the model is called from now on; the source's name otherwise.
        target: A folder to make instead of one by that name in our own; it is not found by name then.
        quantize_bits: 4 or 8 to quantise a chat model's weights; `None` leaves them as they are.
        group_size: How many quantised weights share a scale: 32, 64 or 128.
        dtype: The type of what is not quantised; as stored otherwise.
        on_progress: Told about every piece.

    Raises:
        ModelNotFoundError: There is nothing at `source`.
        UnsupportedFormatError: It is of a kind that is not converted; the hint says what to take instead.
        UnsupportedArchitectureError: There is no code for the model.
        ConversionError: It is damaged, or something is at the target already.
        InsufficientDiskError: The result would not fit on the disk.
    """
    from mlx_integrations.manager.formats import detect_format
    from mlx_integrations.manager.imported import imported_model_path, imported_name
    from mlx_integrations.runtime.convert.conversion import convert_model

    path = Path(source).expanduser()
    detect_format(path, registry=model_registry()).check_convertible()
    place = target or imported_model_path(name or imported_name(path))
    get_runtime().prepare()
    return convert_model(
        path, place, quantize_bits=quantize_bits, group_size=group_size, dtype=dtype, on_progress=on_progress
    )


def model_folders() -> tuple[Path, ...]:
    """Where models are looked for besides the Hugging Face cache: the configured folders, then our own."""
    return (*get_settings().models.folders, models_folder())


def describe_machine() -> Machine:
    """What this machine has, as MLX sees it; does not import mlx-lm."""
    return ask_mlx(blas_preload=get_settings().runtime.blas_preload)


def _user_models() -> Path | None:
    """The user's own list of models beside the configuration file, if there is one."""
    places = [user_config_path().with_name(name) for name in ("models.toml", "models.json")]
    return next((place for place in places if place.is_file()), None)


def model_path(model: str | Path) -> Path:
    """Where a model is on this machine.

    Args:
        model: As for `chat_backend`.

    Raises:
        ModelNotFoundError: It is not on this machine.
    """
    return locate(model, model_folders(), cache_dir=get_settings().hub.cache_dir, registry=model_registry())


def chat_backend(model: str | Path, runtime: Runtime | None = None) -> ChatBackend:
    """A chat model by name. Reads configuration, no weights: those are loaded at the first request.

    Args:
        model: `demo`, a folder, a name of the registry, a name below a configured folder, or a Hub repository id whose
            files are in the local cache.
        runtime: Where it runs; the shared one otherwise.

    Raises:
        ModelNotFoundError: It is not on this machine.
        ModelLoadError: What is there is not a model.
    """
    return (runtime or get_runtime()).chat(model_path(model), model_id=str(model))


def embedding_backend(model: str | Path, runtime: Runtime | None = None) -> EmbeddingBackend:
    """An embedding model by name. Reads configuration, no weights: those are loaded at the first request.

    Args:
        model: A folder, a name of the registry, a name below a configured folder, or a Hub repository id whose files
            are in the local cache.
        runtime: Where it runs; the shared one otherwise.

    Raises:
        ModelNotFoundError: It is not on this machine.
        ModelLoadError: What is there is not an embedding model.
    """
    return (runtime or get_runtime()).embedding(model_path(model), model_id=str(model))
