"""What a migration would do, found without writing anything."""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.executors.protocol import Executor
from mlx_integrations.migration.protocol import ChoosesIndex, Placed, Store
from mlx_integrations.migration.records import StoreInfo

__all__ = ["Plan", "plan_migration"]

_PROBED_ROWS: Final = 64
_COUNTED_ROWS: Final = 100_000  # some seconds
_READ_ROWS: Final = 1_000
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a migration would do, found without writing anything.

    Attributes:
        info: The store.
        target: The model that would embed.
        index: The kind of index that would be built.
        disk_bytes: What vectors and index would take, beside the store, until the old ones are deleted.
        free_bytes: What the disk has.
        place_bytes: What a new store at another place would take, at most.
        place_free_bytes: What the disk of that place has; `None` if that is not known.
        long_rows: How many of `counted_rows` are longer than the model reads.
        counted_rows: Rows whose tokens were counted: all, or the first 100,000.
        seconds: How long embedding would take, from some of those rows; `None` if that was not measured.
    """

    info: StoreInfo
    target: EmbeddingFingerprint
    index: str
    disk_bytes: int
    free_bytes: int
    long_rows: int
    counted_rows: int
    seconds: float | None
    place_bytes: int = 0
    place_free_bytes: int | None = None

    @property
    def is_short_of_disk(self) -> bool:
        """Whether it would take more than one of the disks has."""
        is_place_full = self.place_free_bytes is not None and self.place_bytes > self.place_free_bytes
        return is_place_full or self.disk_bytes > self.free_bytes

    @property
    def is_blocked(self) -> bool:
        """Whether something has to be repaired or accepted first."""
        return self.is_short_of_disk or any(each.is_blocking for each in self.info.findings)


def plan_migration(
    store: Store,
    executor: Executor,
    *,
    index: str = "",
    probe: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Say what `migrate` would do. Reads the store, and embeds a few rows.

    Args:
        store: The store.
        executor: Makes the vectors.
        index: The kind of index to build, in the store's own words; the one it has if left out.
        probe: Whether to embed some rows, to tell how long all would take.
        clock: Seconds.
    """
    if isinstance(store, Placed):
        store.check_place()
    info = store.describe()
    target = executor.fingerprint()
    long, counted, some = _census(store, executor)
    seconds = _probed(executor, some, info.count, clock) if probe and some else None
    folder = Path.home() if info.location.is_remote else info.location.path
    return Plan(
        info=info,
        target=target,
        index=store.index_for(target.dimensions, index) if isinstance(store, ChoosesIndex) else index or info.index,
        disk_bytes=(1 if isinstance(store, Placed) else 2) * info.count * target.dimensions * _FLOAT_BYTES,
        free_bytes=shutil.disk_usage(folder).free,
        long_rows=long,
        counted_rows=counted,
        seconds=seconds,
        **(_room(store, target.dimensions) if isinstance(store, Placed) else {}),
    )


def _census(store: Store, executor: Executor) -> tuple[int, int, list[str]]:
    """How many texts are too long, of how many that were counted, and some of them, each as likely as any other."""
    chance = random.Random(0)
    texts = (row.text for row in store.rows() if row.text)
    long = counted = 0
    some: list[str] = []
    while counted < _COUNTED_ROWS and (part := list(islice(texts, _READ_ROWS))):
        long += executor.count_long(part)
        for text in part:
            counted += 1
            if len(some) < _PROBED_ROWS:
                some.append(text)
            elif (place := chance.randrange(counted)) < _PROBED_ROWS:
                some[place] = text
    return long, counted, some


def _room(store: Placed, dimensions: int) -> dict[str, Any]:
    """What a place of its own has, and needs."""
    free = None if store.place is None else shutil.disk_usage(store.place).free
    return {"place_bytes": store.disk_bytes(dimensions), "place_free_bytes": free}


def _probed(executor: Executor, texts: list[str], count: int, clock: Callable[[], float]) -> float:
    list(executor.embed([texts[:1]]))  # loads the model
    began = clock()
    list(executor.embed([texts]))
    return (clock() - began) / len(texts) * count
