"""What projects are told of the model that their stores have now, and what a person is told of that."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_integrations.cli.config import short_path
from mlx_integrations.cli.console import say
from mlx_integrations.errors import MLXIntegrationsError

if TYPE_CHECKING:
    from mlx_integrations.migration.bulk import Outcome
    from mlx_integrations.migration.choice import Choice
    from mlx_integrations.migration.jobs import Job
    from mlx_integrations.migration.records import StoreLocation

__all__ = ["remember_all", "tell_choice", "tell_forgotten"]

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
    from mlx_integrations.migration.choice import remember_choice

    job: Job = outcome.job
    assert outcome.location is not None
    try:
        choice = remember_choice(
            outcome.location,
            project,
            job.wanted.model,
            job.wanted.dimensions,
            work=job.wanted.work,
            replaces=replaces,
        )
    except (MLXIntegrationsError, OSError) as error:
        say(f"mlxi: {short_path(project)}: its model could not be written there: {error}", style="yellow")
        return {"project": str(project), "state": "failed", "models": [job.wanted.model]}
    tell_choice(choice, job.wanted.model)
    return {"project": str(project), "state": choice.state, "models": [job.wanted.model], "file": str(choice.path)}


def tell_choice(choice: "Choice", model: str) -> None:
    """Say what a project's configuration says now."""
    path = short_path(choice.path)
    if choice.state == "written":
        say(f"{path}: `embedding.default` is `{choice.says}` now, so that `MLXEmbeddings()` there fits its stores.")
    elif choice.state == "other":
        say(f"{path} names `{choice.says}`, and its stores have `{model}` now. With --remember, it is written there.")


def tell_forgotten(location: "StoreLocation", work: Path | None) -> None:
    """Take back what the migration of a store has written, and say so."""
    from mlx_integrations.migration.choice import forget_choice

    choice = forget_choice(location, work=work)
    if choice is not None:
        says = f"is `{choice.says}` again" if choice.says else "is no longer set"
        say(f"{short_path(choice.path)}: `embedding.default` {says}.")
