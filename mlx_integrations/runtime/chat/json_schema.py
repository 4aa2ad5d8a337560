"""JSON Schemas as the grammar takes them: closed objects, one spacing, and unsupported keywords named with their path.

What llguidance enforces is a subset of what the schema allows, so an answer that follows the grammar also follows the
schema; `check_answer` holds the finished answer against the original schema all the same.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

from mlx_integrations.errors import InvalidOutputError, UnsupportedSchemaError

__all__ = ["check_answer", "grammar_schema"]

# Flexible whitespace lets weak models emit blanks for ever; these are the separators of `json.dumps`, which models have
# read most often.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
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
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")


def grammar_schema(schema: Mapping[str, Any]) -> str:
    """The schema as JSON text for llguidance's `%json`.

    Objects that list their properties are closed unless the schema says otherwise: a model that may invent keys will.

    Raises:
        UnsupportedSchemaError: A keyword cannot be enforced; every such place is named.
    """
    unsupported = list(_unsupported_keywords(schema, "$"))
    if unsupported:
        places = ", ".join(f"`{keyword}` at {path}" for keyword, path in unsupported)
        raise UnsupportedSchemaError(
            f"The JSON Schema uses keywords that cannot be enforced while generating: {places}.",
            keywords=sorted({keyword for keyword, _ in unsupported}),
        )
    closed = _close_objects(schema)
    try:
        return json.dumps({**closed, "x-guidance": _SPACING}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UnsupportedSchemaError(f"The JSON Schema is not plain JSON: {error}.") from error


def check_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """Parse a finished answer and hold it against the schema.

    Raises:
        InvalidOutputError: It is not JSON or breaks the schema; says where.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidOutputError(f"The answer is not JSON: {error}.", partial_text=text) from error
    validator = jsonschema.validators.validator_for(dict(schema), default=jsonschema.Draft202012Validator)
    problem = jsonschema.exceptions.best_match(validator(dict(schema)).iter_errors(value))
    if problem is not None:
        raise InvalidOutputError(
            f"The answer breaks its JSON Schema at {problem.json_path}: {problem.message}.", partial_text=text
        )
    return value


def _subschemas(schema: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for key in _ONE_SCHEMA:
        if isinstance(value := schema.get(key), Mapping):
            yield value, f"{path}.{key}"
    for key in _SCHEMA_LISTS:
        values = schema.get(key)
        if isinstance(values, list):
            yield from ((value, f"{path}.{key}[{i}]") for i, value in enumerate(values) if isinstance(value, Mapping))
    for key in _SCHEMA_MAPS:
        values = schema.get(key)
        if isinstance(values, Mapping):
            yield from ((v, f"{path}.{key}.{name}") for name, v in values.items() if isinstance(v, Mapping))


def _unsupported_keywords(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for keyword in schema:
        # `uniqueItems: false` and `not: absent` ask for nothing.
        if keyword in _UNSUPPORTED and schema[keyword] is not False:
            yield keyword, path
    for subschema, subpath in _subschemas(schema, path):
        yield from _unsupported_keywords(subschema, subpath)


def _close_objects(schema: Mapping[str, Any], *, inside_all_of: bool = False) -> dict[str, Any]:
    """Add `additionalProperties: false` where properties are listed; not below `allOf`, whose parts must stay open."""
    closed = {key: value for key, value in schema.items() if key not in _UNSUPPORTED}
    for key in _ONE_SCHEMA:
        if isinstance(value := closed.get(key), Mapping):
            closed[key] = _close_objects(value)
    for key in _SCHEMA_LISTS:
        if isinstance(values := closed.get(key), list):
            below = key == "allOf" or (inside_all_of and key in ("anyOf", "oneOf"))
            closed[key] = [_close_objects(v, inside_all_of=below) if isinstance(v, Mapping) else v for v in values]
    for key in _SCHEMA_MAPS:
        if isinstance(values := closed.get(key), Mapping):
            closed[key] = {n: _close_objects(v) if isinstance(v, Mapping) else v for n, v in values.items()}
    open_by_choice = {"additionalProperties", "patternProperties", "allOf"} & closed.keys()
    if isinstance(closed.get("properties"), dict) and not open_by_choice and not inside_all_of:
        closed["additionalProperties"] = False
    return closed
