"""Checks of the Python that runs this, and of the versions of packages that belong together."""

from collections.abc import Callable, Iterator
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.runtime.hardware import mlx_install_hint

__all__ = ["check_architecture", "check_packages", "check_python"]

_OURS: Final = "mlx-integrations"
_OLDEST_PYTHON: Final = Version("3.11")
_OLDEST_MACOS: Final = Version("14")
_ARM_PYTHON: Final = (
    "Install an arm64 Python and make the environment anew: uv venv --python cpython-3.12-macos-aarch64"
)
_NOT_FOR_USERS: Final = ("dev", "train")
_BACKENDS: Final = ("mlx-cpu", "mlx-cuda-12", "mlx-cuda-13")
"""What MLX computes with on Linux; one of them has to be there."""


def check_python(around: Surroundings) -> Finding:
    """Its version."""
    facts = {"version": around.python_version, "executable": around.executable}
    text = f"{around.python_version}, {around.executable}"
    if Version(around.python_version) < _OLDEST_PYTHON:
        repair = "Make an environment with a newer one: uv venv --python 3.12"
        return Finding(status="fail", text=f"{text}: {_OLDEST_PYTHON} or newer is needed", repair=repair, facts=facts)
    return Finding(status="ok", text=text, facts=facts)


def check_architecture(around: Surroundings) -> Finding:
    """What it was built for: MLX needs Apple silicon natively, or Linux."""
    facts = {"system": around.system, "architecture": around.architecture, "is_translated": around.is_translated}
    if around.system == "darwin":
        text = f"{around.architecture}, macOS {around.macos_version}"
        if around.is_translated:
            problem = f"{text}: built for Intel and translated by Rosetta, where MLX cannot run"
            return Finding(status="fail", text=problem, repair=_ARM_PYTHON, facts=facts)
        if around.architecture != "arm64":
            return Finding(status="fail", text=f"{text}: MLX does not run on Macs with Intel chips", facts=facts)
        if around.macos_version and Version(around.macos_version) < _OLDEST_MACOS:
            problem = f"{text}: MLX needs macOS {_OLDEST_MACOS} or newer"
            return Finding(status="fail", text=problem, repair="softwareupdate --list", facts=facts)
        return Finding(status="ok", text=text, facts=facts)
    if around.system.startswith("linux"):
        return Finding(status="ok", text=f"{around.architecture}, Linux", facts=facts)
    return Finding(status="fail", text=mlx_install_hint(around.system, around.architecture), facts=facts)


def check_packages(
    *names: str, extra: str | None = None, summary: str = ""
) -> Callable[[Surroundings], Iterator[Finding]]:
    """A check of some packages: that they are there, in versions that go with ours and with each other.

    Args:
        names: The packages; the first one stands for all.
        extra: What brings them, if they are optional.
        summary: Stands for their versions where nothing is wrong.
    """

    def check(around: Surroundings) -> Iterator[Finding]:
        versions = {name: found.version for name in names if (found := around.distribution(name))}
        install = f'pip install "{_OURS}[{extra}]"' if extra else ""
        if extra and names[0] not in versions:
            yield Finding(status="skip", text="not installed", repair=install)
            return
        problems = [*_wrong_versions(around, names), *(_missing_backend(around) if "mlx" in names else ())]
        yield from (
            Finding(status="fail", text=text, repair=repair, facts={"versions": versions}) for text, repair in problems
        )
        if not problems:
            text = summary or ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Finding(status="ok", text=text, facts={"versions": versions})

    return check


def _wrong_versions(around: Surroundings, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is missing or of a version that somebody cannot use, with the line that installs the right one."""
    told = set()
    for owner in (_OURS, *names):
        for requirement, is_needed in _requirements(around, owner):
            if owner == _OURS and requirement.name.lower().replace("_", "-") not in names:
                continue
            found = around.distribution(requirement.name)
            if found is None and (not is_needed or around.distribution(owner) is None):
                continue
            if found is not None and _suits(requirement, found.version):
                continue
            if requirement.name in told:
                continue
            told.add(requirement.name)
            wanted = f"{requirement.name}{requirement.specifier}"
            there = f"{requirement.name} {found.version}" if found else f"{requirement.name} is missing"
            yield f"{there}: {owner} needs {requirement.specifier or 'it'}", f'pip install "{wanted}"'


def _requirements(around: Surroundings, owner: str) -> Iterator[tuple[Requirement, bool]]:
    """What a package needs here, and whether it does so in any case or only for one of its extras."""
    found = around.distribution(owner)
    for text in found.requires if found else ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement, True
        elif owner in (_OURS, "mlx") and not any(f'"{name}"' in str(requirement.marker) for name in _NOT_FOR_USERS):
            yield requirement, False


def _missing_backend(around: Surroundings) -> Iterator[tuple[str, str]]:
    if not around.system.startswith("linux"):
        return
    if around.distribution("mlx") is None:
        yield "mlx is missing", 'pip install "mlx-integrations[cpu]"'
    elif not any(around.distribution(name) for name in _BACKENDS):
        yield "mlx has nothing to compute with", 'pip install "mlx-integrations[cpu]"'


def _suits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True
