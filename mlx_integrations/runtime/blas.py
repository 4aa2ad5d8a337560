"""Give MLX's CPU backend a fast BLAS on Linux.

The `mlx-cpu` wheel links a reference BLAS (about 6 GFLOP/s float32 on two cores). The `faiss-cpu` wheel carries an
OpenBLAS that exports the plain symbol names; loaded globally before `mlx.core`, the dynamic linker prefers it (about
75 GFLOP/s on the same machine). It does nothing anywhere else. It can go once MLX's wheel links an optimised BLAS.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Literal

__all__ = ["BlasStatus", "preload_blas"]

BlasStatus = Literal["preloaded", "off", "not needed", "not found", "too late"]

# Each library needs the ones before it.
_LIBRARIES = ("libgomp", "libquadmath", "libgfortran", "libopenblas")

_logger = logging.getLogger(__name__)


def preload_blas(enabled: bool = True) -> BlasStatus:
    """Load OpenBLAS for MLX, if this is a Linux machine that has one in its `faiss-cpu` wheel.

    Must run before `mlx.core` is first imported. Safe to call more than once.

    Returns:
        What was done, in a word or two.
    """
    global _status
    if _status == "preloaded":
        return _status
    _status = _preload(enabled)
    _logger.debug("BLAS preload: %s", _status)
    return _status


_status: BlasStatus | None = None


def _preload(enabled: bool) -> BlasStatus:
    if not sys.platform.startswith("linux"):
        return "not needed"
    if not enabled:
        return "off"
    if "mlx.core" in sys.modules:
        return "too late"
    files = _library_files()
    if files is None:
        return "not found"
    try:
        with _threads_that_sleep():
            for file in files:
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        _logger.warning("OpenBLAS could not be loaded, MLX will be slow on the CPU: %s", error)
        return "not found"
    return "preloaded"


@contextmanager
def _threads_that_sleep() -> Iterator[None]:
    """Have OpenMP's idle threads sleep instead of spin; libgomp reads the variable when it is loaded.

    Decoding alternates between many small products and everything else. Spinning threads take the cores from both: on
    two busy cores, eight answers at once took 1.2 to 7.8 s spinning and 0.3 to 0.4 s sleeping.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]


def _library_files() -> list[Path] | None:
    """The libraries in the order they must be loaded, or `None` when one of them is absent."""
    try:
        distribution = metadata.distribution("faiss-cpu")
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file("faiss_cpu.libs")))
    found: list[Path] = []
    for name in _LIBRARIES:
        matches = sorted(folder.glob(f"{name}*"))
        if not matches:
            return None
        found.append(matches[0])
    return found
