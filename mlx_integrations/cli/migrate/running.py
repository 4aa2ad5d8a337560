"""`mlxi migrate plan` and `run`: what would be done, and doing it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_integrations.cli.console import print_json, say
from mlx_integrations.cli.migrate.bars import RowsDone
from mlx_integrations.cli.migrate.bulk import Stores, plan_stores, run_stores
from mlx_integrations.cli.migrate.clusters import embedding
from mlx_integrations.cli.migrate.options import (
    Address,
    AsText,
    Bulk,
    Dimensions,
    Index,
    LongTexts,
    Name,
    RayAddress,
    RayCpus,
    RayGpus,
    RayWorkers,
    To,
    ToKind,
    ToName,
    WorkDir,
)
from mlx_integrations.cli.migrate.parts import executor_for, open_at
from mlx_integrations.cli.migrate.printing import amount, planned, print_facts, print_status
from mlx_integrations.cli.migrate.remembering import remember_one
from mlx_integrations.cli.options import AsJson, Model, Offline
from mlx_integrations.cli.progress import Meter, ProgressDisplay

if TYPE_CHECKING:
    from mlx_integrations.migration.engine.passes import Progress
    from mlx_integrations.migration.standing import MigrationStatus

__all__ = ["plan", "run"]

_PHASES = {"building": "building", "built": "verifying", "publishing": "putting in use"}


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
    bulk: Bulk = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do: rows, texts that are too long, disk, time. Writes nothing."""
    if bulk:
        wanted: dict[str, Any] = {"model": model, "dimensions": dimensions, "long_texts": long_texts, "index": index}
        plan_stores(Stores.of(context, address, name=name, to=to, offline=offline, **wanted), as_json=as_json)
        return
    from mlx_integrations.migration.planning import plan_migration

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text)
    made = plan_migration(store, executor_for(context, model, dimensions, long_texts, offline), index=index or "")
    if as_json:
        print_json({**asdict(made), "is_blocked": made.is_blocked})
    else:
        print_facts(planned(made))
        if made.is_blocked:
            say("hint: `run` stops there until that is repaired or, where it can be, accepted with --accept.")


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
    bulk: Bulk = False,
    remember: Annotated[
        bool | None,
        typer.Option(
            "--remember/--no-remember",
            show_default=False,
            help="Whether to write the model into `mlxi.toml` of the store's project, where `MLXEmbeddings()` reads "
            "it, also if that names another one. Left out: not for one store; with --bulk, where no other is named.",
        ),
    ] = None,
    ray: RayAddress = None,
    ray_workers: RayWorkers = 1,
    ray_cpus: RayCpus = 1,
    ray_gpus: RayGpus = 0,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Embed every text of a store, build the new vectors beside the old ones, verify them, and put them in use.

    Interrupted, it goes on where it stopped when it is run again. The model is `embedding.default` of the settings
    unless you name one. With `--to`, they go to a new store, which the other verbs find by the same options.
    """
    if bulk and ray is not None:
        raise typer.BadParameter("--ray is for one store at a time, without --bulk.")
    if bulk:
        wanted: dict[str, Any] = {"model": model, "dimensions": dimensions, "long_texts": long_texts, "index": index}
        stores = Stores.of(context, address, name=name, to=to, work_dir=work_dir, offline=offline, **wanted)
        run_stores(stores, accept=accept, restart=restart, publishes=not keep_old, remember=remember, as_json=as_json)
        return
    from mlx_integrations.migration.api import migrate, status
    from mlx_integrations.migration.engine.passes import DEFAULT_BATCH_ROWS

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text)
    actors = {"actors": ray_workers, "cpus": ray_cpus, "gpus": ray_gpus}
    begun = None if restart else status(store, work=work_dir)
    try:
        with (
            embedding(context, model, dimensions, long_texts, offline, address=ray, **actors) as executor,
            ProgressDisplay(meter=Meter(amount, " rows")) as display,
        ):
            bar = _Bar(display, store.describe().count, begun)
            done = migrate(
                store,
                executor,
                batch_rows=DEFAULT_BATCH_ROWS * ray_workers,
                index=index or "",
                work=work_dir,
                accept=accept,
                restart=restart,
                publishes=not keep_old,
                on_progress=bar.went_on,
                on_phase=bar.entered,
            )
            bar.ended(done)
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here; the store is as it was.")
        raise
    if remember and done.phase == "published":
        remember_one(store.location, done.target, work_dir, dimensions)
    print_status(done, as_json=as_json)


class _Bar:
    """Shows how far a run is; it begins with what is done already, since the first rows can take a minute.

    Args:
        display: Where.
        total: Rows of the store.
        begun: What an earlier run did.
    """

    def __init__(self, display: ProgressDisplay, total: int, begun: "MigrationStatus | None") -> None:
        self._display = display
        self._total = total
        self._is_shown = False
        if begun is None or begun.phase == "embedding":
            self._show(0 if begun is None else begun.embedded + begun.unembedded)

    def went_on(self, progress: "Progress") -> None:
        """Some rows are embedded."""
        self._show(progress.done)

    def entered(self, phase: str) -> None:
        """All rows are, and what comes now is of one piece."""
        self._show(self._total, _PHASES.get(phase, phase))

    def ended(self, done: "MigrationStatus") -> None:
        """Leave a line that names nothing that is being done."""
        if self._is_shown and done.phase != "embedding":
            self._show(self._total)

    def _show(self, done: int, phase: str = "") -> None:
        self._is_shown = True
        self._display.update(RowsDone(done_bytes=done, total_bytes=max(self._total, done), phase=phase))
