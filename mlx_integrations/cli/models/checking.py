"""`mlxi models path`, `verify`, `update`: where a model is, whether its bytes are right, whether it is the newest."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_integrations.cli.completion import complete_installed_model
from mlx_integrations.cli.console import ask, print_json, print_names, print_table, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.models.pulling import download, guard, plan_download, show_plan
from mlx_integrations.cli.options import AsJson, InstalledModel, NamesOnly, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.progress import ProgressDisplay
from mlx_integrations.cli.text import Column, disk

if TYPE_CHECKING:
    from mlx_integrations.manager.records import Verification

__all__ = ["path", "update", "verify"]

_METHODS = {
    "hub": "are as the Hugging Face Hub lists them",
    "checksums": "match the digests that are kept with them",
    "structure": "are whole; nothing on this machine keeps their digests",
}


def path(context: typer.Context, model: InstalledModel, as_json: AsJson = False) -> None:
    """Print a model's folder."""
    invocation: Invocation = context.obj
    found = invocation.manager.path(model)
    if as_json:
        print_json({"model": model, "path": str(found), "size_bytes": invocation.manager.size_bytes(model)})
    else:
        typer.echo(str(found))


def verify(
    context: typer.Context,
    models: Annotated[
        list[str], typer.Argument(help="Models on this machine.", autocompletion=complete_installed_model)
    ],
    online: Annotated[bool, typer.Option("--online", help="Compare with what the Hub says now.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Download again what is wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every file of a model and compare it with its digest. Ends with 6 if one is wrong."""
    invocation: Invocation = context.obj
    results = {}
    for model in models:
        with ProgressDisplay() as display:
            results[model] = invocation.manager.verify(model, online=online, on_progress=display.update)
        if repair and results[model].problems:
            _tell(model, results[model])
            with ProgressDisplay() as display:
                invocation.manager.repair(results[model], on_progress=display.update)
            results[model] = invocation.manager.verify(model)
    if as_json:
        print_json([{"model": model, **_record(result)} for model, result in results.items()])
    else:
        for model, result in results.items():
            _tell(model, result)
    if any(result.problems for result in results.values()):
        raise typer.Exit(ExitCode.CHECKSUM)


def update(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="Left out: all models.", autocompletion=complete_installed_model)
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only tell which ones are newer on the Hub.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    names_only: NamesOnly = False,
) -> None:
    """Look whether models have newer versions on the Hub, and download those you want."""
    invocation: Invocation = context.obj
    updates = invocation.manager.updates(model)
    if as_json:
        print_json([asdict(one) for one in updates])
    elif names_only:
        print_names(one.repo_id for one in updates)
    elif not updates:
        say("All models are at their newest version.")
    else:
        rows = [(one.repo_id, one.installed_revision[:7], one.latest_revision[:7]) for one in updates]
        print_table((Column(title="model"), Column(title="here"), Column(title="newest")), rows)
    if list_only or ((as_json or names_only) and not yes):
        return
    for one in updates:
        plan, guess = plan_download(invocation, one.repo_id)
        show_plan(invocation, plan, guess)
        if yes or ask(f"Download {disk(plan.missing_bytes)}?"):
            guard(plan, guess, force=invocation.settings.force)
            download(invocation, plan)


def _tell(model: str, result: "Verification") -> None:
    if not result.problems:
        size = disk(result.checked_bytes)
        typer.echo(f"{model}: {result.checked_files} files ({size}) {_METHODS[result.method]}.")
        return
    typer.echo(f"{model}: {len(result.problems)} of {result.checked_files} files are wrong.")
    for problem in result.problems:
        typer.echo(f"  {problem.file}: {problem.reason}")
    say(f"hint: mlxi models verify {model} --repair downloads again what is wrong.")


def _record(result: "Verification") -> dict[str, object]:
    return {**asdict(result), "path": str(result.path), "is_intact": result.is_intact}
