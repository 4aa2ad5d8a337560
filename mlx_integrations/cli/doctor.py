"""`mlxi doctor`: what is right and wrong with this installation, and which command repairs it."""

import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mlx_integrations import __version__
from mlx_integrations.cli.console import output, print_json
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.options import AsJson, Offline
from mlx_integrations.cli.parts import Invocation

if TYPE_CHECKING:
    from rich.console import Console

    from mlx_integrations.cli.diagnosis.finding import Told
    from mlx_integrations.errors import ConfigurationError
    from mlx_integrations.settings import Settings

__all__ = ["doctor"]

_PROBE: Final = "mlx_integrations.cli.diagnosis.probe"
_TRIAL_SECONDS: Final = 60.0  # a busy machine, the first start after an installation
_WIDEST: Final = 100


def doctor(
    context: typer.Context,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell only what is not as it should be.")] = False,
    offline: Offline = False,
) -> None:
    """Look for what is wrong with this installation, and say what repairs it.

    Looks at Python, the versions of packages, the GPU and memory, the models on disk, the way to the Hugging Face Hub,
    the settings, and lets a small model answer. Nothing is changed. Ends with 1 if something has to be repaired. --json
    is for bug reports: there are no tokens or passwords in it.
    """
    from mlx_integrations.cli.diagnosis.finding import worst
    from mlx_integrations.cli.diagnosis.running import run_checks
    from mlx_integrations.cli.diagnosis.surroundings import look_around
    from mlx_integrations.cli.trial import Trial, trial_command

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    began = time.monotonic()
    settings, problems = _read_settings(invocation)
    options = settings.runtime.model_dump(include={"blas_preload", "cpu_float32"})
    with Trial(trial_command(_PROBE, options), limit_seconds=_TRIAL_SECONDS) as trial:
        told = _clean(run_checks(look_around(invocation, settings, problems, trial)))
        report = list(told) if as_json else _show(told, quiet=quiet)
    seconds = time.monotonic() - began
    if as_json:
        print_json(_document(report, seconds))
    else:
        _show_summary(report, seconds)
    if worst([one.finding for one in report]) == "fail":
        raise typer.Exit(ExitCode.FAILED)


def _read_settings(invocation: Invocation) -> "tuple[Settings, list[ConfigurationError]]":
    """The settings; if they are broken, their defaults, and everything that is wrong with them."""
    from mlx_integrations import assembly
    from mlx_integrations.errors import ConfigurationError
    from mlx_integrations.settings import Settings
    from mlx_integrations.settings.problems import find_problems

    try:
        return invocation.settings, []
    except ConfigurationError as error:
        problems = find_problems(**invocation.overrides) or [error]
        defaults = Settings.model_construct(**invocation.overrides)
        return assembly.use_settings(defaults), problems


def _clean(report: "Iterable[Told]") -> "Iterable[Told]":
    """The same without secrets."""
    from mlx_integrations.cli.diagnosis.finding import Finding, Told
    from mlx_integrations.cli.diagnosis.masking import masked, secrets_of

    secrets, home = secrets_of(os.environ), str(Path.home())
    for told in report:
        finding = Finding(**masked(asdict(told.finding), secrets, home))
        yield Told(id=told.id, group=told.group, title=told.title, finding=finding, seconds=told.seconds)


def _show(report: "Iterable[Told]", *, quiet: bool) -> "list[Told]":
    """Print each finding as soon as it is known; returns them all."""
    from mlx_integrations.cli.diagnosis.screen import finding_lines

    console = output()
    width = min(console.width, _WIDEST)
    shown: list[Told] = []
    group = ""
    _print(console, [(f"mlxi {__version__}\n", "dim")])
    for told in report:
        shown.append(told)
        if quiet and told.finding.status not in ("warn", "fail"):
            continue
        if told.group != group:
            _print(console, [(("\n" if group else "") + told.group, "bold")])
            group = told.group
        for line in finding_lines(told, width):
            _print(console, line)
    return shown


def _show_summary(report: "list[Told]", seconds: float) -> None:
    from mlx_integrations.cli.diagnosis.screen import summary

    console = output()
    console.print()
    _print(console, summary(report, seconds))


def _print(console: "Console", line: list[tuple[str, str]]) -> None:
    from rich.text import Text

    console.print(Text.assemble(*line), soft_wrap=True)


def _document(report: "list[Told]", seconds: float) -> dict[str, Any]:
    from mlx_integrations.cli.diagnosis.finding import worst

    return {
        "version": __version__,
        "status": worst([told.finding for told in report]),
        "seconds": round(seconds, 2),
        "checks": [
            {
                "id": told.id,
                "status": told.finding.status,
                "text": told.finding.text,
                "repair": told.finding.repair or None,
                "facts": told.finding.facts,
                "seconds": told.seconds,
            }
            for told in report
        ],
    }
