"""Checks of the disk: room for models, a cache that can be used, models that are whole, and what downloads left."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.cli.text import disk

__all__ = ["check_cache", "check_disk", "check_models", "check_partials"]

_LITTLE_BYTES: Final = 10 * 10**9
"""Less than this takes no model of middling size."""
_NEXT_TO_NOTHING_BYTES: Final = 10**9
_SHOWN: Final = 5


def check_cache(around: Surroundings) -> Finding:
    """The folder of downloaded models: whether it can be read and written."""
    folder = around.manager().cache_dir
    facts = {"path": str(folder), "exists": folder.exists()}
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        repair = "Set HF_HUB_CACHE to a folder, or move the file away"
        return Finding(status="fail", text=f"{folder}: `{there}` is a file", repair=repair, facts=facts)
    if not around.may(there, os.R_OK | os.X_OK):
        repair = f"chmod -R u+rwX {there}"
        return Finding(status="fail", text=f"{folder}: `{there}` cannot be read", repair=repair, facts=facts)
    closed = next((path for path in _written(there) if not around.may(path, os.W_OK | os.X_OK)), None)
    if closed is not None:
        text = f"{folder}: nothing can be downloaded, because `{closed}` cannot be written to"
        repair = f'sudo chown -R "$USER" {closed}  (or set HF_HUB_CACHE to another folder)'
        return Finding(status="warn", text=text, repair=repair, facts=facts)
    text = str(folder) if there == folder else f"{folder}, which the first download makes"
    return Finding(status="ok", text=text, facts=facts)


def check_disk(around: Surroundings) -> Finding:
    """Free space where models go."""
    free = around.free_bytes(around.manager().cache_dir)
    facts = {"free_bytes": free}
    if free >= _LITTLE_BYTES:
        return Finding(status="ok", text=f"{disk(free)} free", facts=facts)
    return Finding(
        status="warn" if free >= _NEXT_TO_NOTHING_BYTES else "fail",
        text=f"only {disk(free)} free",
        repair="mlxi models list --sort size, then mlxi models rm NAME",
        facts=facts,
    )


def check_models(around: Surroundings) -> Iterator[Finding]:
    """Models that are not whole: interrupted downloads, links that lead nowhere."""
    models = around.manager().list()
    broken = [model for model in models if not model.is_complete]
    for model in broken[:_SHOWN]:
        yield Finding(
            status="warn",
            text=f"{model.name} is not whole; {disk(model.size_bytes)} of it are here",
            repair=f"mlxi models pull {model.name}" if model.source == "hub" else f"Put its files back: {model.path}",
            facts={"model": model.name, "path": str(model.path), "reason": model.reason},
        )
    if len(broken) > _SHOWN:
        yield Finding(status="warn", text=f"{len(broken) - _SHOWN} more are not whole", repair="mlxi models list")
    if not broken:
        usable = sum(model.is_usable for model in models)
        size = disk(sum(model.size_bytes for model in models))
        others = f"; {len(models) - usable} more cannot be run here: mlxi models list" if usable < len(models) else ""
        facts = {"models": len(models), "usable": usable}
        yield Finding(status="ok", text=f"{usable} usable, {size}{others}", facts=facts)


def check_partials(around: Surroundings) -> Finding:
    """What interrupted downloads left."""
    partials = around.manager().partials()
    left = [partial for partial in partials if not partial.is_active]
    size = sum(partial.size_bytes for partial in left)
    facts = {"files": len(left), "bytes": size, "active": len(partials) - len(left)}
    if not left:
        return Finding(status="ok", text="a download is going on" if partials else "none", facts=facts)
    again = next((partial.repo_id for partial in left if partial.origin == "mlxi"), None)
    files = "one file" if len(left) == 1 else f"{len(left)} files"
    text = f"{files}, {disk(size)}, of downloads that were interrupted"
    repair = "mlxi models prune" + (f"  (or go on: mlxi models pull {again})" if again else "")
    return Finding(status="warn", text=text, repair=repair, facts=facts)


def _written(folder: Path) -> Iterator[Path]:
    """The folder and those in it that a download writes to: one that was made with sudo stays closed to its user."""
    yield folder
    yield from (path for path in sorted(folder.glob("models--*")) + [folder / ".locks"] if path.is_dir())
