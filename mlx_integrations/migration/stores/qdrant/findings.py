"""What is told of a collection before anything of it is migrated."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlx_integrations.migration.records import Finding, Row
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts, several_sizes
from mlx_integrations.migration.stores.pickle_values import as_plain
from mlx_integrations.migration.stores.qdrant.layout import METADATA

__all__ = ["Look", "without_vector"]

_MOST_NAMES: Final = 100


class Look:
    """What is met while the points of a folder are read.

    Args:
        vector: The name of the vector that is embedded anew.

    Attributes:
        sizes: How many vectors there are of each size.
    """

    def __init__(self, vector: str) -> None:
        self._vector = vector
        self.sizes: Counter[int] = Counter()
        self._without = 0
        self._missing: list[str] = []
        self._as_text: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def skip(self) -> None:
        """Take in a point that has no such vector, and stays as it is."""
        self._without += 1

    def add(self, row: Row, payload: Mapping[str, Any], size: int) -> None:
        """Take in a point with its vector."""
        self.sizes[size] += 1
        if not (row.text or "").strip():
            self._missing.append(row.id)
        if as_plain(payload)[1]:
            for message in set(_become_text(payload)):
                self._as_text[message] += 1
                if len(examples := self._examples.setdefault(message, [])) < EXAMPLES:
                    examples.append(row.id)

    def findings(self, outdated: int) -> Iterator[Finding]:
        """What is to be known, and accepted.

        Args:
            outdated: Points of which another one is the last version.
        """
        if len(self.sizes) > 1:
            yield several_sizes(self.sizes, "The client cannot open them")
        if outdated:
            message = (
                "Earlier clients wrote these points anew under another spelling of their ids; the last one counts."
            )
            yield Finding(code="duplicate-ids", message=message, count=outdated)
        if self._missing:
            yield missing_texts(len(self._missing), self._missing)
        if self._without:
            yield without_vector(self._without, self._vector)
        yield from self._of_texts()

    def _of_texts(self) -> Iterator[Finding]:
        found = sorted(self._as_text.items())
        for message, count in found[:_MOST_NAMES]:
            yield Finding(
                code="not-held", message=message, count=count, examples=tuple(self._examples[message]), is_blocking=True
            )
        if more := found[_MOST_NAMES:]:
            message = f"Values of {len(more)} other names become text as well."
            yield Finding(code="not-held", message=message, count=sum(count for _, count in more), is_blocking=True)


def _become_text(payload: Mapping[str, Any]) -> Iterator[str]:
    """What of a payload new points have as text, by the names that LangChain gives it."""
    for name, value in payload.items():
        inner = value.items() if name == METADATA and isinstance(value, Mapping) else [(name, value)]
        for own_name, each in inner:
            if reason := as_plain((own_name, each))[1]:
                yield f"`{own_name}`: {reason}."


def without_vector(count: int, vector: str) -> Finding:
    """What is told of points that lack the vector that is embedded anew."""
    name = f"`{vector}`" if vector else "such"
    message = f"They have no {name} vector, and get none: everything else of them is kept."
    return Finding(code="missing-vectors", message=message, count=count)
