"""Names of options: what models of other providers call them, and what is said of one that does not exist."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mlx_integrations.errors import InvalidRequestError

__all__ = ["OF_NO_USE_HERE", "canonical", "unknown_option"]

OF_NO_USE_HERE = ("api_key", "base_url", "max_retries", "timeout")
"""Options of models behind a connection: accepted and ignored, so that one can be exchanged for a model here."""


def canonical(options: Mapping[str, Any], known: Iterable[str], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Replace aliases by our names.

    Raises:
        InvalidRequestError: An option is unknown, or given twice under two names.
    """
    names = set(known)
    result: dict[str, Any] = {}
    for given, value in options.items():
        name = aliases.get(given, given)
        if name not in names:
            raise unknown_option(given, {*names, *(alias for alias, ours in aliases.items() if ours in names)})
        if name in result and result[name] != value:
            raise InvalidRequestError(f"`{name}` is given twice, as `{value!r}` and `{result[name]!r}`.", field=name)
        result[name] = value
    return result


def unknown_option(name: str, known: Iterable[str]) -> InvalidRequestError:
    """The error for an option that does not exist, with the one that was probably meant."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"Did you mean `{close[0]}`?" if close else "The options are " + ", ".join(f"`{item}`" for item in names)
    return InvalidRequestError(f"There is no option `{name}`.", field=name, hint=hint)
