"""The thinking channel: the first stage of most parsers, which splits reasoning from the answer."""

from collections.abc import Mapping

from mlx_integrations.runtime.chat.tool_syntax.base import Delta, ReasoningDelta
from mlx_integrations.runtime.chat.tool_syntax.scanning import drop_leading_lines, held_length

__all__ = ["REASONING_TAGS", "ReasoningSplitter", "find_reasoning_tags"]

REASONING_TAGS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<longcat_think>", "</longcat_think>"),
    ("<seed:think>", "</seed:think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
)
"""Every pair of tags that some family thinks between."""


def find_reasoning_tags(chat_template: str | None, vocabulary: Mapping[str, int]) -> tuple[str, str] | None:
    """The tags that a model thinks between: those it has tokens for, else those its template names."""
    for start, end in REASONING_TAGS:
        if start in vocabulary and end in vocabulary:
            return start, end
    for start, end in REASONING_TAGS:
        if chat_template and (start in chat_template or end in chat_template):
            return start, end
    if "<|channel>" in vocabulary and "<channel|>" in vocabulary:
        return "<|channel>thought", "<channel|>"
    if all(token in vocabulary for token in ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")):
        return "<|open|>think<|sep|>", "<|close|>think<|sep|>"
    return None


class ReasoningSplitter:
    """Takes the thinking off the beginning of an answer; the rest passes through as it is.

    A tag counts only where nothing but blanks came before it: an answer that talks *about* `<think>` keeps its text.

    Args:
        start: Opens the thinking.
        end: Closes it.
        in_reasoning: Whether the prompt has opened it already.
    """

    def __init__(self, start: str, end: str, *, in_reasoning: bool) -> None:
        self._start = start
        self._end = end
        self._buffer = ""
        self._state = "opened" if in_reasoning else "before"
        self._is_first = True
        self._has_thought = False
        self._unclosed: list[str] = []

    @property
    def unclosed(self) -> str:
        """The reasoning of a thinking tag that nothing has closed so far."""
        return "".join(self._unclosed) if self._state == "inside" else ""

    def feed(self, text: str) -> tuple[list[Delta], str]:
        """Take the next piece; give back reasoning, and text of the answer that follows it."""
        self._buffer += text
        return self._drain(is_last=False)

    def finish(self) -> tuple[list[Delta], str]:
        """Give back everything still held."""
        return self._drain(is_last=True)

    def _drain(self, *, is_last: bool) -> tuple[list[Delta], str]:
        pieces: list[str] = []
        steps = {"before": self._before, "opened": self._opened, "inside": self._inside}
        while (step := steps.get(self._state)) is not None and step(pieces, is_last):
            pass
        answer = ""
        if self._state == "after":
            answer, self._buffer = self._buffer, ""
        reasoning = "".join(pieces)
        return ([ReasoningDelta(reasoning)] if reasoning else []), answer

    def _before(self, pieces: list[str], is_last: bool) -> bool:
        """No thinking yet: wait for the tag, as long as nothing else has come."""
        rest = self._buffer.lstrip()
        if rest.startswith(self._start):
            self._buffer = rest[len(self._start) :]
            self._state = "inside"
            self._is_first = True
            return True
        if not is_last and self._start.startswith(rest):
            return False
        if self._has_thought:
            self._buffer = drop_leading_lines(self._buffer) if rest else ""
        self._state = "after"
        return False

    def _opened(self, pieces: list[str], is_last: bool) -> bool:
        """The prompt opened the thinking; some models write the tag once more."""
        rest = self._buffer.lstrip()
        if not is_last and rest != self._start and self._start.startswith(rest):
            return False
        if rest.startswith(self._start):
            self._buffer = rest[len(self._start) :]
        self._state = "inside"
        return True

    def _inside(self, pieces: list[str], is_last: bool) -> bool:
        position = self._buffer.find(self._end)
        if position >= 0:
            self._emit(pieces, self._buffer[:position].rstrip())
            self._buffer = self._buffer[position + len(self._end) :]
            self._state = "before"
            self._has_thought = True
            self._unclosed.clear()
            return True
        if is_last:
            self._emit(pieces, self._buffer)
            self._buffer = ""
            return False
        sure = self._buffer[: len(self._buffer) - held_length(self._buffer, (self._end,))].rstrip()
        self._emit(pieces, sure)
        self._buffer = self._buffer[len(sure) :]
        return False

    def _emit(self, pieces: list[str], text: str) -> None:
        """Release reasoning, without the blank lines after its tag."""
        if self._is_first:
            text = drop_leading_lines(text) if text.strip() else ""
        if text:
            pieces.append(text)
            self._unclosed.append(text)
            self._is_first = False
