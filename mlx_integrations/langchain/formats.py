"""Output formats: `response_format` in OpenAI's form, and the JSON Schema of whatever describes one."""

from collections.abc import Mapping
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

from mlx_integrations.adapters.formats import read_format
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import OutputFormat

__all__ = ["Schema", "json_schema", "output_format", "schema_name", "schema_response_format"]

Schema = dict[str, Any] | type

_SCHEMA_KEYWORDS = {"properties", "$defs", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "items"}


def output_format(response_format: Any) -> OutputFormat | None:
    """Read a `response_format`.

    Args:
        response_format: A dictionary in OpenAI's form, one of type `regex`, a schema in any form, or `None`.

    Raises:
        InvalidRequestError: It is none of these.
    """
    if isinstance(response_format, type):
        response_format = schema_response_format(response_format)
    return read_format(response_format)


def schema_response_format(schema: Schema) -> dict[str, Any]:
    """Write a schema, in any form, as a `response_format`."""
    named = {"name": schema_name(schema), "schema": json_schema(schema), "strict": True}
    return {"type": "json_schema", "json_schema": named}


def json_schema(schema: Schema) -> dict[str, Any]:
    """The JSON Schema of a pydantic class, a `TypedDict`, a JSON Schema, or a tool in OpenAI's or Anthropic's form.

    Raises:
        InvalidRequestError: It is none of these.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        # Not through `convert_to_json_schema`, which inlines references and so cannot write a recursive model.
        return schema.model_json_schema()
    if isinstance(schema, Mapping) and _is_json_schema(schema):
        return dict(schema)
    try:
        return convert_to_json_schema(schema)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"`{schema!r}` does not describe an output: {error}", field="schema") from error


def schema_name(schema: Schema) -> str:
    """The name a schema goes by."""
    if isinstance(schema, type):
        return schema.__name__
    function = schema.get("function")
    named = function if isinstance(function, Mapping) else schema
    return str(named.get("title") or named.get("name") or "response")


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") != "function" and "input_schema" not in schema and bool(_SCHEMA_KEYWORDS & schema.keys())
