"""Requests as keys and answers as bytes, for caches.

A key is made of everything that an answer depends on, types included: `1`, `1.0`, `True` and `"1"` are four values. The
order of what a mapping holds counts, because templates render it. What is no plain value has no key.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, Final

from mlx_integrations.types import ChatRequest, ChatResult, Finish, InvalidToolCall, TokenLogprob, ToolCall, Usage

__all__ = ["answer_from", "answer_to", "key_of"]

_FORMAT: Final = 1


def key_of(request: ChatRequest, *asked: str) -> str | None:
    """64 hexadecimal digits; `None` if something in the request is no plain value.

    Args:
        request: What is asked.
        *asked: Who is asked: all that the answer depends on besides.
    """
    try:
        plain = json.dumps([_FORMAT, asked, _plain(request)], separators=(",", ":"))
    except (TypeError, RecursionError):
        return None
    return hashlib.sha256(plain.encode()).hexdigest()


def answer_to(result: ChatResult) -> bytes:
    """A whole answer as bytes.

    Raises:
        TypeError: Arguments of a tool call are no JSON.
    """
    document = asdict(replace(result, finish=replace(result.finish, prompt_seconds=0.0, generation_seconds=0.0)))
    return json.dumps({"format": _FORMAT, **document}, separators=(",", ":")).encode()


def answer_from(data: bytes) -> ChatResult | None:
    """The answer that `answer_to` wrote; `None` for bytes that are none of its making."""
    try:
        document = json.loads(data)
        if document.pop("format") != _FORMAT:
            return None
        finish = document.pop("finish")
        return ChatResult(
            text=document["text"],
            reasoning=document["reasoning"],
            tool_calls=tuple(ToolCall(**call) for call in document["tool_calls"]),
            invalid_tool_calls=tuple(InvalidToolCall(**call) for call in document["invalid_tool_calls"]),
            logprobs=tuple(
                TokenLogprob(**{**item, "top": tuple((rival[0], rival[1], rival[2]) for rival in item["top"])})
                for item in document["logprobs"]
            ),
            finish=Finish(**{**finish, "usage": Usage(**finish["usage"])}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _plain(value: Any) -> Any:
    """A value as JSON that no other value has."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return {type(value).__name__: repr(value)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: [[item.name, _plain(getattr(value, item.name))] for item in fields(value)]}
    if isinstance(value, Mapping):
        return {"mapping": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"`{type(value).__name__}` has no key")
