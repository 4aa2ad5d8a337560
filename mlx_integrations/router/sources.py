"""Where chunks come from: one candidate's stream, opened late, read with a limit, always closed."""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["AsyncSource", "DirectSource", "PumpedSource"]

C = TypeVar("C")
_CHUNKS_AHEAD = 256
"""So far a thread reads ahead of a slow caller; it goes on when half of them are read."""


class DirectSource(Generic[C]):
    """A stream read in the caller's thread. No limit can be kept but the one that the stream keeps itself."""

    def __init__(self, open_stream: Callable[[], Iterator[C]]) -> None:
        self._open_stream = open_stream
        self._stream: Iterator[C] | None = None

    def next(self, limit_seconds: float | None) -> C:
        """The next chunk; opens the stream at the first call.

        Raises:
            StopIteration: There is none.
        """
        if self._stream is None:
            self._stream = iter(self._open_stream())
        return next(self._stream)

    def close(self) -> None:
        """Let go of the stream."""
        _close(self._stream)


class _End:
    """What a thread puts behind the last chunk."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class PumpedSource(Generic[C]):
    """A stream read by a thread of its own, so that its caller can stop waiting for it.

    Nobody can interrupt a thread. One that is too late is told to stop, and does so at its stream's next chunk, where
    it closes the stream as well. An asynchronous stream is read on an event loop in that thread, and cancelled at once.
    """

    def __init__(self, open_stream: Callable[[], Iterator[C] | AsyncIterator[C]], *, name: str) -> None:
        self._open_stream = open_stream
        self._name = name
        self._chunks: queue.SimpleQueue[C | _End] = queue.SimpleQueue()
        self._is_abandoned = False
        self._is_far_ahead = False
        self._go_on = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def next(self, limit_seconds: float | None) -> C:
        """The next chunk; starts the thread at the first call.

        Raises:
            StopIteration: There is none.
            TimeoutError: It did not come in time.
        """
        if self._thread is None:
            context = contextvars.copy_context()
            # A daemon, because a candidate that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=context.run, args=(self._pump,), name=self._name, daemon=True)
            self._thread.start()
        try:
            item = self._chunks.get(timeout=limit_seconds)
        except queue.Empty:
            raise TimeoutError("no chunk in time") from None
        if self._is_far_ahead and self._chunks.qsize() <= _CHUNKS_AHEAD // 2:
            self._go_on.set()
        if isinstance(item, _End):
            raise StopIteration if item.error is None else item.error
        return item

    def close(self) -> None:
        """Tell the thread to stop."""
        self._is_abandoned = True
        self._go_on.set()
        if (task := self._task) is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just been closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def _pump(self) -> None:
        try:
            stream = self._open_stream()
            if isinstance(stream, AsyncIterator):
                asyncio.run(self._aread(stream))
            else:
                self._read(iter(stream))
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            self._chunks.put(_End(error))

    def _read(self, stream: Iterator[C]) -> None:
        try:
            while not self._is_abandoned:
                self._put(next(stream))
        except StopIteration:
            pass
        finally:
            _close(stream)
        self._chunks.put(_End(None))

    async def _aread(self, stream: AsyncIterator[C]) -> None:
        self._task = asyncio.current_task()
        error: BaseException | None = None
        try:
            while not self._is_abandoned:
                self._put(await anext(stream))
        except StopAsyncIteration:
            pass
        except BaseException as caught:  # noqa: BLE001 - raised again where somebody waits for it
            error = caught
        finally:
            await _aclose(stream)
            self._chunks.put(_End(error))  # here, because taking the event loop down takes a while

    def _put(self, chunk: C) -> None:
        self._chunks.put(chunk)
        if self._chunks.qsize() <= _CHUNKS_AHEAD:
            return
        self._go_on.clear()
        self._is_far_ahead = True
        # Whoever reads, or leaves, between these lines has not seen that it is waited for.
        if self._chunks.qsize() > _CHUNKS_AHEAD // 2 and not self._is_abandoned:
            self._go_on.wait()
        self._is_far_ahead = False


class AsyncSource(Generic[C]):
    """A stream read on the caller's event loop; a wait that is too long is cancelled."""

    def __init__(self, open_stream: Callable[[], AsyncIterator[C]]) -> None:
        self._open_stream = open_stream
        self._stream: AsyncIterator[C] | None = None

    async def next(self, limit_seconds: float | None) -> C:
        """The next chunk; opens the stream at the first call.

        Raises:
            StopAsyncIteration: There is none.
            TimeoutError: It did not come in time.
        """
        if self._stream is None:
            self._stream = aiter(self._open_stream())
        if limit_seconds is None:
            return await anext(self._stream)
        async with asyncio.timeout(limit_seconds):
            return await anext(self._stream)

    async def close(self) -> None:
        """Let go of the stream."""
        await _aclose(self._stream)


def _close(stream: object) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        with contextlib.suppress(Exception):  # the answer is there, or its error is known already
            close()


async def _aclose(stream: object) -> None:
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        with contextlib.suppress(Exception):  # the answer is there, or its error is known already
            await aclose()
