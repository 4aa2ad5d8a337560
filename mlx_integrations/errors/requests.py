"""A request that can never succeed as written."""

from collections.abc import Sequence

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "ContextOverflowError",
    "InvalidRequestError",
    "PrivacyError",
    "RequestError",
    "UnknownToolError",
    "UnsupportedContentError",
    "UnsupportedSchemaError",
]


class RequestError(MLXIntegrationsError, ValueError):
    """This request can never succeed as written; nothing was generated."""


class InvalidRequestError(RequestError):
    """A field of the request has an impossible value."""

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class UnsupportedContentError(RequestError):
    """Images, audio or files were sent to a model that reads text only."""

    default_hint = "Send text, or choose a model whose capabilities include this kind of input."

    def __init__(self, message: str, *, kind: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class UnknownToolError(RequestError):
    """`tool_choice` names a tool that was not offered."""

    def __init__(self, message: str, *, tool_name: str, offered: Sequence[str] = (), hint: str | None = None) -> None:
        if hint is None:
            hint = (
                "The tools offered are " + ", ".join(f"`{name}`" for name in offered) + "."
                if offered
                else "Pass the tools together with `tool_choice`."
            )
        super().__init__(message, hint=hint)
        self.tool_name = tool_name
        self.offered = tuple(offered)


class UnsupportedSchemaError(RequestError):
    """A JSON Schema or regular expression that the grammar cannot enforce."""

    default_hint = "Remove the keyword, or check it yourself after generation."

    def __init__(self, message: str, *, keywords: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.keywords = tuple(keywords)


class ContextOverflowError(RequestError):
    """The prompt is longer than the model's context window."""

    default_hint = "Shorten the messages (summarise or trim the history), or use a model with a larger window."

    def __init__(self, message: str, *, prompt_tokens: int, limit_tokens: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.prompt_tokens = prompt_tokens
        self.limit_tokens = limit_tokens


class PrivacyError(RequestError):
    """The request must stay on this machine, and nobody here may answer it; nothing was sent anywhere.

    `because` says what makes it private: kinds of what was found and where, never a word of it. `candidates` are those
    that were left out for it.
    """

    default_hint = (
        "Add a candidate on this machine that can do it, or, if it may leave this machine, say so in the request."
    )

    def __init__(
        self, message: str, *, because: Sequence[str] = (), candidates: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.because = tuple(because)
        self.candidates = tuple(candidates)
