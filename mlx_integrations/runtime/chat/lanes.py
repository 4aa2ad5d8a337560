"""The rows of one loaded model: added, stepped together, removed. Worker thread only.

`BatchLane` decodes all rows together; `SerialLane` takes them one after another, for models whose caches cannot be
merged.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from mlx_integrations.runtime._mlx import caches_can_be_merged
from mlx_integrations.runtime.chat.batch_lane import BatchLane
from mlx_integrations.runtime.chat.rows import Row
from mlx_integrations.runtime.chat.serial_lane import SerialLane

__all__ = ["Lane", "make_lane"]


class Lane(Protocol):
    """What the engine needs of a lane."""

    is_batched: ClassVar[bool]
    """Whether rows are decoded together."""

    @property
    def prefix_bytes(self) -> int:
        """What the kept prefixes of earlier prompts take."""
        ...

    def set_prefix_budget(self, budget_bytes: int) -> None:
        """Say how much may be kept from now on."""
        ...

    def clear_prefixes(self) -> None:
        """Give the kept prefixes' memory back."""
        ...

    def add(self, row: Row) -> None:
        """Take in a row; it starts at one of the next steps. Does not raise: what fails is posted to the row."""
        ...

    def step(self) -> bool:
        """Advance by one step; False when there is nothing left to do."""
        ...

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every row and free the caches.

        Args:
            make_error: Makes the error of each row, one for each: an error is changed by whoever catches it. Without
                it the rows hear nothing.
        """
        ...


def make_lane(model: Any, *, max_batch_size: int, prefill_step_tokens: int) -> Lane:
    """The lane that fits the model's caches."""
    if caches_can_be_merged(model):
        return BatchLane(model, max_batch_size=max_batch_size, prefill_step_tokens=prefill_step_tokens)
    return SerialLane(model, prefill_step_tokens=prefill_step_tokens)
