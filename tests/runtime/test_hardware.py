"""What a machine says about itself, from outputs that were recorded on such machines."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlx_integrations.runtime.hardware import (
    Container,
    describe_machine,
    mlx_install_hint,
    parse_sysctl,
    read_container,
    read_sysctl,
)
from mlx_integrations.types import Chip, Machine

GIB = 1024**3

M1 = """machdep.cpu.brand_string: Apple M1
hw.memsize: 8589934592
hw.perflevel0.physicalcpu: 4
hw.perflevel1.physicalcpu: 4
iogpu.wired_limit_mb: 0
sysctl.proc_translated: 0
"""
M2_PRO = """machdep.cpu.brand_string: Apple M2 Pro
hw.memsize: 17179869184
hw.perflevel0.physicalcpu: 8
hw.perflevel1.physicalcpu: 4
"""
M2_MAX = """machdep.cpu.brand_string: Apple M2 Max
hw.memsize: 68719476736
hw.perflevel0.physicalcpu: 8
hw.perflevel1.physicalcpu: 4
iogpu.wired_limit_mb: 0
"""
M3_ULTRA = """machdep.cpu.brand_string: Apple M3 Ultra
hw.memsize: 103079215104
hw.perflevel0.physicalcpu: 20
hw.perflevel1.physicalcpu: 8
"""
INTEL = """machdep.cpu.brand_string: Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz
hw.memsize: 17179869184
"""
ROSETTA = """machdep.cpu.brand_string: VirtualApple @ 2.50GHz
hw.memsize: 17179869184
sysctl.proc_translated: 1
"""
# mlx.core.device_info() as printed on these machines.
M4_PRO_INFO = {
    "resource_limit": 499000,
    "max_buffer_length": 30150672384,
    "architecture": "applegpu_g16s",
    "memory_size": 51539607552,
    "max_recommended_working_set_size": 40200896512,
    "device_name": "Apple M4 Pro",
}
M3_ULTRA_INFO = {
    "resource_limit": 499000,
    "max_buffer_length": 167503724544,
    "architecture": "applegpu_g15d",
    "memory_size": 274877906944,
    "max_recommended_working_set_size": 223338299392,
    "device_name": "Apple M3 Ultra",
}


def recorded(output: str) -> Callable[[Sequence[str]], Mapping[str, str]]:
    def read(names: Sequence[str]) -> Mapping[str, str]:
        return {name: value for name, value in parse_sysctl(output).items() if name in names}

    return read


def mac(output: str, **options: Any) -> Machine:
    return describe_machine(system="darwin", sysctl=recorded(output), **options)


@pytest.mark.parametrize(
    ("output", "chip", "memory_gib"),
    [
        (M1, Chip(family="M1", performance_cores=4, efficiency_cores=4), 8),
        (M2_PRO, Chip(family="M2", variant="Pro", performance_cores=8, efficiency_cores=4), 16),
        (M2_MAX, Chip(family="M2", variant="Max", performance_cores=8, efficiency_cores=4), 64),
        (M3_ULTRA, Chip(family="M3", variant="Ultra", performance_cores=20, efficiency_cores=8), 96),
    ],
    ids=["M1", "M2 Pro", "M2 Max", "M3 Ultra"],
)
def test_a_mac_names_its_chip_its_cores_and_its_memory(output: str, chip: Chip, memory_gib: int) -> None:
    machine = mac(output)
    assert machine.chip == chip
    assert machine.memory_bytes == memory_gib * GIB
    assert machine.backend == "metal"
    assert machine.device_name == f"Apple {chip.name}"
    assert not machine.is_translated


@pytest.mark.parametrize("family", ["M1", "M2", "M3", "M4", "M5", "M6", "M10"])
@pytest.mark.parametrize("variant", ["", "Pro", "Max", "Ultra"])
def test_every_family_and_variant_is_understood(family: str, variant: str) -> None:
    machine = mac(f"machdep.cpu.brand_string: {f'Apple {family} {variant}'.strip()}\nhw.memsize: 8589934592\n")
    assert machine.chip is not None
    assert (machine.chip.family, machine.chip.variant) == (family, variant)


def test_without_mlx_a_mac_does_not_guess_what_its_gpu_may_use() -> None:
    machine = mac(M2_MAX)
    assert machine.usable_bytes is None
    assert machine.usable_source == "unknown until MLX is asked"
    assert machine.budget_bytes == 64 * GIB


def test_a_limit_that_was_set_is_known_without_mlx() -> None:
    machine = mac(M2_MAX.replace("iogpu.wired_limit_mb: 0", "iogpu.wired_limit_mb: 57344"))
    assert machine.usable_bytes == 56 * GIB
    assert machine.usable_source == "iogpu.wired_limit_mb"


@pytest.mark.parametrize("info", [M4_PRO_INFO, M3_ULTRA_INFO], ids=["M4 Pro", "M3 Ultra"])
def test_metal_says_what_it_recommends(info: Mapping[str, object]) -> None:
    machine = mac(M2_PRO, device_info=info, backend="metal")
    assert machine.usable_bytes == info["max_recommended_working_set_size"]
    assert machine.memory_bytes == info["memory_size"]
    assert machine.device_name == info["device_name"]


def test_an_intel_mac_has_no_chip_and_computes_on_its_cpu() -> None:
    machine = mac(INTEL)
    assert machine.chip is None
    assert machine.backend == "cpu"
    assert not machine.is_translated


def test_a_python_for_intel_under_rosetta_is_recognised() -> None:
    assert mac(ROSETTA).is_translated


def test_a_mac_whose_sysctl_says_nothing_is_still_described() -> None:
    machine = mac("")
    assert (machine.chip, machine.usable_source) == (None, "three quarters of the machine")
    assert machine.memory_bytes == psutil.virtual_memory().total


def test_a_card_says_what_it_has_and_what_is_free() -> None:
    info = {"device_name": "NVIDIA GeForce RTX 4090", "total_memory": 24 * GIB, "free_memory": 20 * GIB}
    machine = describe_machine(info, backend="cuda", container=Container(limit_bytes=2 * GIB))
    assert (machine.memory_bytes, machine.available_bytes) == (24 * GIB, 20 * GIB)
    assert (machine.usable_bytes, machine.usable_source) == (20 * GIB, "what is free on the card")
    assert machine.container_limit_bytes is None, "a container limits the host's memory, not the card's"


def test_of_a_card_that_is_free_a_tenth_stays_for_the_driver() -> None:
    machine = describe_machine({"total_memory": 24 * GIB, "free_memory": 24 * GIB - 1}, backend="cuda")
    assert machine.usable_bytes == int(24 * GIB * 0.9)


def test_a_card_that_says_nothing_is_not_guessed() -> None:
    machine = describe_machine({}, backend="cuda")
    assert machine.usable_bytes is None
    assert machine.budget_bytes == machine.memory_bytes == psutil.virtual_memory().total


def test_a_linux_machine_uses_three_quarters_of_its_memory() -> None:
    machine = describe_machine({"architecture": "x86_64", "device_name": "AMD EPYC"}, container=Container())
    assert (machine.backend, machine.device_name) == ("cpu", "AMD EPYC")
    assert machine.usable_bytes == int(psutil.virtual_memory().total * 0.75)
    assert 0 < (machine.available_bytes or 0) <= machine.memory_bytes
    assert machine.cores == psutil.cpu_count()


def test_a_container_counts_instead_of_its_host() -> None:
    machine = describe_machine(system="linux", container=Container(limit_bytes=GIB, used_bytes=GIB // 4))
    assert machine.memory_bytes == machine.container_limit_bytes == GIB
    assert machine.available_bytes == GIB * 3 // 4
    assert (machine.usable_bytes, machine.usable_source) == (int(GIB * 0.75), "three quarters of the container")


def files(contents: Mapping[str, str]) -> Callable[[Path], str | None]:
    return lambda path: contents.get(str(path))


def test_version_2_limits_are_read_with_those_of_the_groups_above() -> None:
    found = read_container(
        files(
            {
                "/proc/self/cgroup": "0::/system.slice/docker-1.scope\n",
                "/sys/fs/cgroup/system.slice/docker-1.scope/memory.max": "max\n",
                "/sys/fs/cgroup/system.slice/memory.max": "4294967296\n",
                "/sys/fs/cgroup/system.slice/memory.current": "3221225472\n",
                "/sys/fs/cgroup/system.slice/memory.stat": "anon 1\ninactive_file 1073741824\nactive_file 5\n",
            }
        )
    )
    assert found == Container(limit_bytes=4 * GIB, used_bytes=2 * GIB)


def test_the_smallest_of_several_limits_counts() -> None:
    found = read_container(
        files(
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/memory.max": str(2 * GIB),
                "/sys/fs/cgroup/a/memory.max": str(GIB),
                "/sys/fs/cgroup/memory.max": str(8 * GIB),
            }
        )
    )
    assert found == Container(limit_bytes=GIB, used_bytes=None)


def test_version_1_limits_are_read_also_where_only_the_root_is_visible() -> None:
    found = read_container(
        files(
            {
                "/proc/self/cgroup": "5:devices:/\n4:memory,hugetlb:/docker/abc\n0::/\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GIB),
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": str(2 * GIB),
                "/sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {GIB}\n",
            }
        )
    )
    assert found == Container(limit_bytes=3 * GIB, used_bytes=GIB)


def test_no_limit_is_none() -> None:
    listing = {"/proc/self/cgroup": "4:memory:/\n0::/\n"}
    root = {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712", "/sys/fs/cgroup/memory.max": "max"}
    assert read_container(files(listing | root)) == Container()
    assert read_container(files({})) == Container()
    assert read_container(files({"/proc/self/cgroup": "nonsense\n\n:::\n0::"})) == Container()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")
def test_this_machine_is_described_as_it_is() -> None:
    limits = read_container()
    machine = describe_machine()
    assert machine.memory_bytes == min(psutil.virtual_memory().total, limits.limit_bytes or 2**63)
    assert machine.system
    assert not machine.is_translated


def test_sysctl_that_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mlx_integrations.runtime.hardware._SYSCTL", str(tmp_path / "sysctl"))
    assert read_sysctl(["hw.memsize"]) == {}


def test_sysctl_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real program in its place: it prints what it knows and fails because of a name that it does not."""
    program = tmp_path / "sysctl"
    program.write_text("#!/bin/sh\necho 'hw.memsize: 8589934592'\necho \"unknown oid '$2'\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("mlx_integrations.runtime.hardware._SYSCTL", str(program))
    assert read_sysctl(["hw.memsize", "iogpu.wired_limit_mb"]) == {"hw.memsize": "8589934592"}


def test_the_install_line_fits_the_machine() -> None:
    assert mlx_install_hint("darwin", "arm64").endswith("pip install mlx-integrations")
    assert "[cpu]" in mlx_install_hint("linux", "x86_64")
    assert "neither" in mlx_install_hint("win32", "AMD64")
