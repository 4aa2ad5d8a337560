"""The options of a call: which there are, under which names, and how they become a `ChatRequest`."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage as IndexMessage
from pydantic import BaseModel

from mlx_integrations.adapters.formats import read_format
from mlx_integrations.adapters.names import canonical
from mlx_integrations.adapters.requests import chat_request_of
from mlx_integrations.adapters.sampling import SAMPLING_OPTIONS
from mlx_integrations.llama_index.messages import to_chat_messages
from mlx_integrations.llama_index.tools import tool_specs
from mlx_integrations.types import ChatRequest

__all__ = ["ALIASES", "CALL_OPTIONS", "DEFAULTS", "call_options", "chat_request", "class_format"]

ALIASES = {
    "model_name": "model",
    "model_id": "model",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "allow_parallel_tool_calls": "parallel_tool_calls",
}
"""Names that other LlamaIndex models use, and ours for the same thing."""

DEFAULTS = (*SAMPLING_OPTIONS, "reasoning", "template_options")
"""Options that a model has a field for."""
CALL_OPTIONS = (*DEFAULTS, "tools", "tool_choice", "parallel_tool_calls", "response_format")
"""Everything that can be given or changed for a single call."""

# LlamaIndex passes these along although they are addressed to itself.
_NOT_OURS = ("stream", "formatted", "verbose")


def call_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one call under our names.

    Raises:
        InvalidRequestError: An option does not exist; the hint names the one that was probably meant.
    """
    ours = {name: value for name, value in options.items() if name not in _NOT_OURS}
    return canonical(ours, CALL_OPTIONS, ALIASES)


def chat_request(messages: Sequence[IndexMessage], options: Mapping[str, Any]) -> ChatRequest:
    """Build the request.

    Args:
        messages: The conversation.
        options: Options under our names; `None` means the default.

    Raises:
        RequestError: A message or an option cannot be translated.
    """
    given = {name: value for name, value in options.items() if value is not None}
    wanted = given.get("response_format")
    output = read_format(class_format(wanted) if isinstance(wanted, type) else wanted)
    return chat_request_of(to_chat_messages(messages), tool_specs(given.get("tools", ())), output, given)


def class_format(output_cls: type) -> Any:
    """Write a pydantic class as a `response_format`; anything else stays what it is, to be refused."""
    if not issubclass(output_cls, BaseModel):
        return output_cls
    named = {"name": output_cls.__name__, "schema": output_cls.model_json_schema(), "strict": True}
    return {"type": "json_schema", "json_schema": named}
