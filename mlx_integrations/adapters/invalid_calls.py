"""Calls that could not be accepted: how messages keep them, and how the model that wrote them is shown them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlx_integrations.types import InvalidToolCall

__all__ = ["kept_calls", "shown_calls"]


def kept_calls(calls: Iterable[InvalidToolCall]) -> list[dict[str, Any]]:
    """What a message keeps of them, for `additional_kwargs["invalid_tool_calls"]`."""
    return [{"id": call.id, "name": call.name, "args": call.arguments, "error": call.error} for call in calls]


def shown_calls(kept: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What was kept, as text: the model should see what it wrote and why nothing came of it."""
    for call in kept:
        reason = f" ({call['error']})" if call.get("error") else ""
        yield f"[invalid call of `{call.get('name') or 'unnamed tool'}`{reason}: {call.get('args') or ''}]"
