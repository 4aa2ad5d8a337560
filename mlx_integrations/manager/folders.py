"""Models in folders of other programs, found by what is in them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["discover", "lm_studio_folders"]

_MAX_DEPTH: Final = 3  # publisher, model, and one more for people who sort theirs
_MAX_FOLDERS: Final = 5000  # somebody pointed at a whole disk


def lm_studio_folders() -> list[Path]:
    """Where LM Studio keeps models, now and in older versions (https://lmstudio.ai/docs/app/basics/import-model)."""
    places = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
    return [path for place in places if (path := Path(place).expanduser()).is_dir()]


def discover(folder: Path) -> Iterator[Path]:
    """Folders that hold a config.json or GGUF files, at most three levels down, by name.

    A folder that holds a model is not searched further: sentence-transformers keeps parts of models in folders.
    """
    seen: set[Path] = set()
    waiting = [(folder, 0)]
    while waiting and len(seen) < _MAX_FOLDERS:
        current, depth = waiting.pop()
        here = current.resolve()
        if here in seen:  # a link back up
            continue
        seen.add(here)
        try:
            with os.scandir(current) as entries:
                names = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
        except OSError:
            continue
        if "config.json" in names or any(name.lower().endswith(".gguf") for name in names):
            yield current
        elif depth < _MAX_DEPTH:
            below = sorted((name for name, is_folder in names.items() if is_folder), reverse=True)
            waiting += [(current / name, depth + 1) for name in below]
