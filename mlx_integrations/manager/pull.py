"""A plan, carried out: every file that is missing, one after the other, side by side with other processes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlx_integrations.errors import InsufficientDiskError, UnsupportedArchitectureError, UnsupportedFormatError
from mlx_integrations.manager.hub_cache import HubRepository
from mlx_integrations.manager.hub_client import HubClient
from mlx_integrations.manager.locks import try_lock
from mlx_integrations.manager.pacing import Clock
from mlx_integrations.manager.plan import find_local_state, free_disk_bytes, has_bytes, missing_bytes
from mlx_integrations.manager.progress import OnProgress, ProgressMeter
from mlx_integrations.manager.records import PlannedFile, PulledModel, PullPlan
from mlx_integrations.manager.snapshot import link_snapshot
from mlx_integrations.manager.support import model_type_of
from mlx_integrations.manager.transfer import Stop, Transfer, disk_errors

__all__ = ["carry_out", "refuse_unsupported"]

_POLL_SECONDS: Final = 0.2
_UNSUPPORTED_HINT: Final = "`mlxi models recommend` lists others. Pass `force` to download it all the same."


def carry_out(
    plan: PullPlan,
    client: HubClient,
    repository: HubRepository,
    *,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
    clock: Clock | None = None,
    free_bytes: Callable[[Path], int] = free_disk_bytes,
) -> PulledModel:
    """Download what is missing of a plan, and make the model's folder.

    What other processes have in hand is left to them, and taken over if they stop. Interrupt it at any time: what
    arrived is gone on with the next time.

    Args:
        plan: What to do; what is here of it is looked up again.
        client: Asks the Hub.
        repository: Where it goes.
        on_progress: Told where it stands, a few times a second, in this thread.
        cancel: Set by another thread to stop it.
        clock: Time and chance.
        free_bytes: Free space where a folder is.

    Raises:
        DownloadCancelledError: `cancel` was set.
        InsufficientDiskError: It would not fit, or did not.
        ConfigurationError: The cache cannot be written to.
        ChecksumMismatchError: A file arrived wrong twice.
        HubUnavailableError: The connection failed too often.
        HubError: The Hub does not give the files.
    """
    clock = clock or Clock()
    began = clock.monotonic()
    files = find_local_state(repository, plan.revision, plan.files)
    _check_disk(plan, missing_bytes(files), free_bytes(repository.cache_dir))
    meter = ProgressMeter(files, on_progress, clock)
    stop = Stop(cancel, plan.repo_id, clock)
    transfer = Transfer(client, repository, plan.revision, meter=meter, stop=stop, clock=clock)
    with disk_errors(repository):
        repository.prepare()
        _fetch_all([file for file in files if not file.is_cached], repository, plan.revision, transfer, meter, stop)
        meter.report("linking")
        path = link_snapshot(repository, plan)
    return PulledModel(
        path=path,
        repo_id=plan.repo_id,
        revision=plan.revision,
        transferred_bytes=transfer.transferred_bytes,
        seconds=clock.monotonic() - began,
    )


def refuse_unsupported(plan: PullPlan) -> None:
    """Let a plan pass whose model can be run here.

    Raises:
        UnsupportedArchitectureError: There is no code for this kind of model.
        UnsupportedFormatError: It has no weights that can be loaded.
    """
    if plan.support.is_supported:
        return
    message = f"`{plan.repo_id}` cannot be run here, so it was not downloaded. {plan.support.reason}"
    model_type = model_type_of(plan.config)
    if model_type is None or not any(file.path.endswith(".safetensors") for file in plan.files):
        raise UnsupportedFormatError(message, path=plan.repo_id, format_name="unknown", hint=_UNSUPPORTED_HINT)
    raise UnsupportedArchitectureError(message, model_path=plan.repo_id, model_type=model_type, hint=_UNSUPPORTED_HINT)


def _fetch_all(
    missing: list[PlannedFile],
    repository: HubRepository,
    commit: str,
    transfer: Transfer,
    meter: ProgressMeter,
    stop: Stop,
) -> None:
    """Fetch whatever nobody else is fetching, until nothing is missing."""
    while missing:
        left = []
        for file in missing:
            with try_lock(repository.lock(file.blob_id)) as is_held:
                if not is_held:
                    left.append(file)
                    continue
                if not has_bytes(repository, commit, file):
                    transfer.fetch(file)
                meter.arrived(file.path, file.size_bytes)
        if len(left) == len(missing):
            for file in left:
                meter.arrived(file.path, _arrived_bytes(repository, file))
            meter.report("waiting", left[0].path)
            stop.pause(_POLL_SECONDS)
        missing = left


def _arrived_bytes(repository: HubRepository, file: PlannedFile) -> int:
    """How much another process has of a file."""
    for place in (repository.blob(file.blob_id), repository.part(file.blob_id)):
        try:
            return place.stat().st_size
        except OSError:
            continue
    return file.resumed_bytes


def _check_disk(plan: PullPlan, needed: int, free: int) -> None:
    if needed > free:
        raise InsufficientDiskError(
            f"`{plan.repo_id}` needs {needed:,} more bytes; {free:,} are free.",
            repo_id=plan.repo_id,
            needed_bytes=needed,
            free_bytes=free,
            hint="Make room, for example with `mlxi models rm`, or set HF_HUB_CACHE to a folder on another disk.",
        )
