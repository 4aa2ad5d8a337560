"""How commands are added, so that every help screen reads alike: whole paragraphs, and flags without a type."""

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["add", "group", "paragraphs"]


def group(help: str, **options: Any) -> typer.Typer:
    """A command that has commands."""
    return typer.Typer(
        cls=_Group,
        help=help,
        context_settings={"help_option_names": ["--help", "-h"]},
        pretty_exceptions_enable=False,
        **options,
    )


def add(app: typer.Typer, function: Callable[..., Any], *, name: str | None = None, panel: str | None = None) -> None:
    """Make a function a command; its docstring is the help."""
    help_text = paragraphs(function.__doc__ or "")
    app.command(
        name,
        cls=_Command,
        help=help_text,
        rich_help_panel=panel,
        context_settings={"help_option_names": ["--help", "-h"]},
    )(function)


def paragraphs(text: str) -> str:
    """A docstring whose lines are as long as the terminal lets them be."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _without_types(params: list[Any]) -> list[Any]:
    """A flag is there or not: `<bool>` beside it says nothing."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))
