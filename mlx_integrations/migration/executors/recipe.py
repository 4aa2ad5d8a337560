"""How a model is made where it is needed: on another machine, from what is small enough to be sent there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import Executor, LongTexts
from mlx_integrations.types import EmbeddingOptions

__all__ = ["ModelRecipe", "Recipe"]


@runtime_checkable
class Recipe(Protocol):
    """Makes an executor; is pickled and sent to the machines of a cluster."""

    @property
    def long_texts(self) -> LongTexts:
        """What the executor does with texts that are longer than the model reads."""
        ...

    def build(self) -> Executor:
        """Make the executor, in the process that this is called in."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """A model by its name; every machine has to have it, under that name.

    Attributes:
        model: As for `assembly.embedding_backend`.
        settings: Those that win over the configuration of the machine.
        dimensions: Coordinates to keep; all of them if `None`.
        long_texts: What happens to texts that are longer than the model reads.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    dimensions: int | None = None
    long_texts: LongTexts = "truncate"

    def build(self) -> Executor:
        """Find the model on this machine; its weights are loaded at the first request."""
        from mlx_integrations import assembly
        from mlx_integrations.settings import Settings

        assembly.use_settings(Settings(**self.settings))
        backend = assembly.embedding_backend(self.model)
        dimensions = None if self.dimensions == backend.capabilities.dimensions else self.dimensions
        return LocalExecutor(backend, EmbeddingOptions(dimensions=dimensions), long_texts=self.long_texts)
