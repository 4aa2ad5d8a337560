"""On which line of a configuration file a setting stands, so that an error can point there."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # the stubs leave it out
from typing import Any

__all__ = ["json_lines", "toml_lines", "variable_lines"]

_BLANKS = re.compile(r"[\s:,]*")


def toml_lines(text: str) -> dict[str, int]:
    """The line of each key of a valid TOML document, from 1, by its dotted name.

    The tables of an array have numbers, from 0: `stores.1.name` is in the second `[[stores]]`.
    A statement is as many lines as it takes until they parse by themselves; what they set is what the parser says.
    """
    found: dict[str, int] = {}
    table = ""
    repeated: Counter[str] = Counter()
    pending: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        pending.append(line)
        try:
            values = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:
            continue
        first = number - len(pending) + 1
        if pending[0].lstrip().startswith("["):
            table = ".".join(_only_path(values))
            found.setdefault(table, first)
            if pending[0].lstrip().startswith("[["):
                repeated[table] += 1
                table = f"{table}.{repeated[table] - 1}"
                found[table] = first
        else:
            for name in _names(values):
                found.setdefault(f"{table}.{name}" if table else name, first)
        pending = []
    return found


def json_lines(text: str) -> dict[str, int]:
    """The same for a valid JSON document."""
    found: dict[str, int] = {}
    _scan_object(text, text.index("{"), "", found)
    return found


def variable_lines(text: str) -> dict[str, int]:
    """The line of each variable of a .env file, by its name in upper case."""
    matches = re.finditer(r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=", text, re.MULTILINE)
    return {match[1].upper(): text.count("\n", 0, match.start(1)) + 1 for match in matches}


def _only_path(values: Mapping[str, Any]) -> Iterator[str]:
    """The names on the way into a table that is the only thing there, `[a.b]` being `{"a": {"b": {}}}`."""
    while values:
        name, inner = next(iter(values.items()))
        yield name
        values = inner if isinstance(inner, Mapping) else {}


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def _scan_object(text: str, at: int, prefix: str, found: dict[str, int]) -> int:
    """Note the lines of an object's keys; returns where it ends."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        line = text.count("\n", 0, at) + 1
        name, at = scanstring(text, at + 1, True)
        found[f"{prefix}{name}"] = line
        at = _skip(text, at)
        if text[at] == "{":
            at = _scan_object(text, at, f"{prefix}{name}.", found)
        else:
            _, at = json.JSONDecoder().raw_decode(text, at)
        at = _skip(text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at
