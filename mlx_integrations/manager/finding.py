"""From what a person calls a model to what is known about it on this machine, complete or not. Pure but for paths."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.names import parse_repository
from mlx_integrations.manager.records import InstalledModel
from mlx_integrations.registry.catalogue import ModelRegistry

__all__ = ["find_model"]


def find_model(
    models: Sequence[InstalledModel], model: str | Path, registry: ModelRegistry, cache_dir: Path
) -> InstalledModel:
    """The model that a name, a folder, a repository or an entry of the registry means.

    Raises:
        ModelNotFoundError: It is not on this machine; names that look alike are suggested.
    """
    text = str(model)
    by_name = {one.name: one for one in models}
    if text in by_name:
        return by_name[text]
    name = parse_repository(text)
    if name is not None:
        commit = HubRepository(cache_dir, name.repo_id).commit_of(name.revision)
        for one in models:
            if one.repo_id == name.repo_id and (one.revision == commit or name.revision is None):
                return one
    path = Path(model).expanduser()
    entry = registry.get(text)
    for one in models:
        if one.path == path or (entry is not None and one.repo_id is not None and one.repo_id == entry.repo_id):
            return one
    raise ModelNotFoundError(
        f"There is no model `{text}` on this machine.",
        model=text,
        suggestions=difflib.get_close_matches(text, by_name, n=3, cutoff=0.5),
        hint=f"Download it with: mlxi models pull {text}" if entry is not None or name is not None else None,
    )
