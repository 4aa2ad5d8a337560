"""From a model's name to its backend and its fingerprint, remembered: what every model does before it answers.

Finding a model looks at the disk, and the first time imports MLX. So it happens at the first call and not when a model
is constructed, and in a thread of its own where an event loop would have to wait for it.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
from mlx_integrations.types import EmbeddingOptions

__all__ = ["ChatLookup", "EmbeddingLookup", "EmbeddingUse"]

BackendT = TypeVar("BackendT", ChatBackend, EmbeddingBackend)


class _Lookup(ABC, Generic[BackendT]):
    """What was looked up for a model: no part of its equality, copies or pickles."""

    def __init__(self) -> None:
        from mlx_integrations.assembly import get_settings

        # Frameworks trace a call before they make it: where the settings say `offline`, that must hold already.
        get_settings()
        self._found: tuple[str, Any, BackendT] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def known(self, model: str, runtime: Any) -> BackendT | None:
        """The backend, if nothing has to be read to find it.

        Args:
            model: The model's name.
            runtime: Where it is to run; `None` for the runtime that the process shares.
        """
        if self._found is None:
            return None
        # Here and below, so that importing or constructing a model does not import MLX.
        from mlx_integrations.assembly import get_runtime

        name, ran_on, backend = self._found
        # The shared runtime is another one once it was closed.
        return backend if name == model and ran_on is (runtime or get_runtime()) else None

    def find(self, model: str, runtime: Any) -> BackendT:
        """The backend.

        Raises:
            ModelNotFoundError: The model is not on this machine.
            ModelLoadError: What is there is no such model.
        """
        known = self.known(model, runtime)
        if known is not None:
            return known
        from mlx_integrations.assembly import get_runtime

        runs_on = runtime or get_runtime()
        found = self._look_up(model, runs_on)
        self._found = (model, runs_on, found)
        return found

    async def afind(self, model: str, runtime: Any) -> BackendT:
        """The same for event loops."""
        known = self.known(model, runtime)
        return await asyncio.to_thread(self.find, model, runtime) if known is None else known

    @abstractmethod
    def _look_up(self, model: str, runtime: Any) -> BackendT: ...


class ChatLookup(_Lookup[ChatBackend]):
    """What was looked up for a chat model."""

    def __init__(self) -> None:
        super().__init__()
        self._described: ChatBackend | None = None

    async def adescribe(self, backend: ChatBackend) -> None:
        """Have a backend's capabilities at hand: the first time, they take its tokenizer, and MLX."""
        if self._described is not backend:
            await asyncio.to_thread(getattr, backend, "capabilities")
            self._described = backend

    def _look_up(self, model: str, runtime: Any) -> ChatBackend:
        from mlx_integrations.assembly import chat_backend

        return chat_backend(model, runtime=runtime)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingUse:
    """How vectors are made: all that a fingerprint depends on besides the model's files.

    Attributes:
        model: The name it goes by in records and keys.
        query_prompt: Put before queries; `None` for the model's own.
        options: Of texts that are to be found.
    """

    model: str
    query_prompt: str | None = None
    options: EmbeddingOptions = field(default_factory=EmbeddingOptions)


class EmbeddingLookup(_Lookup[EmbeddingBackend]):
    """What was looked up for an embedding model."""

    def __init__(self) -> None:
        super().__init__()
        self._identified: EmbeddingBackend | None = None
        self._fingerprint: tuple[EmbeddingBackend, EmbeddingUse, EmbeddingFingerprint] | None = None

    def known_fingerprint(self, backend: EmbeddingBackend, use: EmbeddingUse) -> EmbeddingFingerprint | None:
        """The fingerprint, if nothing has to be computed for it."""
        if self._fingerprint is None:
            return None
        by, used, found = self._fingerprint
        return found if by is backend and used == use else None

    def fingerprint(self, backend: EmbeddingBackend, use: EmbeddingUse) -> EmbeddingFingerprint:
        """What makes the vectors comparable with others; loads the model and embeds a few fixed texts."""
        found = self.known_fingerprint(backend, use)
        if found is None:
            found = _as_used(backend, use, backend.fingerprint(use.options))
            self._fingerprint = (backend, use, found)
        return found

    def identity(self, backend: EmbeddingBackend, use: EmbeddingUse) -> EmbeddingFingerprint:
        """The fingerprint without its witness: reads the model's files, but loads no weights."""
        return _as_used(backend, use, backend.identity(use.options))

    async def aidentify(self, backend: EmbeddingBackend, use: EmbeddingUse) -> None:
        """Have a backend's identity at hand: the first time, it takes the model's files."""
        if self._identified is not backend:
            await asyncio.to_thread(backend.identity, use.options)
            self._identified = backend

    def _look_up(self, model: str, runtime: Any) -> EmbeddingBackend:
        from mlx_integrations.assembly import embedding_backend

        return embedding_backend(model, runtime=runtime)


def _as_used(backend: EmbeddingBackend, use: EmbeddingUse, found: EmbeddingFingerprint) -> EmbeddingFingerprint:
    return replace(
        found,
        # Programs name one folder differently; a record should not depend on which name was first.
        model=use.model,
        # The backend takes the prompt of documents for both sides, because a call has but one.
        query_prompt=backend.capabilities.query_prompt if use.query_prompt is None else use.query_prompt,
    )
