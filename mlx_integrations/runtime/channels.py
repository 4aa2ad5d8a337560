"""Events from the worker thread to whoever waits for them: a thread, or a task on an event loop."""

import asyncio
import queue
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Event = TypeVar("Event")

__all__ = ["AsyncChannel", "SyncChannel"]


class SyncChannel(Generic[Event]):
    """For a caller that may block its thread."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.post = self._events.put

    def get(self) -> Event:
        """Wait for the next event."""
        return self._events.get()


class AsyncChannel(Generic[Event]):
    """For a task on an event loop; made on that loop, which is woken once for however many events arrived."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._is_waking = False
        self.on_lost: Callable[[], None] = _do_nothing
        """Called when the loop is gone, with nobody left to read."""

    def post(self, event: Event) -> None:
        """Hand over an event; from the worker thread."""
        self._events.append(event)
        if self._is_waking:
            return
        self._is_waking = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            # The loop was closed with the stream still open.
            self._events.clear()
            self.on_lost()

    def _wake(self) -> None:
        self._is_waking = False
        self._ready.set()

    async def get(self) -> Event:
        """Wait for the next event."""
        while True:
            try:
                return self._events.popleft()
            except IndexError:
                self._ready.clear()
                if self._events:
                    continue
                await self._ready.wait()


def _do_nothing() -> None:
    pass
