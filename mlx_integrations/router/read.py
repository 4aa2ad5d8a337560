"""Facts of a request, read from its messages and options: `RequestReader`.

    ChatRequest --message_facts--> MessageFacts --RequestReader--> RequestFacts --decide--> Plan

Adapters that know more of their messages than a `ChatMessage` holds, such as marks in metadata, make `MessageFacts` of
their own.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.router.facts import TASKS, MessageFacts, RequestFacts
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.privacy import PrivacyScanner
from mlx_integrations.types import Attachment, ChatMessage, ChatRequest, JsonSchemaFormat, RegexFormat, ToolSpec

__all__ = ["RequestReader", "message_facts", "readable_json"]

_TEMPLATE_BYTES: Final = 32
"""What a template puts around a message: markers, role, line breaks."""
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/yaml", "application/toml")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-f]{4}|.)")
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def readable_json(value: Any) -> str:
    r"""A value as JSON, but with texts as they are: what stands behind a line break must not look as if behind an `n`.

    Args:
        value: Of any kind; a class that knows its JSON Schema counts as that, as it does when it is sent.
    """
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _plain(value: Any) -> Any:
    return value.model_json_schema() if isinstance(value, type) and hasattr(value, "model_json_schema") else str(value)


def _unescaped(escape: re.Match[str]) -> str:
    what = escape[1]
    return chr(int(what[1:], 16)) if len(what) > 1 else _ESCAPED.get(what, what)


def message_facts(message: ChatMessage, *, is_private: bool = False) -> MessageFacts:
    """One message, as far as routers are concerned.

    Args:
        message: The message.
        is_private: It is marked.
    """
    attachments = message.attachments
    if not (message.reasoning or message.name or message.tool_calls or attachments):  # nearly all messages
        return MessageFacts(role=message.role, text=message.content, is_private=is_private)
    parts = [message.content, message.reasoning or "", message.name or ""]
    for call in message.tool_calls:
        parts += [call.name, readable_json(call.arguments)]
    parts += [_text_of(attachment) for attachment in attachments]
    return MessageFacts(
        role=message.role,
        text="\n".join(part for part in parts if part),
        attachments=frozenset(attachment.kind for attachment in attachments),
        is_private=is_private,
    )


class RequestReader:
    """Reads requests as one policy wants them read. Safe from any thread.

    Args:
        policy: Says what makes a request private.

    Raises:
        ConfigurationError: A pattern of the policy is none.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.scanner = PrivacyScanner(policy)

    def read(
        self,
        messages: Sequence[MessageFacts],
        *,
        tools: bytes = b"",
        needs_tools: bool = False,
        needs_structured_output: bool = False,
        output_tokens: int | None = None,
        prompt_tokens: int | None = None,
        task: str | None = None,
        language: str | None = None,
        tags: Iterable[str] = (),
        profile: str | None = None,
        private: bool | None = None,
    ) -> RequestFacts:
        """What a router may know of a request.

        Args:
            messages: All of them.
            tools: Descriptions of tools and the schema of the answer, in UTF-8.
            needs_tools: Tools are offered.
            needs_structured_output: The answer has to satisfy a schema.
            output_tokens: The longest answer that was asked for.
            prompt_tokens: Tokens of the prompt, where somebody has counted them.
            task: What it is for, one of `TASKS`.
            language: The language it needs, as an ISO 639-1 code.
            tags: Tags of the call.
            profile: The embedding profile, if texts are to be embedded.
            private: `True` keeps it on this machine. `False` lets what is found in texts count for nothing; tags,
                profiles and marks of earlier answers still count.

        Raises:
            InvalidRequestError: There is no such task.
        """
        if task is not None and task not in TASKS:
            raise _unknown_task(task)
        given = frozenset(tags)
        reasons: list[str] = []
        if private:
            reasons.append("it was said to be private")
        reasons += [f"it is tagged `{tag}`" for tag in sorted(self._policy.private_tags & given)]
        if profile is not None and profile in self._policy.private_profiles:
            reasons.append(f"texts of the profile `{profile}` stay on this machine")
        reasons += self.scanner.reasons(messages, tools=tools, look=private is None)
        size = len(tools)
        for message in messages:
            text = message.text
            size += _TEMPLATE_BYTES + (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))
        return RequestFacts(
            text_bytes=size,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            needs_tools=needs_tools,
            needs_structured_output=needs_structured_output,
            attachments=frozenset().union(*[message.attachments for message in messages if message.attachments]),
            private_because=tuple(reasons),
            task=task,
            language=language,
            tags=given,
        )

    def read_chat(
        self,
        request: ChatRequest,
        *,
        prompt_tokens: int | None = None,
        task: str | None = None,
        language: str | None = None,
        tags: Iterable[str] = (),
        private: bool | None = None,
    ) -> RequestFacts:
        """The same for a `ChatRequest`; arguments as for `read`."""
        return self.read(
            [self._marked(message) for message in request.messages],
            tools=_described(request),
            needs_tools=bool(request.tools) and request.tool_choice.mode != "none",
            needs_structured_output=request.output is not None,
            output_tokens=request.sampling.max_tokens,
            prompt_tokens=prompt_tokens,
            task=task,
            language=language,
            tags=tags,
            private=private,
        )

    def _marked(self, message: ChatMessage) -> MessageFacts:
        is_private = message.role == "assistant" and self.scanner.is_private_answer(message.content)
        return message_facts(message, is_private=is_private)


def _described(request: ChatRequest) -> bytes:
    """What else of a request is sent as text: tools, schema, strings that end the answer."""
    parts: list[str] = [_described_tool(tool) for tool in request.tools]
    if isinstance(request.output, JsonSchemaFormat):
        parts.append(readable_json(request.output.schema))
    elif isinstance(request.output, RegexFormat):
        parts.append(request.output.pattern)
    parts += request.sampling.stop
    if request.template_options:
        parts.append(readable_json(request.template_options))
    return "\n".join(parts).encode("utf-8", "surrogatepass") if parts else b""


def _described_tool(tool: ToolSpec) -> str:
    return f"{tool.name}\n{tool.description}\n{readable_json(tool.parameters)}"


def _text_of(attachment: Attachment) -> str:
    """What can be read of an attachment: its address, or its content if that is text."""
    if attachment.url is not None:
        return "" if attachment.url.startswith("data:") else attachment.url
    if attachment.data is not None and (attachment.mime_type or "").startswith(_TEXT_TYPES):
        return attachment.data.decode("utf-8", "replace")
    return ""


def _unknown_task(task: str) -> InvalidRequestError:
    near = difflib.get_close_matches(task, TASKS, n=1)
    listed = ", ".join(f"`{name}`" for name in TASKS)
    return InvalidRequestError(
        f"There is no task `{task}`.", field="task", hint=f"Did you mean `{near[0]}`?" if near else f"Use {listed}."
    )
