"""A conversation: what is kept of it and what can be typed, and then all of it in a real terminal."""

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mlx_integrations.cli.conversation.commands import COMMANDS, HELP, LOCAL_HELP, Command, complete_line, parse
from mlx_integrations.cli.conversation.reader import History
from mlx_integrations.cli.conversation.state import Conversation
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatMessage
from tests.tiny_models import build_model

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("/model llama-3.2-3b ", Command(name="model", argument="llama-3.2-3b")),
        ("/MODELS", Command(name="models")),
        ("/help  local", Command(name="help", argument="local")),
        ("/quit", Command(name="exit")),
        ("/?", Command(name="help")),
        ("/system Be\nbrief.", Command(name="system", argument="Be\nbrief.")),
        ("/modle x", Command(name="modle", argument="x", nearest="model")),
        ("/zzz", Command(name="zzz")),
        ("/etc/hosts holds what?", None),
        ("a /model", None),
        ("/ not a command", None),
    ],
)
def test_a_command_is_told_from_a_message(message: str, command: Command | None) -> None:
    assert parse(message) == command


def test_help_fits_a_narrow_terminal_and_names_every_command() -> None:
    assert max(len(line) for line in (HELP + "\n" + LOCAL_HELP).splitlines()) < 100
    assert all(f"/{name}" in HELP for name in COMMANDS)


def test_the_tab_key_finds_commands_and_models() -> None:
    assert complete_line("/mo", ["a"]) == ["/model", "/models"]
    assert complete_line("/model l", ["llama", "qwen", "Long"]) == ["/model llama", "/model Long"]
    assert complete_line("hello", ["hello-model"]) == []
    assert complete_line("", ["a"]) == []


def test_a_conversation_grows_by_what_was_kept() -> None:
    conversation = Conversation(backend=FakeChatBackend(), system="Be brief.")
    request = conversation.ask("Hi")
    assert request.messages == (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hi"),
    )
    assert conversation.messages == []
    conversation.keep("Hi", "Hello!")
    assert [one.role for one in conversation.ask("And?").messages] == ["system", "user", "assistant", "user"]
    assert conversation.filled_tokens() > 0
    assert conversation.as_markdown() == "**Instructions**\n\nBe brief.\n\n**You**\n\nHi\n\n**fake**\n\nHello!\n"
    assert conversation.as_records()[-1] == {"role": "assistant", "content": "Hello!"}
    conversation.forget()
    assert [one.role for one in conversation.prompt] == ["system"]


def test_history_is_kept_whole_private_and_short(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.jsonl"
    history = History(path, limit=3)
    assert history.read() == []
    for entry in ("one", "two\nlines", "drei ü", "four"):
        history.add(entry)
    assert History(path, limit=3).read() == ["two\nlines", "drei ü", "four"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text('"good"\n{broken\n7\n\xff"\n"last"\n', encoding="latin-1")
    assert history.read() == ["good", "last"]


def test_no_history_means_no_file(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", limit=0)
    history.add("secret")
    assert (history.read(), list(tmp_path.iterdir())) == ([], [])


def test_a_disk_that_takes_nothing_does_not_end_a_conversation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = History(tmp_path / "file" / "history.jsonl", limit=3)
    history.add("lost")
    assert (history.read(), (tmp_path / "file").read_bytes()) == ([], b"")


class Terminal:
    """`mlxi` in a real terminal of 80 columns, in a home and a working folder of its own."""

    def __init__(self, home: Path, *argv: str, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLXI_", "XDG_"))}
        environ = {**kept, "HOME": str(home), "TERM": "xterm-256color", "HF_HUB_CACHE": str(home / "hub"), **variables}
        self._child: Any = pexpect.spawn(
            sys.executable,
            ["-m", "mlx_integrations", *argv],
            env=environ,
            cwd=str(home),
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 80),
        )

    def prompt(self) -> str:
        """Wait until it asks for input; returns what was said before, without colours."""
        self._child.expect_exact(">>> ")
        return _ESCAPE.sub("", str(self._child.before))

    def type(self, *lines: str) -> str:
        """Type lines and wait for the next prompt; returns what was said."""
        for number, line in enumerate(lines):
            if number:
                self._child.expect_exact("... ")
            self._child.sendline(line)
        return self.prompt()

    def keys(self, text: str) -> None:
        self._child.send(text)

    def wait_for(self, text: str) -> None:
        self._child.expect_exact(text)

    def wait_for_letter(self) -> None:
        """Wait for a letter that does not end a control sequence."""
        self._child.expect(r"(?<![\[\d?;])[A-Za-z]")

    def leave(self, end: Callable[[Any], None]) -> int | None:
        end(self._child)
        self._child.expect(pexpect.EOF)
        self._child.wait()  # `close` hangs up on a process that has said all and is not yet gone
        self._child.close()
        assert self._child.signalstatus is None
        return int(self._child.exitstatus)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    build_model(path / "noise")
    return path


def test_a_conversation_in_a_terminal(home: Path) -> None:
    terminal = Terminal(home, "chat", XDG_STATE_HOME=str(home / "state"))
    assert "demo, 1,024 tokens of context. /help shows" in terminal.prompt()
    said = terminal.type("My name is Zoë.")
    assert re.search(r"\d+ tokens · \d+ a second · \d+ of 1,024 tokens of context used · demo", said)
    assert "Zo" in terminal.type("What is my name?"), "the conversation is remembered"
    assert "/model [NAME]" in terminal.type("/help")
    assert "mlxi models pull NAME" in terminal.type("/help local")
    assert "Did you mean /model?" in terminal.type("/modle x")
    assert "From here on" in terminal.type("/system Be brief.")
    assert "Be brief." in terminal.type("/system")
    assert "mlxi: There is no model `nothing`" in terminal.type("/model nothing")
    assert "demo answers" in terminal.type("/model")
    assert "* demo" in terminal.type("/models")
    assert "Saved to talk.json" in terminal.type("/save talk.json")
    assert "talk.json is there already" in terminal.type("/save talk.json")
    assert "cannot be written" in terminal.type("/save /nowhere/talk.md")
    said = terminal.type("first \\", "second")
    assert "tokens of context used" in said
    said = terminal.type('"""one', "two", 'three"""')
    assert "tokens of context used" in said
    assert "noise answers from here on: " in terminal.type("/model ./noise")
    assert "Forgotten. The instructions stay." in terminal.type("/clear")
    assert terminal.leave(lambda child: child.sendeof()) == 0

    saved = json.loads((home / "talk.json").read_text())
    assert [one["role"] for one in saved] == ["system", "user", "assistant", "user", "assistant"]
    (history,) = (home / "state" / "mlxi").glob("chat-history*")
    entries = [json.loads(line) for line in history.read_text().splitlines()]
    assert entries[0] == "My name is Zoë."
    assert "first \nsecond" in entries and "one\ntwo\nthree" in entries

    again = Terminal(home, "chat", XDG_STATE_HOME=str(home / "state"))
    again.prompt()
    again.keys("\x1b[A\x1b[A")  # the arrow key, twice: what was typed in the last session
    again.wait_for("model ./noise")
    assert again.leave(lambda child: child.sendline("\x15/exit")) == 0


def test_ctrl_c_stops_an_answer_and_not_the_program(home: Path) -> None:
    terminal = Terminal(home, "chat", "--model", "./noise", MLXI_CHAT__HISTORY_ENTRIES="0")
    terminal.prompt()
    terminal.keys("Tell me everything\r")
    terminal.wait_for("Tell me everything")
    terminal.wait_for("\x1b[2K")  # the spinner is gone: the answer has begun
    terminal.wait_for_letter()
    terminal.keys("\x03")
    assert "Stopped." in terminal.prompt()
    terminal.keys("half a line\x03")
    assert "Ctrl-D or /exit leaves." in terminal.prompt()
    assert "Saved to " in terminal.type("/save stopped.json"), "what was said until then is part of the conversation"
    assert [one["role"] for one in json.loads((home / "stopped.json").read_text())] == ["user", "assistant"]
    assert terminal.leave(lambda child: child.sendeof()) == 0
    assert not (home / ".local" / "state").exists()


def test_a_conversation_that_is_too_long_is_told_and_goes_on(home: Path) -> None:
    terminal = Terminal(home, "run", "demo")
    terminal.prompt()
    said = terminal.type('"""' + "word " * 400, "word " * 400, "word " * 400, 'word"""')
    assert "mlxi: " in said and "/clear starts anew" in said
    assert "tokens of context used" in terminal.type("Who are you?")
    assert terminal.leave(lambda child: child.sendline("/exit")) == 0


def test_pasted_lines_are_one_message(home: Path) -> None:
    terminal = Terminal(home, "chat", XDG_STATE_HOME=str(home / "pasted"))
    terminal.prompt()
    terminal.keys("one\rtwo\rthree\r")
    terminal.prompt()
    assert terminal.leave(lambda child: child.sendeof()) == 0
    (history,) = (home / "pasted" / "mlxi").iterdir()
    assert json.loads(history.read_text().splitlines()[0]) == "one\ntwo\nthree"
