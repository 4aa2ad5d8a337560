"""The options of a call: which there are, under which names, and how they become a `ChatRequest`."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from mlx_integrations.adapters.names import canonical
from mlx_integrations.adapters.requests import chat_request_of
from mlx_integrations.adapters.sampling import SAMPLING_OPTIONS
from mlx_integrations.langchain.formats import output_format
from mlx_integrations.langchain.messages import to_chat_messages
from mlx_integrations.langchain.tools import tool_specs
from mlx_integrations.types import ChatRequest

__all__ = ["ALIASES", "CALL_OPTIONS", "call_options", "chat_request"]

ALIASES = {
    "model_name": "model",
    "model_id": "model",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
}
"""Names that other LangChain models use, and ours for the same thing."""

_REQUEST_OPTIONS = (
    "model",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "template_options",
)
CALL_OPTIONS = (*SAMPLING_OPTIONS, *_REQUEST_OPTIONS)
"""Everything that can be given or changed for a single call."""

# langchain-core passes these along although they are addressed to itself, and `strict` has nothing left to ask for:
# arguments and answers are held to their schema in any case.
_NOT_OURS = ("stream", "strict", "ls_structured_output_format", "structured_output_format")


def call_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one call under our names, without those that are langchain-core's own."""
    return canonical({name: value for name, value in options.items() if name not in _NOT_OURS}, CALL_OPTIONS, ALIASES)


def chat_request(messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> ChatRequest:
    """Build the request.

    Args:
        messages: The conversation.
        options: Options under our names; `None` means the default.

    Raises:
        RequestError: A message or an option cannot be translated.
    """
    given = {name: value for name, value in options.items() if value is not None}
    output = output_format(given.get("response_format"))
    return chat_request_of(to_chat_messages(messages), tool_specs(given.get("tools", ())), output, given)
