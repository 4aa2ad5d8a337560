"""`mlxi models list`: the models on this machine."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlx_integrations.cli.console import print_json, print_names, print_table, say
from mlx_integrations.cli.models.names import model_record, short_name
from mlx_integrations.cli.notices import show_notices
from mlx_integrations.cli.options import AsJson, NamesOnly
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import Column, ago, disk

if TYPE_CHECKING:
    from mlx_integrations.manager.records import InstalledModel

__all__ = ["list_", "list_models"]

_COLUMNS = (
    Column(title="model"),
    Column(title="size", is_number=True, rank=1),
    Column(title="for", rank=4),
    Column(title="weights", rank=5),
    Column(title="used", rank=6),
    Column(title="where", rank=3),
    Column(title="state", rank=2),
)


def list_(
    context: typer.Context,
    sort: Annotated[Literal["name", "size", "used"], typer.Option("--sort", help="In which order.")] = "name",
    kind: Annotated[Literal["chat", "embedding"] | None, typer.Option("--for", help="Only these.")] = None,
    as_json: AsJson = False,
    names_only: NamesOnly = False,
) -> None:
    """List the models on this machine.

    These are the ones that come with this program, those in the Hugging Face cache, which other programs use too, and
    those in your folders and LM Studio's. A model that cannot be run is listed with the reason.
    """
    list_models(context.obj, sort=sort, kind=kind, as_json=as_json, names_only=names_only)


def list_models(
    invocation: Invocation,
    *,
    sort: Literal["name", "size", "used"] = "name",
    kind: Literal["chat", "embedding"] | None = None,
    as_json: bool = False,
    names_only: bool = False,
) -> None:
    """Print the models on this machine."""
    registry = invocation.registry
    models = [model for model in invocation.manager.list() if kind is None or model.kind == kind]
    models.sort(key=lambda model: short_name(model, registry).lower())
    if sort == "size":
        models.sort(key=lambda model: -model.size_bytes)
    elif sort == "used":
        models.sort(key=lambda model: -(model.last_used.timestamp() if model.last_used else 0.0))
    if as_json:
        print_json([model_record(model, registry) for model in models])
    elif names_only:
        print_names(short_name(model, registry) for model in models)
    else:
        now = datetime.now(tz=None).astimezone()
        print_table(_COLUMNS, [(short_name(model, registry), *_cells(model, now)) for model in models])
        for model in models:
            if not model.is_usable:
                say(f"{short_name(model, registry)}: {model.reason}", style="yellow")
        total = sum(model.size_bytes for model in models if model.source == "hub")
        if total:
            say(f"{disk(total)} in the Hugging Face cache.", style="dim")
        show_notices(invocation, models)


def _cells(model: "InstalledModel", now: datetime) -> tuple[str, ...]:
    places = {"packaged": "this program", "hub": "Hugging Face cache", "folder": str(model.path.parent)}
    last = model.last_used.astimezone() if model.last_used else None
    return (
        disk(model.size_bytes),
        model.kind or "",
        model.quantization.label if model.quantization else "",
        ago(last, now),
        places[model.source],
        "" if model.is_usable else "not usable" if model.is_complete else "incomplete",
    )
