"""Where models go that were converted on this machine, and what they are called there."""

import re
from pathlib import Path, PurePosixPath

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.places import models_folder

__all__ = ["imported_model_path", "imported_models_dir", "imported_name"]

# What says nothing about a model: the usual names of files with weights, parts of several, a commit of the Hub.
_GENERAL = re.compile(r"(pytorch_model|model|weights|consolidated|checkpoint)([-_.].*)?", re.IGNORECASE)
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUFFIXES = (".gguf", ".bin", ".pt", ".pth", ".ckpt", ".safetensors")


def imported_models_dir() -> Path:
    """The folder of models that were converted here; `locate` looks in it. It need not exist yet."""
    return models_folder()


def imported_name(source: Path) -> str:
    """What a model is called if nobody says: as its file or folder is, or its repository in the Hugging Face cache.

    >>> imported_name(Path("/models/Llama-3.2-3B/pytorch_model.bin"))
    'Llama-3.2-3B'
    """
    place = source.expanduser().absolute()
    if place.suffix.lower() in _SUFFIXES and not place.is_dir():
        stem = _PART.sub("", place.stem)
        if not _GENERAL.fullmatch(stem):
            return stem
        place = place.parent
    if _COMMIT.fullmatch(place.name) and place.parent.name == "snapshots":
        return place.parent.parent.name.rpartition("--")[2]
    return place.name or place.resolve().name


def imported_model_path(name: str) -> Path:
    """Where a model of this name goes.

    Args:
        name: May have folders in it, such as `mine/llama`.

    Raises:
        ConfigurationError: It would lead out of the folder, or is empty.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", "~")) or any(part.startswith(".") for part in parts):
        raise ConfigurationError(
            f"`{name}` cannot be the name of a model.",
            hint="Choose letters, digits, dashes and dots; give a folder elsewhere with `--to` (in Python: `target`).",
        )
    return imported_models_dir().joinpath(*parts)
