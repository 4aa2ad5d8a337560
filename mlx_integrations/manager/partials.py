"""What interrupted downloads left in the cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mlx_integrations.manager.hub_cache import PART_SUFFIX, HubRepository, repositories
from mlx_integrations.manager.locks import is_locked, try_lock
from mlx_integrations.manager.records import PartialFile

__all__ = ["list_partials", "prune_partials", "repository_partials"]

# `<id>.<random>.incomplete`, which no later download ever goes on with (huggingface_hub 1.18 and newer).
_HUB_SUFFIX: Final = ".incomplete"


def list_partials(cache_dir: Path) -> list[PartialFile]:
    """Every partial file of the cache."""
    return [partial for repository in repositories(cache_dir) for partial in repository_partials(repository)]


def repository_partials(repository: HubRepository) -> list[PartialFile]:
    """The partial files of one repository, ours and those of huggingface_hub."""
    found = []
    blobs = repository.folder / "blobs"
    for path in sorted(blobs.iterdir()) if blobs.is_dir() else ():
        if path.name.endswith((PART_SUFFIX, _HUB_SUFFIX)) and path.is_file() and not path.is_symlink():
            found.append(
                PartialFile(
                    path=path,
                    repo_id=repository.repo_id,
                    size_bytes=_size(path),
                    origin="mlxi" if path.name.endswith(PART_SUFFIX) else "huggingface_hub",
                    is_active=is_locked(_lock(repository, path)),
                )
            )
    return found


def prune_partials(cache_dir: Path, partials: Sequence[PartialFile]) -> int:
    """Delete partial files that no download is writing, and the folders that are empty then.

    Returns:
        The bytes that this frees.
    """
    freed = 0
    for partial in partials:
        repository = HubRepository(cache_dir, partial.repo_id)
        if partial.path.parent != repository.folder / "blobs" or not partial.path.name.endswith(
            (PART_SUFFIX, _HUB_SUFFIX)
        ):
            continue
        with try_lock(_lock(repository, partial.path)) as is_held:
            if is_held and partial.path.is_file():
                freed += _size(partial.path)
                partial.path.unlink()
        for name in ("blobs", "snapshots", "refs", "."):
            _remove_if_empty(repository.folder / name)
    return freed


def _lock(repository: HubRepository, partial: Path) -> Path:
    return repository.lock(partial.name.partition(".")[0])


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # it is not empty, or not there
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
