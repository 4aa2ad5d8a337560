"""Embedding on a Ray cluster instead of in this process."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.migrate.parts import executor_for
from mlx_integrations.cli.parts import Invocation

if TYPE_CHECKING:
    from mlx_integrations.migration.executors.protocol import Executor

__all__ = ["embedding"]


@contextlib.contextmanager
def embedding(
    context: typer.Context,
    model: str | None,
    dimensions: int | None,
    long_texts: Any,
    offline: bool,
    *,
    address: str | None,
    **actors: Any,
) -> "Iterator[Executor]":
    """The model that a person named, or the one of the settings: in this process, or on the cluster at an address.

    What else is given is what `Cluster` has of its actors.
    """
    if address is None:
        yield executor_for(context, model, dimensions, long_texts, offline)
        return
    from mlx_integrations.migration.executors.ray_data import Cluster, RayExecutor
    from mlx_integrations.migration.executors.recipe import ModelRecipe

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    known, named = invocation.settings.embedding, model or invocation.model
    recipe = ModelRecipe(
        model=named or known.default,
        settings=invocation.overrides,
        dimensions=known.dimensions if named is None and dimensions is None else dimensions,
        long_texts=long_texts or "truncate",
    )
    with RayExecutor(recipe, Cluster(address=address, **actors)) as executor:
        yield executor
