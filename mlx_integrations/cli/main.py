"""The command `mlxi`: what it understands, and how it ends. The exit codes are in `exit_codes.py`."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mlx_integrations import __version__
from mlx_integrations.cli.chat import chat, talk
from mlx_integrations.cli.config import app as config_app
from mlx_integrations.cli.demo import demo
from mlx_integrations.cli.doctor import doctor
from mlx_integrations.cli.embed import embed
from mlx_integrations.cli.estimate import estimate
from mlx_integrations.cli.exit_codes import MEANINGS, ExitCode, exit_code
from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.migrate.app import app as migrate_app
from mlx_integrations.cli.models.app import app as models_app
from mlx_integrations.cli.models.listing import list_models as print_models
from mlx_integrations.cli.options import Model, Offline, Provider
from mlx_integrations.cli.parts import Invocation, Parts
from mlx_integrations.cli.route import app as route_app
from mlx_integrations.cli.run import run as run_model
from mlx_integrations.cli.setup import setup
from mlx_integrations.cli.text import printable
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.types import SamplingParams

__all__ = ["app", "main", "run"]

_EPILOG = "Exit codes:\n\n" + "\n".join(f"{code.value:>3}  {text}" for code, text in MEANINGS.items())

app = group(
    "Language models and embeddings on your own machine, on MLX.\n\n"
    "[bold]mlxi run llama-3.2-3b[/] downloads a model and talks to it. [bold]mlxi models recommend[/] says which ones "
    "fit this machine. [bold]mlxi demo[/] shows everything on a small model that is already here.",
    name="mlxi",
    invoke_without_command=True,
    epilog=_EPILOG,
)
_TALK, _MODELS, _SETUP = "Talk to a model", "Models", "This program"
add(app, chat, panel=_TALK)
add(app, run_model, name="run", panel=_TALK)
add(app, embed, panel=_TALK)
app.add_typer(route_app, name="route", rich_help_panel=_TALK)
app.add_typer(models_app, name="models", rich_help_panel=_MODELS)
add(app, estimate, panel=_MODELS)
app.add_typer(migrate_app, name="migrate", rich_help_panel=_MODELS)
add(app, setup, panel=_SETUP)
app.add_typer(config_app, name="config", rich_help_panel=_SETUP)
add(app, doctor, panel=_SETUP)
add(app, demo, panel=_SETUP)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlxi {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    model: Model = None,
    provider: Provider = None,
    offline: Offline = False,
    list_models: Annotated[
        bool, typer.Option("--list-models", help="List the models on this machine and exit.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    overrides = {"offline": True} if offline else {}
    invocation = Invocation(parts=context.obj, model=model, provider=provider, overrides=overrides)
    context.obj = invocation
    if context.invoked_subcommand is not None:
        return
    if list_models:
        print_models(invocation)
        return
    if model or provider or offline:
        talk(invocation, model, None, system=None, sampling=SamplingParams())
    else:
        typer.echo(context.get_help())


def main(argv: Sequence[str], parts: Parts | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after `mlxi`.
        parts: What commands are made of; the real ones when not given.

    Returns:
        The exit code.
    """
    try:
        typer.main.get_command(app).main(args=list(argv), prog_name="mlxi", obj=parts or Parts())
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except MLXIntegrationsError as exc:
        _complain(exc.message, exc.hint)
        return exit_code(exc)
    except OSError as exc:
        _complain(f"{exc.strerror or exc}{f': `{exc.filename}`' if exc.filename else ''}.", "")
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def _complain(message: str, hint: str) -> None:
    typer.echo(f"mlxi: {printable(message)}", err=True)
    if hint:
        typer.echo(f"hint: {printable(hint)}", err=True)


def run() -> None:
    """The entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))
