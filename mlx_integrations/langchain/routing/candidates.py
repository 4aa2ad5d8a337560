"""LangChain models as candidates: where they compute, what they can do, what the user says of them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_core.language_models.chat_models import BaseChatModel

from mlx_integrations.adapters.chat_candidates import (
    ModelFacts,
    addresses_of,
    candidate_with,
    locate_all,
    locate_backend,
)
from mlx_integrations.adapters.presence import ModelPresence
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.langchain.chat_models import ChatMLX
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.location import Locator
from mlx_integrations.types import ModelCapabilities

__all__ = ["ModelFacts", "candidate_of", "locate_model", "observer_of"]

# Where the clients of LangChain's partner packages, or the models themselves, keep their address.
_ADDRESSES: Final = (
    "root_client.base_url",
    "root_async_client.base_url",
    "_client._client.base_url",
    "_async_client._client.base_url",
    "_client.base_url",
    "_async_client.base_url",
    "client.base_url",
    "base_url",
    "openai_api_base",
    "anthropic_api_url",
    "api_base",
    "endpoint_url",
)
# What may send a request elsewhere than its address says.
_DETOURS: Final = ("openai_proxy", "anthropic_proxy", "proxy", "proxies", "http_client", "http_async_client")
_USUAL: Final = CandidateState()


def candidate_of(name: str, model: BaseChatModel, facts: ModelFacts, locator: Locator) -> Candidate:
    """A model as the router knows it. Looks up names of hosts, and for a model of this package its configuration."""
    location = locate_model(model, facts, locator)
    return candidate_with(name, location, _capabilities(model, facts), facts)


def locate_model(model: BaseChatModel, facts: ModelFacts, locator: Locator, *, fresh: bool = False) -> Location:
    """Where a model computes. What cannot be found out counts as remote.

    Args:
        model: The model.
        facts: What the user says of it.
        locator: Looks addresses up.
        fresh: Whether to look again although it was looked up a moment ago.
    """
    if facts.is_local is False:
        return "remote"
    if isinstance(model, ChatMLX) and (model.backend is None or facts.is_local is None):
        return locate_backend(model.backend, model.model, facts, locator, fresh=fresh)
    if facts.is_local:
        return "listed"
    if any(getattr(model, name, None) is not None for name in _DETOURS):
        return "remote"
    name = getattr(model, "model", None) or getattr(model, "model_name", None)
    return locate_all(set(addresses_of(model, _ADDRESSES)), name, locator, fresh=fresh)


def observer_of(models: Mapping[str, BaseChatModel]) -> Callable[[str], CandidateState]:
    """What is known of models besides their calls: those of this package are looked for on the disk and in memory."""
    presences = {
        name: ModelPresence(model.model, model.runtime)
        for name, model in models.items()
        if isinstance(model, ChatMLX) and model.backend is None
    }
    return lambda name: presences[name].state() if name in presences else _USUAL


def _capabilities(model: BaseChatModel, facts: ModelFacts) -> ModelCapabilities | None:
    try:
        profile: Mapping[str, Any] = dict(model.profile or {})
    except (MLXIntegrationsError, OSError):
        profile = {}  # a model that is not there, or damaged: the router finds out when it asks it
    window = facts.context_window
    if window is None and profile.get("max_input_tokens"):
        window = profile["max_input_tokens"]
    if window is None:
        return None
    return ModelCapabilities(
        context_window=window,
        max_output_tokens=profile.get("max_output_tokens"),
        tools=profile.get("tool_calling", True),
        reasoning=profile.get("reasoning_output", False),
        structured_output=profile.get("structured_output", True),
        vision=profile.get("image_inputs", False),
    )
