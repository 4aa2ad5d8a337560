"""Errors about answers, each of them a `ValueError` too: what LlamaIndex raises for an answer without a call.

All other errors of this package come out of this room as they are; those about requests are `ValueError`s already.
"""

from mlx_integrations import errors

__all__ = ["InvalidOutputError", "TruncatedOutputError"]


class InvalidOutputError(errors.InvalidOutputError, ValueError):
    """The answer does not satisfy the schema it was asked to satisfy, or calls no tool although one was asked for."""


class TruncatedOutputError(errors.TruncatedOutputError, ValueError):
    """The answer was cut by the token limit before it was complete."""
