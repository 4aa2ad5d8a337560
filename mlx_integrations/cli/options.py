"""Options that several commands share, each written once."""

from typing import Annotated, TypeAlias

import typer

from mlx_integrations.cli.completion import complete_any_model, complete_installed_model, complete_provider

__all__ = [
    "AsJson",
    "ContextTokens",
    "Force",
    "InstalledModel",
    "MaxTokens",
    "Model",
    "NamesOnly",
    "Offline",
    "Provider",
    "System",
    "Temperature",
    "Yes",
]

_MODEL_HELP = "A short name such as llama-3.2-3b, a Hugging Face repository, or a folder."


AnyModel: TypeAlias = Annotated[str, typer.Argument(help=_MODEL_HELP, autocompletion=complete_any_model)]
InstalledModel: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A model on this machine: `mlxi models list` has them.", autocompletion=complete_installed_model
    ),
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help=f"{_MODEL_HELP} Left out: `models.default`.", autocompletion=complete_installed_model
    ),
]
Provider: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Who answers: mlx, which is this machine, or an endpoint by its name, or one of a kind such as ollama.",
        autocompletion=complete_provider,
    ),
]
Offline: TypeAlias = Annotated[bool, typer.Option("--offline", help="Leave the network alone.")]
System: TypeAlias = Annotated[
    str | None, typer.Option("--system", "-s", help="Instructions that come before the conversation.")
]
MaxTokens: TypeAlias = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")]
Temperature: TypeAlias = Annotated[
    float | None,
    typer.Option("--temperature", "-t", min=0.0, help="0 always takes the likeliest word; left out: the model's own."),
]
ContextTokens: TypeAlias = Annotated[
    int | None,
    typer.Option("--context", "-c", min=1, help="Tokens of conversation to estimate memory for; left out: 8192."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
NamesOnly: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only, one a line.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, do it.")]
Force: TypeAlias = Annotated[
    bool, typer.Option("--force", envvar="MLXI_FORCE", help="Even if it seems too large for this machine's memory.")
]
