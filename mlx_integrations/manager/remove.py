"""Removing models: first a list of what would go, then exactly that."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlx_integrations.errors import ConfigurationError, ModelInUseError
from mlx_integrations.manager.hub_cache import PART_SUFFIX, HubRepository
from mlx_integrations.manager.locks import is_locked
from mlx_integrations.manager.records import Removal
from mlx_integrations.manager.shared_store import freed_shared_bytes, shared_target

__all__ = ["carry_out_removal", "plan_folder_removal", "plan_repository_removal"]

_OTHER_TOOLS = "other tools that use the Hugging Face cache, such as mlx-lm and transformers"


def plan_repository_removal(repository: HubRepository, name: str, commit: str | None = None) -> Removal:
    """What removing a repository from the cache, or one commit of it, would delete.

    Args:
        repository: The repository.
        name: What the user called it.
        commit: Of which only what no other commit uses goes; everything of the repository otherwise.
    """
    commits = repository.commits()
    others = [other for other in commits if other != commit] if commit is not None else []
    if others:
        paths = _of_commit(repository, str(commit), others)
    else:
        paths = [path for folder in (repository.folder, repository.lock("x").parent) for path in _whole(folder)]
    cache_dir = repository.cache_dir
    return Removal(
        name=name,
        root=cache_dir,
        paths=tuple(paths),
        freed_bytes=_freed_bytes(paths) + freed_shared_bytes(_shared(paths, cache_dir), cache_dir),
        shared_with=(_OTHER_TOOLS, *(f"revision {other[:12]}, which keeps what it needs" for other in others)),
    )


def plan_folder_removal(folder: Path, name: str, *, owner: str | None = None) -> Removal:
    """What removing a model's folder would delete.

    Args:
        folder: The folder; if it is a link, only the link goes.
        name: What the user called it.
        owner: The program whose folder it is in.
    """
    paths = _whole(folder)
    return Removal(
        name=name,
        root=folder.parent,
        paths=tuple(paths),
        freed_bytes=_freed_bytes(paths),
        shared_with=(owner,) if owner else (),
    )


def carry_out_removal(removal: Removal) -> int:
    """Delete what is listed; folders only if they are empty by then.

    Returns:
        The bytes that this frees.

    Raises:
        ModelInUseError: It is being downloaded right now.
        ConfigurationError: Something listed does not lie in the folder that it is said to.
    """
    root = removal.root.resolve()
    for path in removal.paths:
        if path == removal.root or not path.parent.resolve().is_relative_to(root):
            raise ConfigurationError(f"`{path}` is not inside `{removal.root}`: nothing was removed.")
    _refuse_active(removal)
    shared = _shared(removal.paths, removal.root)
    freed = _freed_bytes(removal.paths) + freed_shared_bytes(shared, removal.root)
    folders = [path for path in removal.paths if path.is_dir() and not path.is_symlink()]
    for path in removal.paths:
        if path not in folders and path not in shared:
            path.unlink(missing_ok=True)
    if shared:
        _remove_shared(shared, removal.root)
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # something came into it since: it is not on the list
            continue
    return freed


def _of_commit(repository: HubRepository, commit: str, others: Iterable[str]) -> list[Path]:
    """What belongs to one commit alone; what leads to bytes goes before them."""
    folder = repository.folder
    references = [folder / "refs" / name for name, at in repository.references().items() if at == commit]
    lists = [repository.wanted_list(commit), folder / "trees" / f"{commit}.json"]
    kept = {blob for other in others for blob in _blobs_of(repository, other)}
    blobs = [blob for blob in _blobs_of(repository, commit) if blob not in kept]
    return [
        *references,
        *_whole(repository.snapshot(commit)),
        *_whole(folder / ".no_exist" / commit),
        *(path for path in lists if path.is_file()),
        *blobs,
    ]


def _blobs_of(repository: HubRepository, commit: str) -> list[Path]:
    """The blobs that a snapshot links to, by the first step of its links."""
    blobs = repository.folder / "blobs"
    links = (path.readlink() for path in _whole(repository.snapshot(commit)) if path.is_symlink())
    found = (blobs / link.name for link in links if link.parent.name == "blobs")
    return [blob for blob in dict.fromkeys(found) if blob.is_symlink() or blob.is_file()]


def _whole(folder: Path) -> list[Path]:
    """Everything in a folder and the folder itself: links first, then files, then folders from the inside out."""
    if folder.is_symlink() or folder.is_file():
        return [folder]
    if not folder.is_dir():
        return []
    below = [*_below(folder), folder]
    return sorted(below, key=lambda path: (path.is_dir() and not path.is_symlink(), not path.is_symlink()))


def _below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, from the inside out; links are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        yield path


def _freed_bytes(paths: Iterable[Path]) -> int:
    """What deleting files frees: nothing for a link, nor for a file that has another name elsewhere."""
    seen: dict[tuple[int, int], int] = {}
    freed = 0
    for path in paths:
        if path.is_symlink() or not path.is_file():
            continue
        status = path.stat()
        inode = (status.st_dev, status.st_ino)
        seen[inode] = seen.get(inode, 0) + 1
        freed += status.st_size if seen[inode] == status.st_nlink else 0
    return freed


def _shared(paths: Iterable[Path], cache_dir: Path) -> list[Path]:
    return [path for path in paths if path.is_symlink() and shared_target(path, cache_dir) is not None]


def _remove_shared(blobs: Iterable[Path], cache_dir: Path) -> None:
    """Delete links into the shared store, and what nobody links to then, as huggingface_hub does it."""
    from huggingface_hub import DeleteCacheStrategy

    nothing: frozenset[Path] = frozenset()
    DeleteCacheStrategy(
        expected_freed_size=0,
        blobs=frozenset(blobs),
        refs=nothing,
        repos=nothing,
        snapshots=nothing,
        cache_dir=cache_dir,
    ).execute()


def _refuse_active(removal: Removal) -> None:
    for path in removal.paths:
        blob_id, suffix = path.name.removesuffix(PART_SUFFIX), path.name.endswith(PART_SUFFIX)
        if suffix and is_locked(removal.root / ".locks" / path.parent.parent.name / f"{blob_id}.lock"):
            raise ModelInUseError(
                f"`{removal.name}` is being downloaded right now.", hint="Stop the download, or wait for it to end."
            )
