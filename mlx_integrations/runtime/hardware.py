"""What this machine has: memory, and which backend MLX would run on. Importable without MLX."""

import platform
import sys
from dataclasses import dataclass
from typing import Any, Literal

import psutil

__all__ = ["Machine", "describe_machine", "usable_memory_bytes"]

Backend = Literal["metal", "cuda", "cpu"]

# A CPU shares its memory with everything else that runs; a GPU driver states what it recommends.
_CPU_SHARE = 0.75
_GPU_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine as MLX sees it.

    Attributes:
        backend: Where arrays are computed.
        device_name: The chip's own name.
        memory_bytes: Memory of the device, or of the machine where they share it.
        usable_bytes: What models may take of it when no budget is set.
        cores: Logical processors.
    """

    backend: Backend
    device_name: str
    memory_bytes: int
    usable_bytes: int
    cores: int


def describe_machine(device_info: dict[str, Any] | None = None, *, backend: Backend = "cpu") -> Machine:
    """Describe the machine.

    Args:
        device_info: `mlx.core.device_info()`; it has no memory keys on a CPU.
        backend: Where MLX computes.
    """
    info = device_info or {}
    total = int(info.get("memory_size") or info.get("total_memory") or psutil.virtual_memory().total)
    name = str(info.get("device_name") or platform.processor() or platform.machine())
    return Machine(
        backend=backend,
        device_name=name,
        memory_bytes=total,
        usable_bytes=usable_memory_bytes(info, total, backend=backend),
        cores=psutil.cpu_count() or 1,
    )


def usable_memory_bytes(info: dict[str, Any], total_bytes: int, *, backend: Backend) -> int:
    """What models may take: the driver's own figure on Metal, a share of the memory elsewhere."""
    recommended = info.get("max_recommended_working_set_size")
    if backend == "metal" and recommended:
        return int(recommended)
    return int(total_bytes * (_CPU_SHARE if backend == "cpu" else _GPU_SHARE))


def mlx_install_hint(system: str = sys.platform, machine: str | None = None) -> str:
    """The line that installs MLX for this kind of machine."""
    machine = machine or platform.machine()
    if system == "darwin" and machine == "arm64":
        return "Install it with: pip install mlx-integrations"
    if system.startswith("linux"):
        return 'Install it with: pip install "mlx-integrations[cpu]" (or [cuda13] with an NVIDIA GPU)'
    return "MLX runs on Apple Silicon and on Linux; this machine is neither."
