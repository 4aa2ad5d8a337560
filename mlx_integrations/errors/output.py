"""The model answered, but not with what was asked for."""

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = ["InvalidOutputError", "OutputError", "TruncatedOutputError"]


class OutputError(MLXIntegrationsError):
    """The model answered, but not with what was asked for."""

    def __init__(self, message: str, *, partial_text: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text


class TruncatedOutputError(OutputError):
    """The answer was cut by the token limit before it was complete."""

    default_hint = "Raise `max_tokens`, or ask for less."


class InvalidOutputError(OutputError):
    """The answer does not satisfy the schema it was asked to satisfy."""
