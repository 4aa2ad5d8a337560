"""What columns a new table of LanceDB has: one kind for each name of metadata, as all documents together need it.

Arrow knows no table whose rows differ in kind. So every document is looked at before the first is written; where two
have other kinds under one name, the first one counts, and what a document does not have reads as `None`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlx_integrations.migration.targets.values import LEFT_OUT, Changed

__all__ = ["MISSING", "Kind", "conformed", "kind_of", "merged"]

_SCALARS: Final = {bool: "truth", int: "whole", float: "real", str: "text"}
_NONE: Final = "nothing"
MISSING: Final = "documents without it, which get `None`"
_TOLD_INSIDE: Final = "mappings that differ in their names, which get `None` for what they do not have"
_TOLD_OTHER: Final = "values of another kind than the first one, left out"
_TOLD_REAL: Final = "whole numbers among others, which become numbers with a point"


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a column, or of a part of one.

    Attributes:
        name: `truth`, `whole`, `real`, `text`, `list`, `mapping`, or `nothing` as long as no value was met.
        inner: Of a list, the kind of its values.
        parts: Of a mapping, the kinds of its values.
    """

    name: str
    inner: "Kind | None" = None
    parts: "Mapping[str, Kind]" = field(default_factory=dict)

    def arrow(self) -> Any:
        """As Arrow has it; where no value was met, text."""
        import pyarrow as pa

        if self.name == "list":
            return pa.list_((self.inner or Kind(_NONE)).arrow())
        if self.name == "mapping":
            return pa.struct([(name, part.arrow()) for name, part in self.parts.items()])
        types = {"truth": pa.bool_(), "whole": pa.int64(), "real": pa.float64()}
        return types.get(self.name, pa.string())


def kind_of(value: Any) -> Kind | None:
    """The kind of a value of JSON; `None` if it has none, because it differs in itself, or is an empty mapping."""
    if value is None:
        return Kind(_NONE)
    if isinstance(value, Mapping):
        parts = {name: kind_of(each) for name, each in value.items()}
        known = {name: part for name, part in parts.items() if part is not None}
        return Kind("mapping", parts=known) if parts and len(known) == len(parts) else None
    if isinstance(value, list):
        inner: Kind | None = Kind(_NONE)
        for each in value:
            one = kind_of(each)
            inner = None if one is None or inner is None else merged(inner, one)
            if inner is None:
                return None
        return Kind("list", inner=inner)
    name = _SCALARS.get(type(value))
    return None if name is None else Kind(name)


def merged(first: Kind, second: Kind) -> Kind | None:
    """One kind for values of both; `None` if there is none."""
    if _NONE in (first.name, second.name):
        return second if first.name == _NONE else first
    if {first.name, second.name} == {"whole", "real"}:
        return Kind("real")
    if first.name != second.name:
        return None
    if first.name == "list":
        inner = merged(first.inner or Kind(_NONE), second.inner or Kind(_NONE))
        return None if inner is None else Kind("list", inner=inner)
    if first.name == "mapping":
        parts = dict(first.parts)
        for name, part in second.parts.items():
            both = merged(parts[name], part) if name in parts else part
            if both is None:
                return None
            parts[name] = both
        return Kind("mapping", parts=parts)
    return first


def conformed(value: Any, kind: Kind) -> Changed:
    """A value as it is read from a column of some kind, and what is lost of it."""
    own = kind_of(value)
    both = None if own is None else merged(kind, own)
    if both is None or both != kind:
        return LEFT_OUT, _TOLD_OTHER
    return _conformed(value, kind)


def _conformed(value: Any, kind: Kind) -> Changed:
    if value is None:
        return None, ""
    if kind.name == "real":
        return float(value), "" if isinstance(value, float) else _TOLD_REAL
    if kind.name == "list" and kind.inner is not None:
        parts = [_conformed(each, kind.inner) for each in value]
        return [each for each, _ in parts], next((reason for _, reason in parts if reason), "")
    if kind.name == "mapping":
        found = {name: _conformed(value.get(name), part) for name, part in kind.parts.items()}
        told = next((reason for _, reason in found.values() if reason), "")
        missing = _TOLD_INSIDE if found.keys() != value.keys() else ""
        return {name: each for name, (each, _) in found.items()}, told or missing
    return value, ""
