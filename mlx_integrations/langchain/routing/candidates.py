"""LangChain models as candidates: where they compute, what they can do, what the user says of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.language_models.chat_models import BaseChatModel

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What you know of a model and nobody else can tell.

    Attributes:
        tasks: Tasks it is good at, such as `code`.
        languages: ISO 639-1 codes of languages it knows; `None` if you cannot say.
        input_price: US dollars for a million prompt tokens.
        output_price: The same for tokens of the answer.
        group: Models of one group are equals: the least busy one goes first.
        max_concurrent: Calls that it takes at the same time.
        context_window: Tokens of prompt and answer together, where its profile does not say.
        is_local: `None` finds out by its address. `True` vouches for it that what it is asked stays with you, which is
            needed for models of other packages that run in this process: nobody can look into them. `False` says that
            what listens at an address of this machine passes on what it is asked, as a proxy does.
    """

    tasks: frozenset[str] = frozenset()
    languages: frozenset[str] | None = None
    input_price: float | None = None
    output_price: float | None = None
    group: str | None = None
    max_concurrent: int | None = None
    context_window: int | None = None
    is_local: bool | None = None


def candidate_of(name: str, model: BaseChatModel, facts: ModelFacts, locator: Locator) -> Candidate:
    """A model as the router knows it. Looks up names of hosts, and for a model of this package its configuration."""
    location = locate_model(model, facts, locator)
    return Candidate(
        name=name,
        location=location,
        capabilities=_capabilities(model, facts),
        tasks=facts.tasks,
        languages=facts.languages,
        input_price=0.0 if location == "in-process" else facts.input_price,
        output_price=0.0 if location == "in-process" else facts.output_price,
        group=facts.group,
        max_concurrent=facts.max_concurrent,
    )


def locate_model(model: BaseChatModel, facts: ModelFacts, locator: Locator, *, fresh: bool = False) -> Location:
    """Where a model computes. What cannot be found out counts as remote.

    Args:
        model: The model.
        facts: What the user says of it.
        locator: Looks addresses up.
        fresh: Whether to look again although it was looked up a moment ago.
    """
    if isinstance(model, ChatMLX):
        return _locate_own(model, locator, fresh)
    if facts.is_local is not None:
        return "listed" if facts.is_local else "remote"
    addresses = set(_addresses(model))
    if not addresses or any(getattr(model, name, None) is not None for name in _DETOURS):
        return "remote"
    name = getattr(model, "model", None) or getattr(model, "model_name", None)
    found = {locator.locate(address, model=str(name) if name else None, fresh=fresh) for address in addresses}
    return found.pop() if len(found) == 1 else "remote" if "remote" in found else "listed"


def observer_of(models: Mapping[str, BaseChatModel]) -> Callable[[str], CandidateState]:
    """What is known of models besides their calls: those of this package are looked for on the disk and in memory."""
    presences = {
        name: ModelPresence(model.model, model.runtime)
        for name, model in models.items()
        if isinstance(model, ChatMLX) and model.backend is None
    }
    return lambda name: presences[name].state() if name in presences else _USUAL


def _locate_own(model: ChatMLX, locator: Locator, fresh: bool) -> Location:
    if model.backend is None or model.backend.__class__.__module__.startswith("mlx_integrations.testing"):
        return "in-process"
    # A backend given by hand may be anything: one with an address is looked up, one that routes is not looked through.
    address = getattr(model.backend, "base_url", None)
    return "remote" if address is None else locator.locate(str(address), model=model.model, fresh=fresh)


def _addresses(model: BaseChatModel) -> Iterator[str]:
    for path in _ADDRESSES:
        value: Any = model
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is not None and not callable(value) and str(value):
            yield str(value)


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
