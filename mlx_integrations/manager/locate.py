"""From the name a user gives to the folder of a model that is already on this machine. Never downloads."""

import difflib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.manager.packaged import PACKAGED_MODELS, find_packaged

__all__ = ["DEMO_MODEL", "known_models", "locate"]

DEMO_MODEL = "demo"
_DEMO_FOLDER = Path(__file__).parent.parent / "demo" / "model"


def locate(model: str | Path, folders: Sequence[Path] = ()) -> Path:
    """Find a model's folder.

    Args:
        model: `demo`, `minilm-l6-v2` once its package is installed, a folder, the name of a model below one of
            `folders`, or a Hub repository id (`org/name`, optionally `org/name@revision`) that is in the local Hugging
            Face cache.
        folders: Where else to look.

    Raises:
        ModelNotFoundError: It is nowhere; names that look alike are suggested.
        ModelLoadError: A packaged model's weights were changed.
    """
    if model == DEMO_MODEL:
        return _DEMO_FOLDER
    as_path = Path(model).expanduser()
    if isinstance(model, Path) or (model and as_path.is_dir()):
        return as_path
    for folder in folders if model else ():
        if (folder / model / "config.json").is_file():
            return folder / model
    found = _in_hub_cache(model) or find_packaged(model)
    if found is not None:
        return found
    raise _not_found(model, folders)


def known_models(folders: Sequence[Path] = ()) -> list[str]:
    """Every name that `locate` finds here, `demo` first."""
    below = {str(path.parent.relative_to(folder)) for folder in folders for path in _configs(folder)}
    packaged = [one.name for one in PACKAGED_MODELS if importlib.util.find_spec(one.package) is not None]
    return [DEMO_MODEL, *packaged, *sorted(below | set(_hub_repositories()))]


def _configs(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*/config.json")
    yield from folder.glob("*/*/config.json")


def _hub_cache() -> Path:
    """The cache of huggingface_hub, by its own environment variables."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def _hub_repositories() -> list[str]:
    names = (path.name.removeprefix("models--") for path in _hub_cache().glob("models--*--*"))
    return [name.replace("--", "/", 1) for name in names]


def _in_hub_cache(model: str) -> Path | None:
    """The newest snapshot of a repository that has its configuration.

    Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    repo_id, _, revision = model.partition("@")
    if repo_id.count("/") != 1:
        return None
    repository = _hub_cache() / ("models--" + repo_id.replace("/", "--"))
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and (snapshot / "config.json").is_file() else None


def _not_found(model: str, folders: Sequence[Path]) -> ModelNotFoundError:
    known = known_models(folders)
    by_lower = {name.lower(): name for name in known} | {name.rpartition("/")[2].lower(): name for name in known}
    near = difflib.get_close_matches(model.lower(), by_lower, n=3, cutoff=0.5)
    suggestions = list(dict.fromkeys(by_lower[name] for name in near))
    hint = None
    if not suggestions and model.count("/") == 1 and not model.startswith((".", "~", "/")):
        hint = f"If it is a repository on the Hugging Face Hub, download it first: hf download {model}"
    return ModelNotFoundError(
        f"There is no model `{model}` on this machine.", model=model, suggestions=suggestions, hint=hint
    )
