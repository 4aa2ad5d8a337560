"""Reports go into bug trackers: what opens something is taken out of them, and the home folder becomes `~`. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MASK", "masked", "secrets_of"]

MASK: Final = "********"
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_IN_QUERY = re.compile(r"(?<=[?&])((?:[\w-]*(?:key|token|secret|password|signature))=)[^&#\s]+", re.IGNORECASE)
_SHORTEST: Final = 6  # shorter values, such as `1`, occur anywhere


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of variables whose names say that they open something."""
    found = {value for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    return tuple(sorted(found, key=len, reverse=True))


def masked(value: Any, secrets: tuple[str, ...], home: str) -> Any:
    """A plain value without secrets, at any depth.

    Args:
        value: Text, numbers, lists and mappings.
        secrets: What must not be in it.
        home: The home folder.
    """
    if isinstance(value, Mapping):
        return {key: masked(inner, secrets, home) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner, secrets, home) for inner in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, MASK)
    value = _IN_QUERY.sub(rf"\g<1>{MASK}", _IN_ADDRESS.sub(MASK, value))
    return re.sub(rf"{re.escape(home)}(?=/|\b)", "~", value) if len(home) > 1 else value
