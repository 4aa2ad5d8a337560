"""What every error of the package is."""

from typing import Any, ClassVar

__all__ = ["MLXIntegrationsError"]


def _rebuild(cls: "type[MLXIntegrationsError]", message: str, state: dict[str, Any]) -> "MLXIntegrationsError":
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class MLXIntegrationsError(Exception):
    """Base of every error of this package.

    Args:
        message: What happened, values in backticks.
        hint: What to do about it; the class's own hint when not given.
    """

    is_retryable: ClassVar[bool] = False
    """Whether the same call may succeed later, unchanged."""
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))
