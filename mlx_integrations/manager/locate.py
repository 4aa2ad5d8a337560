"""From the name a user gives to the folder of a model that is already on this machine. Never downloads."""

import difflib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.manager.folders import discover, lm_studio_folders
from mlx_integrations.manager.hub_cache import HubRepository, default_cache_dir, repositories
from mlx_integrations.manager.names import parse_repository
from mlx_integrations.manager.packaged import PACKAGED_MODELS, find_packaged

if TYPE_CHECKING:  # the catalogue is read only when a name is nothing else
    from mlx_integrations.registry import ModelEntry, ModelRegistry

__all__ = ["DEMO_FOLDER", "DEMO_MODEL", "known_models", "locate"]

DEMO_MODEL: Final = "demo"
DEMO_FOLDER: Final = Path(__file__).parent.parent / "demo" / "model"
_OFF = ("", "0", "false", "no", "off")
_OFFLINE_VARIABLES = ("MLXI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def locate(
    model: str | Path,
    folders: Sequence[Path] = (),
    *,
    cache_dir: Path | None = None,
    registry: "ModelRegistry | None" = None,
) -> Path:
    """Find a model's folder.

    Args:
        model: `demo`, `minilm-l6-v2` once its package is installed, a folder, the name of a model below one of
            `folders` or LM Studio's, a Hub repository id (`org/name`, optionally `org/name@revision`) that is in the
            local Hugging Face cache, or a name of the registry whose repository is.
        folders: Where else to look.
        cache_dir: The Hugging Face cache, if it is another one than huggingface_hub's.
        registry: What names mean; the catalogue in the package otherwise.

    Raises:
        ModelNotFoundError: It is nowhere; names that look alike are suggested, or the command that downloads it.
        ModelLoadError: A packaged model's weights were changed.
    """
    if model == DEMO_MODEL:
        return DEMO_FOLDER
    as_path = _expanded(Path(model))
    if isinstance(model, Path) or (model and _is_folder(as_path)):
        return as_path
    cache_dir = cache_dir or default_cache_dir()
    found = _below(model, folders) or _in_hub_cache(model, cache_dir)
    if found is not None:
        return found
    if registry is None:
        from mlx_integrations.registry import ModelRegistry

        registry = ModelRegistry.embedded()
    entry = registry.get(model) if model else None
    found = _of_entry(entry, folders, cache_dir) if entry is not None and entry.repo_id else None
    found = found or find_packaged(model) or _below(model, lm_studio_folders())
    if found is None:
        raise _not_found(model, folders, cache_dir, entry, registry)
    return found


def known_models(folders: Sequence[Path] = (), *, cache_dir: Path | None = None) -> list[str]:
    """Every name that `locate` finds here, `demo` first; those of the registry left out."""
    below = {
        path.relative_to(folder).as_posix()
        for folder in (*folders, *lm_studio_folders())
        for path in discover(folder)
        if path != folder and (path / "config.json").is_file()
    }
    packaged = [one.name for one in PACKAGED_MODELS if importlib.util.find_spec(one.package) is not None]
    cached = {repository.repo_id for repository in repositories(cache_dir or default_cache_dir())}
    return [DEMO_MODEL, *packaged, *sorted(below | cached)]


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # `~name` of somebody who has no home here
        return path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is longer than a file system takes, or what it leads to cannot be read
        return False


def _below(model: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders if model else ():
        if _is_folder(folder / model) and (folder / model / "config.json").is_file():
            return folder / model
    return None


def _in_hub_cache(model: str, cache_dir: Path, pinned: str | None = None) -> Path | None:
    """The snapshot of a repository that is meant, if it has its configuration; a pinned one rather than another."""
    name = parse_repository(model)
    if name is None:
        return None
    repository = HubRepository(cache_dir, name.repo_id)
    for revision in [name.revision] if name.revision else [pinned, None] if pinned else [None]:
        commit = repository.commit_of(revision)
        if commit is not None and (repository.snapshot(commit) / "config.json").is_file():
            return repository.snapshot(commit)
    return None


def _of_entry(entry: "ModelEntry", folders: Sequence[Path], cache_dir: Path) -> Path | None:
    """Where the repository of a registry's entry is."""
    repo_id = entry.repo_id or ""
    return (
        _in_hub_cache(repo_id, cache_dir, entry.revision)
        or find_packaged(repo_id)
        or _below(repo_id, [*folders, *lm_studio_folders()])
    )


def _not_found(
    model: str,
    folders: Sequence[Path],
    cache_dir: Path,
    entry: "ModelEntry | None",
    registry: "ModelRegistry",
) -> ModelNotFoundError:
    if entry is not None and entry.repo_id:
        return ModelNotFoundError(
            f"The model `{model}` is not on this machine.", model=model, hint=_pull_hint(entry.id, "Download it with")
        )
    known = known_models(folders, cache_dir=cache_dir)
    by_lower = {name.lower(): name for name in known} | {name.rpartition("/")[2].lower(): name for name in known}
    near = difflib.get_close_matches(model.lower(), by_lower, n=3, cutoff=0.5)
    suggestions = list(dict.fromkeys(by_lower[name] for name in near))
    hint = None
    if not suggestions and (name := parse_repository(model)) is not None:
        hint = _pull_hint(model, f"If {name.repo_id} is a repository on the Hugging Face Hub, download it first")
    elif not suggestions and (listed := registry.suggest(model)):
        suggestions = list(listed)
        hint = _pull_hint(listed[0], f"Did you mean `{listed[0]}`? Download it with")
    return ModelNotFoundError(
        f"There is no model `{model}` on this machine.", model=model, suggestions=suggestions, hint=hint
    )


def _pull_hint(model: str, introduction: str) -> str:
    variable = next((name for name in _OFFLINE_VARIABLES if os.environ.get(name, "").lower() not in _OFF), None)
    offline = f" (the network is switched off: unset {variable} first)" if variable else ""
    return f"{introduction}: mlxi models pull {model}{offline}"
