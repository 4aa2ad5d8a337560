"""How a model of this process is doing, for routers: is it on the disk, in memory, and would it fit?"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import ConfigurationError, LocalBackendError
from mlx_integrations.router.candidates import CandidateState

__all__ = ["ModelPresence"]

_KEEP_SECONDS: Final = 1.0


class ModelPresence:
    """Watches one model. Quick enough to be asked for every request: the disk is looked at once a second at most.

    Args:
        model: The model's name.
        runtime: Where it would run; `None` for the runtime that the process shares.
        clock: Seconds that only go up.
    """

    def __init__(self, model: str, runtime: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._runtime = runtime
        self._clock = clock
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._fits: bool | None = None
        self._looked_at: float | None = None

    def state(self) -> CandidateState:
        """How it is doing."""
        # Here, so that constructing a router does not import MLX.
        from mlx_integrations.assembly import get_runtime

        runtime = self._runtime or get_runtime()
        with self._lock:
            now = self._clock()
            if self._looked_at is None or now - self._looked_at >= _KEEP_SECONDS:
                self._look(runtime)
                self._looked_at = now
            path, fits = self._path, self._fits
        if path is None:
            return CandidateState(is_present=False, is_loaded=False)
        return CandidateState(is_loaded=runtime.is_loaded(path), fits_memory=fits)

    def _look(self, runtime: Any) -> None:
        from mlx_integrations.assembly import model_path

        try:
            self._path = model_path(self._model)
            if self._fits is None:
                self._fits = runtime.fits(self._path)
        except ConfigurationError:
            self._path = None
        except LocalBackendError:
            self._fits = None  # it is there, and damaged: asking it says how
