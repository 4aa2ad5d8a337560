"""`mlxi run`: a model by name, downloaded first if it is not here, and then asked."""

from typing import Annotated

import typer

from mlx_integrations.cli.chat import talk
from mlx_integrations.cli.options import AnyModel, Force, MaxTokens, Offline, System, Temperature, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.types import SamplingParams

__all__ = ["run"]


def run(
    context: typer.Context,
    model: AnyModel,
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Left out: a conversation, or what comes through a pipe.")
    ] = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    offline: Offline = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Talk to a model; if it is not on this machine, download it first.

    What would be downloaded is shown before anything is, and you are asked; with --yes you are not.
    """
    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    talk(invocation, model, prompt, system=system, sampling=sampling)
