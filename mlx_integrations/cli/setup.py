"""`mlxi setup`: from a new installation to models that answer, in a few questions. The steps are in `wizard/`."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from mlx_integrations.cli.completion import complete_any_model
from mlx_integrations.cli.console import is_interactive
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.options import Force, Offline, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.errors import MLXIntegrationsError

if TYPE_CHECKING:
    from mlx_integrations.cli.wizard.offers import Kind

__all__ = ["setup"]

_HINT: Final = "It asks questions, and there is no terminal to ask them in. Try: mlxi setup --yes --model NAME"


def setup(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The chat model, instead of a menu.", autocompletion=complete_any_model),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding", "-e", help="The embedding model, instead of a menu.", autocompletion=complete_any_model
        ),
    ] = None,
    yes: Yes = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Choose the models that are used when none is named, download them, and try them.

    Says what this machine can do, shows what is here and what could be downloaded, with the memory it takes, and writes
    your configuration file at the very end. It can be left at any question with q or Ctrl-D, and at any time with
    Ctrl-C; nothing is written then. Run again, it goes on with what is there, interrupted downloads included.

    With --yes nothing is asked: name the models with --model and --embedding. Without it a terminal is needed; where
    there is none, the command ends with 2 and does nothing.
    """
    from mlx_integrations.cli.menus import LeftError, tell
    from mlx_integrations.cli.wizard.steps import set_up

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    named: dict[Kind, str | None] = {"chat": model or invocation.model, "embedding": embedding}
    if yes and not any(named.values()):
        raise typer.BadParameter("Name the model that is to be set up.", param_hint="--model")
    if not yes and not is_interactive():
        raise typer.BadParameter(_HINT, param_hint="--yes")
    try:
        set_up(invocation, named, is_asked=not yes, force=force or invocation.settings.force)
    except LeftError:
        tell("Left. Your settings are as they were.")
        raise typer.Exit(ExitCode.DONE) from None
    except KeyboardInterrupt:
        tell("\nLeft. Your settings are as they were; `mlxi setup` goes on with what is there.")
        raise
    except (MLXIntegrationsError, OSError):
        tell("Your settings are as they were.")
        raise
