"""`mlxi run`: a model by name, downloaded first if it is not here, and then asked."""

from typing import Annotated

import typer

from mlx_integrations.cli.chat import talk
from mlx_integrations.cli.console import ask, is_interactive, say
from mlx_integrations.cli.models.pulling import download, guard, plan_download, show_plan
from mlx_integrations.cli.options import AnyModel, Force, MaxTokens, Offline, Provider, System, Temperature, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import disk
from mlx_integrations.errors import ModelNotFoundError
from mlx_integrations.types import SamplingParams

__all__ = ["run"]


def run(
    context: typer.Context,
    model: AnyModel,
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Left out: a conversation, or what comes through a pipe.")
    ] = None,
    provider: Provider = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    offline: Offline = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Talk to a model; if it is not on this machine, download it first.

    What would be downloaded is shown before anything is, and you are asked; with --yes you are not. What another
    provider has is never downloaded.
    """
    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    invocation.provider = provider or invocation.provider
    _get(invocation, model, yes=yes, force=force)
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    talk(invocation, model, prompt, system=system, sampling=sampling)


def _get(invocation: Invocation, model: str, *, yes: bool, force: bool) -> None:
    """Download a model that is not here, once somebody agreed.

    Raises:
        ModelNotFoundError: It is not here, and was not to be downloaded.
    """
    try:
        invocation.chat_backend(model)
    except ModelNotFoundError as error:
        if not (yes or is_interactive()) or not _can_be_downloaded(invocation, model):
            raise
        say(error.message)
        plan, guess = plan_download(invocation, model)
        show_plan(invocation, plan, guess)
        guard(plan, guess, force=force or invocation.settings.force)
        if not yes and not ask(f"Download {disk(plan.missing_bytes)}?", default=True):
            raise
        download(invocation, plan, force=force)


def _can_be_downloaded(invocation: Invocation, model: str) -> bool:
    """Whether the name stands for a repository: a misspelt one is answered with those like it, not with a download."""
    entry = invocation.registry.get(model)
    return entry.repo_id is not None if entry else model.count("/") == 1 and not model.startswith((".", "~", "/"))
