"""Points of a Qdrant server as plain values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.migration.stores.json_numbers import settled
from mlx_integrations.migration.stores.qdrant.layout import UNNAMED

__all__ = ["Point", "vectors_of"]

_NUMBER_BYTES: Final = 12  # a coordinate in JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point.

    Attributes:
        id: A number, or a UUID as text.
        payload: Everything but vectors.
        vectors: By name, as plain values: lists of numbers, or indices and values of a sparse one.
    """

    id: int | str
    payload: Mapping[str, Any]
    vectors: Mapping[str, Any]

    def canonical(self) -> bytes:
        """The same bytes for the same content."""
        content = [self.id, settled(self.payload), self.vectors]
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @property
    def weight_bytes(self) -> int:
        """What it takes in JSON, about."""
        return sum(map(_weight, self.vectors.values())) + 2 * len(str(self.payload))


def vectors_of(record: Any) -> dict[str, Any]:
    """The vectors of a point of the client's, by name."""
    vector = record.vector
    if vector is None:
        return {}
    named = vector if isinstance(vector, Mapping) else {UNNAMED: vector}
    return {name: _plain(each) for name, each in named.items()}


def _plain(vector: Any) -> Any:
    return vector if isinstance(vector, list) else {"indices": list(vector.indices), "values": list(vector.values)}


def _weight(vector: Any) -> int:
    if isinstance(vector, Mapping):
        return 2 * _NUMBER_BYTES * len(vector["indices"])
    return _NUMBER_BYTES * len(vector) * (len(vector[0]) if vector and isinstance(vector[0], list) else 1)
