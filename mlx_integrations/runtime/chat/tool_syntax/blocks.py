"""The second stage of most parsers: visible text, with blocks of calls in it.

Text goes out as soon as it cannot be the beginning of a marker; a block is held until it is complete.
"""

from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import Block, Delta, NewId, TextDelta
from mlx_integrations.runtime.chat.tool_syntax.calls import invalid, read_calls
from mlx_integrations.runtime.chat.tool_syntax.scanning import (
    JsonTracker,
    drop_leading_lines,
    find_first,
    held_length,
)
from mlx_integrations.types import FinishReason, ToolSpec

__all__ = ["BlockParser"]

_CUT = "the answer ended before the call was complete"
_CUT_BY_LIMIT = "the answer was cut by the token limit before the call was complete"


class BlockParser:
    """Splits visible text from calls.

    Blanks around calls are dropped; a text without markers comes out exactly as it went in.

    Args:
        blocks: The stretches that hold calls.
        silent: Texts that structure the answer and are never shown.
        tools: The tools offered; with none, blocks are ordinary text.
        new_id: Makes ids of calls.
    """

    def __init__(
        self, blocks: Sequence[Block], *, silent: Sequence[str] = (), tools: Sequence[ToolSpec], new_id: NewId
    ) -> None:
        self._blocks = {block.start: block for block in blocks} if tools else {}
        self._markers = (*self._blocks, *silent)
        self._tools = tools
        self._new_id = new_id
        self._buffer = ""
        self._is_after_marker = False
        self._block: Block | None = None
        self._scan = _BlockScan(Block("", "", lambda body, tools: []), ())

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back whatever is certain by now."""
        self._buffer += text
        return self._drain(None)

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Give back everything still held; a call that was cut comes out as an invalid one."""
        return self._drain(reason)

    def _drain(self, reason: FinishReason | None) -> list[Delta]:
        out: list[Delta] = []
        while self._text_step(out, reason) if self._block is None else self._block_step(out, reason):
            pass
        return out

    def _text_step(self, out: list[Delta], reason: FinishReason | None) -> bool:
        found = find_first(self._buffer, self._markers)
        if found is not None:
            position, marker = found
            self._emit(out, self._buffer[:position].rstrip())
            self._buffer = self._buffer[position + len(marker) :]
            self._is_after_marker = True
            self._block = self._blocks.get(marker)
            if self._block is not None:
                self._scan = _BlockScan(self._block, tuple(self._blocks))
            return True
        if reason is not None:
            is_blank_rest = self._is_after_marker and not self._buffer.strip()
            self._emit(out, "" if is_blank_rest else self._buffer)
            self._buffer = ""
            return False
        sure = self._buffer
        if self._markers:
            sure = sure[: len(sure) - held_length(sure, self._markers)].rstrip()
        self._emit(out, sure)
        self._buffer = self._buffer[len(sure) :]
        return False

    def _emit(self, out: list[Delta], text: str) -> None:
        if not text:
            return
        out.append(TextDelta(drop_leading_lines(text) if self._is_after_marker else text))
        self._is_after_marker = False

    def _block_step(self, out: list[Delta], reason: FinishReason | None) -> bool:
        assert self._block is not None
        span = self._scan.find_end(self._buffer, is_last=reason is not None)
        if span is None and reason is None:
            return False
        body_end, next_start = (len(self._buffer), len(self._buffer)) if span is None else span
        body = self._buffer[:body_end]
        if span is None and not (self._block.is_open_ended or self._scan.is_complete):
            cut = _CUT_BY_LIMIT if reason == "length" else _CUT
            out.append(invalid(self._block.start + body, cut, self._new_id))
        else:
            out.extend(read_calls(body, self._block.parse, self._tools, self._new_id))
        self._buffer = self._buffer[next_start:]
        self._block = None
        return True


class _BlockScan:
    """Looks for the end of one block in a growing body; what is inside a JSON string does not count."""

    def __init__(self, block: Block, starts: Sequence[str]) -> None:
        self._ends = (block.end,) if block.end else tuple(starts)
        self._end = block.end
        self._is_json = block.is_json
        self._tracker = JsonTracker()
        self._from = 0
        self._doubtful: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the JSON of the block is closed, so that nothing but its end marker is missing."""
        return self._is_json and self._tracker.closed_at is not None

    def find_end(self, body: str, *, is_last: bool) -> tuple[int, int] | None:
        """Where the body ends and where the text after it begins, once that is certain."""
        while (found := find_first(body[self._from :], self._ends)) is not None:
            position = self._from + found[0]
            self._tracker.advance(body, position)
            if self._closed_without_end():
                break
            if self._holds_json(body) and self._tracker.is_inside and not self._tracker.is_broken:
                self._doubtful = position if self._doubtful is None else self._doubtful
                self._from = position + 1
                continue
            return self._span(position if self._doubtful is None or not self._tracker.is_broken else self._doubtful)
        hold = 0 if is_last else held_length(body, self._ends)
        self._tracker.advance(body, len(body) - hold)
        self._from = max(self._from, len(body) - max(map(len, self._ends)) + 1)
        if self._closed_without_end():
            assert self._tracker.closed_at is not None
            return self._tracker.closed_at, self._tracker.closed_at
        if self._doubtful is not None and (is_last or self._tracker.is_broken):
            return self._span(self._doubtful)
        return None

    def _closed_without_end(self) -> bool:
        return not self._end and self._tracker.closed_at is not None

    def _span(self, position: int) -> tuple[int, int]:
        return position, position + len(self._end)

    def _holds_json(self, body: str) -> bool:
        return self._is_json or body.lstrip()[:1] in ("{", "[")
