"""Finding markers in text that arrives in pieces cut anywhere."""

from collections.abc import Iterable

__all__ = ["JsonTracker", "drop_leading_lines", "find_first", "held_length"]


def held_length(text: str, markers: Iterable[str]) -> int:
    """Length of the longest end of `text` that may be the beginning of a marker."""
    longest = 0
    for marker in markers:
        for length in range(min(len(marker) - 1, len(text)), longest, -1):
            if text.endswith(marker[:length]):
                longest = length
                break
    return longest


def find_first(text: str, markers: Iterable[str]) -> tuple[int, str] | None:
    """The earliest marker in `text`, with its position; of two at one position the longer."""
    found: tuple[int, str] | None = None
    for marker in markers:
        position = text.find(marker)
        if position < 0:
            continue
        if found is None or position < found[0] or (position == found[0] and len(marker) > len(found[1])):
            found = (position, marker)
    return found


def drop_leading_lines(text: str) -> str:
    """`text` without its leading blank lines; the indentation of its first line stays."""
    blank = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, blank) + 1 :]


class JsonTracker:
    """Follows a growing text and knows, at its position, whether that is inside a JSON string.

    Text before the JSON value is passed over: the value begins at the first `{`, or at a `[` that is the first
    character apart from blanks (`name[ARGS]{...}` does not begin at its bracket).

    Attributes:
        position: How far it has read.
        is_inside: Whether that is inside a string.
        is_broken: Whether a string ran over the end of a line, which JSON forbids: quotes mean nothing from there on.
        closed_at: Where the outermost value ended.
    """

    def __init__(self) -> None:
        self.position = 0
        self.is_inside = False
        self.is_broken = False
        self.closed_at: int | None = None
        self._depth = 0
        self._is_open = False
        self._is_escaped = False
        self._seen_text = False

    def advance(self, text: str, end: int) -> None:
        """Read on to `end`, or to where the value closes."""
        while self.position < end and self.closed_at is None:
            self._take(text[self.position])
            self.position += 1
            if self._is_open and self._depth == 0:
                self.closed_at = self.position

    def _take(self, char: str) -> None:
        if self.is_inside:
            self._take_inside(char)
            return
        if char == '"' and self._is_open:
            self.is_inside = True
        elif char == "{" or (char == "[" and (self._is_open or not self._seen_text)):
            self._is_open = True
            self._depth += 1
        elif char in "}]" and self._is_open:
            self._depth -= 1
        self._seen_text = self._seen_text or not char.isspace()

    def _take_inside(self, char: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif char == "\\":
            self._is_escaped = True
        elif char == '"':
            self.is_inside = False
        elif char == "\n":
            self.is_broken = True
