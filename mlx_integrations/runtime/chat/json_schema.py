"""JSON Schemas as the grammar takes them: closed objects, one spacing, and unsupported keywords named with their path.

What llguidance enforces is a subset of what the schema allows, so an answer that follows the grammar also follows the
schema; `check_answer` holds the finished answer against the original schema all the same. Two things are looser there
than the standard has them: formats are annotations, and `oneOf` is `anyOf`, as in the grammar.
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import Any
from urllib.parse import unquote

import jsonschema

from mlx_integrations.errors import InvalidOutputError, UnsupportedSchemaError

__all__ = ["check_answer", "check_depth", "grammar_schema"]

_MAX_DEPTH = 200
"""Levels of nested JSON. llguidance reads fewer than 128; beyond some 300 Python's recursion ends."""

# Flexible whitespace lets weak models emit blanks for ever; these are the separators of `json.dumps`, which models have
# read most often.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"})
"""What llguidance 1.9 enforces, found by trying; it refuses a schema with any other."""
_UNSUPPORTED = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
    }
)
_ONE_SCHEMA = ("items", "additionalProperties", "additionalItems")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_DEFINITIONS = ("$defs", "definitions")
_SCHEMA_MAPS = ("properties", "patternProperties", *_DEFINITIONS)
_OWN_SHAPE = frozenset(
    {
        "properties",
        "patternProperties",
        "additionalProperties",
        "required",
        "minProperties",
        "maxProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "const",
        "enum",
    }
)
_LOOK_AROUND = re.compile(r"(?:[^\\]|\\.)*?\(\?<?[=!]", re.DOTALL)
_EVERYWHERE = "*"


def grammar_schema(schema: Mapping[str, Any]) -> str:
    """The schema as JSON text for llguidance's `%json`.

    Objects that list their properties are closed unless the schema says otherwise: a model that may invent keys will.
    Formats that llguidance does not know are left out, because in JSON Schema 2020-12 a format is an annotation.

    Raises:
        UnsupportedSchemaError: A keyword cannot be enforced (every such place is named), or the schema is not finite
            plain JSON.
    """
    check_depth(schema, "The JSON Schema")
    unsupported = list(_unsupported_keywords(schema, "$"))
    if unsupported:
        places = ", ".join(f"`{keyword}` at {path}" for keyword, path in unsupported)
        raise UnsupportedSchemaError(
            f"The JSON Schema uses keywords that cannot be enforced while generating: {places}.",
            keywords=sorted({keyword for keyword, _ in unsupported}),
        )
    try:
        return json.dumps({**_enforceable(schema), "x-guidance": _SPACING}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UnsupportedSchemaError(f"The JSON Schema is not plain JSON: {error}.") from error


def check_depth(value: Any, name: str) -> None:
    """Refuse what recursion would not survive.

    Args:
        value: Anything made of mappings and lists.
        name: What it is called in the message.

    Raises:
        UnsupportedSchemaError: It is nested too deeply, or contains itself.
    """
    rest = [(value, 1)]
    while rest:
        item, depth = rest.pop()
        if depth > _MAX_DEPTH:
            raise UnsupportedSchemaError(
                f"{name} is nested more than {_MAX_DEPTH} levels deep, or contains itself.",
                hint="Use `$defs` and `$ref` for what repeats.",
            )
        if isinstance(item, Mapping):
            rest += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            rest += [(inner, depth + 1) for inner in item]


def check_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """Parse a finished answer and hold it against the schema.

    Raises:
        InvalidOutputError: It is not JSON or breaks the schema; says where.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        base = jsonschema.validators.validator_for(dict(schema), default=jsonschema.Draft202012Validator)
        problem = jsonschema.exceptions.best_match(_as_enforced(base)(dict(schema)).iter_errors(value))
    except ValueError as error:
        raise InvalidOutputError(f"The answer is not JSON: {error}.", partial_text=text) from error
    except RecursionError as error:
        raise InvalidOutputError("The answer is nested too deeply to be checked.", partial_text=text) from error
    if problem is not None:
        raise InvalidOutputError(
            f"The answer breaks its JSON Schema at {problem.json_path}: {problem.message}.", partial_text=text
        )
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits} is too large a number")
    return number


@cache
def _as_enforced(base: Any) -> Any:
    """The validator class with the keywords that the grammar, written in Rust and in decimals, reads in its own way."""
    known = base.VALIDATORS

    def multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # In binary, 0.07 is no multiple of 0.01.
        if validator.is_type(instance, "number") and Fraction(str(instance)) % Fraction(str(step)):
            yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {step}")

    def pattern(validator: Any, regex: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if _is_python_regex(regex):
            yield from known["pattern"](validator, regex, instance, schema) or ()

    def pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
        read = {regex: value for regex, value in patterns.items() if _is_python_regex(regex)}
        yield from known["patternProperties"](validator, read, instance, schema) or ()

    def additional_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if all(map(_is_python_regex, schema.get("patternProperties", ()))):
            yield from known["additionalProperties"](validator, value, instance, schema) or ()

    def items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # A list is the older way to write `prefixItems`.
        rule = jsonschema.Draft7Validator.VALIDATORS["items"] if isinstance(value, list) else known["items"]
        yield from rule(validator, value, instance, schema) or ()

    changed = {
        "items": items,
        "multipleOf": multiple_of,
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
    }
    if "anyOf" in known:
        changed["oneOf"] = known["anyOf"]
    extend: Callable[..., Any] = jsonschema.validators.extend
    return extend(base, {name: rule for name, rule in changed.items() if name in known})


def _is_python_regex(regex: str) -> bool:
    r"""Whether Python reads a pattern of Rust's dialect, and alike: `\p{Lu}` is an error, `[[:alpha:]]` a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(regex)
    except (re.error, Warning):
        return False
    return True


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """The schemas right below one, each with the keys that lead to it."""
    for key in _ONE_SCHEMA:
        if isinstance(value := schema.get(key), Mapping):
            yield value, (key,)
    for key in _SCHEMA_LISTS:
        if isinstance(values := schema.get(key), list | tuple):
            yield from ((value, (key, str(i))) for i, value in enumerate(values) if isinstance(value, Mapping))
    for key in _SCHEMA_MAPS:
        if isinstance(values := schema.get(key), Mapping):
            yield from ((value, (key, str(name))) for name, value in values.items() if isinstance(value, Mapping))


def _unsupported_keywords(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for keyword in schema:
        # `uniqueItems: false` and `not: absent` ask for nothing.
        if keyword in _UNSUPPORTED and schema[keyword] is not False:
            yield keyword, path
    for subschema, keys in _subschemas(schema):
        below = f"[{keys[1]}]" if keys[0] in _SCHEMA_LISTS and len(keys) > 1 else "".join(f".{k}" for k in keys[1:])
        yield from _unsupported_keywords(subschema, f"{path}.{keys[0]}{below}")


def _enforceable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without what llguidance does not read, and with its objects closed where that takes nothing away.

    A schema that holds together with another one must stay open, and so must all that its `$ref` leads to; the places
    of those are found out by going through the schema until no new one turns up.
    """
    open_places: set[str] = set()
    while True:
        known = len(open_places)
        result = _rewritten(schema, "#", is_open=False, open_places=open_places)
        if len(open_places) == known:
            return result


def _rewritten(schema: Mapping[str, Any], place: str, *, is_open: bool, open_places: set[str]) -> dict[str, Any]:
    is_open = is_open or _is_composed(schema) or not open_places.isdisjoint((place, _EVERYWHERE))
    if is_open and isinstance(reference := schema.get("$ref"), str):
        target = unquote(reference)
        open_places.add(target if target == "#" or target.startswith("#/") else _EVERYWHERE)

    def below(value: Any, *keys: str) -> Any:
        if not isinstance(value, Mapping):
            return value
        names = "/".join(key.replace("~", "~0").replace("/", "~1") for key in keys)
        # A definition is open only for those who refer to it.
        inherited = is_open and keys[0] not in _DEFINITIONS
        return _rewritten(value, f"{place}/{names}", is_open=inherited, open_places=open_places)

    result = {key: _map(key, value, below) for key, value in schema.items() if key not in _UNSUPPORTED}
    if result.get("format") not in _FORMATS:
        result.pop("format", None)
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := result.get(key), list):
            result[key] = [branch for branch in branches if not _looks_around(branch)] or branches
    if not is_open and _can_be_closed(schema):
        result["additionalProperties"] = False
    return result


def _map(key: str, value: Any, change: Callable[..., Any]) -> Any:
    """The value of a keyword with `change(subschema, *keys)` in place of every schema in it."""
    if key in _SCHEMA_LISTS and isinstance(value, list | tuple):
        return [change(inner, key, str(number)) for number, inner in enumerate(value)]
    if key in _SCHEMA_MAPS and isinstance(value, Mapping):
        return {name: change(inner, key, str(name)) for name, inner in value.items()}
    return change(value, key) if key in _ONE_SCHEMA else value


def _is_composed(schema: Mapping[str, Any]) -> bool:
    """Whether several parts of the schema speak about the same value; `{"$ref": ..., "description": ...}` is one."""
    parts = sum(key in schema for key in ("$ref", "anyOf", "oneOf")) + (not _OWN_SHAPE.isdisjoint(schema))
    all_of = schema.get("allOf")
    return parts + (len(all_of) if isinstance(all_of, list | tuple) else 0) > 1


def _can_be_closed(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not {"additionalProperties", "patternProperties"}.isdisjoint(schema):
        return False
    required, least = schema.get("required", ()), schema.get("minProperties", 0)
    if not isinstance(required, list | tuple) or not isinstance(least, int | float):
        return True  # and llguidance refuses it
    return set(map(str, required)) <= set(properties) and least <= len(properties)


def _looks_around(branch: Any) -> bool:
    """Whether a branch is a pattern that cannot be enforced, as in pydantic's `Decimal`: a number, or such a string."""
    regex = branch.get("pattern") if isinstance(branch, Mapping) else None
    return isinstance(regex, str) and _LOOK_AROUND.match(regex) is not None
