"""`mlxi models pull`: what a download will do, shown before it does it; then one bar over all bytes."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlx_integrations.cli.console import ask, is_interactive, print_json, say
from mlx_integrations.cli.memory import Guess, describe, guess_as_record, guess_files
from mlx_integrations.cli.menus import tell_facts
from mlx_integrations.cli.options import AnyModel, AsJson, ContextTokens, Force, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.progress import ProgressDisplay
from mlx_integrations.cli.text import disk, duration, memory
from mlx_integrations.errors import InsufficientMemoryError

if TYPE_CHECKING:
    from mlx_integrations.manager.records import PulledModel, PullPlan

__all__ = ["download", "guard", "plan_download", "pull", "show_plan"]


def pull(
    context: typer.Context,
    model: AnyModel,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit instead of the newest version.")
    ] = None,
    context_tokens: ContextTokens = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    all_files: Annotated[bool, typer.Option("--all-files", help="Also files that are not needed to run it.")] = False,
    yes: Yes = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Download a model, or go on with a download that was interrupted.

    What will be downloaded is shown first, and whether it fits this machine. A model that does not, or that cannot be
    run here, is refused unless you say --force; where it may just fit, you are asked. Every file is checked against the
    digest that the Hub promises. The folder of the model is printed to stdout.
    """
    invocation: Invocation = context.obj
    if invocation.settings.offline and not dry_run:
        _print(invocation.manager.pull(model), as_json=as_json)  # what is here needs no plan; anything else is an error
        return
    plan = invocation.manager.plan(model, revision=revision, allow_all_files=all_files)
    guess = _guess(invocation, plan, context_tokens)
    show_plan(invocation, plan, guess)
    if dry_run:
        if as_json:
            print_json({**_plan_record(plan), "memory": guess_as_record(guess) if guess else None})
        return
    is_forced = force or invocation.settings.force
    guard(plan, guess, force=is_forced)
    is_doubtful = guess is not None and guess[1].verdict in ("tight", "unknown") and not plan.is_complete
    if is_doubtful and not (yes or is_forced) and is_interactive() and not ask("Download it?", default=True):
        return
    _print(download(invocation, plan, force=is_forced), as_json=as_json)


def plan_download(invocation: Invocation, model: str) -> "tuple[PullPlan, Guess | None]":
    """What downloading a model will do, and what it will take in memory."""
    plan = invocation.manager.plan(model)
    return plan, _guess(invocation, plan)


def show_plan(invocation: Invocation, plan: "PullPlan", guess: Guess | None) -> None:
    """Tell what a download will do: bytes, disk, memory, and whether it is of any use."""
    say(f"{plan.repo_id} at commit {plan.revision[:7]}", style="bold")
    missing = [file for file in plan.files if not file.is_cached]
    if not missing:
        here = f"nothing: all {len(plan.files)} files are here ({disk(plan.total_bytes)})"
    elif plan.missing_bytes < plan.total_bytes:
        here = f"{disk(plan.missing_bytes)}; {disk(plan.total_bytes - plan.missing_bytes)} of it is here already"
    else:
        here = f"{disk(plan.missing_bytes)} in {len(missing)} files"
    facts = [("download", here), ("disk", f"{disk(plan.free_disk_bytes)} free")]
    for at, line in enumerate(describe(guess, invocation.machine) if guess is not None else ()):
        facts.append(("" if at else "memory", line))
    kind = {"chat": "a chat model", "embedding": "an embedding model", None: "yes"}[plan.support.kind]
    tell_facts([*facts, ("runs", kind if plan.support.is_supported else f"no: {plan.support.reason}")])


def guard(plan: "PullPlan", guess: Guess | None, *, force: bool) -> None:
    """Refuse what does not fit, before it is downloaded and only if that is certain.

    Raises:
        InsufficientMemoryError: It takes more memory than models may have.
    """
    if guess is not None and guess[1].is_refused and not force:
        fit = guess[1]
        raise InsufficientMemoryError(
            f"`{plan.repo_id}` needs {memory(fit.needed_bytes)}; models may take {memory(fit.budget_bytes)} here.",
            needed_bytes=fit.needed_bytes,
            available_bytes=fit.budget_bytes,
            budget_bytes=fit.budget_bytes,
            hint="Choose a smaller model (mlxi models recommend), estimate for a shorter conversation with --context, "
            "or download it all the same with --force.",
        )


def download(invocation: Invocation, plan: "PullPlan", *, force: bool = False) -> "PulledModel":
    """Carry out a plan behind one bar."""
    display = ProgressDisplay()
    try:
        with display:
            pulled = invocation.manager.pull(plan, on_progress=display.update, force=force)
    except KeyboardInterrupt:
        say(f"Stopped at {display.share * 100:.0f} %. The same command goes on from there.")
        raise
    if pulled.transferred_bytes:
        speed = f", {disk(pulled.transferred_bytes / pulled.seconds)}/s" if pulled.seconds >= 1 else ""
        say(
            f"{disk(pulled.transferred_bytes)} in {duration(pulled.seconds)}{speed}; every file is as the Hub promised."
        )
    return pulled


def _guess(invocation: Invocation, plan: "PullPlan", context_tokens: int | None = None) -> Guess | None:
    return guess_files(invocation, plan.config, plan.weight_bytes, context_tokens, kind=plan.support.kind)


def _plan_record(plan: "PullPlan") -> dict[str, object]:
    return {
        "repo_id": plan.repo_id,
        "revision": plan.revision,
        "files": [
            {"path": file.path, "size_bytes": file.size_bytes, "is_cached": file.is_cached} for file in plan.files
        ],
        "total_bytes": plan.total_bytes,
        "missing_bytes": plan.missing_bytes,
        "free_disk_bytes": plan.free_disk_bytes,
        "is_supported": plan.support.is_supported,
        "reason": plan.support.reason or None,
    }


def _print(pulled: "PulledModel", *, as_json: bool) -> None:
    if as_json:
        record = {"repo_id": pulled.repo_id, "revision": pulled.revision, "path": str(pulled.path)}
        print_json({**record, "transferred_bytes": pulled.transferred_bytes, "seconds": round(pulled.seconds, 3)})
    else:
        typer.echo(str(pulled.path))
