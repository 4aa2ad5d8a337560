"""An endpoint, in a cloud or on this machine, could not do it."""

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "RemoteAuthenticationError",
    "RemoteConnectionError",
    "RemoteContentPolicyError",
    "RemoteError",
    "RemoteModelNotFoundError",
    "RemoteQuotaError",
    "RemoteRateLimitError",
    "RemoteRequestError",
    "RemoteServerError",
    "RemoteStreamError",
    "RemoteTimeoutError",
]


class RemoteError(MLXIntegrationsError):
    """An endpoint, in a cloud or on this machine, could not do it. Neither message nor fields ever hold a key.

    `endpoint` is its name or address, `status` what it answered with; `None` if there was no HTTP answer.
    """

    def __init__(self, message: str, *, endpoint: str, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.endpoint = endpoint
        self.status = status


class RemoteAuthenticationError(RemoteError):
    """The endpoint wants a key, does not know the one it got, or that one may not do this."""

    default_hint = "Check the key, and that it may use this model."


class RemoteQuotaError(RemoteAuthenticationError):
    """The account behind the key has nothing left to spend."""

    default_hint = "Add credit to the account, or raise its limit."


class RemoteRateLimitError(RemoteError):
    """Too many requests or tokens in a short time; `retry_after_seconds` is how long it asks to wait, if it says."""

    is_retryable = True
    default_hint = "Wait a moment, or send fewer requests at the same time."

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class RemoteConnectionError(RemoteError, ConnectionError):
    """Nobody answers at the endpoint's address: refused, unknown, reset before an answer began."""

    is_retryable = True
    default_hint = "Check the address, that the server runs, and the network."


class RemoteTimeoutError(RemoteError, TimeoutError):
    """The endpoint said nothing for too long."""

    is_retryable = True
    default_hint = "Try again, or raise the timeout."


class RemoteServerError(RemoteError):
    """The endpoint failed or is overloaded; `retry_after_seconds` is how long it asks to wait, if it says."""

    is_retryable = True
    default_hint = "Try again in a moment."

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class RemoteStreamError(RemoteError):
    """An answer broke off, was not understood, or ended without saying why; `partial_text` is what had arrived."""

    is_retryable = True
    default_hint = "Try again."

    def __init__(
        self, message: str, *, endpoint: str, status: int | None = None, partial_text: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.partial_text = partial_text


class RemoteModelNotFoundError(RemoteError, LookupError):
    """The endpoint has no such model, or nothing that chats or embeds is at its address."""

    default_hint = "Check the model's name and the address: it usually ends with `/v1`."


class RemoteRequestError(RemoteError, ValueError):
    """The endpoint refuses the request as it is written."""

    default_hint = "Leave out the option that it does not know, or choose another model."


class RemoteContentPolicyError(RemoteError):
    """The endpoint's rules forbid the question, or the answer that its model began."""

    default_hint = "Ask in another way, or ask a model of your own."
