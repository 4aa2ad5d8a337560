"""What a person types: lines with editing and history, several of them as one message, and names with the Tab key.

Works with GNU readline and with the libedit that macOS has in its place; without either, lines are plain ones.
"""

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["History", "LineReader"]

PROMPT: Final = ">>> "
CONTINUED: Final = "... "
FENCE: Final = '"""'
"""Opens and closes a message of several lines."""
_PASTE_SECONDS: Final = 0.03
"""Lines of pasted text follow each other faster than anybody types."""


class History:
    """What was typed before, kept across sessions: a file with one JSON string a line, which only its owner reads.

    Args:
        path: The file; it is made when there is something to keep.
        limit: Entries to keep; 0 reads and writes nothing.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit

    def read(self) -> list[str]:
        """The entries, oldest first; lines that are damaged are passed over."""
        entries = []
        if self._limit and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    entries += [entry] if isinstance(entry, str) else []
        return entries[-self._limit :] if self._limit else []

    def add(self, entry: str) -> None:
        """Keep one more, and no more than the limit in all. A disk that takes nothing does not end a conversation."""
        if not self._limit:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            entries = [*self.read(), entry]
            if len(entries) > self._limit:
                self._write("w", entries[-self._limit :])
            else:
                self._write("a", [entry])

    def _write(self, mode: str, entries: Sequence[str]) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if mode == "a" else os.O_TRUNC), 0o600)
        with os.fdopen(descriptor, mode, encoding="utf-8") as stream:
            stream.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


class LineReader:
    """Reads messages from a terminal.

    Args:
        history: What was typed before.
        complete: Continuations of what stands before the cursor.
    """

    def __init__(self, history: History, complete: Callable[[str], Sequence[str]]) -> None:
        self._history = history
        self._readline = _load_readline()
        if self._readline is not None:
            _set_up(self._readline, complete)
            for entry in history.read():
                self._readline.add_history(entry)

    def read(self) -> str | None:
        """One message; `None` when the person leaves with Ctrl-D.

        A backslash at the end of a line continues it, and so does a line that begins with three double quotes, up to
        the next three. Text that is pasted in several lines is one message.

        Raises:
            KeyboardInterrupt: The line was given up with Ctrl-C.
        """
        try:
            message = "\n".join(self._lines())
        except EOFError:
            return None
        if message.strip():
            self._history.add(message)
            if self._readline is not None:
                self._readline.add_history(message)
        return message

    def _lines(self) -> Iterator[str]:
        line = input(PROMPT)
        if line.lstrip().startswith(FENCE):
            line = line.lstrip().removeprefix(FENCE)
            while FENCE not in line:
                yield line
                line = input(CONTINUED)
            yield line.partition(FENCE)[0]
            return
        while line.endswith("\\"):
            yield line.removesuffix("\\")
            line = input(CONTINUED)
        yield line
        while not line.startswith("/") and _more_is_there():
            yield input()


def _more_is_there() -> bool:
    """Whether the terminal already holds another line."""
    return bool(select.select([sys.stdin], [], [], _PASTE_SECONDS)[0])


def _load_readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # some Pythons are built without it
        return None
    return readline


def _set_up(readline: ModuleType, complete: Callable[[str], Sequence[str]]) -> None:
    def nth(text: str, state: int) -> str | None:
        found = complete(readline.get_line_buffer()[: readline.get_endidx()])
        begin = readline.get_begidx()
        return found[state][begin:] if state < len(found) else None

    readline.set_auto_history(False)  # a message of several lines is one entry
    readline.set_completer_delims(" ")
    readline.set_completer(nth)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
