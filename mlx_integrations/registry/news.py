"""What changed in the catalogue since a person was last told, once a day."""

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlx_integrations.registry.catalogue import ModelRegistry
from mlx_integrations.registry.files import read_small_file, write_whole

__all__ = ["Notice", "notices"]

_FORMAT = 1
_DAY_SECONDS: Final = 24 * 60 * 60
_MAX_STATE_BYTES = 2**21
_MAX_TOLD: Final = 10_000  # a list that changes its names every day must not fill the disk
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing worth a line.

    Attributes:
        kind: `new`, `replaced` or `deprecated`.
        model_id: The model it is about; for `replaced`, the older one.
        text: The line.
    """

    kind: Literal["new", "replaced", "deprecated"]
    model_id: str
    text: str


def notices(
    registry: ModelRegistry, state_file: Path, now: float, *, installed: Collection[str] | None = None
) -> list[Notice]:
    """What is to be told now, and remember that it was; nothing within a day of the last time.

    The first time there is nothing to compare with, so that nothing is told. A state file that cannot be read counts as
    none; one that cannot be written is not an error.

    Args:
        registry: The catalogue.
        state_file: Where it is remembered.
        now: Seconds since 1970.
        installed: Ids of the models on this machine: only these are worth a notice that they are replaced or
            deprecated. `None` means all.
    """
    told = _read_told(state_file)
    if told is not None and 0 <= now - told[0] < _DAY_SECONDS:
        return []
    current = _current(registry)
    found = [] if told is None else [notice for key, notice in current.items() if key not in told[1]]
    if told is None or found:
        # What is gone from the list stays told: it must not be news when it comes back.
        earlier = set() if told is None or len(told[1]) > _MAX_TOLD else told[1]
        _write_told(state_file, now, earlier | current.keys())
    return [notice for notice in found if notice.kind == "new" or installed is None or notice.model_id in installed]


def _current(registry: ModelRegistry) -> dict[str, Notice]:
    """Everything that could be told of a catalogue, by a key that stays the same."""
    found: dict[str, Notice] = {}
    for entry in registry.entries:
        if entry.deprecated:
            text = f"{entry.id} should not be started with any more: {entry.deprecated}"
            found[f"deprecated {entry.id}"] = Notice(kind="deprecated", model_id=entry.id, text=text)
        else:
            found[f"new {entry.id}"] = Notice(kind="new", model_id=entry.id, text=f"{entry.name} is new: {entry.id}")
        for old in entry.replaces:
            if registry.get(old) is not None and not entry.deprecated:
                text = f"{old} has a successor: {entry.id}"
                found[f"replaced {old} {entry.id}"] = Notice(kind="replaced", model_id=old, text=text)
    return found


def _read_told(state_file: Path) -> tuple[float, set[str]] | None:
    try:
        state: Any = json.loads(read_small_file(state_file, _MAX_STATE_BYTES))
        told_at, keys = state["told_at"], state["told"]
        if state["format"] == _FORMAT and type(told_at) in (int, float) and isinstance(keys, list):
            return float(told_at), {key for key in keys if isinstance(key, str)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _logger.debug("What was told of the catalogue cannot be read: %s", error)
    return None


def _write_told(state_file: Path, now: float, keys: Collection[str]) -> None:
    try:
        write_whole(state_file, json.dumps({"format": _FORMAT, "told_at": now, "told": sorted(keys)}))
    except OSError as error:
        _logger.debug("What was told of the catalogue cannot be kept: %s", error)
