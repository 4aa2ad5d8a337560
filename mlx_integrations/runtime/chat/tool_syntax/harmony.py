"""Harmony, the format of gpt-oss: messages in channels, `analysis` for reasoning, `final` for the answer.

A message is `<|start|>role<|channel|>name to=recipient<|message|>content` and one of `<|end|>`, `<|call|>`,
`<|return|>`; the prompt ends after `<|start|>assistant`. A message to a recipient is a call, and `commentary` to nobody
is a preamble that the user is meant to see (https://developers.openai.com/cookbook/articles/openai-harmony).
"""

import re

from mlx_integrations.runtime.chat.tool_syntax.base import (
    CallSyntax,
    Delta,
    OutputParser,
    OutputSyntax,
    ParserOptions,
    RawCall,
    ReasoningDelta,
    TextDelta,
)
from mlx_integrations.runtime.chat.tool_syntax.calls import accept, invalid, strict_json
from mlx_integrations.runtime.chat.tool_syntax.scanning import find_first, held_length
from mlx_integrations.runtime.chat.tool_syntax.staged import stage
from mlx_integrations.types import FinishReason

__all__ = ["HarmonyParser", "harmony_syntax"]

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_OPENINGS = (_START, _CHANNEL, _MESSAGE, " to=", "to=")
_STOPS = (*_ENDS, _START, _CHANNEL)

_CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_ONLY_STRUCTURE = re.compile(r"(?:<\|start\|>\w*)?\s*(?:<\|channel\|>\w*)?\s*\Z")


class HarmonyParser:
    """Reads messages of the assistant.

    Text outside any message, as a model of another family would write, counts as the answer.

    Args:
        options: The tools offered, and whether the prompt opened the analysis.
    """

    def __init__(self, options: ParserOptions) -> None:
        self._options = options
        self._buffer = ""
        self._state = "body" if options.in_reasoning else "opening"
        self._channel = "analysis" if options.in_reasoning else "final"
        self._recipient: str | None = None
        self._is_new_message = True
        self._is_untouched = not options.in_reasoning
        self._has_text = {"analysis": False, "final": False}

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back whatever is certain by now."""
        self._buffer += text
        return self._drain(None)

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Give back everything still held; a call that was cut comes out as an invalid one."""
        return self._drain(reason)

    def _drain(self, reason: FinishReason | None) -> list[Delta]:
        out: list[Delta] = []
        steps = {"opening": self._opening, "header": self._header, "body": self._body}
        while steps[self._state](out, reason):
            pass
        return out

    def _opening(self, out: list[Delta], reason: FinishReason | None) -> bool:
        """Between messages: a header begins, or bare text."""
        rest = self._buffer.lstrip("\n")
        if not rest and reason is not None and self._is_untouched:
            self._open("final", None)
            return True
        if not rest or (reason is None and any(opening.startswith(rest) for opening in _OPENINGS)):
            return False
        if rest.startswith(_ENDS):
            self._buffer = rest[len(next(end for end in _ENDS if rest.startswith(end))) :]
            self._is_untouched = False
            return True
        if rest.startswith(_OPENINGS):
            self._buffer, self._state = rest, "header"
            return True
        if reason is None and any(end.startswith(rest) for end in _ENDS):
            return False
        self._open("final", None)
        return True

    def _header(self, out: list[Delta], reason: FinishReason | None) -> bool:
        found = find_first(self._buffer, (_MESSAGE, *_ENDS))
        if found is None and reason is None:
            return False
        position, marker = found or (len(self._buffer), "")
        header = self._buffer[:position]
        self._buffer = self._buffer[position + len(marker) :]
        recipient = _RECIPIENT.search(header)
        if marker == _MESSAGE:
            channel = _CHANNEL_NAME.search(header)
            to = recipient.group(1) if recipient else None
            self._open(channel.group(1) if channel else "final", None if to in ("assistant", "user", "all") else to)
            return True
        self._state = "opening"
        if recipient is not None and not header.lstrip().startswith("to="):
            name = recipient.group(1).removeprefix("functions.")
            out.append(invalid(header, _cut(reason), self._options.new_id, name=name))
        elif not _ONLY_STRUCTURE.match(header):
            self._open("final", None)
            self._emit(out, header)
            self._state = "opening"
        return True

    def _open(self, channel: str, recipient: str | None) -> None:
        self._channel, self._recipient = channel, recipient
        self._state, self._is_new_message, self._is_untouched = "body", True, False

    def _body(self, out: list[Delta], reason: FinishReason | None) -> bool:
        found = find_first(self._buffer, _STOPS)
        if self._recipient is not None:
            return self._call_body(out, reason, found)
        if found is not None:
            position, marker = found
            self._emit(out, self._buffer[:position])
            self._leave(position, marker)
            return True
        hold = 0 if reason is not None else held_length(self._buffer, _STOPS)
        sure = len(self._buffer) - hold
        self._emit(out, self._buffer[:sure])
        self._buffer = self._buffer[sure:]
        return False

    def _call_body(self, out: list[Delta], reason: FinishReason | None, found: tuple[int, str] | None) -> bool:
        """Wait for the end of the message; `<|call|>` ends the turn, so it does not always arrive as text."""
        if found is None and reason is None:
            return False
        assert self._recipient is not None
        position, marker = found or (len(self._buffer), "")
        arguments = self._buffer[:position].strip()
        name = self._recipient.removeprefix("functions.")
        if reason == "length" and found is None and not _is_json(arguments):
            out.append(invalid(arguments, _cut(reason), self._options.new_id, name=name))
        else:
            out.append(accept(RawCall(name, arguments), self._options.tools, self._options.new_id))
        self._leave(position, marker)
        return found is not None

    def _leave(self, position: int, marker: str) -> None:
        """Go on after a message; the markers that open the next one stay for its header."""
        is_opening = marker in (_START, _CHANNEL)
        self._buffer = self._buffer[position if is_opening else position + len(marker) :]
        self._state = "header" if is_opening else "opening"

    def _emit(self, out: list[Delta], text: str) -> None:
        """Release text of the open message; two messages of one kind are set apart as paragraphs."""
        if not text:
            return
        kind = "analysis" if self._channel == "analysis" else "final"
        if self._is_new_message and self._has_text[kind]:
            text = "\n\n" + text
        self._is_new_message, self._has_text[kind] = False, True
        out.append(ReasoningDelta(text) if kind == "analysis" else TextDelta(text))


def _cut(reason: FinishReason | None) -> str:
    limit = " by the token limit" if reason == "length" else ""
    return f"the answer was cut{limit} before the call was complete"


def _is_json(text: str) -> bool:
    try:
        strict_json(text)
    except ValueError:
        return False
    return True


def _build(syntax: OutputSyntax, options: ParserOptions) -> OutputParser:
    if not options.forced_call:
        return HarmonyParser(options)
    return stage(syntax, options, HarmonyParser(ParserOptions(tools=options.tools, new_id=options.new_id)))


def harmony_syntax() -> OutputSyntax:
    """gpt-oss. One call ends the turn, so there are no parallel ones."""
    return OutputSyntax(
        name="harmony",
        call=CallSyntax(
            before_name=f"{_CHANNEL}commentary to=functions.",
            before_arguments=f" <|constrain|>json{_MESSAGE}",
            after_call="",
            parallel=False,
        ),
        build=_build,
        reasoning_start=f"{_CHANNEL}analysis{_MESSAGE}",
        reasoning_end=f"<|end|>{_START}assistant",
        answer_prefix=f"{_CHANNEL}final{_MESSAGE}",
        markers=frozenset({_START, _CHANNEL, _MESSAGE, "<|constrain|>", *_ENDS}),
        stop_markers=("<|return|>", "<|call|>"),
    )
