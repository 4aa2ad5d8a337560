"""A process in which MLX is tried, because it may crash: read while it runs, and ended in any case."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

__all__ = ["Trial", "TrialError", "trial_command"]

_ENDING_SECONDS: Final = 2.0


class TrialError(Exception):
    """A step of the trial brought no answer.

    Args:
        reason: Why.
        hint: What to do about it, if the step said so.
        has_crashed: Whether a signal ended the process, as when memory runs out.
    """

    def __init__(self, reason: str, *, hint: str = "", has_crashed: bool = False) -> None:
        super().__init__(reason)
        self.hint = hint
        self.has_crashed = has_crashed


def trial_command(module: str, options: Mapping[str, Any]) -> list[str]:
    """What runs a module of this package, which gets its options as one JSON object and writes one for each step."""
    # -P: a file in the working directory that is called like a package is not meant.
    return [sys.executable, "-P", "-m", module, json.dumps(options)]


class Trial:
    """A process that tries one step after the other. Ask from any thread.

    Args:
        command: What to run.
        limit_seconds: What all steps may take together.
        clock: Seconds that only go up.
    """

    def __init__(
        self, command: Sequence[str], *, limit_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = list(command)
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._told: dict[str, Mapping[str, Any]] = {}
        self._end = ""
        self._has_crashed = False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._deadline = 0.0

    def __enter__(self) -> "Trial":
        self._deadline = self._clock() + self._limit_seconds
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            self._end = f"it cannot be started: {error.strerror}"
            return self
        self._errors: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def step(self, name: str) -> Mapping[str, Any]:
        """What a step found.

        Raises:
            TrialError: It failed, the process ended before it, or it took too long.
        """
        with self._lock:
            while name not in self._told and not self._end:
                self._wait()
        told = self._told.get(name)
        if told is None:
            raise TrialError(self._end, has_crashed=self._has_crashed)
        if "error" in told:
            raise TrialError(str(told["error"]), hint=str(told.get("hint", "")))
        return told

    def _wait(self) -> None:
        """Take in one line, or why there are no more."""
        try:
            line = self._lines.get(timeout=max(self._deadline - self._clock(), 0.0))
        except queue.Empty:
            self._end = f"no answer within {self._limit_seconds:.0f} seconds"
            return
        if line is None:
            self._end = self._why_it_ended()
            return
        try:
            told = json.loads(line)
            self._told[told["step"]] = told
        except (ValueError, KeyError, TypeError):  # a library that prints
            return

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Pass the process's lines on: on a thread, because a pipe cannot be read with a time limit everywhere."""
        complaints = threading.Thread(target=lambda: self._errors.put(_read_all(process.stderr)), daemon=True)
        complaints.start()
        for line in process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _why_it_ended(self) -> str:
        process = self._process
        assert process is not None
        code = process.wait()
        if code < 0:
            self._has_crashed = True
            return f"the process was ended by {_signal_name(-code)}"
        try:
            complaint = self._errors.get(timeout=_ENDING_SECONDS).strip()
        except queue.Empty:
            complaint = ""
        return complaint.splitlines()[-1] if complaint else f"the process ended with {code}"


def _read_all(stream: Any) -> str:
    return str(stream.read()) if stream is not None else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
