"""Questions whose answer is known: a sentence or heading of a document must find that document."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Question", "question_of"]

_SHORTEST: Final = 20
_LONGEST: Final = 200
_HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_FIELD: Final = re.compile(r"^[\w.-]+: ")  # of metadata that LlamaIndex puts before a text
# The end of a sentence: also in scripts that put no space after it.
_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A part of a text.

    Attributes:
        text: The part.
        is_whole: Whether it is all there is.
    """

    text: str
    is_whole: bool


def question_of(text: str, choice: int) -> Question:
    """A sentence or heading of a text, or its beginning if it has none of a useful length.

    Args:
        text: The text; not empty.
        choice: Any number; decides which of the sentences.
    """
    parts = _sentences(text)
    if not parts:
        whole = text.strip()
        parts = [whole if len(whole) <= _LONGEST else whole[:_LONGEST].rsplit(maxsplit=1)[0]]
    part = parts[choice % len(parts)]
    return Question(text=part, is_whole=part == text.strip())


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if heading := _HEADING.match(stripped):
            found.append(heading[1])
        elif not _FIELD.match(stripped):
            found += _END.split(stripped)
    return [part.strip() for part in found if _SHORTEST <= len(part.strip()) <= _LONGEST]
