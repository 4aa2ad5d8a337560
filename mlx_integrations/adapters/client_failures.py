"""What exceptions of other packages' HTTP clients mean to a router, by what they have in common."""

from collections.abc import Mapping
from typing import Final

from mlx_integrations.router.failures import Failure, FailureKind

__all__ = ["client_failure"]

_STATUSES: Final[Mapping[int, FailureKind]] = {
    401: "authentication",
    402: "authentication",
    403: "authentication",
    404: "missing_model",
    408: "timeout",
    429: "rate_limit",
    400: "invalid_request",
    413: "context_overflow",
    422: "invalid_request",
}
_SERVER_ERRORS: Final = 500
# What OpenAI calls these, and those who speak its protocol: the status is 400 for both.
_CODES: Final[Mapping[str, FailureKind]] = {
    "context_length_exceeded": "context_overflow",
    "content_policy_violation": "content_policy",
    "content_filter": "content_policy",
}


def client_failure(error: Exception, kind: FailureKind | None = None) -> Failure | None:
    """Which failure an exception is; `None` if nothing of it says so.

    Args:
        error: The exception.
        kind: What its class says.
    """
    status = _status(error)
    kind = _coded(error) or kind
    if kind is None and status is not None:
        kind = _STATUSES.get(status, "unavailable" if status >= _SERVER_ERRORS else "failed")
    if kind is None and any(word in type(error).__name__ for word in ("Connect", "Timeout")):
        # httpx, aiohttp and requests have exceptions of their own, which are no OSErrors.
        kind = "timeout" if "Timeout" in type(error).__name__ else "unavailable"
    if kind is None:
        return None
    return Failure(kind=kind, retry_after_seconds=_retry_after(error), status=status)


def _coded(error: BaseException | None) -> FailureKind | None:
    """What the code says that a provider gave, however often the exception was translated since."""
    for _ in range(4):  # chains of causes are short, and may be circles
        if error is None:
            return None
        if kind := _CODES.get(str(getattr(error, "code", None))):
            return kind
        error = error.__cause__
    return None


def _status(error: Exception) -> int | None:
    found = getattr(error, "status_code", None)
    if found is None:
        found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(str(headers.get("retry-after")))
    except (AttributeError, ValueError):
        return None  # a date, as some proxies send it, is not worth a parser here: the usual wait applies
    return seconds if seconds >= 0 else None
