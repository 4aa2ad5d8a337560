"""What the verbs work on: a store, and a model that embeds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.parts import Invocation

if TYPE_CHECKING:
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.migration.protocol import Store

__all__ = ["executor_for", "open_at"]


def open_at(
    address: str,
    name: str | None,
    *,
    to: str | None = None,
    to_kind: str | None = None,
    to_name: str | None = None,
    as_json: Sequence[str] | None = None,
) -> "Store":
    """The store that a person named; or a move of it, if there is a place to move it to."""
    from mlx_integrations.migration.stores.opening import open_store

    store = open_store(address, name)
    if to is None:
        if given := next((name for name, value in _only_moves(to_kind, to_name, as_json) if value), None):
            raise typer.BadParameter(f"{given} is for new stores: say where with --to.")
        return store
    from mlx_integrations.migration.moving import open_move
    from mlx_integrations.migration.targets.opening import open_target

    return open_move(store, open_target(to, to_kind, to_name), as_json=as_json or ())


def _only_moves(to_kind: str | None, to_name: str | None, as_json: Any) -> list[tuple[str, Any]]:
    return [("--to-kind", to_kind), ("--to-name", to_name), ("--as-json", as_json)]


def executor_for(
    context: typer.Context, model: str | None, dimensions: int | None, long_texts: Any, offline: bool
) -> "LocalExecutor":
    """The model that a person named, or the one of the settings."""
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.types import EmbeddingOptions

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    known, named = invocation.settings.embedding, model or invocation.model
    backend = invocation.embedding_backend(named or known.default)
    if named is None and dimensions is None:
        dimensions = known.dimensions
    if dimensions == backend.capabilities.dimensions:
        dimensions = None
    return LocalExecutor(backend, EmbeddingOptions(dimensions=dimensions), long_texts=long_texts or "truncate")
