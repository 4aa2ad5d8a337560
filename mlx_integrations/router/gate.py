"""What of an answer is shown, and when: nothing that may still have to be taken back.

Chunks that show nothing (roles, blanks, usage) are held until the first that does. From the first part of a tool call
on, everything is held to the end, and released only if the calls stand a strict check. With `holds_all`, all of it is.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from mlx_integrations.router.dialect import Dialect
from mlx_integrations.types import Usage

__all__ = ["Gate"]

C = TypeVar("C")


class Gate(Generic[C]):
    """Holds and releases the chunks of one candidate's answer.

    Args:
        dialect: Reads the chunks.
        holds_all: Release nothing before the end.
        hold_tokens: Visible pieces that are held before the first one is released.

    Attributes:
        is_open: Something that can be seen was released.
        has_begun: Something that can be seen, or a part of a tool call, has arrived.
        has_tool_parts: A part of a tool call has arrived.
        has_reasoning: A thought was released.
        finish_reason: Why the answer ended; `None` before it says so.
        pieces: Chunks with text, thoughts or parts of calls, which is about as many as tokens.
        usage: Tokens that the candidate reported.
    """

    def __init__(self, dialect: Dialect[C], *, holds_all: bool, hold_tokens: int) -> None:
        self._dialect = dialect
        self._holds_all = holds_all
        self._hold_tokens = hold_tokens
        self._held: list[C] = []
        self._texts: list[str] = []
        self._held_texts: list[str] = []
        self.is_open = False
        self.has_begun = False
        self.has_tool_parts = False
        self.has_reasoning = False
        self.finish_reason: str | None = None
        self.pieces = 0
        self.usage: Usage | None = None

    @property
    def is_holding(self) -> bool:
        """Whether something is held that could be seen."""
        return any(self._held_texts) or (self.has_tool_parts and bool(self._held))

    @property
    def text(self) -> str:
        """The text that was released."""
        return "".join(self._texts)

    def feed(self, chunk: C) -> Sequence[C]:
        """Take a chunk; returns what may be shown now."""
        text, reasoning, has_tool_parts, finish_reason, usage = self._dialect.read(chunk)
        if usage is not None:
            self.usage = usage if self.usage is None else _added(self.usage, usage)
        if finish_reason is not None:
            self.finish_reason = finish_reason
        is_visible = bool(text or reasoning)
        if is_visible or has_tool_parts:
            self.has_begun = True
            self.pieces += 1
        if has_tool_parts:
            self.has_tool_parts = True
        if self._holds_all or self.has_tool_parts or not (self.is_open or self._opens(is_visible)):
            self._held.append(chunk)
            self._held_texts.append(text)
            self.has_reasoning = self.has_reasoning or bool(reasoning)
            return ()
        if reasoning:
            self.has_reasoning = True
        if self._held:
            released = self.release()
            self._texts.append(text)
            return (*released, chunk)
        self.is_open = True
        self._texts.append(text)
        return (chunk,)

    def problem(self) -> str:
        """What is wrong with what is held at the end; empty if nothing is, or nothing has to be checked."""
        return self._dialect.check(self._held) if self._holds_all or self.has_tool_parts else ""

    def release(self) -> Sequence[C]:
        """Give out everything that is held."""
        released, self._held = self._held, []
        self._texts += self._held_texts
        self._held_texts = []
        self.is_open = self.is_open or self.has_begun
        return released

    def _opens(self, is_visible: bool) -> bool:
        return is_visible and self.pieces > self._hold_tokens


def _added(first: Usage, second: Usage) -> Usage:
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        reasoning_tokens=first.reasoning_tokens + second.reasoning_tokens,
    )
