"""The files of a folder that may hold a model, and whether all that it needs are there. Reads names, not weights."""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mlx_integrations.manager.needed_files import is_weight_file

__all__ = ["INDEX_FILE", "ModelFiles", "list_files", "missing_files", "read_config", "shards_of"]

INDEX_FILE: Final = "model.safetensors.index.json"
_MAX_DEPTH = 3
_MAX_JSON_BYTES = 64 * 1024 * 1024
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
    "tekken.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """What is in a folder.

    Attributes:
        folder: The folder.
        sizes: Size of every file, by its path below the folder; links are followed.
        broken: Links that lead nowhere.
        size_bytes: What the files take together; one that occurs twice counts once.
        last_used: When a weight file was last read, as far as the file system keeps count.
    """

    folder: Path
    sizes: Mapping[str, int]
    broken: tuple[str, ...] = ()
    size_bytes: int
    last_used: datetime | None = field(default=None, compare=False)


def list_files(folder: Path) -> ModelFiles:
    """Look at a folder and those in it, hidden ones left out; an absent folder is empty."""
    sizes: dict[str, int] = {}
    broken: list[str] = []
    inodes: dict[tuple[int, int], int] = {}
    last_used = 0.0
    for entry, name in _walk(folder, "", _MAX_DEPTH):
        try:
            status = entry.stat()
        except OSError:
            broken.append(name)
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        sizes[name] = status.st_size
        inodes[status.st_dev, status.st_ino] = status.st_size
        if is_weight_file(name):
            last_used = max(last_used, status.st_atime)
    return ModelFiles(
        folder=folder,
        sizes=sizes,
        broken=tuple(broken),
        size_bytes=sum(inodes.values()),
        last_used=datetime.fromtimestamp(last_used, UTC) if last_used else None,
    )


def read_config(folder: Path) -> dict[str, Any] | None:
    """config.json; `None` if there is none that can be read."""
    return _read_json(folder / "config.json")


def shards_of(folder: Path) -> dict[str, str]:
    """Which weight file each tensor is in, where the weights are split; empty where they are not."""
    index = _read_json(folder / INDEX_FILE) or {}
    tensors = index.get("weight_map")
    if not isinstance(tensors, dict):
        return {}
    return {name: file for name, file in tensors.items() if isinstance(file, str)}


def missing_files(files: ModelFiles, wanted: Mapping[str, object] | None) -> tuple[str, ...]:
    """What a model with safetensors needs and does not have.

    Args:
        files: What is there.
        wanted: The files that were to be downloaded, if that is known.
    """
    missing = [*files.broken, *(wanted or ())]
    has_index = INDEX_FILE in files.sizes
    missing += sorted(set(shards_of(files.folder).values())) if has_index else []
    names = {PurePosixPath(name).name for name in files.sizes}
    if "config.json" in files.sizes and "modules.json" not in files.sizes and not names & set(_TOKENIZERS):
        missing.append("tokenizer.json")
    return tuple(name for name in dict.fromkeys(missing) if name not in files.sizes)


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[os.DirEntry[str], str]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth > 1:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
        else:
            yield entry, f"{prefix}{entry.name}"


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            return None
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
