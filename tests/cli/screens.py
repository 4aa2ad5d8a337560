"""The command as a person meets it: a process of its own, in a real terminal or in none, with a home of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from tests.hub import LoopbackHub

COMMAND = [sys.executable, "-m", "mlx_integrations"]
_OTHERS = ("MLXI_", "XDG_", "HF_", "TRANS")


def environ(hub: LoopbackHub, home: Path, **variables: str) -> dict[str, str]:
    """Variables of somebody whose home is a folder of this test, and whose Hub is on this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", **hub.environment(home / "cache"), **variables}


def spawn(hub: LoopbackHub, home: Path, *argv: str, columns: int = 80, **variables: str) -> Any:
    """Start a command in a terminal."""
    command, *arguments = [*COMMAND, *argv]
    variables = environ(hub, home, **variables)
    return pexpect.spawn(command, arguments, env=variables, encoding="utf-8", timeout=60, dimensions=(40, columns))


def end(child: Any) -> tuple[int, str]:
    """Wait until it has ended; its exit code, and what it said since the last thing that was expected."""
    child.expect(pexpect.EOF)
    child.wait()  # `close` hangs up on a process that has said all and is not yet gone
    child.close()
    return int(child.exitstatus), str(child.before)


def run(hub: LoopbackHub, home: Path, *argv: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command where there is no terminal."""
    return subprocess.run(
        [*COMMAND, *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ(hub, home, **variables),
        timeout=120,
        check=False,
    )


def plain(text: str) -> str:
    """What stands on a screen, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
