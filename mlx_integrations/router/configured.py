"""What `Settings` say of a router, as the router's own records."""

import contextlib
from collections.abc import Collection
from operator import attrgetter

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.location import Locator
from mlx_integrations.router.policy import Deadlines, Policy, Scorer, check_names
from mlx_integrations.settings import Settings, find_origins

__all__ = ["locator_from", "policy_from"]


def policy_from(settings: Settings, names: Collection[str] | None = None, *, scorer: Scorer | None = None) -> Policy:
    """What the user wants of a router.

    Args:
        settings: Says so.
        names: The candidates that there are; nobody checks that those in the settings are among them otherwise.
        scorer: Orders candidates that are otherwise equal: a function has no place in a file.

    Raises:
        ConfigurationError: The settings name a candidate that is not there; says where, and the nearest one.
    """
    router = settings.router
    tasks = {task: wanted for task in type(router.tasks).model_fields if (wanted := getattr(router.tasks, task))}
    policy = Policy(
        mode=router.mode,
        allow_cloud=router.allow_cloud,
        is_offline=settings.offline,
        deadlines=Deadlines(
            first_token=router.first_token_seconds,
            between_tokens=router.between_tokens_seconds,
            total=router.total_seconds,
        ),
        guarantee=router.guarantee,
        hold_tokens=router.hold_tokens,
        continue_text=router.continue_text,
        asks_another_if_forbidden=router.asks_another_if_forbidden,
        tasks=tasks,
        order=router.order,
        private_tags=frozenset(router.private_tags),
        private_profiles=frozenset(
            name for name, profile in settings.embedding.profiles.items() if not profile.allow_fallback
        ),
        detectors=router.detectors,
        private_words=router.private_words,
        private_patterns=router.private_patterns,
        budget_usd=router.budget_usd,
        scorer=scorer,
    )
    if names is not None:
        _check_candidates(settings, policy, names)
    return policy


def locator_from(settings: Settings) -> Locator:
    """Finds out where endpoints are, with the hosts that the user counts as their own."""
    return Locator(settings.router.local_hosts)


def _check_candidates(settings: Settings, policy: Policy, names: Collection[str]) -> None:
    named = {"order": policy.order, **{f"tasks.{task}": wanted for task, wanted in policy.tasks.items()}}
    for key, wanted in named.items():
        try:
            check_names("The candidate", wanted, names, f" in `router.{key}`")
        except ConfigurationError as error:
            if not (where := _where(settings, f"router.{key}")):
                raise
            raise ConfigurationError(f"{error.message.removesuffix('.')} ({where}).", hint=error.hint) from error


def _where(settings: Settings, key: str) -> str:
    """The file and line of a setting; empty if it was an argument."""
    with contextlib.suppress(ConfigurationError):
        origin = find_origins().get(key)
        if origin is not None and origin.place and attrgetter(key)(Settings()) == attrgetter(key)(settings):
            return f"in `{origin.place}`{f', line {origin.line}' if origin.line else ''}"
    return ""
