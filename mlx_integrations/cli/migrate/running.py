"""`mlxi migrate plan` and `run`: what would be done, and doing it."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from mlx_integrations.cli.console import print_json, say
from mlx_integrations.cli.migrate.options import (
    Address,
    AsText,
    Dimensions,
    Index,
    LongTexts,
    Name,
    To,
    ToKind,
    ToName,
    WorkDir,
)
from mlx_integrations.cli.migrate.parts import executor_for, open_at
from mlx_integrations.cli.migrate.printing import amount, planned, print_facts, print_status
from mlx_integrations.cli.options import AsJson, Model, Offline
from mlx_integrations.cli.progress import Meter, ProgressDisplay

__all__ = ["plan", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDone:
    """How far embedding is, for the progress bar, which counts rows here."""

    done_bytes: int
    total_bytes: int
    phase: str = "downloading"  # the one that has no word of its own


def plan(
    context: typer.Context,
    address: Address,
    model: Model = None,
    name: Name = None,
    dimensions: Dimensions = None,
    long_texts: LongTexts = None,
    index: Index = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    as_text: AsText = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do: rows, texts that are too long, disk, time. Writes nothing."""
    from mlx_integrations.migration.api import plan_migration

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text)
    made = plan_migration(store, executor_for(context, model, dimensions, long_texts, offline), index=index or "")
    if as_json:
        print_json({**asdict(made), "is_blocked": made.is_blocked})
    else:
        print_facts(planned(made))


def run(
    context: typer.Context,
    address: Address,
    model: Model = None,
    name: Name = None,
    dimensions: Dimensions = None,
    long_texts: LongTexts = None,
    index: Index = None,
    work_dir: WorkDir = None,
    keep_old: Annotated[
        bool, typer.Option("--no-publish", help="Embed, build and verify only; `publish` does the rest.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Although rows cannot be embedded, or the store has faults.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier run did.")] = False,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    as_text: AsText = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Embed every text of a store, build the new vectors beside the old ones, verify them, and put them in use.

    Interrupted, it goes on where it stopped when it is run again. The model is `embedding.default` of the settings
    unless you name one. With `--to`, they go to a new store, which the other verbs find by the same options.
    """
    from mlx_integrations.migration.api import migrate

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text)
    executor = executor_for(context, model, dimensions, long_texts, offline)
    total = store.describe().count
    try:
        with ProgressDisplay(meter=Meter(amount, " rows")) as display:
            done = migrate(
                store,
                executor,
                index=index or "",
                work=work_dir,
                accept=accept,
                restart=restart,
                publishes=not keep_old,
                on_progress=lambda progress: display.update(RowsDone(done_bytes=progress.done, total_bytes=total)),
            )
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here; the store is as it was.")
        raise
    print_status(done, as_json=as_json)
