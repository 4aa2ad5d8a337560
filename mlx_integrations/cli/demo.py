"""`mlxi demo`: the guided tour."""

from typing import Annotated

import typer
from rich.console import Console

from mlx_integrations.errors import MissingExtraError


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses for reading.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
) -> None:
    """Show what this is, on a small model that comes with the package: no download, no network."""
    try:
        from mlx_integrations.demo.tour import run_tour
    except ModuleNotFoundError as exc:
        raise MissingExtraError(
            f"The tour shows a LangChain agent, and `{exc.name}` is missing.", extra="langchain"
        ) from exc
    console = Console(color_system=None if no_color else "auto", highlight=False)
    run_tour(console, pauses=console.is_terminal and not fast)
