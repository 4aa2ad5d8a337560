"""The candidates of a router, as the settings name them: models of this process and endpoints."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from mlx_integrations.adapters.chat_candidates import ModelFacts
from mlx_integrations.errors import ConfigurationError, OfflineError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.policy import Policy, Scorer

__all__ = ["ConfiguredModel", "ConfiguredRouter", "configured_router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredModel:
    """One candidate.

    Attributes:
        backend: Asks its endpoint; `None` for a model of this process.
        facts: What the settings and the list of models say of it.
    """

    backend: ChatBackend | None
    facts: ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredRouter:
    """What a router is made of.

    Attributes:
        models: By name, in the user's order.
        policy: What the user wants.
        local_hosts: Hosts that count as the user's own machine.
    """

    models: dict[str, ConfiguredModel]
    policy: Policy
    local_hosts: tuple[str, ...]


def configured_router(scorer: Scorer | None = None) -> ConfiguredRouter:
    """Read the settings: the default model, each endpoint that names a model, and whoever `[router]` names.

    Endpoints elsewhere are left out where they can never be asked: the network is switched off, or `allow_cloud` is not
    set.

    Args:
        scorer: Orders candidates that are otherwise equal.

    Raises:
        ConfigurationError: An endpoint has no key, or the settings name somebody who is not there.
    """
    from mlx_integrations.assembly import get_settings
    from mlx_integrations.endpoints import named_chat_backend, route_candidates
    from mlx_integrations.router.configured import policy_from

    settings = get_settings()
    candidates = {name: candidate for name, (candidate, _) in route_candidates().items()}
    policy = policy_from(settings, tuple(candidates), scorer=scorer)
    models: dict[str, ConfiguredModel] = {}
    for name, candidate in candidates.items():
        backend = None
        endpoint, _, model = name.partition("/")
        is_endpoint = endpoint in settings.endpoints
        if is_endpoint:
            try:
                backend = named_chat_backend(model or None, endpoint)
            except (ConfigurationError, OfflineError):
                if candidate.is_local or (policy.allow_cloud and not policy.is_offline):
                    raise
                continue
        facts = ModelFacts(
            tasks=candidate.tasks,
            languages=candidate.languages,
            input_price=candidate.input_price,
            output_price=candidate.output_price,
            group=candidate.group,
            max_concurrent=candidate.max_concurrent,
            is_local=False if is_endpoint and settings.endpoints[endpoint].forwards else None,
        )
        models[name] = ConfiguredModel(backend=backend, facts=facts)
    policy = _without_those_left_out(policy, models)
    return ConfiguredRouter(models=models, policy=policy, local_hosts=tuple(settings.router.local_hosts))


def _without_those_left_out(policy: Policy, known: Collection[str]) -> Policy:
    tasks = {task: kept for task, names in policy.tasks.items() if (kept := tuple(n for n in names if n in known))}
    return replace(policy, tasks=tasks, order=tuple(name for name in policy.order if name in known))
