"""The models loaded in this process: who uses them, what they take, when they go.

All of a runtime's state lives on the worker thread, so nothing here needs a lock but the count of open requests. A
request holds a lease on its model; a model without leases may be unloaded when it idled long enough, or when another
one needs its memory.
"""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_integrations.errors import (
    InsufficientMemoryError,
    MLXIntegrationsError,
    ModelInUseError,
    ModelLoadError,
    QueueFullError,
    RuntimeClosedError,
)
from mlx_integrations.runtime.blas import preload_blas
from mlx_integrations.runtime.folder import ModelFolder, read_folder
from mlx_integrations.runtime.hardware import Machine, describe_machine
from mlx_integrations.runtime.lanes import Lane
from mlx_integrations.runtime.loaders import ChatLoader, EmbeddingLoader, Kind, Loader
from mlx_integrations.runtime.tasks import FailEvent, Task
from mlx_integrations.runtime.worker import Worker, get_worker
from mlx_integrations.settings import RuntimeSettings

if TYPE_CHECKING:
    from mlx_integrations.runtime.chat.backend import MLXChatBackend
    from mlx_integrations.runtime.embedding.backend import MLXEmbeddingBackend

__all__ = ["LoadedModel", "Runtime"]

_GIB = 1024**3
_SEND_AGAIN = "Send the request again."
_PREFIX_SHARE = 10  # of the memory budget, one part in this many
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that is in memory.

    Attributes:
        path: Its folder.
        kind: What it was loaded for.
        weight_bytes: What its weights take.
        active_requests: Requests and leases that hold it.
        idle_seconds: Since the last of them let go; 0 while any holds it.
        is_batched: Whether its requests share one batch, or wait for one another.
    """

    path: Path
    kind: Kind
    weight_bytes: int
    active_requests: int
    idle_seconds: float
    is_batched: bool


@dataclass(eq=False, slots=True)
class _Slot:
    """A loaded model on the worker thread."""

    loader: Loader
    lane: Lane
    weight_bytes: int
    leases: int = 0
    last_used: float = 0.0


class Runtime:
    """Loads models and runs requests on them. Safe from any thread.

    Most code wants the shared one, `mlx_integrations.get_runtime()`. A private one has its own models and budget, but
    runs on the same worker thread.

    Args:
        settings: Budget, batch size, idle time; the defaults otherwise.
        worker: The thread to run on; the process's own otherwise.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        settings: RuntimeSettings | None = None,
        *,
        worker: Worker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or RuntimeSettings()
        self._worker = worker or get_worker()
        self._clock = clock
        self._slots: dict[tuple[Path, Kind], _Slot] = {}
        self._chat_backends: dict[Path, MLXChatBackend] = {}
        self._embedding_backends: dict[Path, MLXEmbeddingBackend] = {}
        self._machine: Machine | None = None
        self._stop_hook: Callable[[bool], None] = lambda is_exit: None
        self._lock = threading.Lock()
        self._open_requests = 0
        self._is_closed = False
        self.loads = 0
        """How many times weights were loaded."""

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def prepare(self) -> Machine:
        """Import MLX on the worker thread, once, and describe the machine.

        Raises:
            MLXUnavailableError: MLX cannot run here as installed.
        """
        return self._machine or self._worker.call(self._import_mlx).result()

    def chat(self, path: str | Path, *, model_id: str | None = None) -> "MLXChatBackend":
        """A chat model on this runtime, the same one for every call with the same folder. Loads no weights yet.

        Args:
            path: The model's folder.
            model_id: The name it is known by; the first one given counts.

        Raises:
            ModelLoadError: The folder is not a model.
        """
        from mlx_integrations.runtime.chat.backend import MLXChatBackend

        folder = Path(path).expanduser().resolve()
        backend = self._chat_backends.get(folder)
        if backend is None:
            # Made outside the lock, because it reads files; of two made at once, the first one stays.
            made = MLXChatBackend(folder, runtime=self, model_id=model_id)
            with self._lock:
                backend = self._chat_backends.setdefault(folder, made)
        return backend

    def embedding(self, path: str | Path, *, model_id: str | None = None) -> "MLXEmbeddingBackend":
        """An embedding model on this runtime, the same one for every call with the same folder. Loads no weights yet.

        Args:
            path: The model's folder.
            model_id: The name it is known by; the first one given counts.

        Raises:
            ModelLoadError: The folder is not an embedding model, or one with a part that is not supported.
        """
        from mlx_integrations.runtime.embedding.backend import MLXEmbeddingBackend

        folder = Path(path).expanduser().resolve()
        backend = self._embedding_backends.get(folder)
        if backend is None:
            made = MLXEmbeddingBackend(folder, runtime=self, model_id=model_id)
            with self._lock:
                backend = self._embedding_backends.setdefault(folder, made)
        return backend

    def load(self, path: str | Path, *, kind: Kind = "chat") -> None:
        """Load a model now instead of at its first request.

        Args:
            path: Its folder.
            kind: What for; a folder may be loaded for both.

        Raises:
            ModelLoadError: The folder cannot be run.
            InsufficientMemoryError: It does not fit the budget.
        """
        loader = _loader(path, kind)
        self.check_open()
        self._worker.call(self._acquire, loader).result()

    @contextmanager
    def lease(self, path: str | Path, *, kind: Kind = "chat") -> Iterator[None]:
        """Keep a model loaded for as long as the block runs."""
        loader = _loader(path, kind)
        self.check_open()
        future = self._worker.call(self._lease, loader)
        try:
            future.result()
            yield
        finally:
            # Also when waiting for the load was interrupted: the lease is given back as soon as it exists.
            future.add_done_callback(self._give_back)

    def unload(self, path: str | Path, *, force: bool = False) -> bool:
        """Free a model's memory, whatever it was loaded for.

        Args:
            path: Its folder.
            force: End its running requests with an error instead of refusing.

        Returns:
            Whether it was loaded.

        Raises:
            ModelInUseError: Requests are running on it.
        """
        return self._worker.call(self._unload, Path(path).expanduser().resolve(), force).result()

    def models(self) -> tuple[LoadedModel, ...]:
        """What is loaded now, most recently used first."""
        return self._worker.call(self._list_models).result()

    def is_loaded(self, path: str | Path, *, kind: Kind = "chat") -> bool:
        """Whether a model is in memory; answers at once, also while the runtime is busy."""
        return (Path(path).expanduser().resolve(), kind) in self._slots

    def fits(self, path: str | Path, *, kind: Kind = "chat") -> bool | None:
        """Whether a model's weights are within the memory budget, if all others were unloaded.

        Reads the headers of the model's files. `None` as long as nobody has asked MLX what the machine has.

        Raises:
            ModelLoadError: It is not a model.
        """
        if self._machine is None:
            return None
        budget_bytes = self.settings.memory_budget_bytes or self._machine.budget_bytes
        widened = self._machine.backend == "cpu" and self.settings.cpu_float32
        return _loader(path, kind).weight_bytes(as_float32=widened) <= budget_bytes

    def check_open(self) -> None:
        """Refuse work that would never be done.

        Raises:
            RuntimeClosedError: The runtime was closed, or its thread is gone.
        """
        if self._is_closed:
            raise RuntimeClosedError("The runtime was closed.")
        self._worker.check_usable()

    def submit(self, loader: Loader, task: Task, *, is_continued: bool = False) -> None:
        """Start a checked request; its events go to `task.post`, a failing load included.

        Args:
            loader: The model that it is for.
            task: What is to be done.
            is_continued: Whether it belongs to one that was let in already, and is let in for that.

        Raises:
            QueueFullError: Too many requests are open.
            RuntimeClosedError: The runtime was closed.
        """
        self.check_open()
        with self._lock:
            limit = self.settings.max_batch_size + self.settings.max_queued_requests
            if self._open_requests >= limit and not is_continued:
                raise QueueFullError(f"{self._open_requests} requests are open; {limit} are the limit.")
            self._open_requests += 1
        task.on_end.append(self._forget_request)
        try:
            self._worker.post(lambda: self._admit(loader, task), on_refusal=lambda error: task.end(FailEvent(error)))
        except RuntimeClosedError:
            task.end()
            self.check_open()
            raise

    def close(self) -> None:
        """End all requests and free all models. The worker thread goes on for other runtimes."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        try:
            self._worker.call(self._close).result()
        except RuntimeClosedError:
            _logger.debug("The worker had stopped before the runtime was closed")

    # Everything below runs on the worker thread.

    def _import_mlx(self) -> Machine:
        if self._machine is not None:
            return self._machine
        preload_blas(self.settings.blas_preload)
        from mlx_integrations.runtime._mlx import backend_name, mx

        free_all = weakref.WeakMethod(self._free_all)

        def stop_hook(is_exit: bool) -> None:
            if (free := free_all()) is not None:
                free(is_exit)

        self._stop_hook = stop_hook
        self._worker.add_stop_hook(self._stop_hook)
        abandoned = weakref.finalize(self, _free_abandoned, self._worker, self._slots, self._stop_hook)
        abandoned.atexit = False
        self._machine = describe_machine(mx.device_info(), backend=backend_name())
        return self._machine

    def _admit(self, loader: Loader, task: Task) -> None:
        if task.cancelled:
            task.end()
            return
        try:
            if self._is_closed:
                raise RuntimeClosedError("The runtime was closed.")
            slot = self._lease(loader)
        except MLXIntegrationsError as error:
            task.end(FailEvent(error))
            return
        except Exception as error:  # a bug of ours, but the caller is waiting to hear of it
            _logger.exception("A request could not be started")
            task.end(FailEvent(error))
            return
        task.on_end.append(lambda: self._release(slot))
        slot.lane.add(task)
        self._worker.set_step(slot, slot.lane.step, settle=slot.lane.settle, is_background=slot.lane.is_background)

    def _give_back(self, future: "Future[_Slot]") -> None:
        with suppress(RuntimeClosedError):
            if future.exception() is None:
                self._worker.call(self._release, future.result())

    def _lease(self, loader: Loader) -> _Slot:
        slot = self._acquire(loader)
        slot.leases += 1
        return slot

    def _release(self, slot: _Slot) -> None:
        slot.leases -= 1
        slot.last_used = self._clock()
        self._watch_idle()

    def _watch_idle(self) -> None:
        if self.settings.idle_unload_seconds is None or self._is_closed:
            return
        unload_idle = weakref.WeakMethod(self._unload_idle)
        self._worker.set_tick(id(self), lambda: tick() if (tick := unload_idle()) else None)

    def _acquire(self, loader: Loader) -> _Slot:
        if self._is_closed:
            raise RuntimeClosedError("The runtime was closed.")
        key = (loader.path, loader.kind)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._load(loader)
            self._slots[key] = slot
            self._share_prefix_budget()
        slot.last_used = self._clock()
        self._watch_idle()
        return slot

    def _load(self, loader: Loader) -> _Slot:
        machine = self._import_mlx()
        loader.check()
        folder = loader.folder
        widened = machine.backend == "cpu" and self.settings.cpu_float32
        needed_bytes = loader.weight_bytes(as_float32=widened)
        self._make_room(folder, needed_bytes, self.settings.memory_budget_bytes or machine.budget_bytes)
        started = time.perf_counter()
        try:
            lane = loader.load(self.settings, self._worker.background_seconds)
        except ModelLoadError as error:
            error.__traceback__ = None  # its frames hold the weights for as long as somebody keeps the error
            raise
        except Exception as error:  # mlx-lm raises whatever a damaged checkpoint makes it stumble over
            _logger.debug("Loading %s failed", folder.path, exc_info=True)
            error.__traceback__ = None
            raise ModelLoadError(
                f"`{folder.path}` could not be loaded: {error}.",
                model_path=str(folder.path),
                hint="Check that config.json belongs to these weights, or download the model again.",
            ) from error
        self.loads += 1
        _logger.info("Loaded %s in %.1f s", folder.path, time.perf_counter() - started)
        return _Slot(loader=loader, lane=lane, weight_bytes=needed_bytes)

    def _make_room(self, folder: ModelFolder, needed_bytes: int, budget_bytes: int) -> None:
        """Unload idle models, the least recently used first, until the new one fits; none if it never will."""
        busy_bytes = sum(slot.weight_bytes for slot in self._slots.values() if slot.leases)
        if needed_bytes > budget_bytes - busy_bytes:
            raise self._too_large(folder, needed_bytes, budget_bytes, budget_bytes - busy_bytes)
        if budget_bytes - self._used_bytes() < needed_bytes:
            for slot in self._slots.values():
                slot.lane.clear_prefixes()
        idle = sorted((slot for slot in self._slots.values() if not slot.leases), key=lambda slot: slot.last_used)
        while budget_bytes - self._used_bytes() < needed_bytes:
            self._drop(idle.pop(0))

    def _too_large(
        self, folder: ModelFolder, needed_bytes: int, budget_bytes: int, available_bytes: int
    ) -> InsufficientMemoryError:
        busy = ", ".join(f"`{slot.loader.path.name}`" for slot in self._slots.values() if slot.leases)
        available_bytes = max(available_bytes, 0)
        return InsufficientMemoryError(
            f"`{folder.path.name}` needs {needed_bytes / _GIB:.2f} GiB; {available_bytes / _GIB:.2f} GiB of the "
            f"budget of {budget_bytes / _GIB:.2f} GiB can be had" + (f", {busy} being in use." if busy else "."),
            needed_bytes=needed_bytes,
            available_bytes=available_bytes,
            budget_bytes=budget_bytes,
            hint="Use a smaller or more strongly quantised model, unload another one, or raise "
            "`runtime.memory_budget_bytes`.",
        )

    def _used_bytes(self) -> int:
        return sum(slot.weight_bytes + slot.lane.prefix_bytes for slot in self._slots.values())

    def _share_prefix_budget(self) -> None:
        """Tell each model what it may keep: what is asked for, within its share of what the weights leave free."""
        if not self._slots or self._machine is None:
            return
        budget_bytes = self.settings.memory_budget_bytes or self._machine.budget_bytes
        free_bytes = max(budget_bytes - sum(slot.weight_bytes for slot in self._slots.values()), 0)
        asked = self.settings.prefix_cache_bytes
        limit = budget_bytes // _PREFIX_SHARE if asked is None else asked
        for slot in self._slots.values():
            slot.lane.set_prefix_budget(min(limit, free_bytes // len(self._slots)))

    def _unload(self, path: Path, force: bool) -> bool:
        slots = [slot for slot in self._slots.values() if slot.loader.path == path]
        if (leases := sum(slot.leases for slot in slots)) and not force:
            raise ModelInUseError(f"`{path.name}` is in use by {leases} requests.")
        for slot in slots:
            self._drop(slot)
        return bool(slots)

    def _drop(self, slot: _Slot, *, is_exit: bool = False) -> None:
        del self._slots[slot.loader.path, slot.loader.kind]
        _free(self._worker, slot, is_exit=is_exit)
        self._share_prefix_budget()

    def _unload_idle(self) -> float | None:
        """Unload what idled long enough; return the seconds until the next look."""
        limit = self.settings.idle_unload_seconds
        if limit is None:
            return None
        waits = []
        for slot in list(self._slots.values()):
            wait = slot.last_used + limit - self._clock()
            if slot.leases:
                continue
            if wait <= 0:
                self._drop(slot)
            else:
                waits.append(wait)
        return min(waits, default=None)

    def _list_models(self) -> tuple[LoadedModel, ...]:
        now = self._clock()
        slots = sorted(self._slots.values(), key=lambda slot: -slot.last_used)
        return tuple(
            LoadedModel(
                path=slot.loader.path,
                kind=slot.loader.kind,
                weight_bytes=slot.weight_bytes,
                active_requests=slot.leases,
                idle_seconds=0.0 if slot.leases else now - slot.last_used,
                is_batched=slot.lane.is_batched,
            )
            for slot in slots
        )

    def _close(self) -> None:
        self._free_all(False)
        self._worker.drop_tick(id(self))
        self._worker.remove_stop_hook(self._stop_hook)

    def _free_all(self, is_exit: bool) -> None:
        for slot in list(self._slots.values()):
            self._drop(slot, is_exit=is_exit)

    def _forget_request(self) -> None:
        with self._lock:
            self._open_requests -= 1


def _loader(path: str | Path, kind: Kind) -> Loader:
    """What loads a folder for this kind of use; reads its files."""
    if kind == "embedding":
        from mlx_integrations.runtime.embedding.model_files import read_sentence_model

        return EmbeddingLoader(read_sentence_model(Path(path)))
    return ChatLoader(read_folder(Path(path)))


def _free(worker: Worker, slot: _Slot, *, is_exit: bool) -> None:
    """End a model's rows and free its memory. Worker thread only."""
    from mlx_integrations.runtime._mlx import mx

    worker.drop_step(slot)
    name = slot.loader.path.name
    # At exit only daemon threads can still be waiting; telling them would print a traceback over the exit.
    slot.lane.close(None if is_exit else lambda: RuntimeClosedError(f"`{name}` was unloaded.", hint=_SEND_AGAIN))
    del slot.lane
    gc.collect()  # modules and caches refer to each other
    mx.clear_cache()


def _free_abandoned(worker: Worker, slots: dict[tuple[Path, Kind], _Slot], stop_hook: Callable[[bool], None]) -> None:
    """Free the models of a runtime that nobody refers to any more, on the thread where that must happen."""

    def free_all() -> None:
        worker.remove_stop_hook(stop_hook)
        while slots:
            _free(worker, slots.popitem()[1], is_exit=False)

    with suppress(RuntimeClosedError):
        worker.post(free_all)
