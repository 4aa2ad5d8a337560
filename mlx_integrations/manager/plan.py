"""What a download would do: which files of which commit, how many bytes of them, and whether they would be of use."""

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import HubError
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.hub_client import HubClient, RemoteFile
from mlx_integrations.manager.names import is_commit
from mlx_integrations.manager.needed_files import choose_files, is_weight_file
from mlx_integrations.manager.records import PlannedFile, PullPlan
from mlx_integrations.manager.support import DescribeSupport, judge
from mlx_integrations.registry.entry import ModelEntry

__all__ = ["find_local_state", "free_disk_bytes", "has_bytes", "make_plan"]

_CONFIG: Final = "config.json"
_CONFIG_LIMIT_BYTES: Final = 8 * 1024 * 1024  # the longest ones list every label of a classifier


def make_plan(
    client: HubClient,
    repository: HubRepository,
    revision: str,
    *,
    entry: ModelEntry | None = None,
    describe: DescribeSupport | None = None,
    include: Sequence[str] = (),
    all_files: bool = False,
) -> PullPlan:
    """Ask the Hub for the commit, the list of its files and config.json: three requests, no weights.

    Raises:
        HubError: The repository cannot be read; its subclasses say why.
    """
    repo_id = repository.repo_id
    commit = client.commit(repo_id, revision)
    remote = client.tree(repo_id, commit)
    chosen = choose_files([file.path for file in remote], include=include, all_files=all_files)
    if not chosen:
        raise HubError(
            f"`{repo_id}` holds no model: none of its {len(remote)} files is needed to run one.", repo_id=repo_id
        )
    files = find_local_state(repository, commit, [_planned(file) for file in remote if file.path in set(chosen)])
    config = _read_config(client, repository, commit, remote)
    return PullPlan(
        repo_id=repo_id,
        revision=commit,
        reference=None if is_commit(revision) else revision,
        files=files,
        total_bytes=sum(file.size_bytes for file in files),
        missing_bytes=missing_bytes(files),
        resumed_bytes=sum(file.resumed_bytes for file in files),
        free_disk_bytes=free_disk_bytes(repository.cache_dir),
        weight_bytes=sum(file.size_bytes for file in files if is_weight_file(file.path)),
        config=config or {},
        support=judge(config, chosen, describe),
        entry=entry,
    )


def find_local_state(repository: HubRepository, commit: str, files: Iterable[PlannedFile]) -> tuple[PlannedFile, ...]:
    """The same files, with how much of each is here now."""
    found = []
    for file in files:
        is_cached = has_bytes(repository, commit, file)
        part = 0 if is_cached else _size(repository.part(file.blob_id))
        resumed = part if part <= file.size_bytes else 0
        found.append(dataclasses.replace(file, is_cached=is_cached, resumed_bytes=resumed))
    return tuple(found)


def has_bytes(repository: HubRepository, commit: str, file: PlannedFile) -> bool:
    """Whether a file is here, in its full size: as a blob, or in the snapshot where links are impossible."""
    places = [repository.blob(file.blob_id)]
    pointer = repository.snapshot(commit) / file.path
    if not pointer.is_symlink():  # a link may lead to another blob than the file's
        places.append(pointer)
    return any(place.is_file() and _size(place) == file.size_bytes for place in places)


def missing_bytes(files: Iterable[PlannedFile]) -> int:
    """What still has to be transferred; bytes that several files share come once."""
    missing = {file.blob_id: file.size_bytes - file.resumed_bytes for file in files if not file.is_cached}
    return sum(missing.values())


def free_disk_bytes(folder: Path) -> int:
    """Free space where a folder is, or would be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _planned(file: RemoteFile) -> PlannedFile:
    return PlannedFile(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, blob_id=file.blob_id)


def _read_config(
    client: HubClient, repository: HubRepository, commit: str, remote: Iterable[RemoteFile]
) -> dict[str, Any] | None:
    """config.json, from the cache if it is there; `None` if there is none, or none that can be read."""
    file = next((file for file in remote if file.path == _CONFIG), None)
    if file is None:
        return None
    blob = repository.blob(file.blob_id)
    if blob.is_file() and _size(blob) == file.size_bytes:
        text = blob.read_bytes()
    else:
        text = client.read(repository.repo_id, commit, _CONFIG, limit_bytes=_CONFIG_LIMIT_BYTES)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
