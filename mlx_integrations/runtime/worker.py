"""The one thread on which every MLX call of this process happens.

MLX's streams belong to the thread that made them (since mlx 0.31.2), so models are loaded, run and freed here and
nowhere else. Other threads hand in commands (`call`, `post`) and get Python objects back; lanes that have rows to
decode register a step function, and the loop alternates between commands and steps.

The thread is a daemon that `atexit` stops: a thread that used MLX must end with `synchronize` and `clear_streams`, or
the process aborts at exit.
"""

import atexit
import concurrent.futures.thread  # noqa: F401  (mlx-lm needs it, and it cannot be imported once the main thread ended)
import logging
import os
import queue
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from mlx_integrations.errors import RuntimeClosedError

__all__ = ["Worker", "get_worker"]

P = ParamSpec("P")
T = TypeVar("T")

_JOIN_TIMEOUT_SECONDS = 60.0
_EXIT_STUCK = 70  # EX_SOFTWARE: a step did not end, and leaving its thread behind would abort the process
_REMEMBERED_STEPS = 15
_BACKGROUND_SHARE = 1.0  # of the other steps' time: what a reader of a stream hardly notices
_LEAST_BACKGROUND_SECONDS = 0.002
_logger = logging.getLogger(__name__)


class _Command(NamedTuple):
    run: Callable[[], None]
    on_refusal: Callable[[Exception], None] | None


class _Step:
    """A registered step and how long it took lately."""

    def __init__(self, run: Callable[[], bool], settle: Callable[[], None] | None, is_background: bool) -> None:
        self.run = run
        self.settle = settle
        self.is_background = is_background
        self.seconds: deque[float] = deque(maxlen=_REMEMBERED_STEPS)


class Worker:
    """Runs commands and steps on one thread, started at the first command.

    Args:
        name: The thread's name.
        on_stop: Runs on the thread as its last act.
    """

    def __init__(self, name: str = "mlx", *, on_stop: Callable[[], None] | None = None) -> None:
        self._name = name
        self._on_stop = on_stop
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._steps: dict[object, _Step] = {}
        self._ticks: dict[object, Callable[[], float | None]] = {}
        self._tick_due: float | None = None
        self._stop_hooks: list[Callable[[bool], None]] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._refusal: tuple[str, str | None] | None = None
        self._is_exit = False
        self.last_step_seconds = 0.0
        """How long the latest round of steps took."""

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is on the worker's own thread."""
        return threading.current_thread() is self._thread

    def post(self, command: Callable[[], None], *, on_refusal: Callable[[Exception], None] | None = None) -> None:
        """Run `command` on the thread, soon, without waiting. It must not raise.

        Args:
            command: What to run.
            on_refusal: Called instead, with the error, if the thread ends before it gets there.

        Raises:
            RuntimeClosedError: The worker was stopped, or this process was forked after it started.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refused()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._commands.put(_Command(command, on_refusal))

    def check_usable(self) -> None:
        """Refuse work that would never be done; not for the worker's own thread.

        Takes no lock: in the child of a fork, one might be held for ever. At exit, a daemon thread does not return:
        nobody waits for it, and its traceback would be printed over the exit.

        Raises:
            RuntimeClosedError: The worker was stopped, or this process was forked after it started.
        """
        if self._refusal is None:
            return
        if self._is_exit and threading.current_thread().daemon:
            threading.Event().wait()
        raise self._refused()

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
            self.post(command, on_refusal=future.set_exception)
        return future

    def set_step(
        self,
        key: object,
        step: Callable[[], bool],
        *,
        settle: Callable[[], None] | None = None,
        is_background: bool = False,
    ) -> None:
        """Call `step` in every round until it returns False (nothing left to do). Worker thread only.

        Args:
            key: Whose step it is; setting it again replaces it.
            step: What to call.
            settle: Waits for what the step left running. Called after it, and counted as part of it, while there are
                background steps: two computations at once would take longer than one after the other.
            is_background: Whether it asks `background_seconds` how long it may take.
        """
        known = self._steps.get(key)
        if known is None:
            self._steps[key] = _Step(step, settle, is_background)
        else:
            known.run, known.settle = step, settle

    def background_seconds(self) -> float | None:
        """How long a background step may take, so that the others keep their pace; `None` if there are none.

        Several background steps share that time. Worker thread only.
        """
        others = [step.seconds for step in self._steps.values() if not step.is_background]
        if not others:
            return None
        seconds = sum(statistics.median(times) for times in others if times)
        sharing = max(len(self._steps) - len(others), 1)
        return max(seconds * _BACKGROUND_SHARE / sharing, _LEAST_BACKGROUND_SECONDS)

    def drop_step(self, key: object) -> None:
        """Forget a step. Worker thread only."""
        self._steps.pop(key, None)

    def set_tick(self, key: object, tick: Callable[[], float | None]) -> None:
        """Call `tick` soon; it returns the seconds until it wants to be called again. Worker thread only."""
        self._ticks[key] = tick
        self._tick_due = 0.0

    def drop_tick(self, key: object) -> None:
        """Forget a tick. Worker thread only."""
        self._ticks.pop(key, None)

    def add_stop_hook(self, hook: Callable[[bool], None]) -> None:
        """Run `hook` on the thread before it ends; it is told whether the process ends. Worker thread only."""
        self._stop_hooks.append(hook)

    def remove_stop_hook(self, hook: Callable[[bool], None]) -> None:
        """Forget a hook. Worker thread only."""
        if hook in self._stop_hooks:
            self._stop_hooks.remove(hook)

    def close(self, *, is_exit: bool = False) -> None:
        """Stop the thread and wait for it; what was running stops where it is.

        Args:
            is_exit: The interpreter is about to end.
        """
        with self._lock:
            is_first = self._refusal is None
            self._refusal = self._refusal or ("The MLX worker thread has stopped.", None)
            self._is_exit = is_exit
            thread = self._thread
            if is_first:
                self._commands.put(None)
        if thread is None or self.is_current_thread:
            return
        deadline = time.monotonic() + _JOIN_TIMEOUT_SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            try:
                thread.join(deadline - time.monotonic())
            except KeyboardInterrupt:
                # Leaving a thread that uses MLX behind would abort the process; it ends after its current step.
                continue
        if is_exit and thread.is_alive():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_EXIT_STUCK)

    def abandon(self) -> None:
        """Mark the worker as unusable: the child of a fork has no such thread, and MLX does not survive a fork."""
        self._lock = threading.Lock()
        self._refusal = (
            "This process was forked from one that had used MLX, which does not survive a fork.",
            "Start child processes with the `spawn` method.",
        )
        self._thread = None

    def _refused(self) -> RuntimeClosedError:
        message, hint = self._refusal or ("The MLX worker thread has stopped.", None)
        return RuntimeClosedError(message, hint=hint)

    def _run(self) -> None:
        try:
            while self._run_commands():
                self._run_ticks()
                self._run_steps()
        finally:
            with self._lock:
                self._refusal = self._refusal or ("The MLX worker thread has ended unexpectedly.", None)
            self._steps.clear()
            self._ticks.clear()
            while self._stop_hooks:
                self._guarded("A stop hook", partial(self._stop_hooks.pop(), self._is_exit))
            self._refuse_waiting()
            if self._on_stop is not None:
                self._on_stop()

    def _refuse_waiting(self) -> None:
        """Tell whoever posted a command that the thread did not come to."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if command is not None and command.on_refusal is not None and not self._is_exit:
                command.on_refusal(self._refused())

    def _run_commands(self) -> bool:
        """Run what is queued, waiting for something when there is nothing to step. False means stop."""
        wait_seconds = 0.0 if self._steps else self._seconds_to_tick()
        try:
            command = self._commands.get(block=wait_seconds != 0.0, timeout=wait_seconds or None)
            while command is not None:
                self._guarded("A command", command.run)
                command = self._commands.get_nowait()
        except queue.Empty:
            return True
        return False

    def _seconds_to_tick(self) -> float | None:
        return None if self._tick_due is None else max(self._tick_due - time.monotonic(), 0.0)

    def _run_ticks(self) -> None:
        """Call the ticks if one of them is due."""
        now = time.monotonic()
        if self._tick_due is None or now < self._tick_due:
            return
        waits = [self._guarded("A tick", tick) for tick in list(self._ticks.values())]
        seconds = [wait for wait in waits if wait is not None]
        self._tick_due = now + max(min(seconds), 0.001) if seconds else None

    def _run_steps(self) -> None:
        if not self._steps:
            return
        began = time.perf_counter()
        has_background = any(step.is_background for step in self._steps.values())
        for key, step in list(self._steps.items()):
            started = time.perf_counter()
            if not self._guarded("A step", step.run):
                self._steps.pop(key, None)
            if has_background and not step.is_background and step.settle is not None:
                self._guarded("Waiting for a step", step.settle)
            step.seconds.append(time.perf_counter() - started)
        self.last_step_seconds = time.perf_counter() - began

    def _guarded(self, what: str, function: Callable[[], T]) -> T | None:
        """Run something that should not raise; a bug in it must not end the thread for everybody else.

        A panic in a Rust library arrives as a `BaseException`.
        """
        try:
            return function()
        except BaseException:
            _logger.exception("%s of the MLX worker failed", what)
            return None


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
            atexit.register(_process_worker.close, is_exit=True)
        return _process_worker


def _after_fork_in_child() -> None:
    global _process_lock
    _process_lock = threading.Lock()
    if _process_worker is not None:
        _process_worker.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
