"""Values that a pickle may have without anything of it being run: numbers, times, sets, and the numbers of NumPy.

A pickle names functions and calls them. Only the names in a list are known here, and none of them stands for a function
that could do anything else than make a value.

A pickle can also refer to what it has read before. That makes values that have themselves in them, or some of a few
bytes that nobody could write out; `check_tree` refuses both.
"""

import collections
import datetime
import decimal
import pathlib
import pickle
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Final

from mlx_integrations.migration.records import TextOf

__all__ = [
    "BROKEN",
    "TOLD_VALUES",
    "Call",
    "RefusedError",
    "Shell",
    "TangledError",
    "as_plain",
    "check_tree",
    "first_of",
    "look_up",
]

_DEEPEST: Final = 100
_MOST_PARTS: Final = 10_000_000
_SINGLE: Final = frozenset({str, int, float, bool, type(None)})
_SEVERAL: Final = (dict, list, tuple, set, frozenset)

BROKEN: Final = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
    MemoryError,
    OverflowError,
    AssertionError,
)
"""What reading a damaged pickle may raise, by the documentation of `pickle`."""


class RefusedError(Exception):
    """A name that is not in the list."""


class TangledError(Exception):
    """A value that has itself in it, or more in it than anybody could write out."""


class Shell:
    """Stands for an object of a class that is not used: what a pickle says of it, and no more."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ()

    @property
    def parts(self) -> list[Any]:
        """What it has in it."""
        return [getattr(self, name, None) for name in self.shown]

    def __repr__(self) -> str:
        """The same in each process: digests are made of it."""
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class _DType(Shell):
    """Stands for `numpy.dtype`, whose own state could be made to read memory that is not its own."""

    __slots__ = ("code", "order", "unit")
    shown: ClassVar[tuple[str, ...]] = __slots__

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order, self.unit = code, "=", ""

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">", "=", "|"):
            self.order = state[1]
        if self.code in ("M8", "m8"):  # of which days or nanoseconds it counts, and how many at a time
            unit, step = state[8][1][:2]
            self.unit = f"[{int(step)}{unit.decode('ascii') if isinstance(unit, bytes) else unit}]"


class Call:
    """A function that a pickle cannot change: what it tries to set on it is an error."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """What the function makes of the arguments."""
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a function has no state")


def _scalar(dtype: Any, content: bytes) -> Any:
    """A number or text of NumPy as Python's, which is equal; a time as text, since Python has none of its units."""
    import numpy as np

    if not isinstance(dtype, _DType) or not isinstance(content, bytes) or dtype.code[:1] not in "biufcSUmM?":
        raise TypeError("not a number of NumPy")
    order = "" if dtype.order == "|" else dtype.order
    value = np.frombuffer(content, np.dtype(order + dtype.code + dtype.unit))[0]
    return TextOf(str(value), "times of NumPy") if dtype.code[:1] in "mM" else value.item()


def _path(kind: type[pathlib.PurePath], *parts: Any) -> TextOf:
    return TextOf(str(kind(*parts)), "paths")


_PATHS: Final = {
    "Path": pathlib.PurePosixPath,
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    "WindowsPath": pathlib.PureWindowsPath,
}


TOLD_VALUES: Final[Mapping[tuple[str, str], Any]] = {
    **{("datetime", cls.__name__): cls for cls in (datetime.datetime, datetime.date, datetime.time)},
    ("datetime", "timedelta"): datetime.timedelta,
    ("datetime", "timezone"): datetime.timezone,
    ("decimal", "Decimal"): decimal.Decimal,
    ("uuid", "UUID"): uuid.UUID,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): frozenset for module in ("builtins", "__builtin__")},
    **{
        (module, name): Call(partial(_path, kind))
        for module in ("pathlib", "pathlib._local")
        for name, kind in _PATHS.items()
    },
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "scalar"): Call(_scalar),
    ("numpy._core.multiarray", "scalar"): Call(_scalar),
}
"""What names of modules and their contents stand for. What only Python has becomes `TextOf`."""


def look_up(known: Mapping[tuple[str, str], Any], module: str, name: str) -> Any:
    """What a name stands for.

    Raises:
        RefusedError: It is not in the list.
    """
    try:
        return known[module, name]  # whole names only: `datetime` of `sys.modules` is not in the list
    except KeyError:
        raise RefusedError(f"{module}.{name}") from None


def as_plain(value: Any) -> tuple[Any, str]:
    """A value with plain text where text stands for something else, and what becomes of that, in words.

    Args:
        value: Where it is nested more deeply than `check_tree` lets it be, it stays as it is.
    """
    found = first_of(value, TextOf)
    return (value, "") if found is None else (_with_plain_text(value, 0), f"{found.was}, which become text")


def first_of(value: Any, kinds: type | tuple[type, ...], depth: int = 0) -> Any:
    """The first part of a value that is of one of some kinds, or the value itself; `None` if there is none."""
    if isinstance(value, kinds):
        return value
    if isinstance(value, _SEVERAL) and depth < _DEEPEST:
        for part in _parts_of(value):
            if type(part) not in _SINGLE and (found := first_of(part, kinds, depth + 1)) is not None:
                return found
    return None


def _with_plain_text(value: Any, depth: int) -> Any:
    if isinstance(value, TextOf):
        return str(value)
    if not isinstance(value, _SEVERAL) or depth >= _DEEPEST:
        return value
    if isinstance(value, dict):
        inner = ((_with_plain_text(key, depth + 1), _with_plain_text(each, depth + 1)) for key, each in value.items())
        return type(value)(inner)
    return type(value)(_with_plain_text(each, depth + 1) for each in value)


def check_tree(value: Any) -> None:
    """See to it that a value can be written out: what it has in it, and what that has in it, comes to an end.

    Raises:
        TangledError: It does not.
    """
    if not (type(value) is dict and _SINGLE.issuperset(map(type, value.values()))):  # almost all metadata
        _measured(value, {}, 0)


def _measured(value: Any, known: dict[int, tuple[int, int] | None], depth: int) -> tuple[int, int]:
    """How many values it has in it, and how deep; `known` has that of what was met, `None` while it is counted."""
    parts = _parts_of(value)
    if not parts:
        return 1, 0
    if id(value) in known:
        found = known[id(value)]
        if found is None:
            raise TangledError("refers to itself")
        return found
    known[id(value)] = None
    inner = [part for part in parts if type(part) not in _SINGLE]
    measured = [_measured(part, known, depth + 1) for part in inner] if depth < _DEEPEST else [(0, _DEEPEST)]
    count = 1 + len(parts) - len(inner) + sum(count for count, _ in measured)
    height = 1 + max((height for _, height in measured), default=0)
    if height > _DEEPEST:
        raise TangledError(f"is nested more than {_DEEPEST} deep")
    if count > _MOST_PARTS:
        raise TangledError(f"repeats the same values more than {_MOST_PARTS:,} times")
    known[id(value)] = count, height
    return count, height


def _parts_of(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return value.parts if isinstance(value, Shell) else ()
