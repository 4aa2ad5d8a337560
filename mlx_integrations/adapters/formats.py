"""Output formats: `response_format`, in the form of OpenAI, as an `OutputFormat`."""

from collections.abc import Mapping
from typing import Any

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import JsonObjectFormat, JsonSchemaFormat, OutputFormat, RegexFormat

__all__ = ["read_format"]

_FORMS = (
    'Give {"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}, {"type": "json_object"}, '
    '{"type": "regex", "pattern": ...}, {"type": "text"}, or a pydantic class.'
)


def read_format(response_format: Any) -> OutputFormat | None:
    """Read a `response_format`.

    Args:
        response_format: A dictionary in OpenAI's form, one of type `regex`, or `None`.

    Raises:
        InvalidRequestError: It is none of these.
    """
    if response_format is None:
        return None
    if not isinstance(response_format, Mapping):
        raise _malformed(response_format)
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonObjectFormat()
    if kind == "regex" and isinstance(response_format.get("pattern"), str):
        return RegexFormat(pattern=response_format["pattern"])
    if kind == "json_schema":
        # The Responses API has the fields beside `type`, chat completions under `json_schema`.
        nested = response_format.get("json_schema", response_format)
        if isinstance(nested, Mapping) and isinstance(nested.get("schema"), Mapping):
            return JsonSchemaFormat(schema=nested["schema"], name=str(nested.get("name") or "response"))
    raise _malformed(response_format)


def _malformed(response_format: Any) -> InvalidRequestError:
    return InvalidRequestError(
        f"`response_format` cannot be `{response_format!r}`.", field="response_format", hint=_FORMS
    )
