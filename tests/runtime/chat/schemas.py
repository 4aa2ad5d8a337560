"""Thirty varied JSON Schemas, with bounds, because a random model would fill an open string for ever."""

from typing import Any


def _object(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, **more}


_STRING = {"type": "string", "maxLength": 12}
_INT = {"type": "integer", "minimum": -99, "maximum": 9999}
_NODE = {
    "type": "object",
    "properties": {"value": _INT, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Leaf"}]}},
    "required": ["value", "next"],
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "one_string": _object({"text": _STRING}),
    "one_integer": _object({"n": {"type": "integer", "minimum": 3, "maximum": 17}}),
    "exclusive_bounds": _object({"x": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}}),
    "number_between": _object({"ratio": {"type": "number", "minimum": 0, "maximum": 1}}),
    "negative_number": _object({"degrees": {"type": "number", "minimum": -89.5, "maximum": -0.25}}),
    "multiple_of": _object({"price": {"type": "integer", "minimum": 0, "maximum": 500, "multipleOf": 5}}),
    "boolean": _object({"yes": {"type": "boolean"}}),
    "null": _object({"nothing": {"type": "null"}}),
    "enum_of_strings": _object({"unit": {"enum": ["celsius", "fahrenheit", "kelvin"]}}),
    "enum_of_everything": _object({"any": {"enum": [1, "one", None, True, 2.5]}}),
    "const": _object({"kind": {"const": "order"}, "id": _INT}),
    "unicode_values": _object({"city": {"enum": ["東京", "Zürich", "Malmö", "São Paulo", "🙂"]}}),
    "unicode_keys": _object({"größe": _INT, "名前": _STRING}),
    "optional_fields": _object({"a": _INT, "b": _INT, "c": _STRING}, required=["b"]),
    "all_optional": _object({"a": _INT, "b": {"type": "boolean"}}, required=[]),
    "nullable": _object({"name": {"anyOf": [_STRING, {"type": "null"}]}}),
    "union": _object({"value": {"anyOf": [_INT, {"type": "boolean"}, _STRING]}}),
    "one_of_objects": _object(
        {
            "shape": {
                "oneOf": [
                    _object({"kind": {"const": "circle"}, "radius": _INT}),
                    _object({"kind": {"const": "square"}, "side": _INT}),
                ]
            }
        }
    ),
    "array_of_integers": _object({"values": {"type": "array", "items": _INT, "minItems": 1, "maxItems": 4}}),
    "empty_or_full_array": _object({"tags": {"type": "array", "items": _STRING, "maxItems": 3}}),
    "array_of_objects": _object({"rows": {"type": "array", "items": _object({"x": _INT, "y": _INT}), "maxItems": 3}}),
    "tuple": _object({"pair": {"type": "array", "prefixItems": [_INT, _STRING], "minItems": 2, "maxItems": 2}}),
    "nested": _object({"outer": _object({"inner": _object({"leaf": _INT})})}),
    "deep_references": {
        "$defs": {"Leaf": _object({"value": _INT})},
        **_object({"head": _NODE, "tail": {"$ref": "#/$defs/Leaf"}}),
    },
    "string_pattern": _object({"code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2,4}$"}}),
    "string_lengths": _object({"pin": {"type": "string", "minLength": 4, "maxLength": 6}}),
    "date_format": _object({"day": {"type": "string", "format": "date"}}),
    "uuid_format": _object({"id": {"type": "string", "format": "uuid"}}),
    "described": {
        "title": "Person",
        "description": "Somebody.",
        **_object(
            {"name": {**_STRING, "description": "The name", "title": "Name"}, "age": {**_INT, "default": 3}},
            additionalProperties=False,
        ),
    },
    "top_level_array": {"type": "array", "items": _INT, "minItems": 2, "maxItems": 5},
}

assert len(SCHEMAS) == 30
