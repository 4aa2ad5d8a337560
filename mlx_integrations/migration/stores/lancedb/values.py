"""What Python reads of a column of LanceDB."""

from collections.abc import Callable
from typing import Any

__all__ = ["values_of"]


def values_of(column: Any) -> list[Any]:
    """The values of a column.

    Python knows no nanoseconds, and only some of the dates and spans that Arrow has: those are numbers, each by itself,
    so that a row reads alike whatever rows are read with it.
    """
    import pyarrow as pa

    def value(scalar: Any) -> Any:
        try:
            return scalar.as_py()
        except (OverflowError, ValueError):
            return pa.array([scalar], scalar.type).cast(_plain_type(scalar.type, _has_time)).to_pylist()[0]

    column = _plain(column)
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [value(each) for each in column]


def _has_nanoseconds(kind: Any) -> bool:
    return getattr(kind, "unit", "") == "ns"


def _has_time(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_temporal(kind))


def _plain(column: Any) -> Any:
    kind = _plain_type(column.type, _has_nanoseconds)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: Any, becomes_number: Callable[[Any], bool]) -> Any:
    import pyarrow as pa

    if becomes_number(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return pa.struct([field.with_type(_plain_type(field.type, becomes_number)) for field in fields])
    if pa.types.is_map(kind):
        key, item = (
            field.with_type(_plain_type(field.type, becomes_number)) for field in (kind.key_field, kind.item_field)
        )
        return pa.map_(key, item, keys_sorted=kind.keys_sorted)
    for is_kind, make in (
        (pa.types.is_fixed_size_list, lambda field: pa.list_(field, kind.list_size)),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_list, pa.list_),
    ):
        if is_kind(kind):
            return make(kind.value_field.with_type(_plain_type(kind.value_type, becomes_number)))
    return kind
