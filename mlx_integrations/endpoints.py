"""Models behind configured endpoints, and everybody whom a router could ask: what the settings name, built."""

import difflib
import math
import os
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mlx_integrations.assembly import chat_backend, get_runtime, get_settings, model_path, model_registry
from mlx_integrations.errors import ConfigurationError, LocalBackendError, ModelNotFoundError, OfflineError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.settings import EndpointSettings

if TYPE_CHECKING:  # so that a chat does not wait for what only downloads, conversions and endpoints need
    from mlx_integrations.cloud.chat import OpenAIChatBackend
    from mlx_integrations.cloud.client import Connection
    from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
    from mlx_integrations.router.candidates import Candidate, CandidateState
    from mlx_integrations.router.location import Locator

__all__ = [
    "endpoint_chat_backend",
    "endpoint_connection",
    "endpoint_embedding_backend",
    "named_chat_backend",
    "route_candidates",
]


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
