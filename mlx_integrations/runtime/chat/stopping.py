"""Stop strings, matched on text: a match may begin in one token and end in another."""

from collections.abc import Sequence

__all__ = ["StopMatcher"]


class StopMatcher:
    """Watches a stream of text for the first of several strings.

    The first is the one that is complete first, and the longest of those that end there: what reading character by
    character finds, however the text is cut into pieces.

    Args:
        stops: Strings that end the answer; none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found."""

    def feed(self, text: str) -> str:
        """The text that may be shown now; nothing more once a stop string was found."""
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.matched = min(found)
            self._held = ""
            return text[:at]
        keep = self._could_begin_in(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back because it could have become a stop string."""
        rest, self._held = self._held, ""
        return rest

    def _could_begin_in(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
