"""`mlxi estimate`: what a model would take in memory, before it is downloaded or loaded."""

from pathlib import Path

import typer

from mlx_integrations.cli.console import print_json, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.memory import Guess, guess_as_record, guess_entry, guess_files, guess_folder
from mlx_integrations.cli.models.known import find_installed, memory_facts, print_facts
from mlx_integrations.cli.options import AnyModel, AsJson, ContextTokens
from mlx_integrations.cli.parts import Invocation

__all__ = ["estimate"]


def estimate(
    context: typer.Context, model: AnyModel, context_tokens: ContextTokens = None, as_json: AsJson = False
) -> None:
    """Estimate the memory that a model takes, and whether this machine has it.

    Counted from the model's files if they are here, else from what is known about it, else from what the Hub says
    about its repository; no weights are downloaded. Ends with 4 if it does not fit.
    """
    invocation: Invocation = context.obj
    guess = _guess(invocation, model, context_tokens)
    if guess is None:
        say(f"mlxi: nothing is known about the size of `{model}`.")
        raise typer.Exit(ExitCode.FAILED)
    if as_json:
        print_json({"model": model, **guess_as_record(guess)})
    else:
        print_facts(memory_facts(invocation, guess))
    if guess[1].is_refused:
        raise typer.Exit(ExitCode.DOES_NOT_FIT)


def _guess(invocation: Invocation, model: str, context_tokens: int | None) -> Guess | None:
    entry = invocation.registry.get(model)
    installed = find_installed(invocation, model)
    guess = None
    if installed is not None and installed.is_complete:
        guess = guess_folder(invocation, installed.path, context_tokens, kind=installed.kind)
    elif installed is None and Path(model).expanduser().is_dir():
        guess = guess_folder(invocation, Path(model), context_tokens, kind="chat")
    if guess is None and entry is not None:
        guess = guess_entry(invocation, entry, context_tokens)
    if guess is None:
        plan = invocation.manager.plan(model)
        guess = guess_files(invocation, plan.config, plan.weight_bytes, context_tokens, kind=plan.support.kind)
    return guess
