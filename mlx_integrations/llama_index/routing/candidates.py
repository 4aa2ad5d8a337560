"""LlamaIndex models as candidates: where they compute, what they can do, how they are kept silent."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM

from mlx_integrations.adapters.chat_candidates import (
    ModelFacts,
    addresses_of,
    candidate_with,
    locate_all,
    locate_backend,
)
from mlx_integrations.adapters.presence import ModelPresence
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.llama_index.llm import MLXLLM
from mlx_integrations.llama_index.structured import StructuredPrediction
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.location import Locator
from mlx_integrations.types import ModelCapabilities

__all__ = ["candidate_of", "described", "locate_llm", "observer_of", "silent"]

# Where LlamaIndex's partner packages, or their clients, keep an address.
_ADDRESSES: Final = (
    "_client.base_url",
    "_aclient.base_url",
    "_client._client.base_url",
    "_async_client._client.base_url",
    "api_base",
    "base_url",
    "azure_endpoint",
    "endpoint",
)
# What may send a request elsewhere than its address says.
_DETOURS: Final = ("_http_client", "_async_http_client", "http_client", "async_http_client", "proxy", "proxies")
_CLIENTS: Final = ("_client", "_aclient", "_async_client")
_USUAL: Final = CandidateState()


def candidate_of(name: str, llm: LLM, facts: ModelFacts, locator: Locator) -> Candidate:
    """A model as the router knows it. Looks up names of hosts, and for a model of this package its configuration."""
    return candidate_with(name, locate_llm(llm, facts, locator), _capabilities(llm, facts), facts)


def locate_llm(llm: LLM, facts: ModelFacts, locator: Locator, *, fresh: bool = False) -> Location:
    """Where a model computes. What cannot be found out counts as remote.

    Args:
        llm: The model.
        facts: What the user says of it.
        locator: Looks addresses up.
        fresh: Whether to look again although it was looked up a moment ago.
    """
    if isinstance(llm, MLXLLM):
        return locate_backend(llm.backend, llm.model, facts, locator, fresh=fresh)
    if facts.is_local is not None:
        return "listed" if facts.is_local else "remote"
    if any(getattr(llm, name, None) is not None for name in _DETOURS):
        return "remote"
    name = getattr(llm, "model", None) or getattr(llm, "model_name", None)
    return locate_all(set(addresses_of(llm, _ADDRESSES)), name, locator, fresh=fresh)


def observer_of(llms: Mapping[str, LLM]) -> Callable[[str], CandidateState]:
    """What is known of models besides their calls: those of this package are looked for on the disk and in memory."""
    presences = {
        name: ModelPresence(llm.model, llm.runtime)
        for name, llm in llms.items()
        if isinstance(llm, MLXLLM) and llm.backend is None
    }
    return lambda name: presences[name].state() if name in presences else _USUAL


def described(llm: LLM) -> LLMMetadata | None:
    """What a model says of itself; `None` for one that is not there, or damaged: asking it says how."""
    try:
        return llm.metadata
    except (MLXIntegrationsError, OSError):
        return None


def silent(llm: LLM) -> LLM:
    """A copy of a model that reports to no callbacks, and whose client does not repeat failed requests.

    One loop asks again: the router's. The copy shares everything else with the model.
    """
    callbacks = CallbackManager()
    callbacks.handlers = []  # without any, it takes those of LlamaIndex's global settings
    quiet: dict[str, Any] = {"callback_manager": callbacks}
    if "max_retries" in type(llm).model_fields:
        quiet["max_retries"] = 0
    copied = llm.model_copy(update=quiet)
    for name in _CLIENTS:
        client: Any = getattr(copied, name, None)
        if "max_retries" in quiet and hasattr(client, "with_options"):
            setattr(copied, name, client.with_options(max_retries=0))
    return copied


def _capabilities(llm: LLM, facts: ModelFacts) -> ModelCapabilities | None:
    metadata = described(llm)
    if metadata is None:
        return None
    calls_tools = isinstance(llm, FunctionCallingLLM) and metadata.is_function_calling_model
    is_ours = isinstance(llm, StructuredPrediction)
    return ModelCapabilities(
        context_window=facts.context_window or metadata.context_window,
        tools=calls_tools,
        structured_output=calls_tools or is_ours,
        # LlamaIndex has no word for it; a model of another package that cannot see says so when it is asked.
        vision=not isinstance(llm, MLXLLM) or llm._backend().capabilities.vision,
    )
