"""What the openai client raises, as the errors of this package: translated once, here. Pure.

Texts of the endpoint are quoted only where they say what to change, and never with a key in them: some servers repeat
the key they refuse. What decides is the status, else the error's code; only an overflow of the context is also known by
its words, since most servers have no code for it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from mlx_integrations.errors import (
    ContextOverflowError,
    MLXIntegrationsError,
    RemoteAuthenticationError,
    RemoteConnectionError,
    RemoteContentPolicyError,
    RemoteModelNotFoundError,
    RemoteQuotaError,
    RemoteRateLimitError,
    RemoteRequestError,
    RemoteServerError,
    RemoteStreamError,
    RemoteTimeoutError,
)

__all__ = ["Asked", "Failure", "client_errors", "retry_after_seconds", "translated"]

_QUOTE_CHARACTERS: Final = 300
_OVERFLOW_CODES: Final = ("context_length_exceeded", "exceed_context_size_error")
# How they say it: OpenAI, vLLM and OpenRouter; Anthropic; Gemini; llama.cpp and what is built on it.
_OVERFLOW_TEXTS: Final = (
    re.compile(r"maximum context length is (?P<limit>\d+)\D+(?P<prompt>\d+)"),
    re.compile(r"prompt is too long: (?P<prompt>\d+)\D+(?P<limit>\d+)"),
    re.compile(r"input token count \(?(?P<prompt>\d+)\)? exceeds\D+(?P<limit>\d+)"),
    re.compile(r"exceeds? the available context size|maximum context length"),
)
_POLICY_CODES: Final = ("content_filter", "content_policy_violation")
_QUOTA_CODES: Final = ("insufficient_quota", "billing_hard_limit_reached")
# An error inside a stream has no status of its own, only a code or a type.
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "model_not_found": 404,
    "overloaded_error": 503,
    "server_error": 500,
    "api_error": 500,
    "invalid_request_error": 400,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an error message may say about the request.

    Attributes:
        endpoint: The endpoint's name.
        address: Where it is.
        model: The model that was asked for.
        prompt_tokens: An estimate, for an endpoint that does not say how long the prompt was.
        limit_tokens: The window that the model is taken to have.
    """

    endpoint: str
    address: str
    model: str
    prompt_tokens: int = 0
    limit_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error to raise, and the one it came from; `None` if that one has the key in it."""

    error: MLXIntegrationsError
    cause: Exception | None


def client_errors() -> tuple[type[Exception], ...]:
    """What a call of the openai client raises: its own errors, and one of `json` for an event that is no JSON."""
    import openai

    return (openai.OpenAIError, json.JSONDecodeError)


def translated(
    error: Exception,
    asked: Asked,
    *,
    key: str | None,
    now: float,
    partial_text: str = "",
    has_begun: bool = False,
) -> Failure:
    """The error to raise for one of `client_errors`.

    Args:
        error: What was raised.
        asked: What may be said about the request.
        key: The key that was sent; it gets into no text.
        now: Seconds since 1970, for dates in `Retry-After`.
        partial_text: What had arrived.
        has_begun: Whether the endpoint had begun to answer.
    """
    made = _translated(error, asked, key or "", now, partial_text, has_begun)
    is_clean = not key or not any(key in text for text in (str(error), repr(error), str(getattr(error, "body", ""))))
    return Failure(error=made, cause=error if is_clean else None)


def _translated(
    error: Exception, asked: Asked, key: str, now: float, partial_text: str, has_begun: bool
) -> MLXIntegrationsError:
    import openai

    if isinstance(error, openai.APITimeoutError):
        return RemoteTimeoutError(f"`{asked.endpoint}` said nothing for too long.", endpoint=asked.endpoint)
    if isinstance(error, openai.APIConnectionError):
        if has_begun:
            return _broken_off(asked, partial_text)
        return RemoteConnectionError(f"Nobody answers at {asked.address}.", endpoint=asked.endpoint)
    if isinstance(error, openai.APIStatusError):
        headers, body = error.response.headers, _body(error)
        wait = retry_after_seconds(headers, now=now)
        return _of_status(error.status_code, body, asked, key, wait)
    if isinstance(error, openai.APIError):
        body = _body(error)
        status = _status_in(body)
        if status is None and not _is_known(body):
            return _broken_off(asked, partial_text)
        return _of_status(status or 400, body, asked, key, None)
    return RemoteStreamError(
        f"`{asked.endpoint}` sent something that cannot be understood.",
        endpoint=asked.endpoint,
        partial_text=partial_text,
        hint=f"Check that something that speaks the protocol of OpenAI is at {asked.address}.",
    )


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """How long an answer asks to wait: OpenAI's milliseconds, else seconds or a date (RFC 9110, 10.2.3)."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (ValueError, TypeError):
        return None


def _of_status(
    status: int, body: Mapping[str, Any], asked: Asked, key: str, wait: float | None
) -> MLXIntegrationsError:
    name, code = asked.endpoint, _code(body)
    if overflow := _overflow(code, _message(body), status, asked):
        return overflow
    if code in _POLICY_CODES or (status == 403 and _is_moderation(body)):
        text = f"`{name}` refuses the question because of its rules."
        return RemoteContentPolicyError(text, endpoint=name, status=status)
    if status == 402 or code in _QUOTA_CODES:
        return RemoteQuotaError(f"The account at `{name}` has nothing left to spend.", endpoint=name, status=status)
    if status in (401, 403):
        return RemoteAuthenticationError(_key_text(name, key, status), endpoint=name, status=status)
    if status == 408:
        return RemoteTimeoutError(f"`{name}` gave up waiting ({status}).", endpoint=name, status=status)
    if status == 429:
        text = f"`{name}` has had too many requests."
        return RemoteRateLimitError(text, endpoint=name, status=status, retry_after_seconds=wait)
    if status < 400:
        text, hint = f"`{name}` sends us elsewhere ({status}).", "Give the final address as `base_url`."
        return RemoteModelNotFoundError(text, endpoint=name, status=status, hint=hint)
    quote = _quote(_message(body), key)
    if status >= 500 or status in (409, 425):
        text = f"`{name}` failed ({status}){quote}"
        return RemoteServerError(text, endpoint=name, status=status, retry_after_seconds=wait)
    if status in (404, 405):
        text = f"`{name}` has no model `{asked.model}` at {asked.address}{quote}"
        return RemoteModelNotFoundError(text, endpoint=name, status=status)
    return RemoteRequestError(f"`{name}` refuses the request ({status}){quote}", endpoint=name, status=status)


def _key_text(name: str, key: str, status: int) -> str:
    return f"`{name}` refuses the key ({status})." if key else f"`{name}` wants a key ({status})."


def _quote(text: str, key: str) -> str:
    """What the endpoint says, as the end of a sentence: shortened, in one line, without the key."""
    text = " ".join((text.replace(key, "*****") if key else text).split()).rstrip(".")
    if len(text) > _QUOTE_CHARACTERS:
        text = f"{text[:_QUOTE_CHARACTERS]}…"
    return f": {text}." if text else "."


def _overflow(code: str, message: str, status: int, asked: Asked) -> ContextOverflowError | None:
    found = next((match for text in _OVERFLOW_TEXTS if (match := text.search(message))), None)
    if code not in _OVERFLOW_CODES and (found is None or not 400 <= status < 500 or status == 429):
        return None
    numbers = found.groupdict() if found else {}
    limit = int(numbers.get("limit") or asked.limit_tokens)
    prompt = int(numbers.get("prompt") or max(asked.prompt_tokens, limit + 1))
    return ContextOverflowError(
        f"The prompt has {prompt:,} tokens, the window of `{asked.model}` at `{asked.endpoint}` holds {limit:,}.",
        prompt_tokens=prompt,
        limit_tokens=limit,
    )


def _broken_off(asked: Asked, partial_text: str) -> RemoteStreamError:
    return RemoteStreamError(
        f"The answer of `{asked.endpoint}` broke off.", endpoint=asked.endpoint, partial_text=partial_text
    )


def _body(error: Any) -> Mapping[str, Any]:
    """What the endpoint says of the error. mlx_lm.server writes a plain text where others have an object."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error")
        return inner if isinstance(inner, Mapping) else {"message": inner, **body} if isinstance(inner, str) else body
    return {"message": body} if isinstance(body, str) else {}


def _message(body: Mapping[str, Any]) -> str:
    message = body.get("message")
    return message if isinstance(message, str) else ""


def _code(body: Mapping[str, Any]) -> str:
    """The code of an error, else its type."""
    code = body.get("code")
    return str(code) if isinstance(code, str) and code else str(body.get("type") or "")


def _status_in(body: Mapping[str, Any]) -> int | None:
    code = body.get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS_OF_CODE.get(_code(body))


def _is_known(body: Mapping[str, Any]) -> bool:
    return _code(body) in (*_OVERFLOW_CODES, *_POLICY_CODES, *_QUOTA_CODES)


def _is_moderation(body: Mapping[str, Any]) -> bool:
    """OpenRouter names what was flagged: https://openrouter.ai/docs/api/errors."""
    metadata = body.get("metadata")
    return isinstance(metadata, Mapping) and bool(metadata.get("reasons") or metadata.get("flagged_input"))
