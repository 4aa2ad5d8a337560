"""What is known about how the files of a model should be, from the best source there is for it."""

import re
from collections.abc import Mapping
from pathlib import Path

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.manager.hub_cache import HubRepository, WantedFile
from mlx_integrations.manager.hub_client import HubClient
from mlx_integrations.manager.model_files import list_files
from mlx_integrations.manager.needed_files import choose_files, is_weight_file
from mlx_integrations.manager.packaged import PACKAGED_MODELS
from mlx_integrations.manager.records import InstalledModel
from mlx_integrations.manager.verify import Expected
from mlx_integrations.registry.catalogue import ModelRegistry

__all__ = ["expected_here", "expected_on_hub"]

_BLOB_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def expected_here(installed: InstalledModel, cache_dir: Path, registry: ModelRegistry) -> Expected:
    """What this machine knows: the cache, a packaged model's digest, or the registry's."""
    if installed.source == "hub" and installed.repo_id and installed.revision:
        return _in_cache(HubRepository(cache_dir, installed.repo_id), installed.revision)
    entry = registry.get(installed.repo_id or installed.name)
    # Small files change from one commit to the next, and which one a folder is from is not known.
    digests = {name: digest for name, digest in entry.sha256.items() if is_weight_file(name)} if entry else {}
    packaged = next((one for one in PACKAGED_MODELS if one.name == installed.name), None)
    if packaged is not None:
        digests["model.safetensors"] = packaged.sha256
    return Expected(blob_ids=digests, sizes={}, method="checksums" if digests else "structure")


def expected_on_hub(installed: InstalledModel, client: HubClient, cache_dir: Path) -> Expected:
    """What the Hub lists for the model's commit; for a folder, which has none, for its main branch.

    Raises:
        ConfigurationError: It is not known which repository the model came from.
        HubError: The Hub does not answer, or does not give the repository.
    """
    if installed.repo_id is None:
        raise ConfigurationError(
            f"It is not known which repository `{installed.name}` came from.",
            hint="Check it without the Hub: leave out `--online`.",
        )
    commit = installed.revision or client.commit(installed.repo_id, "main")
    files = client.tree(installed.repo_id, commit)
    wanted = HubRepository(cache_dir, installed.repo_id).wanted(commit) if installed.revision else None
    return Expected(
        blob_ids={file.path: file.blob_id for file in files},
        sizes={file.path: file.size_bytes for file in files},
        wanted=tuple(wanted) if wanted else choose_files([file.path for file in files]),
        method="hub",
    )


def _in_cache(repository: HubRepository, commit: str) -> Expected:
    """What the cache itself says: the name of a blob is its digest, and a list says which files were wanted.

    Only the first step of a link counts: a blob may lead on into a store whose names are other digests.
    """
    wanted: Mapping[str, WantedFile] = repository.wanted(commit) or {}
    snapshot = repository.snapshot(commit)
    blob_ids = {name: file.blob_id for name, file in wanted.items()}
    files = list_files(snapshot)
    for name in (*files.sizes, *files.broken):
        pointer = snapshot / name
        if pointer.is_symlink() and _BLOB_ID.fullmatch(pointer.readlink().name):
            blob_ids.setdefault(name, pointer.readlink().name)
    return Expected(
        blob_ids=blob_ids,
        sizes={name: file.size_bytes for name, file in wanted.items()},
        wanted=tuple(wanted),
        method="checksums" if blob_ids else "structure",
    )
