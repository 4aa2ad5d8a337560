"""The exact prompt text of a request, through the model's own chat template.

Flow: `ChatRequest` -> what the template cannot say is said in text (`prompt_messages.py`) -> template ->
`RenderedPrompt` -> `prompt_token_ids`. What a template can say is found out by rendering probes and looking for their
words in the result, not by searching its source.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from jinja2.exceptions import TemplateError

from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError
from mlx_integrations.runtime.chat.prompt_messages import (
    ArgumentsForm,
    CallForm,
    IdStyle,
    TemplateMessage,
    clean_text,
    fold_system,
    one_call_a_turn,
    plain,
    repairs,
    template_messages,
    template_tools,
    with_system_text,
    with_written_calls,
    without_tool_roles,
    written_output_instruction,
    written_tools,
)
from mlx_integrations.runtime.chat.tool_syntax.reasoning import REASONING_TAGS
from mlx_integrations.types import ChatMessage, ChatRequest, ToolCall, ToolSpec

__all__ = ["ChatTemplate", "ChatTokenizer", "RenderedPrompt", "prompt_token_ids"]

_TEMPLATE_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)
"""What a template raises: its own words (`raise_exception`), or an expression of it that met what it did not expect."""

_RESERVED_OPTIONS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
_THINKING_VARIABLES = ("enable_thinking", "thinking")
_OPEN_REASONING = (*(start for start, _ in REASONING_TAGS), "<|channel|>analysis<|message|>")

_PLAIN_TITLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
_PLAIN_STOP = tuple(f"\n### {title}:" for title in ("User", "System"))

_PROBE_TOOL = ToolSpec(
    name="probe_tool",
    description="Probe.",
    parameters={"type": "object", "properties": {"probe_key": {"type": "string"}}, "required": ["probe_key"]},
)
_PROBE_USER = ChatMessage(role="user", content="probe user words")
_PROBE_SYSTEM = ChatMessage(role="system", content="probe system words")
_PROBE_CALL_ID = "call_0123456789abcdef01234567"
_PROBE_CALL = ToolCall(id=_PROBE_CALL_ID, name="probe_call", arguments={"probe_argument": "probe_value"})
_PROBE_RESULT = ChatMessage(role="tool", content="probe result words", name="probe_call", tool_call_id=_PROBE_CALL_ID)
_PROBE_HISTORY = (_PROBE_USER, ChatMessage(role="assistant", tool_calls=(_PROBE_CALL,)), _PROBE_RESULT)
_PROBE_SECOND_ID = "call_123456789abcdef012345670"
_PROBE_PARALLEL = (
    _PROBE_USER,
    ChatMessage(
        role="assistant",
        tool_calls=(_PROBE_CALL, ToolCall(id=_PROBE_SECOND_ID, name="probe_second", arguments={"probe_other": 1})),
    ),
    _PROBE_RESULT,
    ChatMessage(role="tool", content="probe other words", name="probe_second", tool_call_id=_PROBE_SECOND_ID),
)


class ChatTokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    @property
    def chat_template(self) -> Any:
        """The Jinja source, a dict of named ones, or `None`."""
        ...

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render messages."""
        ...


class EncodingTokenizer(Protocol):
    """What is used of a Hugging Face tokenizer to make token ids."""

    @property
    def bos_token_id(self) -> Any:
        """The token that begins a sequence, or `None`."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """A prompt, ready for the tokenizer.

    Attributes:
        text: All of it, special tokens written out.
        in_reasoning: It ends inside an open thinking tag: the answer begins with reasoning.
        add_bos: The text begins without the token that begins a sequence, and no template decided so.
        stop: Strings that end the answer besides those asked for: the titles of the next turn, where a model without
            a chat template has no token that ends its own.
    """

    text: str
    in_reasoning: bool = False
    add_bos: bool = False
    stop: tuple[str, ...] = ()


def prompt_token_ids(tokenizer: EncodingTokenizer, rendered: RenderedPrompt) -> list[int]:
    """Token ids of a prompt.

    A template writes its special tokens itself, so none are added to its text, exactly as transformers does; a prompt
    that no template wrote gets the token that begins a sequence if this tokenizer is one that adds it.
    """
    ids = list(tokenizer.encode(rendered.text, add_special_tokens=False))
    bos = tokenizer.bos_token_id
    if not rendered.add_bos or bos is None or ids[:1] == [bos]:
        return ids
    return [bos, *ids] if list(tokenizer.encode("", add_special_tokens=True))[:1] == [bos] else ids


class ChatTemplate:
    """Renders requests through one model's chat template.

    A template without a system role gets system text at the head of the first user message. One without tools gets
    them explained in the system text, and calls in the history written out, in the Hermes form. A model without a
    template (a base model) gets a transcript with the titles `### User:` and `### Assistant:`, which text on the web
    has made familiar to every base model.

    Args:
        tokenizer: A Hugging Face tokenizer.
        apply: Renders instead of the tokenizer's own template, where a model brings its template as code.
    """

    def __init__(self, tokenizer: ChatTokenizer, *, apply: Callable[..., str] | None = None) -> None:
        self._tokenizer = tokenizer
        self._apply = apply
        self._named = tokenizer.chat_template if isinstance(tokenizer.chat_template, Mapping) else None
        self.has_template = apply is not None or bool(tokenizer.chat_template)

    @property
    def source(self) -> str | None:
        """The Jinja source; of several templates the one for tools."""
        if self._named:
            return str(self._named.get("tool_use") or self._named.get("default") or next(iter(self._named.values())))
        return str(self._tokenizer.chat_template) if self._tokenizer.chat_template else None

    @cached_property
    def has_system(self) -> bool:
        """Whether the template has a system role."""
        return _PROBE_SYSTEM.content in self._probe((_PROBE_SYSTEM, _PROBE_USER))

    @cached_property
    def has_tools(self) -> bool:
        """Whether the template tells the model which tools it has."""
        return self._tools_need_system is not None

    @cached_property
    def has_tool_history(self) -> bool:
        """Whether the template shows earlier calls and their results, and in the form in which it explains tools."""
        return self.has_tools and self._history_form is not None

    @cached_property
    def has_parallel_history(self) -> bool:
        """Whether the template shows several calls of one turn; some show the first and drop the rest."""
        if self._history_form is None:
            return False
        arguments, ids = self._history_form
        text = self._probe(_PROBE_PARALLEL, (_PROBE_TOOL,), arguments=arguments, ids=ids)
        return all(words in text for words in ("probe_argument", "probe_other", "probe other words"))

    @cached_property
    def supports_thinking_switch(self) -> bool:
        """Whether `ChatRequest.reasoning` makes a difference."""
        return self._thinking_variable is not None

    def starts_in_reasoning(self, rendered: RenderedPrompt) -> bool:
        """Whether the answer to this prompt begins inside the thinking."""
        return rendered.in_reasoning

    def render(self, request: ChatRequest) -> RenderedPrompt:
        """The prompt of a request.

        Raises:
            UnsupportedContentError: A message has an attachment.
            InvalidRequestError: There are no messages, a template option is not one, or the template refuses the
                messages; the message then has the template's own words.
        """
        _check(request)
        tools = () if request.tool_choice.mode == "none" else request.tools
        messages = request.messages
        if tools and not self.has_tools:
            messages, tools = with_system_text(messages, written_tools(tools)), ()
        messages = with_system_text(messages, written_output_instruction(request.output, request.messages))
        if any(message.role == "tool" or message.tool_calls for message in messages) and not self.has_tool_history:
            is_role_shown = self.has_tools and self._shows_tool_role
            messages = with_written_calls(messages, self._call_form) if is_role_shown else without_tool_roles(messages)
        if not self.has_template:
            return _plain_prompt(messages)
        has_system_message = any(message.role == "system" for message in messages)
        if has_system_message and not self.has_system:
            messages = fold_system(messages)
        elif tools and self._tools_need_system and not has_system_message:
            messages = (ChatMessage(role="system"), *messages)
        arguments, ids = self._history_form or ("object", "as_is")
        items = template_messages(messages, arguments=arguments, ids=ids)
        if any(len(message.tool_calls) > 1 for message in messages) and not self.has_parallel_history:
            items = one_call_a_turn(items)
        text = self._render_repaired(items, tools, self._options(request))
        tail = text.rstrip()
        return RenderedPrompt(text=text, in_reasoning=tail.endswith(_OPEN_REASONING))

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if request.reasoning is not None and self._thinking_variable is not None:
            options[self._thinking_variable] = request.reasoning
        return options | {str(key): plain(value) for key, value in request.template_options.items()}

    def _render_repaired(
        self, messages: list[TemplateMessage], tools: Sequence[ToolSpec], options: Mapping[str, Any]
    ) -> str:
        """Render, going around what the template refuses as far as that is possible."""
        refusal: Exception | None = None
        for attempt in repairs(messages):
            try:
                return self._render(attempt, tools, options)
            except _TEMPLATE_ERRORS as exc:
                refusal = refusal or exc
        assert refusal is not None
        words = getattr(refusal, "message", None) or str(refusal) or type(refusal).__name__
        raise InvalidRequestError(
            f"The model's chat template refuses these messages: {words}",
            field="messages",
            hint="Check the order of roles and that each tool result follows its call.",
        ) from refusal

    def _render(self, messages: list[TemplateMessage], tools: Sequence[ToolSpec], options: Mapping[str, Any]) -> str:
        return self._fill(messages, template_tools(tools) or self._no_tools, options)

    def _fill(
        self, messages: list[TemplateMessage], tools: list[dict[str, Any]] | None, options: Mapping[str, Any]
    ) -> str:
        """Run the template once."""
        if self._apply is not None:
            return clean_text(str(self._apply(messages, tools=tools, add_generation_prompt=True, **options)))
        named = {}
        if self._named and "default" not in self._named and not (tools and "tool_use" in self._named):
            named["chat_template"] = next(iter(self._named.values()))
        text = self._tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=True, tokenize=False, **named, **options
        )
        return clean_text(str(text))

    def _probe(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        arguments: ArgumentsForm = "object",
        ids: IdStyle = "as_is",
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """What the template makes of `messages`; empty if it refuses them, or if there is no template."""
        if not self.has_template:
            return ""
        try:
            return self._render(template_messages(messages, arguments=arguments, ids=ids), tools, options)
        except _TEMPLATE_ERRORS:
            return ""

    @cached_property
    def _no_tools(self) -> list[dict[str, Any]] | None:
        """What stands for no tools: `None` as transformers has it, or an empty list where a template iterates."""
        empty: list[dict[str, Any]] = []
        for nothing in (None, empty):
            with suppress(*_TEMPLATE_ERRORS):
                self._fill(template_messages((_PROBE_USER,)), nothing, {})
                return nothing
        return None

    @cached_property
    def _shows_tool_role(self) -> bool:
        """Whether results of tools are shown in a role of their own, though calls are not shown."""
        asked = replace(_PROBE_HISTORY[1], content="probe call words", tool_calls=())
        text = self._probe((_PROBE_USER, asked, _PROBE_RESULT), (_PROBE_TOOL,))
        return _PROBE_RESULT.content in text and asked.content in text

    @cached_property
    def _call_form(self) -> CallForm:
        """How the model writes calls, for templates that leave it to the text of the message."""
        marks = (self.source or "", *getattr(self._tokenizer, "get_vocab", dict)())
        if any("<|tool_call_start|>" in mark or "<|tool_list_start|>" in mark for mark in marks):
            return "pythonic"
        return "json_list" if any("<|tool_call|>" in mark for mark in marks) else "hermes"

    @cached_property
    def _tools_need_system(self) -> bool | None:
        """Whether tools are shown only beside a system message; `None` if they are never shown."""
        if _PROBE_TOOL.name in self._probe((_PROBE_USER,), (_PROBE_TOOL,)):
            return False
        return True if _PROBE_TOOL.name in self._probe((_PROBE_SYSTEM, _PROBE_USER), (_PROBE_TOOL,)) else None

    @cached_property
    def _history_form(self) -> tuple[ArgumentsForm, IdStyle] | None:
        """How earlier calls must be given to the template so that it shows them; `None` if it does not."""
        forms: tuple[ArgumentsForm, ...] = ("object", "string")
        styles: tuple[IdStyle, ...] = ("as_is", "nine_characters")
        for ids in styles:
            for arguments in forms:
                text = self._probe(_PROBE_HISTORY, (_PROBE_TOOL,), arguments=arguments, ids=ids)
                is_shown = all(words in text for words in ("probe_argument", "probe_value", "probe result words"))
                # A template that writes a dict as it is shows Python, not JSON.
                if not is_shown or "'probe_argument'" in text:
                    continue
                # The result may carry the name as well, so the call is looked at without it.
                call = self._probe(_PROBE_HISTORY[:2], (_PROBE_TOOL,), arguments=arguments, ids=ids)
                is_only_in_id = _PROBE_CALL_ID in call and _PROBE_CALL.name not in call
                return (arguments, "name_and_index") if is_only_in_id else (arguments, ids)
        return None

    @cached_property
    def _thinking_variable(self) -> str | None:
        for name in _THINKING_VARIABLES:
            on = self._probe((_PROBE_USER,), options={name: True})
            if on and on != self._probe((_PROBE_USER,), options={name: False}):
                return name
        return None


def _check(request: ChatRequest) -> None:
    for message in request.messages:
        for attachment in message.attachments:
            raise UnsupportedContentError(
                f"This model reads text, and a message contains {_a(attachment.kind)}.", kind=attachment.kind
            )
    if not request.messages:
        raise InvalidRequestError("There are no messages.", field="messages", hint="Send at least one.")
    reserved = sorted(_RESERVED_OPTIONS.intersection(request.template_options))
    if reserved:
        raise InvalidRequestError(
            f"`{reserved[0]}` is not a variable of the chat template.",
            field="template_options",
            hint="Messages and tools are fields of the request.",
        )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plain_prompt(messages: Sequence[ChatMessage]) -> RenderedPrompt:
    """A transcript for a model without a chat template."""
    turns = [f"### {_PLAIN_TITLES[message.role]}:\n{clean_text(message.content)}" for message in messages]
    return RenderedPrompt(text="\n\n".join([*turns, "### Assistant:\n"]), add_bos=True, stop=_PLAIN_STOP)
