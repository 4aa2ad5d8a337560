"""Numbers of metadata, compared in spite of databases that read them as their neighbours.

Databases in Rust parse JSON with `serde_json`, which takes the digits of a number for a whole number and scales it by a
power of ten, and both round (https://github.com/serde-rs/json/issues/536). So about one of ten numbers of 16 or 17
digits becomes a neighbour when it is written, and perhaps another one the next time, until it stays. Nobody can write
such a number, and a copy of one that came another way is not the same. So they are compared by what each ends at.
"""

from dataclasses import replace
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from mlx_integrations.migration.records import Row

__all__ = ["TOLD_DIGITS", "as_given", "as_read", "settled", "settled_row"]

TOLD_DIGITS: Final = "a number of 16 or 17 digits, which is read as its neighbour"
"""What is told of a document before it is moved."""

_ALWAYS_EXACT: Final = (1e-7, 1e15)  # of up to 15 digits; from 10**15 on the `.0` of whole numbers makes it 17
_LARGEST_POWER: Final = 308


def settled(value: Any) -> Any:
    """Metadata, or part of them, with the numbers that were left if they were written and read again for long.

    The same for what was written and for what a database makes of it.
    """
    if isinstance(value, float):
        return _end_of(value)
    if isinstance(value, dict):
        return {name: settled(each) for name, each in value.items()}
    return [settled(each) for each in value] if isinstance(value, list) else value


def settled_row(row: Row) -> Row:
    """A row to be compared; the metadata that are to be written are carried by it, where they are others."""
    metadata = settled(row.metadata)
    return row if metadata == row.metadata else replace(row, metadata=metadata, carried=row.metadata)


def as_given(row: Row) -> Row:
    """A row to be written."""
    return row if row.carried is None else replace(row, metadata=row.carried, carried=None)


def as_read(number: float) -> float:
    """What such a database makes of a finite number, written as briefly as can be."""
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    made, exponent = float(int("".join(map(str, digits)))), int(exponent)
    while made and abs(exponent) > _LARGEST_POWER:
        made, exponent = made / float(f"1e{_LARGEST_POWER}"), exponent + _LARGEST_POWER
    made = made / float(f"1e{-exponent}") if exponent < 0 else made * float(f"1e{exponent}")
    return -made if sign else made


def _end_of(number: float) -> float:
    smallest, largest = _ALWAYS_EXACT
    if not isfinite(number) or (smallest <= abs(number) < largest and float(f"{number:.15g}") == number):
        return number
    seen: dict[float, int] = {}
    while number not in seen:
        seen[number] = len(seen)
        number = as_read(number)
    return min(each for each, place in seen.items() if place >= seen[number])  # some go round among neighbours
