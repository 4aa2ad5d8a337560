"""Values that a pickle may have without anything of it being run: numbers, times, sets, and the numbers of NumPy.

A pickle names functions and calls them. Only the names in a list are known here, and none of them stands for a function
that could do anything else than make a value.
"""

import collections
import datetime
import decimal
import pickle
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["BROKEN", "PLAIN_VALUES", "Call", "RefusedError", "look_up"]

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


class _DType:
    """Stands for `numpy.dtype`, whose own state could be made to read memory that is not its own."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">", "=", "|"):
            self.order = state[1]


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
    """A number, text or time of NumPy as Python's."""
    import numpy as np

    if not isinstance(dtype, _DType) or not isinstance(content, bytes) or dtype.code[:1] not in "biufcSUmM?":
        raise TypeError("not a number of NumPy")
    order = "" if dtype.order == "|" else dtype.order
    return np.frombuffer(content, np.dtype(order + dtype.code))[0].item()


PLAIN_VALUES: Final[Mapping[tuple[str, str], Any]] = {
    **{("datetime", cls.__name__): cls for cls in (datetime.datetime, datetime.date, datetime.time)},
    ("datetime", "timedelta"): datetime.timedelta,
    ("datetime", "timezone"): datetime.timezone,
    ("decimal", "Decimal"): decimal.Decimal,
    ("uuid", "UUID"): uuid.UUID,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): frozenset for module in ("builtins", "__builtin__")},
    **{
        (module, name): Call(lambda *parts: "/".join(parts).replace("//", "/"))
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")
    },
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "scalar"): Call(_scalar),
    ("numpy._core.multiarray", "scalar"): Call(_scalar),
}
"""What names of modules and their contents stand for."""


def look_up(known: Mapping[tuple[str, str], Any], module: str, name: str) -> Any:
    """What a name stands for.

    Raises:
        RefusedError: It is not in the list.
    """
    try:
        return known[module, name]  # whole names only: `datetime` of `sys.modules` is not in the list
    except KeyError:
        raise RefusedError(f"{module}.{name}") from None
