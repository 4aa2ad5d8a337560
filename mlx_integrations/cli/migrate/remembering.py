"""What projects are told of the model that their stores have now, and what a person is told of that."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_integrations.cli.config import short_path
from mlx_integrations.cli.console import say
from mlx_integrations.errors import MLXIntegrationsError

if TYPE_CHECKING:
    from mlx_integrations.fingerprint import EmbeddingFingerprint
    from mlx_integrations.migration.choice import Choice
    from mlx_integrations.migration.many.bulk import Outcome
    from mlx_integrations.migration.records import StoreLocation

__all__ = ["remember_all", "remember_one", "tell_forgotten"]

_MIGRATED = ("done", "was done", "has it")


def remember_all(outcomes: "Sequence[Outcome]", within: Path, *, replaces: bool) -> list[dict[str, Any]]:
    """Write the new model of each project's stores into its configuration, and say so.

    Args:
        outcomes: What became of all stores.
        within: The folder that was searched, or that of the manifest.
        replaces: Whether another model that a project names is replaced.

    Returns:
        What became of each project, for JSON.
    """
    from mlx_integrations.migration.choice import project_of

    by_project: dict[Path, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.location is not None:
            by_project.setdefault(project_of(outcome.location, within), []).append(outcome)
    told = []
    for project, its in by_project.items():
        targets = {(one.job.wanted.model, one.job.wanted.dimensions) for one in its if one.state in _MIGRATED}
        if not targets:
            continue
        models = sorted({model for model, _ in targets})
        if len(targets) > 1 or any(one.state not in _MIGRATED for one in its):
            reason = "its stores have several models" if len(targets) > 1 else "not all of its stores are migrated"
            say(f"{short_path(project)}: nothing was written there, because {reason}.")
            told.append({"project": str(project), "state": "several", "models": models})
            continue
        told.append(_remembered(its[0], project, replaces=replaces))
    return told


def _remembered(outcome: "Outcome", project: Path, *, replaces: bool) -> dict[str, Any]:
    assert outcome.location is not None
    wanted = outcome.job.wanted
    told = {"project": str(project), "models": [wanted.model]}
    choice = _remember(outcome.location, project, wanted.model, wanted.dimensions, work=wanted.work, replaces=replaces)
    if choice is None:
        return {**told, "state": "failed"}
    return {**told, "state": choice.state, "file": str(choice.path)}


def remember_one(
    location: "StoreLocation", target: "EmbeddingFingerprint", work: Path | None, dimensions: int | None
) -> None:
    """Write a store's new model into the configuration of its project, and say so.

    Args:
        location: The store.
        target: Its model.
        work: Where its run is kept, if not beside it.
        dimensions: Coordinates that were asked for; `None` for all.
    """
    from mlx_integrations.migration.choice import project_of

    kept = dimensions if dimensions == target.dimensions else None
    _remember(location, project_of(location), target.model, kept, work=work, replaces=True)


def _remember(
    location: "StoreLocation",
    project: Path,
    model: str,
    dimensions: int | None,
    *,
    work: Path | None,
    replaces: bool,
) -> "Choice | None":
    """Write it, and say so; `None` if it could not be written, which leaves the store as migrated as it is."""
    from mlx_integrations.migration.choice import remember_choice

    try:
        choice = remember_choice(location, project, model, dimensions, work=work, replaces=replaces)
    except (MLXIntegrationsError, OSError) as error:
        say(f"mlxi: {short_path(project)}: its model could not be written there: {error}", style="yellow")
        return None
    _tell(choice, model)
    return choice


def _tell(choice: "Choice", model: str) -> None:
    """Say what a project's configuration says now."""
    path = short_path(choice.path)
    if choice.state == "written":
        say(f"{path}: `embedding.default` is `{choice.says}` now, for `MLXEmbeddings()` in that folder.")
    elif choice.state == "other":
        say(f"{path} says `{choice.says}`, and was left so; its stores have `{model}`. --remember replaces it.")


def tell_forgotten(location: "StoreLocation", work: Path | None) -> None:
    """Take back what the migration of a store has written, and say so."""
    from mlx_integrations.migration.choice import forget_choice

    choice = forget_choice(location, work=work)
    if choice is not None:
        says = f"is `{choice.says}` again" if choice.says else "is no longer set"
        say(f"{short_path(choice.path)}: `embedding.default` {says}.")
