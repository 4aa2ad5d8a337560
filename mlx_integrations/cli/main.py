"""The command `mlxi`: what it understands, and how it ends.

Exit codes: 0 done, 1 it failed (one line and a hint on stderr), 2 wrong usage, 130 interrupted with Ctrl-C.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mlx_integrations import __version__
from mlx_integrations.cli.chat import chat
from mlx_integrations.cli.demo import demo
from mlx_integrations.cli.parts import Parts
from mlx_integrations.errors import MLXIntegrationsError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="mlxi",
    help="Language models in your own process, on MLX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(chat)
app.command()(demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlxi {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Language models in your own process, on MLX."""


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
        typer.echo(f"mlxi: {exc.message}", err=True)
        if exc.hint:
            typer.echo(f"hint: {exc.hint}", err=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run() -> None:
    """The entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))
