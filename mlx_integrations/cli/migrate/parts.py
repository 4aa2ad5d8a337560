"""What the verbs work on: a store, and a model that embeds."""

from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.parts import Invocation

if TYPE_CHECKING:
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.migration.protocol import Store

__all__ = ["executor_for", "open_at"]


def open_at(address: str, name: str | None) -> "Store":
    """The store that a person named."""
    from mlx_integrations.migration.stores.opening import open_store

    return open_store(address, name)


def executor_for(
    context: typer.Context, model: str | None, dimensions: int | None, long_texts: Any, offline: bool
) -> "LocalExecutor":
    """The model that a person named, or the one of the settings."""
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.types import EmbeddingOptions

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    backend = invocation.embedding_backend(model or invocation.model or invocation.settings.embedding.default)
    if dimensions == backend.capabilities.dimensions:
        dimensions = None
    return LocalExecutor(backend, EmbeddingOptions(dimensions=dimensions), long_texts=long_texts or "truncate")
