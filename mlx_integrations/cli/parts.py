"""What the commands are made of; tests and embedders hand in their own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that `mlxi --help` waits for none of them
    from mlx_integrations.cloud.health import EndpointHealth
    from mlx_integrations.manager import ModelManager
    from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
    from mlx_integrations.registry import ModelRegistry
    from mlx_integrations.router.candidates import Candidate, CandidateState
    from mlx_integrations.settings import Settings
    from mlx_integrations.types import Machine

__all__ = ["Invocation", "Parts"]


def _settings(**values: Any) -> "Settings":
    from mlx_integrations import assembly
    from mlx_integrations.settings import Settings

    return assembly.use_settings(Settings(**values))


def _chat_backend(model: str | None, provider: str | None = None) -> "ChatBackend":
    from mlx_integrations import endpoints

    return endpoints.named_chat_backend(model, provider)


def _embedding_backend(model: str) -> "EmbeddingBackend":
    from mlx_integrations import assembly

    return assembly.embedding_backend(model)


def _model_manager() -> "ModelManager":
    from mlx_integrations import assembly

    return assembly.model_manager()


def _model_registry() -> "ModelRegistry":
    from mlx_integrations import assembly

    return assembly.model_registry(refresh=True)


def _route_candidates() -> "dict[str, tuple[Candidate, CandidateState]]":
    from mlx_integrations import endpoints

    return endpoints.route_candidates()


def _machine() -> "Machine":
    from mlx_integrations import assembly

    return assembly.describe_machine()


def _state_folder() -> Path:
    from mlx_integrations.settings.places import state_folder

    return state_folder()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The makers of what commands need; nothing is made before a command asks.

    Attributes:
        settings: Reads the settings; keyword arguments win over files and environment.
        chat_backend: Finds what answers for a model name, and the name of a provider if one was given.
        embedding_backend: Finds what makes vectors for a model name.
        model_manager: The models on this machine.
        model_registry: The models that are known.
        route_candidates: Who could answer by the settings, and how they are doing.
        machine: What this machine has.
        state_folder: Where to keep what was typed and which notices were shown.
    """

    settings: Callable[..., "Settings"] = _settings
    chat_backend: Callable[..., "ChatBackend"] = _chat_backend
    embedding_backend: Callable[[str], "EmbeddingBackend"] = _embedding_backend
    model_manager: Callable[[], "ModelManager"] = _model_manager
    model_registry: Callable[[], "ModelRegistry"] = _model_registry
    route_candidates: Callable[[], "dict[str, tuple[Candidate, CandidateState]]"] = _route_candidates
    machine: Callable[[], "Machine"] = _machine
    state_folder: Callable[[], Path] = _state_folder


@dataclass(kw_only=True)
class Invocation:
    """One run of the command: its parts, and what was said before the subcommand.

    Attributes:
        parts: What commands are made of.
        model: The model that was named, if one was.
        provider: Who answers, if somebody said so.
        overrides: Settings that options stand for.
    """

    parts: Parts
    model: str | None = None
    provider: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> "Settings":
        """The settings, read at the first use."""
        return self.parts.settings(**self.overrides)

    @cached_property
    def manager(self) -> "ModelManager":
        """The models on this machine."""
        _ = self.settings  # parts are put together from them
        return self.parts.model_manager()

    @cached_property
    def registry(self) -> "ModelRegistry":
        """The models that are known."""
        _ = self.settings
        return self.parts.model_registry()

    @cached_property
    def machine(self) -> "Machine":
        """What this machine has."""
        _ = self.settings
        return self.parts.machine()

    @property
    def budget_bytes(self) -> int:
        """What models may take of its memory."""
        return self.settings.runtime.memory_budget_bytes or self.machine.budget_bytes

    def chat_backend(self, model: str | None = None) -> "ChatBackend":
        """What answers for a model name; the provider's default without one."""
        default = self.settings.models.default
        if self.provider is None:
            return self.parts.chat_backend(model or default)
        return self.parts.chat_backend(model, self.provider)

    @property
    def asks_elsewhere(self) -> bool:
        """Whether an endpoint was named to answer."""
        return self.provider not in (None, "mlx")

    def endpoint_health(self) -> "EndpointHealth":
        """How the endpoint that was named is, and what it offers."""
        from mlx_integrations import endpoints
        from mlx_integrations.cloud.health import probe

        return probe(endpoints.endpoint_connection(str(self.provider)))

    def embedding_backend(self, model: str) -> "EmbeddingBackend":
        """What makes vectors for a model name."""
        _ = self.settings
        return self.parts.embedding_backend(model)
