"""Making room for good files where a check found bad ones."""

from pathlib import Path

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.records import Verification

__all__ = ["discard_damaged"]


def discard_damaged(verification: Verification, repository: HubRepository) -> None:
    """Delete the blobs of files that are wrong, so that the next download fetches them again.

    Of a blob that is a link into the store that repositories share, only the link goes.

    Raises:
        ConfigurationError: The check was of another model.
    """
    snapshot = verification.path
    if snapshot.parent != repository.folder / "snapshots":
        raise ConfigurationError(f"`{snapshot}` is not a folder of `{repository.repo_id}`.")
    for problem in verification.problems:
        pointer = snapshot / problem.file
        if not pointer.parent.resolve().is_relative_to(snapshot.resolve()):
            continue
        if pointer.is_symlink():
            repository.blob(Path(pointer.readlink()).name).unlink(missing_ok=True)
        pointer.unlink(missing_ok=True)
