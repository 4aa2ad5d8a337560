"""From blobs to the folder that a model is loaded from."""

import os
import shutil
from pathlib import Path

from mlx_integrations.errors import HubError
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.plan import has_bytes
from mlx_integrations.manager.records import PullPlan

__all__ = ["link_snapshot"]


def link_snapshot(repository: HubRepository, plan: PullPlan) -> Path:
    """Make the folder of a commit whose blobs are all here, then let its branch or tag lead to it.

    config.json comes last of the files: a folder that has one is whole. Where links are impossible the blobs are moved
    into the folder, as huggingface_hub does.

    Raises:
        HubError: Something in the cache leads out of it.
    """
    snapshot = repository.snapshot(plan.revision)
    snapshot.mkdir(parents=True, exist_ok=True)
    home = snapshot.resolve()
    repository.write_wanted(plan.revision, plan.files)
    for file in sorted(plan.files, key=lambda file: file.path == "config.json"):
        pointer = snapshot / file.path
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if not pointer.parent.resolve().is_relative_to(home):
            raise HubError(f"`{pointer.parent}` leads out of the cache.", repo_id=plan.repo_id)
        blob = repository.blob(file.blob_id)
        if not blob.is_file() and has_bytes(repository, plan.revision, file):
            continue  # it was moved here by an earlier download
        place_blob(blob, pointer)
    if plan.reference is not None:
        repository.write_reference(plan.reference, plan.revision)
    return snapshot


def place_blob(blob: Path, pointer: Path) -> None:
    """Let a file of a snapshot be the bytes of a blob."""
    target = os.path.relpath(blob, pointer.parent)
    if pointer.is_symlink() and pointer.readlink() == Path(target):
        return
    draft = pointer.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        if os.environ.get("HF_HUB_DISABLE_SYMLINKS", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise OSError("links are switched off")
        draft.symlink_to(target)
    except (OSError, NotImplementedError):
        if blob.is_symlink():  # shared with other repositories
            shutil.copyfile(blob, draft)
        else:
            blob.replace(draft)
    try:
        draft.replace(pointer)
    except OSError:
        if draft.is_symlink() or blob.is_symlink():
            draft.unlink()
        else:
            draft.replace(blob)
        raise
