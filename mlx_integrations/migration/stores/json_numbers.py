"""Numbers of metadata, compared in spite of databases that read them as their neighbours.

Databases in Rust parse JSON with `serde_json`, which takes the digits of a number for a whole number and scales it by a
power of ten, and both round (https://github.com/serde-rs/json/issues/536). So about one of ten numbers of 16 or 17
digits becomes a neighbour when it is written, and perhaps another one the next time, until it stays. Nobody can write
such a number, and a copy of one that came another way is not the same. So they are compared by what each ends at.
"""

from decimal import Decimal
from math import isfinite
from typing import Any, Final

__all__ = ["as_read", "settled"]

_ALWAYS_EXACT: Final = (1e-7, 1e22)  # of up to 15 digits: powers of ten up to 10**22 are exact
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
