"""What can be typed besides messages: `/model NAME`, `/help` and the rest. Deciding only; `loop.py` acts."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["COMMANDS", "HELP", "LOCAL_HELP", "Command", "complete_line", "parse"]

COMMANDS: Final = {
    "model": ("[NAME]", "talk to another model; the conversation goes with it"),
    "models": ("", "the models on this machine"),
    "system": ("[TEXT]", "set or show the instructions before the conversation"),
    "clear": ("", "forget the conversation"),
    "save": ("[FILE]", "write it to a file: Markdown, or messages if it ends in .json"),
    "help": ("[local]", "this list, or how models get onto this machine"),
    "exit": ("", "leave; Ctrl-D does so too"),
}
"""Each command with its argument and what it does."""

_ALIASES: Final = {"quit": "exit", "bye": "exit", "q": "exit", "?": "help"}
_FORM: Final = re.compile(r"/([\w?]+)(?:\s+(.*))?", re.DOTALL)

HELP: Final = "\n".join(
    [
        *(f"  {f'/{name} {argument}'.rstrip():<18}{text}" for name, (argument, text) in COMMANDS.items()),
        "",
        "  Ctrl-C stops an answer. The arrow keys bring back what you typed before.",
        '  A backslash at the end of a line continues it; """ begins and ends several lines.',
    ]
)

LOCAL_HELP: Final = """\
  Models run in this program, on this machine: what you type goes nowhere else.

  A model has to be downloaded once, and has to fit this machine's memory:
    mlxi models recommend     which models fit this machine
    mlxi models pull NAME     download one, or go on with an interrupted download
    mlxi models list          what is here, and how large it is
    mlxi models rm NAME       delete one

  A larger model answers better and slower. 4-bit models take a quarter of the
  memory of 16-bit ones.
  Here, /models lists what you have, and /model NAME switches to one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something to do.

    Attributes:
        name: One of `COMMANDS`; anything else does not exist.
        argument: What stands after the name.
        nearest: For a name that does not exist, the one that is most like it.
    """

    name: str
    argument: str = ""
    nearest: str | None = None


def parse(message: str) -> Command | None:
    """The command that a message is; `None` if it is for the model. A path such as `/etc/hosts` is."""
    match = _FORM.fullmatch(message.strip())
    if match is None:
        return None
    name = _ALIASES.get(match[1].lower(), match[1].lower())
    near = difflib.get_close_matches(name, COMMANDS, n=1) if name not in COMMANDS else []
    return Command(name=name, argument=(match[2] or "").strip(), nearest=near[0] if near else None)


def complete_line(line: str, models: Sequence[str]) -> list[str]:
    """Whole lines that begin with what was typed: commands, and model names after `/model`."""
    if line.startswith("/model "):
        wanted = line.removeprefix("/model ").lower()
        return [f"/model {name}" for name in models if name.lower().startswith(wanted)]
    return [f"/{name}" for name in COMMANDS if line and f"/{name}".startswith(line)]
