"""Which models are on this machine, and whether each can be used."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlx_integrations.manager.folders import discover, lm_studio_folders
from mlx_integrations.manager.hub_cache import HubRepository, repositories
from mlx_integrations.manager.locate import DEMO_FOLDER, DEMO_MODEL
from mlx_integrations.manager.model_files import list_files, missing_files, read_config
from mlx_integrations.manager.needed_files import choose_files, is_weight_file
from mlx_integrations.manager.packaged import PACKAGED_MODELS, packaged_folder
from mlx_integrations.manager.partials import repository_partials
from mlx_integrations.manager.records import InstalledModel, ModelSource
from mlx_integrations.manager.support import DescribeSupport, judge, model_type_of, quantization_of

__all__ = ["list_models", "wanted_files"]


def list_models(
    cache_dir: Path, folders: Sequence[Path], describe: DescribeSupport | None = None
) -> list[InstalledModel]:
    """Models in packages, in the Hugging Face cache, in the folders given, and in LM Studio's.

    Args:
        cache_dir: The Hugging Face cache; it need not exist.
        folders: Where else to look.
        describe: Knows the architectures.
    """
    found = [*_packaged(describe), *_cached(cache_dir, describe)]
    names = {model.name for model in found}
    studio = lm_studio_folders()
    for folder in dict.fromkeys([*folders, *studio]):
        for path in discover(folder):
            relative = path.relative_to(folder).as_posix()
            name = relative if relative not in (".", *names) else str(path)
            if name in names:
                continue
            names.add(name)
            repo_id = relative if folder in studio and relative.count("/") == 1 else None
            found.append(_describe(path, name, "folder", describe, repo_id=repo_id))
    return found


def wanted_files(repository: HubRepository, commit: str) -> Mapping[str, object] | None:
    """The files that were to be downloaded of a commit; `None` if nothing is written down about it.

    What other tools downloaded may lack files that they do not need, so of the list that huggingface_hub keeps only
    weights and configuration count.
    """
    wanted = repository.wanted(commit)
    if wanted is not None:
        return wanted
    chosen = choose_files(repository.listed(commit))
    return {path: None for path in chosen if is_weight_file(path) or path.endswith(".json")} or None


def _packaged(describe: DescribeSupport | None) -> Iterator[InstalledModel]:
    yield _describe(DEMO_FOLDER, DEMO_MODEL, "packaged", describe)
    for packaged in PACKAGED_MODELS:
        if importlib.util.find_spec(packaged.package) is None:
            continue
        folder = packaged_folder(packaged)
        if folder is not None:
            yield _describe(folder, packaged.name, "packaged", describe, repo_id=packaged.repo_id)


def _cached(cache_dir: Path, describe: DescribeSupport | None) -> Iterator[InstalledModel]:
    for repository in repositories(cache_dir):
        commits = repository.commits()
        main = repository.commit_of(None)
        labels = {commit: name for name, commit in repository.references().items() if commit != main}
        for commit in commits:
            name = repository.repo_id if commit == main else f"{repository.repo_id}@{labels.get(commit, commit)}"
            yield _describe(
                repository.snapshot(commit),
                name,
                "hub",
                describe,
                repo_id=repository.repo_id,
                revision=commit,
                wanted=wanted_files(repository, commit),
            )
        if not commits and (interrupted := _interrupted(repository)) is not None:
            yield interrupted


def _describe(
    path: Path,
    name: str,
    source: ModelSource,
    describe: DescribeSupport | None,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    wanted: Mapping[str, object] | None = None,
) -> InstalledModel:
    files = list_files(path)
    config = read_config(path)
    support = judge(config, list(files.sizes), describe)
    missing = missing_files(files, wanted)
    reason = _incomplete_reason(missing, repo_id if source == "hub" else None) if missing else support.reason
    return InstalledModel(
        name=name,
        path=path,
        repo_id=repo_id,
        revision=revision,
        source=source,
        model_type=model_type_of(config),
        kind=support.kind,
        quantization=quantization_of(config),
        size_bytes=files.size_bytes,
        is_complete=not missing,
        is_usable=not missing and support.is_supported,
        reason=reason,
        last_used=files.last_used,
    )


def _interrupted(repository: HubRepository) -> InstalledModel | None:
    """A repository of which no commit is whole, but some bytes are here."""
    partials = repository_partials(repository)
    blobs = list_files(repository.folder / "blobs")
    if not blobs.sizes:
        return None
    state = "is being downloaded" if any(partial.is_active for partial in partials) else "was interrupted"
    return InstalledModel(
        name=repository.repo_id,
        path=repository.folder,
        repo_id=repository.repo_id,
        source="hub",
        size_bytes=blobs.size_bytes,
        is_complete=False,
        is_usable=False,
        reason=f"Its download {state}: `mlxi models pull {repository.repo_id}` goes on with it.",
    )


def _incomplete_reason(missing: Sequence[str], repo_id: str | None) -> str:
    some = ", ".join(f"`{name}`" for name in missing[:2]) + (", …" if len(missing) > 2 else "")
    count = "A file is" if len(missing) == 1 else f"{len(missing)} files are"
    repair = f": `mlxi models pull {repo_id}` fetches what is missing." if repo_id else "."
    return f"{count} missing ({some}){repair}"
