"""An asynchronous stream, read by a thread, that another thread can cancel at any moment."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import TypeVar

__all__ = ["InterruptibleStream"]

C = TypeVar("C")


class InterruptibleStream(Iterator[C]):
    """Reads an asynchronous stream on an event loop of its own, in whichever thread reads it.

    A thread that waits in a model's synchronous stream cannot be told to stop; a task that waits in its asynchronous
    one can, and frees what it held.
    """

    def __init__(self, stream: AsyncGenerator[C, None]) -> None:
        self._stream = stream
        self._runner = asyncio.Runner()
        self._lock = threading.Lock()
        self._task: asyncio.Task[C] | None = None
        self._is_cancelled = False

    def __next__(self) -> C:
        try:
            return self._runner.run(self._next())
        except (StopAsyncIteration, asyncio.CancelledError):
            raise StopIteration from None

    def cancel(self) -> None:
        """End the stream from any thread; whoever waits for a chunk finds it at its end."""
        with self._lock:
            self._is_cancelled = True
            task = self._task
            if task is not None:
                with contextlib.suppress(RuntimeError):  # its loop has just been closed
                    task.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the stream, from the thread that reads it."""
        with self._runner:
            self._runner.run(self._stream.aclose())

    async def _next(self) -> C:
        with self._lock:
            if self._is_cancelled:
                raise StopAsyncIteration
            task = self._task = asyncio.ensure_future(anext(self._stream))
        try:
            return await task
        finally:
            with self._lock:
                self._task = None
