"""The one place where concrete parts are built from settings and meet for the first time."""

import difflib
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mlx_integrations.errors import ConfigurationError, LocalBackendError, ModelNotFoundError, OfflineError
from mlx_integrations.manager.locate import locate
from mlx_integrations.offline import switch_off_network
from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
from mlx_integrations.registry import ModelRegistry, load_registry
from mlx_integrations.runtime.architectures import describe_support
from mlx_integrations.runtime.device import ask_mlx
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import EndpointSettings, Settings, user_config_path
from mlx_integrations.settings.places import cache_folder, models_folder
from mlx_integrations.types import Machine

if TYPE_CHECKING:  # so that a chat does not wait for what only downloads, conversions and endpoints need
    from mlx_integrations.cloud.chat import OpenAIChatBackend
    from mlx_integrations.cloud.client import Connection
    from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
    from mlx_integrations.manager import ModelManager
    from mlx_integrations.router.candidates import Candidate, CandidateState
    from mlx_integrations.router.location import Locator
    from mlx_integrations.runtime.convert.conversion import ConvertedModel, Dtype, OnProgress

__all__ = [
    "chat_backend",
    "describe_machine",
    "embedding_backend",
    "endpoint_chat_backend",
    "endpoint_connection",
    "endpoint_embedding_backend",
    "get_runtime",
    "get_settings",
    "import_model",
    "model_folders",
    "model_manager",
    "model_path",
    "model_registry",
    "named_chat_backend",
    "route_candidates",
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


def named_chat_backend(model: str | None = None, provider: str | None = None) -> ChatBackend:
    """A chat model on this machine or behind an endpoint, by the names that people type.

    Args:
        model: As for `chat_backend`; with a provider, the model's name there. `NAME/model` is a model behind the
            endpoint `NAME` if `[endpoints.NAME]` is configured. Left out: the default of settings or endpoint.
        provider: `mlx` for this process, the name of a configured endpoint, or a kind of endpoint such as `ollama`.

    Raises:
        ConfigurationError: There is no such provider, or it lacks its key.
        OfflineError: The network is switched off, and the endpoint is not on this machine.
        ModelNotFoundError: The model is not on this machine.
    """
    if provider not in (None, "mlx"):
        return endpoint_chat_backend(str(provider), model)
    name = model or get_settings().models.default
    endpoint, slash, rest = name.partition("/")
    if provider is None and slash and rest and endpoint in get_settings().endpoints:
        return endpoint_chat_backend(endpoint, rest)
    return chat_backend(name)


def endpoint_chat_backend(endpoint: str, model: str | None = None) -> "OpenAIChatBackend":
    """A chat model behind an endpoint. Asks nobody when it is made.

    Args:
        endpoint: The name of a configured endpoint, or a kind of endpoint such as `ollama`.
        model: The model's name there; the endpoint's own default otherwise.

    Raises:
        ConfigurationError: There is no such endpoint, it lacks its key or its address, or no model is named.
        OfflineError: The network is switched off, and the endpoint is not on this machine.
    """
    from mlx_integrations.cloud.chat import OpenAIChatBackend, capabilities_of
    from mlx_integrations.cloud.presets import find_preset

    settings = _endpoint(endpoint)
    name = _model_of(endpoint, model or settings.model, "model")
    known = {*find_preset(settings.kind).options, *settings.options}
    return OpenAIChatBackend(
        model=name,
        model_id=f"{endpoint}/{name}",
        kind=settings.kind,
        options=settings.options,
        capabilities=capabilities_of(known, context_window=settings.context_tokens, vision=settings.vision),
        **_way_to(endpoint, settings),
    )


def endpoint_embedding_backend(endpoint: str, model: str | None = None) -> "OpenAIEmbeddingBackend":
    """An embedding model behind an endpoint. Asks nobody when it is made.

    Args:
        endpoint: The name of a configured endpoint, or a kind of endpoint such as `ollama`.
        model: The model's name there; the endpoint's own default otherwise.

    Raises:
        ConfigurationError: There is no such endpoint, it lacks its key or its address, or no model is named.
        OfflineError: The network is switched off, and the endpoint is not on this machine.
    """
    from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend

    settings = _endpoint(endpoint)
    name = _model_of(endpoint, model or settings.embedding_model, "embedding_model")
    own = model is None or model == settings.embedding_model
    return OpenAIEmbeddingBackend(
        model=name,
        kind=settings.kind,
        dimensions=settings.embedding_dimensions if own else None,
        **_way_to(endpoint, settings),
    )


def endpoint_connection(endpoint: str) -> "Connection":
    """The way to an endpoint, to ask how it is. Asks nobody when it is made.

    Raises:
        ConfigurationError: There is no such endpoint, or it lacks its key or its address.
        OfflineError: The network is switched off, and the endpoint is not on this machine.
    """
    from mlx_integrations.cloud.client import Connection

    way = _way_to(endpoint, _endpoint(endpoint))
    return Connection(name=way.pop("endpoint"), **way)


def route_candidates() -> dict[str, tuple["Candidate", "CandidateState"]]:
    """Who could answer a chat, by the settings: the default model, each endpoint with a model, and whoever else
    `router.order` and `router.tasks` name. Asks nobody; looks up where endpoints are, and what is on the disk.

    A name of the settings that is neither a model on this machine, nor one that is known, nor an endpoint is left out:
    `policy_from` says so.
    """
    from mlx_integrations.router.configured import locator_from

    settings = get_settings()
    tasks = settings.router.tasks
    wanted = [name for task in type(tasks).model_fields for name in getattr(tasks, task)]
    endpoints = [name for name, endpoint in settings.endpoints.items() if endpoint.model]
    locator = locator_from(settings)
    found: dict[str, tuple[Candidate, CandidateState]] = {}
    for name in dict.fromkeys([settings.models.default, *endpoints, *settings.router.order, *wanted]):
        endpoint, _, model = name.partition("/")
        if endpoint in settings.endpoints:
            found[name] = _remote_candidate(name, settings.endpoints[endpoint], model, locator)
        elif (local := _local_candidate(name)) is not None:
            found[name] = local
    return found


def _local_candidate(name: str) -> "tuple[Candidate, CandidateState] | None":
    """A model of this process, as a router knows it; `None` if nobody knows it."""
    from mlx_integrations.router.candidates import Candidate, CandidateState
    from mlx_integrations.router.facts import TASKS

    entry = model_registry().get(name)
    capabilities, state = None, CandidateState(is_present=False, is_loaded=False)
    try:
        path = model_path(name)
        get_runtime().prepare()
        state = CandidateState(is_loaded=get_runtime().is_loaded(path), fits_memory=get_runtime().fits(path))
        capabilities = chat_backend(name).capabilities
    except ModelNotFoundError:
        if entry is None and name != get_settings().models.default:
            return None
    except LocalBackendError as error:
        state = CandidateState(blocked_seconds=math.inf, blocked_because=error.message.removesuffix("."))
    candidate = Candidate(
        name=name,
        location="in-process",
        capabilities=capabilities,
        tasks=frozenset(entry.best_for if entry is not None else ()) & frozenset(TASKS),
        languages=frozenset(entry.languages) if entry is not None and entry.languages else None,
        input_price=0.0,
        output_price=0.0,
    )
    return candidate, state


def _remote_candidate(
    name: str, settings: EndpointSettings, model: str, locator: "Locator"
) -> "tuple[Candidate, CandidateState]":
    """A model behind an endpoint, as a router knows it; without its key or address it is left alone."""
    from mlx_integrations.cloud.chat import capabilities_of
    from mlx_integrations.cloud.client import is_loopback
    from mlx_integrations.cloud.presets import find_preset
    from mlx_integrations.router.candidates import Candidate, CandidateState

    preset = find_preset(settings.kind)
    address = settings.base_url or preset.base_url
    asked = model or settings.model
    location = locator.locate(address, model=asked, uses_proxies=not is_loopback(address))
    candidate = Candidate(
        name=name,
        location="remote" if settings.forwards else location,
        capabilities=capabilities_of(
            {*preset.options, *settings.options}, context_window=settings.context_tokens, vision=settings.vision
        ),
        input_price=settings.input_price,
        output_price=settings.output_price,
        group=settings.group,
        max_concurrent=settings.max_concurrent,
        base_url=address,
        model=asked,
    )
    try:
        _way_to(name.partition("/")[0], settings)
        _model_of(name, asked, "model")
    except ConfigurationError as error:
        return candidate, CandidateState(blocked_seconds=math.inf, blocked_because=error.message.removesuffix("."))
    except OfflineError:
        pass  # the policy says so
    return candidate, CandidateState()


def _endpoint(name: str) -> EndpointSettings:
    """A configured endpoint, or one of a kind that needs no configuration."""
    from mlx_integrations.cloud.presets import PRESETS

    endpoints = get_settings().endpoints
    if name in endpoints:
        return endpoints[name]
    if name in PRESETS and PRESETS[name].base_url:
        return EndpointSettings(kind=name)  # type: ignore[arg-type]
    known = [*endpoints, *(kind for kind, preset in PRESETS.items() if preset.base_url)]
    near = difflib.get_close_matches(name, ["mlx", *known], n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are `mlx`, {', '.join(f'`{one}`' for one in known)}."
    raise ConfigurationError(
        f"There is no endpoint `{name}`.", hint=f"{hint} A new one is a section `[endpoints.{name}]` in `mlxi.toml`."
    )


def _model_of(endpoint: str, model: str | None, setting: str) -> str:
    if not model:
        raise ConfigurationError(
            f"No model of `{endpoint}` is named.",
            hint=f"Name one, or set `{setting}` in `[endpoints.{endpoint}]`.",
        )
    return model


def _way_to(name: str, settings: EndpointSettings) -> dict[str, Any]:
    """Address, key and patience for an endpoint, as the backends take them."""
    from mlx_integrations.cloud.client import check_address, is_loopback
    from mlx_integrations.cloud.presets import find_preset

    preset = find_preset(settings.kind)
    if not (settings.base_url or preset.base_url):
        raise ConfigurationError(
            f"`{name}` has no address.", hint=f"Set `base_url` in `[endpoints.{name}]` to where it is."
        )
    address = check_address(settings.base_url or preset.base_url)
    if get_settings().offline and not is_loopback(address):
        raise OfflineError(
            f"`{name}` is at {address}, and the network is switched off.",
            hint="Ask a model on this machine, or leave out `--offline` and unset MLXI_OFFLINE and HF_HUB_OFFLINE.",
        )
    # A cloud's own variable is for that cloud: no other address gets what it holds, unless it is named.
    variable = settings.api_key_env or (preset.key_variable if address == preset.base_url else "")
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise ConfigurationError(
            f"`{name}` needs a key, and {variable} is not set.",
            hint=f"Set {variable} in the environment, or name another variable as `api_key_env`.",
        )
    return {
        "base_url": address,
        "api_key": SecretStr(key) if key else None,
        "endpoint": name,
        "timeout_seconds": settings.timeout_seconds,
        "connect_seconds": settings.connect_seconds,
    }
