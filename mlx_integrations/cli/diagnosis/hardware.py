"""Checks of MLX itself: whether it can be imported, what it computes on, which memory it may use, and how fast."""

from pathlib import Path
from typing import Final

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings, machine_from
from mlx_integrations.cli.text import memory
from mlx_integrations.cli.trial import TrialError
from mlx_integrations.runtime.hardware import mlx_install_hint
from mlx_integrations.types import Machine

__all__ = ["check_backend", "check_blas", "check_memory", "wired_limit_mib"]

_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
_GIB: Final = 1024**3
_LEFT_TO_SYSTEM_BYTES: Final = 8 * _GIB
_LITTLE_FREE_SHARE: Final = 0.05
_MOST_SHARE: Final = 0.9  # for the GPU; less for macOS risks a panic: https://github.com/ml-explore/mlx-lm/issues/883


def check_backend(around: Surroundings) -> Finding:
    """Whether MLX can be imported, and what it computes on."""
    try:
        told = around.trial.step("machine")
    except TrialError as error:
        return _unusable(around, str(error))
    if "import_error" in told:
        return _unusable(around, str(told["import_error"]))
    machine = machine_from(told["machine"])
    facts = {
        "backend": machine.backend,
        "device": machine.device_name,
        "chip": machine.chip.name if machine.chip else None,
        "cores": machine.cores,
        "system": machine.system,
    }
    text = f"{ {'metal': 'Metal', 'cuda': 'CUDA', 'cpu': 'CPU'}[machine.backend] } on {machine.device_name}"
    if machine.backend != "cpu":
        return Finding(status="ok", text=text, facts=facts)
    if around.exists(_NVIDIA_DRIVER):
        repair = 'pip install "mlx-integrations[cuda13]"  (for CUDA 12 drivers: cuda12)'
        return Finding(status="warn", text=f"{text}, while there is an NVIDIA GPU", repair=repair, facts=facts)
    if around.system == "darwin":
        repair = "pip install --force-reinstall mlx mlx-metal"
        return Finding(status="warn", text=f"{text}: Metal is not used", repair=repair, facts=facts)
    return Finding(status="ok", text=f"{text}, {machine.cores} cores", facts=facts)


def check_memory(around: Surroundings) -> Finding:
    """What there is, what is free, and what models may use."""
    machine = around.machine()
    if machine is None:
        return Finding(status="skip", text="not known without MLX")
    budget = around.settings.runtime.memory_budget_bytes or machine.budget_bytes
    is_set = around.settings.runtime.memory_budget_bytes is not None
    source = "runtime.memory_budget_bytes" if is_set else machine.usable_source
    free = f", {memory(machine.available_bytes)} free" if machine.available_bytes is not None else ""
    text = f"{memory(machine.memory_bytes)}{free}; models may use {memory(budget)}{f' ({source})' if source else ''}"
    facts = {
        "memory_bytes": machine.memory_bytes,
        "available_bytes": machine.available_bytes,
        "budget_bytes": budget,
        "budget_source": source,
        "container_limit_bytes": machine.container_limit_bytes,
    }
    if is_set and budget > machine.memory_bytes:
        repair = "mlxi config unset runtime.memory_budget_bytes"
        return Finding(status="warn", text=f"{text}: more than there is", repair=repair, facts=facts)
    if machine.backend == "metal" and budget > machine.memory_bytes * _MOST_SHARE:
        repair = "sudo sysctl iogpu.wired_limit_mb=0"
        return Finding(status="warn", text=f"{text}: little is left for macOS", repair=repair, facts=facts)
    if machine.available_bytes is not None and machine.available_bytes < machine.memory_bytes * _LITTLE_FREE_SHARE:
        repair = "Close programs that use much memory, or choose a smaller model: mlxi models recommend"
        return Finding(status="warn", text=text, repair=repair, facts=facts)
    limit = wired_limit_mib(machine)
    if limit is not None and not is_set:
        text += f"; until the next start it may be more: sudo sysctl iogpu.wired_limit_mb={limit}"
    return Finding(status="ok", text=text, facts=facts)


def wired_limit_mib(machine: Machine) -> int | None:
    """What `iogpu.wired_limit_mb` can be raised to with a fifth, and at least 8 GiB, left to macOS.

    Returns:
        `None` if that is no gain, or if there is no such limit.
    """
    if machine.backend != "metal" or machine.usable_bytes is None:
        return None
    limit = machine.memory_bytes - max(_LEFT_TO_SYSTEM_BYTES, machine.memory_bytes // 5)
    return limit // 1024**2 if limit > machine.usable_bytes else None


def check_blas(around: Surroundings) -> Finding:
    """On a Linux CPU: whether matrix products are fast."""
    try:
        told = around.trial.step("machine")
    except TrialError:
        return Finding(status="skip", text="not known without MLX")
    status, backend = told.get("blas"), told["machine"]["backend"]
    facts = {"status": status}
    if backend != "cpu" or status == "not needed":
        return Finding(status="skip", text="not needed here", facts=facts)
    if status == "preloaded":
        return Finding(status="ok", text="OpenBLAS, from the faiss-cpu wheel", facts=facts)
    slow = "MLX's own, more than ten times slower"
    if status == "off":
        repair = "mlxi config unset runtime.blas_preload"
        return Finding(status="warn", text=f"{slow}: runtime.blas_preload is off", repair=repair, facts=facts)
    return Finding(status="warn", text=slow, repair='pip install "mlx-integrations[cpu]"', facts=facts)


def _unusable(around: Surroundings, why: str) -> Finding:
    return Finding(
        status="fail",
        text=f"MLX cannot be used: {why}",
        repair=mlx_install_hint(around.system, around.architecture),
        facts={"error": why},
    )
