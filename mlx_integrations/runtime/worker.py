"""The one thread on which every MLX call of this process happens.

MLX's streams belong to the thread that made them (since mlx 0.31.2), so models are loaded, run and freed here and
nowhere else. Other threads hand in commands (`call`, `post`) and get Python objects back; lanes that have rows to
decode register a step function, and the loop alternates between commands and steps.

The thread is a daemon that `atexit` stops: a thread that used MLX must end with `synchronize` and `clear_streams`, or
the process aborts at exit.
"""

import atexit
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from mlx_integrations.errors import RuntimeClosedError

__all__ = ["Worker", "get_worker"]

P = ParamSpec("P")
T = TypeVar("T")

_JOIN_TIMEOUT_SECONDS = 60.0
_logger = logging.getLogger(__name__)


class Worker:
    """Runs commands and steps on one thread, started at the first command.

    Args:
        name: The thread's name.
        on_stop: Runs on the thread as its last act.
    """

    def __init__(self, name: str = "mlx", *, on_stop: Callable[[], None] | None = None) -> None:
        self._name = name
        self._on_stop = on_stop
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._steps: dict[object, Callable[[], bool]] = {}
        self._ticks: dict[object, Callable[[], float | None]] = {}
        self._stop_hooks: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed: RuntimeClosedError | None = None
        self.last_step_seconds = 0.0
        """How long the latest round of steps took."""

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is on the worker's own thread."""
        return threading.current_thread() is self._thread

    def post(self, command: Callable[[], None]) -> None:
        """Run `command` on the thread, soon, without waiting. It must not raise.

        Raises:
            RuntimeClosedError: The worker was stopped, or this process was forked after it started.
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._commands.put(command)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `function` on the thread and return a future for its result or exception."""
        future: Future[T] = Future()

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        if self.is_current_thread:
            command()
        else:
            self.post(command)
        return future

    def set_step(self, key: object, step: Callable[[], bool]) -> None:
        """Call `step` in every round until it returns False (nothing left to do). Worker thread only."""
        self._steps[key] = step

    def drop_step(self, key: object) -> None:
        """Forget a step. Worker thread only."""
        self._steps.pop(key, None)

    def set_tick(self, key: object, tick: Callable[[], float | None]) -> None:
        """Call `tick` when idle; it returns the seconds until it wants to be called again. Worker thread only."""
        self._ticks[key] = tick

    def drop_tick(self, key: object) -> None:
        """Forget a tick. Worker thread only."""
        self._ticks.pop(key, None)

    def add_stop_hook(self, hook: Callable[[], None]) -> None:
        """Run `hook` on the thread before it ends. Worker thread only."""
        self._stop_hooks.append(hook)

    def remove_stop_hook(self, hook: Callable[[], None]) -> None:
        """Forget a hook. Worker thread only."""
        if hook in self._stop_hooks:
            self._stop_hooks.remove(hook)

    def close(self) -> None:
        """Stop the thread and wait for it; what was running stops where it is."""
        with self._lock:
            self._closed = self._closed or RuntimeClosedError("The MLX worker thread has stopped.")
            thread = self._thread
        if thread is None or not thread.is_alive() or self.is_current_thread:
            return
        self._commands.put(None)
        thread.join(_JOIN_TIMEOUT_SECONDS)

    def abandon(self) -> None:
        """Mark the worker as unusable: the child of a fork has no such thread, and MLX does not survive a fork."""
        self._lock = threading.Lock()
        self._closed = RuntimeClosedError(
            "This process was forked from one that had used MLX, which does not survive a fork.",
            hint="Start child processes with the `spawn` method.",
        )
        self._thread = None

    def _run(self) -> None:
        try:
            while self._run_commands():
                self._run_steps()
        finally:
            self._steps.clear()
            self._ticks.clear()
            while self._stop_hooks:
                self._stop_hooks.pop()()
            if self._on_stop is not None:
                self._on_stop()

    def _run_commands(self) -> bool:
        """Run what is queued, waiting for something when there is nothing to step. False means stop."""
        wait_seconds = 0.0 if self._steps else self._run_ticks()
        try:
            command = self._commands.get(block=wait_seconds != 0.0, timeout=wait_seconds or None)
            while command is not None:
                self._run_command(command)
                command = self._commands.get_nowait()
        except queue.Empty:
            return True
        return False

    def _run_command(self, command: Callable[[], None]) -> None:
        try:
            command()
        except Exception:
            # Commands report their own failures; a bug in one must not end the thread for everybody.
            _logger.exception("A command of the MLX worker failed")

    def _run_ticks(self) -> float | None:
        """Call the ticks; return how long may be waited (`None`: for ever)."""
        waits = [wait for tick in list(self._ticks.values()) if (wait := tick()) is not None]
        return max(min(waits), 0.001) if waits else None

    def _run_steps(self) -> None:
        if not self._steps:
            return
        started = time.perf_counter()
        for key, step in list(self._steps.items()):
            try:
                more = step()
            except Exception:
                # A lane deals with its own failures; whatever still escapes must not end the thread for the others.
                _logger.exception("A step of the MLX worker failed")
                more = False
            if not more:
                self._steps.pop(key, None)
        self.last_step_seconds = time.perf_counter() - started


_process_worker: Worker | None = None
_process_lock = threading.Lock()


def _release_mlx() -> None:
    # The thread may stop before anything needed MLX.
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.synchronize()
        mx.clear_streams()


def get_worker() -> Worker:
    """The process-wide worker; the same one for every runtime."""
    global _process_worker
    with _process_lock:
        if _process_worker is None:
            _process_worker = Worker("mlx-runtime", on_stop=_release_mlx)
            atexit.register(_process_worker.close)
        return _process_worker


def _after_fork_in_child() -> None:
    global _process_lock
    _process_lock = threading.Lock()
    if _process_worker is not None:
        _process_worker.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
