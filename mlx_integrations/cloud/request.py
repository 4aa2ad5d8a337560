"""A `ChatRequest` as the body of `/chat/completions`. Pure: everything that can be wrong with it is found here.

Input flow: messages, tools, choice, format and sampling become the fields that the endpoint's preset lists. What it
does not list is refused by name. Thoughts of earlier answers are not sent: the protocol has no place for them.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlx_integrations.cloud.estimates import clean
from mlx_integrations.errors import (
    InvalidRequestError,
    UnknownToolError,
    UnsupportedContentError,
    UnsupportedSchemaError,
)
from mlx_integrations.types import (
    Attachment,
    ChatMessage,
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    ModelCapabilities,
    SamplingParams,
    ToolSpec,
)

__all__ = ["is_strict_ready", "request_body"]

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "temperature": (0.0, math.inf),
    "top_p": (0.0, 1.0),
    "top_k": (0, math.inf),
    "min_p": (0.0, 1.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 0.5),
    "repetition_penalty": (0.0, math.inf),
    "presence_penalty": (-math.inf, math.inf),
    "frequency_penalty": (-math.inf, math.inf),
    "max_tokens": (1, math.inf),
}
_MAX_TOP_LOGPROBS: Final = 20
_TOOL_MODES: Final = {"auto": "auto", "none": "none", "any": "required"}


def request_body(
    request: ChatRequest,
    *,
    endpoint: str,
    options: Mapping[str, str],
    capabilities: ModelCapabilities,
) -> dict[str, Any]:
    """What is sent, without the model's name.

    Args:
        request: What is asked.
        endpoint: The endpoint's name, for messages.
        options: What it knows, as in `Preset.options`.
        capabilities: What the model can do.

    Raises:
        InvalidRequestError: A value is impossible, or the endpoint does not know the option; `field` names it.
        UnknownToolError: `tool_choice` names a tool that was not offered.
        UnsupportedContentError: The model does not read this kind of attachment.
        UnsupportedSchemaError: The endpoint cannot hold an answer to this format.
    """
    if not request.messages:
        raise InvalidRequestError("A request needs at least one message.", field="messages", hint="Send some text.")
    writer = _Writer(endpoint, options)
    body: dict[str, Any] = {"messages": [_message(item, endpoint, capabilities) for item in request.messages]}
    body |= _sampling(request.sampling, writer)
    body |= _tools(request, writer)
    body |= _output(request, writer)
    body |= _thinking(request, writer, capabilities)
    return body


class _Writer:
    """Knows the endpoint's own names of options, and refuses what it has no name for."""

    def __init__(self, endpoint: str, options: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self._options = options

    def knows(self, name: str) -> bool:
        return name in self._options

    def field(self, name: str) -> str:
        if name not in self._options:
            raise InvalidRequestError(
                f"`{self.endpoint}` does not know the option `{name}`.",
                field=name,
                hint=f"Leave it out. If a newer version of the endpoint knows it, add `{name}` to its `options`.",
            )
        return self._options[name]


def _message(message: ChatMessage, endpoint: str, capabilities: ModelCapabilities) -> dict[str, Any]:
    item: dict[str, Any] = {"role": message.role, "content": clean(message.content)}
    if message.attachments:
        parts = [_attachment(one, endpoint, capabilities) for one in message.attachments]
        item["content"] = [*([{"type": "text", "text": item["content"]}] if message.content else []), *parts]
    if message.tool_calls:
        item["content"] = item["content"] or None
        item["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": clean(call.name), "arguments": json.dumps(_plain(call.arguments))},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        item["tool_call_id"] = message.tool_call_id or ""
    elif message.name:
        item["name"] = clean(message.name)
    return item


def _attachment(item: Attachment, endpoint: str, capabilities: ModelCapabilities) -> dict[str, Any]:
    if item.kind != "image" or not capabilities.vision:
        raise UnsupportedContentError(
            f"`{endpoint}` is not known to read a part of kind `{item.kind}`.", kind=item.kind
        )
    if item.url is not None:
        return {"type": "image_url", "image_url": {"url": item.url}}
    data = base64.b64encode(item.data or b"").decode()
    return {"type": "image_url", "image_url": {"url": f"data:{item.mime_type or 'image/png'};base64,{data}"}}


def _sampling(params: SamplingParams, writer: _Writer) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, (lowest, highest) in _RANGES.items():
        value = getattr(params, name)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not lowest <= value <= highest or (name == "top_p" and value == 0):
            raise InvalidRequestError(f"`{name}` cannot be `{value!r}`.", field=name, hint=_range_hint(name))
        body[writer.field(name)] = value
    if params.seed is not None:
        body[writer.field("seed")] = params.seed
    if params.logit_bias:
        body[writer.field("logit_bias")] = {str(token): bias for token, bias in params.logit_bias.items()}
    if params.stop:
        if any(not isinstance(stop, str) or not stop for stop in params.stop):
            raise InvalidRequestError(
                "A stop string is empty.", field="stop", hint="Give strings of one character or more."
            )
        body[writer.field("stop")] = [clean(stop) for stop in params.stop]
    if not 0 <= params.top_logprobs <= _MAX_TOP_LOGPROBS:
        raise InvalidRequestError(
            f"`top_logprobs` cannot be `{params.top_logprobs}`.",
            field="top_logprobs",
            hint=f"`top_logprobs` is a whole number, at least 0 and at most {_MAX_TOP_LOGPROBS}.",
        )
    if params.logprobs or params.top_logprobs:
        body[writer.field("logprobs")] = True
    if params.top_logprobs:
        body[writer.field("top_logprobs")] = params.top_logprobs
    return body


def _range_hint(name: str) -> str:
    lowest, highest = _RANGES[name]
    above = f"`{name}` is a number" + (" above 0" if name == "top_p" else f" of at least {lowest:g}")
    return f"{above}." if math.isinf(highest) else f"{above} and at most {highest:g}."


def _tools(request: ChatRequest, writer: _Writer) -> dict[str, Any]:
    choice = request.tool_choice
    names = [tool.name for tool in request.tools]
    if choice.mode == "tool" and choice.name not in names:
        raise UnknownToolError(f"No tool is called `{choice.name}`.", tool_name=str(choice.name), offered=names)
    if choice.mode == "any" and not names:
        raise InvalidRequestError(
            "A call is demanded, but no tool is offered.", field="tool_choice", hint="Pass the tools together with it."
        )
    # Where a choice cannot be made, no call is certain if no tool is offered.
    if not names or (choice.mode == "none" and not writer.knows("tool_choice")):
        return {}
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequestError(
            f"Two tools are named `{doubled[0]}`.", field="tools", hint="Give every tool a name of its own."
        )
    body: dict[str, Any] = {writer.field("tools"): [_tool(tool) for tool in request.tools]}
    if choice.mode == "tool":
        body[writer.field("tool_choice")] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode != "auto":
        body[writer.field("tool_choice")] = _TOOL_MODES[choice.mode]
    if not request.parallel_tool_calls:
        body[writer.field("parallel_tool_calls")] = False
    return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": clean(tool.name),
        "description": clean(tool.description),
        "parameters": {"type": "object", "properties": {}} | _plain(tool.parameters),
    }
    return {"type": "function", "function": function}


def _output(request: ChatRequest, writer: _Writer) -> dict[str, Any]:
    output = request.output
    if output is None:
        return {}
    if isinstance(output, JsonSchemaFormat) and writer.knows("json_schema"):
        schema = _plain(output.schema)
        held = {"name": output.name, "schema": schema, "strict": is_strict_ready(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": held}}
    if isinstance(output, JsonObjectFormat) and writer.knows("json_object"):
        return {"response_format": {"type": "json_object"}}
    kind = {JsonSchemaFormat: "a JSON Schema", JsonObjectFormat: "JSON"}.get(type(output), "a regular expression")
    raise UnsupportedSchemaError(
        f"`{writer.endpoint}` cannot hold an answer to {kind}.",
        hint="Ask a model in this process for it, or take the answer as text and check it yourself.",
    )


def is_strict_ready(schema: Any) -> bool:
    """Whether a schema is of the kind that OpenAI enforces: every object closed, every property required.

    Others are sent without `strict`, because with it they would be refused:
    https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, Mapping):
        if "properties" in schema or schema.get("type") == "object":
            properties = schema.get("properties") or {}
            if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
                return False
        return all(is_strict_ready(value) for value in schema.values())
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return all(is_strict_ready(value) for value in schema)
    return True


def _thinking(request: ChatRequest, writer: _Writer, capabilities: ModelCapabilities) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if request.template_options:
        body[writer.field("template_options")] = _plain(request.template_options)
    # A model that never thinks needs no telling not to.
    if request.reasoning is None or (request.reasoning is False and not capabilities.reasoning):
        return body
    match field := writer.field("reasoning"):
        case "reasoning_effort":
            body[field] = "medium" if request.reasoning else "none"
        case "reasoning":
            body[field] = {"enabled": request.reasoning}
        case _:
            # The variable that chat templates of several families ask, such as Qwen's.
            body[field] = {**body.get(field, {}), "enable_thinking": request.reasoning}
    return body


def _plain(value: Any) -> Any:
    """A value as plain dicts, lists and clean strings: what JSON can hold."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    return value
