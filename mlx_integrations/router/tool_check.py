"""Whether an answer may be let through: arguments of calls that are whole, and what the tool asked for; JSON."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["call_problem", "json_problem"]


def call_problem(name: str | None, arguments: str | Mapping[str, Any], tools: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with a call, without a word of it; empty if nothing is.

    Args:
        name: The tool that is called.
        arguments: JSON as it came, or what it was read into.
        tools: The JSON Schemas of the tools that were offered, by name.
    """
    if name is None or name not in tools:
        return "it calls a tool that was not offered"
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return "the arguments of a call are not complete JSON"
    if not isinstance(arguments, Mapping):
        return "the arguments of a call are not a JSON object"
    return _schema_problem(dict(arguments), tools[name])


def json_problem(text: str) -> str:
    """What is wrong with an answer that has to be JSON; empty if nothing is."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "the answer is not the JSON that was asked for"
    return ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _schema_problem(arguments: dict[str, Any], schema: Mapping[str, Any]) -> str:
    import jsonschema
    import referencing

    kind = jsonschema.validators.validator_for(dict(schema), default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
        # Without a registry of our own, a reference to an address would be fetched from there.
        errors = kind(dict(schema), registry=referencing.Registry()).iter_errors(arguments)
        problem = next(errors, None)
    except (jsonschema.SchemaError, referencing.exceptions.Unresolvable, RecursionError):
        return ""  # a schema that nobody can check is not the model's fault
    return "" if problem is None else f"the arguments of a call break the tool's schema (`{problem.validator}`)"
