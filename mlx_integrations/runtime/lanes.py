"""What the engine needs of a loaded model: something that takes in tasks and advances them step by step."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

__all__ = ["Lane"]


class Lane(Protocol):
    """The tasks of one loaded model. Worker thread only."""

    is_batched: ClassVar[bool]
    """Whether tasks are computed together, or one after another."""
    is_background: ClassVar[bool]
    """Whether its steps keep themselves short while others are at work."""

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

    def add(self, task: Any) -> None:
        """Take in a task; it starts at one of the next steps. Does not raise: what fails is posted to the task."""
        ...

    def step(self) -> bool:
        """Advance by one step; False when there is nothing left to do."""
        ...

    def settle(self) -> None:
        """Wait for what the latest step left running, where another lane's step would compete with it."""
        ...

    def close(self, make_error: Callable[[], Exception] | None) -> None:
        """End every task and free what they hold.

        Args:
            make_error: Makes the error of each task, one for each: an error is changed by whoever catches it. Without
                it the tasks hear nothing.
        """
        ...
