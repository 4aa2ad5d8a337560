"""`mlxi models rm` and `prune`: what would be deleted and freed, a question, and then the deed."""

from typing import Annotated

import typer

from mlx_integrations.cli.completion import complete_installed_model
from mlx_integrations.cli.console import ask, is_interactive, print_json, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.options import AsJson, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import disk

__all__ = ["prune", "remove"]


def remove(
    context: typer.Context,
    models: Annotated[
        list[str], typer.Argument(help="Models on this machine.", autocompletion=complete_installed_model)
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete models. What would go is shown, with the bytes that are freed, and you are asked.

    The Hugging Face cache is shared: other programs will have to download a deleted model again.
    """
    invocation: Invocation = context.obj
    removals = [invocation.manager.plan_removal(model) for model in models]
    for removal in removals:
        say(f"{removal.name}: {disk(removal.freed_bytes)} in {removal.root}")
        for other in removal.shared_with:
            say(f"  also used by {other}")
    total = sum(removal.freed_bytes for removal in removals)
    _confirm(f"Delete {'it' if len(removals) == 1 else 'them'} and free {disk(total)}?", yes=yes)
    for removal in removals:
        invocation.manager.remove(removal)
    if as_json:
        print_json([{"model": one.name, "freed_bytes": one.freed_bytes} for one in removals])
    else:
        say(f"{disk(total)} freed.")


def prune(context: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete what interrupted downloads left. A download that is going on is left alone."""
    invocation: Invocation = context.obj
    partials = [partial for partial in invocation.manager.partials() if not partial.is_active]
    if partials:
        for partial in partials:
            say(f"{partial.repo_id}: {disk(partial.size_bytes)} left by {partial.origin}")
        _confirm(f"Delete them and free {disk(sum(partial.size_bytes for partial in partials))}?", yes=yes)
    freed = invocation.manager.prune(partials) if partials else 0
    if as_json:
        print_json({"files": len(partials), "freed_bytes": freed})
    else:
        say(f"{disk(freed)} freed." if partials else "There is nothing to delete.")


def _confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody says so.

    Raises:
        typer.Exit: The answer was no, or nobody is there to ask.
    """
    if yes:
        return
    if not is_interactive():
        say("mlxi: Nothing was deleted, because nobody could be asked.")
        say("hint: Add --yes.")
        raise typer.Exit(ExitCode.WRONG_USAGE)
    if not ask(question):
        say("Nothing was deleted.")
        raise typer.Exit
