"""The options that say how tokens are chosen: their names, and their values as `SamplingParams`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.types import SamplingParams

__all__ = ["SAMPLING_OPTIONS", "sampling_params"]

SAMPLING_OPTIONS = tuple(item.name for item in fields(SamplingParams))

_SAMPLING = TypeAdapter(SamplingParams)


def sampling_params(options: Mapping[str, Any]) -> SamplingParams:
    """Read the sampling options among others; one that is missing means its default.

    Raises:
        InvalidRequestError: A value is of the wrong type.
    """
    given = {name: options[name] for name in SAMPLING_OPTIONS if name in options}
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    try:
        return _SAMPLING.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "sampling"
        raise InvalidRequestError(
            f"`{name}` cannot be `{first['input']!r}`: {first['msg'][:1].lower()}{first['msg'][1:]}.", field=name
        ) from error
