"""A point as Qdrant's local mode stores it: a pickle, of which only points and plain values are known."""

import pickle
from collections.abc import Mapping
from typing import Any, Final

from mlx_integrations.migration.stores.pickle_values import (
    TOLD_VALUES,
    Call,
    Shell,
    TangledError,
    check_tree,
    first_of,
    look_up,
)
from mlx_integrations.migration.stores.qdrant.layout import UNNAMED

__all__ = ["PointReader", "StoredPoint", "check_payload", "checked_id"]


class StoredPoint(Shell):
    """A point as it was stored; stands for the client's own class.

    Attributes:
        id: A number, or a UUID as text.
        vector: One vector without a name, or several by name.
        payload: Everything else; `TextOf` where it has what only Python has.
    """

    __slots__ = ("id", "payload", "vector")

    def __setstate__(self, state: Any) -> None:
        values = state["__dict__"]
        self.id: int | str = checked_id(values["id"])
        self.vector: Any = values.get("vector")
        self.payload: dict[str, Any] = values.get("payload") or {}

    def dense(self, name: str) -> list[float] | None:
        """A vector; `None` if the point does not have it."""
        vector = self._vectors().get(name)
        return vector if isinstance(vector, list) and not (vector and isinstance(vector[0], list)) else None

    def others(self, name: str) -> dict[str, Any]:
        """All vectors but one, as plain values."""
        return {each: _plain(vector) for each, vector in self._vectors().items() if each != name and vector is not None}

    def _vectors(self) -> Mapping[str, Any]:
        return self.vector if isinstance(self.vector, dict) else {UNNAMED: self.vector}


class _SparseVector(Shell):
    """Stands for the client's own class."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        values = state["__dict__"]
        self.values = {"indices": list(values["indices"]), "values": list(values["values"])}


def _plain(vector: Any) -> Any:
    return vector.values if isinstance(vector, _SparseVector) else vector


def checked_id(value: Any) -> int | str:
    """An id.

    Raises:
        TypeError: It is none.
    """
    if type(value) is int or type(value) is str:  # a path is none
        return value
    raise TypeError("a point's id is a number or a text")


def check_payload(payload: Mapping[str, Any]) -> None:
    """See to it that a payload can be written again.

    Raises:
        TangledError: It has itself in it, or what is no value.
    """
    check_tree(payload)
    if first_of(payload, (Shell, Call, type)) is not None:
        raise TangledError("has something in it that is no plain value, such as a type or a point")


_MODELS: Final = "qdrant_client.http.models.models"
_KNOWN: Final[Mapping[tuple[str, str], Any]] = {
    **TOLD_VALUES,
    (_MODELS, "PointStruct"): StoredPoint,
    (_MODELS, "SparseVector"): _SparseVector,
}


class PointReader(pickle.Unpickler):
    """Reads a point, or the id of one, and runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            RefusedError: No point needs it.
        """
        return look_up(_KNOWN, module, name)
