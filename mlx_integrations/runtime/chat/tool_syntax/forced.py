"""A forced call: a grammar holds the answer to the family's `CallSyntax`, so the literals tell where its parts are."""

import json
from collections.abc import Sequence

from mlx_integrations.runtime.chat.tool_syntax.base import CallSyntax, Delta, NewId, OutputParser, RawCall
from mlx_integrations.runtime.chat.tool_syntax.calls import accept, invalid
from mlx_integrations.runtime.chat.tool_syntax.scanning import JsonTracker
from mlx_integrations.types import FinishReason, ToolSpec

__all__ = ["ForcedCallParser"]


class ForcedCallParser:
    """Reads calls written exactly as `CallSyntax` says.

    Text that departs from it goes, unread, to the family's ordinary parser: nothing is lost where the grammar was not
    enforced after all.

    Args:
        syntax: How the calls are written.
        otherwise: The ordinary parser.
        tools: The tools offered.
        new_id: Makes ids of calls.
    """

    def __init__(
        self, syntax: CallSyntax, *, otherwise: OutputParser, tools: Sequence[ToolSpec], new_id: NewId
    ) -> None:
        self._syntax = syntax
        self._otherwise = otherwise
        self._tools = tools
        self._new_id = new_id
        self._names = {
            written + syntax.before_arguments: tool.name for tool in tools for written in _spellings(tool.name)
        }
        self._buffer = ""
        self._consumed = ""
        self._name: str | None = None
        self._tracker = JsonTracker()
        self._has_called = False
        self._has_departed = False

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back the calls that are complete by now."""
        if self._has_departed:
            return self._otherwise.feed(text)
        self._buffer += text
        out: list[Delta] = []
        while self._arguments_step(out) if self._name is not None else self._name_step(out):
            pass
        return out

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Give back everything still held; a call that was cut comes out as an invalid one."""
        if self._has_departed:
            return self._otherwise.finish(reason)
        rest = self._buffer
        closed_at = self._tracker.closed_at
        if self._name is not None and closed_at is not None:
            return [accept(RawCall(self._name, rest[:closed_at]), self._tools, self._new_id)]
        if self._name is None and (not rest.strip() or (self._has_called and self._end.startswith(rest.strip()))):
            return []
        limit = " by the token limit" if reason == "length" else ""
        error = f"the answer was cut{limit} before the call was complete"
        return [invalid(self._consumed + rest, error, self._new_id, name=self._name)]

    @property
    def _end(self) -> str:
        return self._syntax.end.strip()

    def _name_step(self, out: list[Delta]) -> bool:
        """Read up to the arguments."""
        rest = self._buffer.lstrip()
        if self._has_called and self._end and rest.startswith(self._end):
            return self._depart(out, rest[len(self._end) :].lstrip())
        opening = self._syntax.between if self._has_called else self._syntax.begin
        heads = {(opening + self._syntax.before_name).lstrip() + written: name for written, name in self._names.items()}
        for head, name in heads.items():
            if rest.startswith(head):
                self._consumed, self._buffer = rest[: len(head)], rest[len(head) :]
                self._name, self._tracker = name, JsonTracker()
                return True
        expected = (*heads, self._end) if self._has_called else tuple(heads)
        if any(text.startswith(rest) for text in expected):
            return False
        return self._depart(out, rest if self._has_called else self._buffer)

    def _arguments_step(self, out: list[Delta]) -> bool:
        """Read the arguments and what closes the call."""
        assert self._name is not None
        if self._buffer.lstrip()[:1] not in ("", "{"):
            return self._depart(out, self._consumed + self._buffer)
        self._tracker.advance(self._buffer, len(self._buffer))
        closed_at = self._tracker.closed_at
        if closed_at is None:
            return False
        rest, closing = self._buffer[closed_at:], self._syntax.after_call
        if not rest.startswith(closing):
            return False if closing.startswith(rest) else self._depart(out, self._consumed + self._buffer)
        out.append(accept(RawCall(self._name, self._buffer[:closed_at]), self._tools, self._new_id))
        self._buffer = rest[len(closing) :]
        self._consumed, self._name, self._has_called = "", None, True
        return True

    def _depart(self, out: list[Delta], rest: str) -> bool:
        """Hand the rest to the ordinary parser."""
        self._buffer, self._name, self._has_departed = "", None, True
        out.extend(self._otherwise.feed(rest) if rest else [])
        return False


def _spellings(name: str) -> tuple[str, ...]:
    """A name as it is, and as it stands inside a JSON string."""
    return tuple(dict.fromkeys((name, json.dumps(name, ensure_ascii=False)[1:-1], json.dumps(name)[1:-1])))
