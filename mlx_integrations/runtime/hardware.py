"""What this machine has: chip, cores, memory, and what of it models may use. Importable without MLX.

What a GPU may use is asked, never assumed: on a Mac it is no fixed share of the memory, and can be changed. A container
is asked for its limit, because psutil reports the memory of its host.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import psutil

from mlx_integrations.types import Backend, Chip, Machine

__all__ = [
    "Container",
    "Machine",
    "describe_machine",
    "mlx_install_hint",
    "parse_sysctl",
    "read_container",
    "read_sysctl",
]

# A CPU shares its memory with everything else that runs.
_CPU_SHARE = 0.75
_CUDA_SHARE = 0.9  # of what the card has; MLX and the driver keep some for themselves

_MIB = 1024**2
_SYSCTL: Final = "/usr/sbin/sysctl"
_SYSCTL_TIMEOUT_SECONDS = 5.0
_SYSCTL_NAMES: Final = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "iogpu.wired_limit_mb",
    "sysctl.proc_translated",
)
_CHIP = re.compile(r"Apple (M\d+)(?: (Pro|Max|Ultra))?\b")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 2**60  # version 1 says a number near 2**63 for "none"

ReadSysctl = Callable[[Sequence[str]], Mapping[str, str]]
ReadText = Callable[[Path], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a container's memory is limited to.

    Attributes:
        limit_bytes: The smallest limit of its control groups; `None` if there is none.
        used_bytes: What counts against it and cannot be dropped; `None` if that is not said.
    """

    limit_bytes: int | None = None
    used_bytes: int | None = None


def describe_machine(
    device_info: Mapping[str, Any] | None = None,
    *,
    backend: Backend | None = None,
    system: str = sys.platform,
    sysctl: ReadSysctl | None = None,
    container: Container | None = None,
) -> Machine:
    """Describe the machine.

    Args:
        device_info: `mlx.core.device_info()`; `None` if MLX was not asked. It has no memory keys on a CPU.
        backend: Where MLX computes; without it, what would be expected here.
        system: `sys.platform`.
        sysctl: Reads values of macOS by name; the program of that name when left out.
        container: Limits of this container; looked up when left out.
    """
    info = device_info or {}
    values = (sysctl or read_sysctl)(_SYSCTL_NAMES) if system == "darwin" else {}
    chip = _chip(values)
    where = backend or ("metal" if chip is not None else "cpu")
    limits = container if container is not None else read_container() if system.startswith("linux") else Container()
    total, available = _memory(info, values, limits, where)
    usable, source = _usable(info, values, total, where, limits)
    return Machine(
        backend=where,
        device_name=_device_name(info, values),
        memory_bytes=total,
        usable_bytes=usable,
        usable_source=source,
        available_bytes=available,
        container_limit_bytes=limits.limit_bytes if where == "cpu" else None,
        cores=psutil.cpu_count() or 1,
        chip=chip,
        system=_system_name(system),
        is_translated=values.get("sysctl.proc_translated") == "1",
    )


def read_sysctl(names: Sequence[str]) -> dict[str, str]:
    """Values of macOS by name; those that do not exist here are left out."""
    try:
        result = subprocess.run(
            [_SYSCTL, *names], capture_output=True, text=True, timeout=_SYSCTL_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_sysctl(result.stdout)


def parse_sysctl(output: str) -> dict[str, str]:
    """The lines `name: value` of sysctl's output."""
    pairs = (line.partition(": ") for line in output.splitlines())
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def read_container(read_text: ReadText | None = None) -> Container:
    """Limits of the control groups that this process is in, version 2 or 1.

    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, memory.current, memory.stat) and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html

    Args:
        read_text: Reads a file, or says that it is not there.
    """
    read = read_text or _read_text
    best = Container()
    for folder, version in _cgroups(read(Path("/proc/self/cgroup")) or ""):
        limit = _whole(read(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")))
        if limit is None or limit >= _NO_LIMIT_BYTES or limit >= (best.limit_bytes or _NO_LIMIT_BYTES):
            continue
        used = _whole(read(folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")))
        kept = _inactive_file_bytes(read(folder / "memory.stat") or "", version)
        best = Container(limit_bytes=limit, used_bytes=None if used is None else max(used - kept, 0))
    return best


def _cgroups(listing: str) -> Iterator[tuple[Path, Literal[1, 2]]]:
    """The folders of a process's control groups, each with those above it, which limit it too.

    In a container the listing may name the host's path, of which only the root is visible: that one is among them.
    """
    for line in listing.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, version = _CGROUP_ROOT, 2
        elif "memory" in controllers.split(","):
            root, version = _CGROUP_ROOT / "memory", 1
        else:
            continue
        inner = PurePosixPath("/", path.strip()).relative_to("/")
        for parent in (inner, *inner.parents):
            yield root / parent, 2 if version == 2 else 1


def _inactive_file_bytes(stat: str, version: int) -> int:
    """Cached files, which are dropped when memory is needed."""
    name = "inactive_file" if version == 2 else "total_inactive_file"
    found = re.search(rf"^{name} (\d+)$", stat, re.MULTILINE)
    return int(found[1]) if found else 0


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _whole(text: object) -> int | None:
    """A whole number above 0, from text or as it stands."""
    try:
        value = int(str(text).strip())
    except ValueError:
        return None
    return value if value > 0 else None


def _chip(values: Mapping[str, str]) -> Chip | None:
    found = _CHIP.search(values.get("machdep.cpu.brand_string", ""))
    if found is None:
        return None
    variant: Literal["", "Pro", "Max", "Ultra"] = ""
    for known in ("Pro", "Max", "Ultra"):
        if found[2] == known:
            variant = known
    return Chip(
        family=found[1],
        variant=variant,
        performance_cores=_whole(values.get("hw.perflevel0.physicalcpu")),
        efficiency_cores=_whole(values.get("hw.perflevel1.physicalcpu")),
    )


def _device_name(info: Mapping[str, Any], values: Mapping[str, str]) -> str:
    named = info.get("device_name") or values.get("machdep.cpu.brand_string")
    return str(named or platform.processor() or platform.machine())


def _memory(
    info: Mapping[str, Any], values: Mapping[str, str], limits: Container, backend: Backend
) -> tuple[int, int | None]:
    """All memory of the device, and what of it is free now."""
    host = psutil.virtual_memory()
    if backend == "cuda":
        return _whole(info.get("total_memory")) or host.total, _whole(info.get("free_memory"))
    total = _whole(info.get("memory_size")) or _whole(values.get("hw.memsize")) or host.total
    available = host.available
    if limits.limit_bytes is not None:
        total = min(total, limits.limit_bytes)
        available = min(available, total - (limits.used_bytes or 0))
    return total, max(available, 0)


def _usable(
    info: Mapping[str, Any], values: Mapping[str, str], total: int, backend: Backend, limits: Container
) -> tuple[int | None, str]:
    """What models may take when no budget is set, and who says so."""
    if backend == "metal":
        if recommended := _whole(info.get("max_recommended_working_set_size")):
            return recommended, "what Metal recommends"
        if wired := _whole(values.get("iogpu.wired_limit_mb")):
            return wired * _MIB, "iogpu.wired_limit_mb"
        return None, "unknown until MLX is asked"
    if backend == "cuda":
        if not _whole(info.get("total_memory")):
            return None, "unknown until MLX is asked"
        free = _whole(info.get("free_memory"))
        share = int(total * _CUDA_SHARE)
        return (
            (share, "nine tenths of the card") if free is None or free > share else (free, "what is free on the card")
        )
    whose = "the machine" if limits.limit_bytes is None else "the container"
    return int(total * _CPU_SHARE), f"three quarters of {whose}"


def _system_name(system: str) -> str:
    if system == "darwin":
        return f"macOS {platform.mac_ver()[0]}".strip()
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def mlx_install_hint(system: str = sys.platform, machine: str | None = None) -> str:
    """The line that installs MLX for this kind of machine."""
    machine = machine or platform.machine()
    if system == "darwin" and machine == "arm64":
        return "Install it with: pip install mlx-integrations"
    if system.startswith("linux"):
        return 'Install it with: pip install "mlx-integrations[cpu]" (or [cuda13] with an NVIDIA GPU)'
    return "MLX runs on Apple Silicon and on Linux; this machine is neither."
