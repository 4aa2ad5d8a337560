"""How LangChain marks mappings in its JSON that could be taken for objects of its own.

`langchain_core.load.dumpd` writes `{"lc": ...}` as `{"__lc_escaped__": {"lc": ...}}`, and `load` takes the mark away:
https://github.com/langchain-ai/langchain/blob/master/libs/core/langchain_core/load/_validation.py
"""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ESCAPED", "LC", "escaped_value", "is_readable", "unescaped_value"]

LC: Final = "lc"
ESCAPED: Final = "__lc_escaped__"


def escaped_value(value: Any) -> Any:
    """A value as it is written."""
    if isinstance(value, Mapping):
        if LC in value or _is_escaped(value):
            return {ESCAPED: dict(value)}
        return {key: escaped_value(each) for key, each in value.items()}
    return [escaped_value(each) for each in value] if isinstance(value, list) else value


def unescaped_value(value: Any) -> Any:
    """A value as it is read."""
    if isinstance(value, Mapping):
        if _is_escaped(value) and isinstance(value[ESCAPED], Mapping):
            return dict(value[ESCAPED])
        return {key: unescaped_value(each) for key, each in value.items()}
    return [unescaped_value(each) for each in value] if isinstance(value, list) else value


def is_readable(value: Any) -> bool:
    """Whether `load` of LangChain reads a value: it refuses a note that there was one which could not be written."""
    if isinstance(value, Mapping):
        if _is_escaped(value):
            return True
        is_note = LC in value and value.get("type") == "not_implemented"
        return not is_note and all(map(is_readable, value.values()))
    return all(map(is_readable, value)) if isinstance(value, list) else True


def _is_escaped(value: Mapping[Any, Any]) -> bool:
    return len(value) == 1 and ESCAPED in value
