"""What every target does that appears by one name on the disk."""

from pathlib import Path
from typing import ClassVar

from mlx_integrations.migration.protocol import Published, Run
from mlx_integrations.migration.records import Framework, StoreLocation
from mlx_integrations.migration.targets.place import FilePlace, FolderPlace, existing_folder

__all__ = ["PlacedTarget"]


class PlacedTarget:
    """A file or a folder that is built beside its place, and gets its name when it is published.

    Args:
        location: Where it will be.
        place: That name, and those before it.

    Attributes:
        frameworks: Whose documents it can hold.
        has_unique_ids: Whether it can hold only one document of an id.
    """

    frameworks: ClassVar[frozenset[Framework]] = frozenset({"langchain"})
    has_unique_ids: ClassVar[bool] = True

    def __init__(self, location: StoreLocation, place: FilePlace | FolderPlace) -> None:
        self._location = location
        self._place = place

    @property
    def location(self) -> StoreLocation:
        """Where it will be."""
        return self._location

    @property
    def folder(self) -> Path | None:
        """The nearest folder that exists."""
        return existing_folder(self._location.path)

    def check(self, run: Run | None = None) -> None:
        """Look whether the place is free."""
        self._place.check(run)

    def published(self, run: Run) -> Published:
        """Whether it is at its place."""
        return self._place.published(run)

    def publish(self, run: Run) -> None:
        """Give it its name."""
        self._place.publish(run)

    def rollback(self, run: Run) -> None:
        """Take its name away."""
        self._place.rollback(run)

    def discard(self, run: Run) -> None:
        """Delete what is not in use."""
        self._place.discard(run)

    def close(self) -> None:
        """Nothing is kept open."""
