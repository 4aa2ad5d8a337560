"""`mlxi migrate`: give a vector store the vectors of another model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from mlx_integrations.cli.console import ask, is_interactive, output, print_json, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.options import AsJson, Model, Offline, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.progress import Meter, ProgressDisplay
from mlx_integrations.cli.text import disk, duration

if TYPE_CHECKING:
    from mlx_integrations.migration.api import MigrationStatus, Plan
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.migration.protocol import Store

__all__ = ["app"]

app = group(
    "Give a vector store the vectors of another embedding model, from the texts that it holds.\n\n"
    "The store is left as it is until the new vectors are verified; the old ones are kept until `gc`. Whatever is "
    "interrupted, the same command goes on with it.",
    no_args_is_help=True,
)

Address: TypeAlias = Annotated[str, typer.Argument(metavar="STORE", help="The store's folder, or its file.")]
Name: TypeAlias = Annotated[
    str | None, typer.Option("--name", help="Which of its indexes or collections, where it has several.")
]
WorkDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--work-dir", help="Where runs are kept; left out: `.mlxi-migrate` beside the store."),
]
Dimensions: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Coordinates to keep, for models that were trained for it.")
]
LongTexts: TypeAlias = Annotated[
    Literal["truncate", "mean", "error"] | None,
    typer.Option(
        help="Texts longer than the model reads: embed their beginning and count them, average their parts, or stop. "
        "Left out: truncate."
    ),
]
Index: TypeAlias = Annotated[
    str | None, typer.Option(help="The kind of index to build, such as `Flat` or `HNSW32`; left out: the one it has.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
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
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do: rows, texts that are too long, disk, time. Writes nothing."""
    from mlx_integrations.migration.api import plan_migration

    store = _store(address, name)
    made = plan_migration(store, _executor(context, model, dimensions, long_texts, offline), index=index or "")
    if as_json:
        print_json({**asdict(made), "is_blocked": made.is_blocked})
    else:
        _print_facts(_planned(made))


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
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Embed every text of a store, build the new vectors beside the old ones, verify them, and put them in use.

    Interrupted, it goes on where it stopped when it is run again. The model is `embedding.default` of the settings
    unless you name one.
    """
    from mlx_integrations.migration.api import migrate

    store = _store(address, name)
    executor = _executor(context, model, dimensions, long_texts, offline)
    total = store.describe().count
    try:
        with ProgressDisplay(meter=Meter(_amount, " rows")) as display:
            done = migrate(
                store,
                executor,
                index=index or "",
                work=work_dir,
                accept=accept,
                restart=restart,
                publishes=not keep_old,
                on_progress=lambda progress: display.update(_Rows(done_bytes=progress.done, total_bytes=total)),
            )
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here; the store is as it was.")
        raise
    _print_status(done, as_json=as_json)


def status(address: Address, name: Name = None, work_dir: WorkDir = None, as_json: AsJson = False) -> None:
    """Say how far a migration is. Another process may be at it."""
    from mlx_integrations.migration.api import status as status_of

    known = status_of(_store(address, name), work=work_dir)
    if known is not None:
        _print_status(known, as_json=as_json)
    elif as_json:
        print_json(None)
    else:
        say("No migration of it was begun.")


def verify(
    context: typer.Context,
    address: Address,
    name: Name = None,
    work_dir: WorkDir = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compare what was built, or is in use, with what the store holds. Ends with 1 if anything differs."""
    from mlx_integrations.migration.api import status as status_of
    from mlx_integrations.migration.api import verify as verify_store
    from mlx_integrations.migration.workspace import no_run

    store = _store(address, name)
    known = status_of(store, work=work_dir)
    if known is None:
        raise no_run(address)
    executor = _executor(context, known.target.model, known.target.dimensions, known.long_texts, offline)
    checks = verify_store(store, executor, work=work_dir)
    if as_json:
        print_json([check.to_dict() for check in checks])
    else:
        _print_facts([(check.name, check.detail) for check in checks])


def publish(address: Address, name: Name = None, work_dir: WorkDir = None, as_json: AsJson = False) -> None:
    """Put new vectors that are verified in use. The old ones are kept."""
    from mlx_integrations.migration.api import publish as publish_store

    _print_status(publish_store(_store(address, name), work=work_dir), as_json=as_json)


def rollback(address: Address, name: Name = None, work_dir: WorkDir = None, as_json: AsJson = False) -> None:
    """Put the old vectors back in use. The new ones are kept, and `run` puts them in use again."""
    from mlx_integrations.migration.api import rollback as roll_back

    _print_status(roll_back(_store(address, name), work=work_dir), as_json=as_json)


def gc(address: Address, name: Name = None, work_dir: WorkDir = None, yes: Yes = False) -> None:
    """Delete what a migration keeps: the old vectors if the new ones are in use, otherwise all that it made."""
    from mlx_integrations.migration.api import gc as collect
    from mlx_integrations.migration.api import status as status_of

    store = _store(address, name)
    known = status_of(store, work=work_dir)
    if known is not None and not yes:
        what = "the old vectors" if known.in_use == "new" else f"what was made of {known.embedded} rows"
        if not is_interactive():
            say(f"mlxi: Nothing was deleted, because nobody could be asked about {what}.")
            say("hint: Add --yes.")
            raise typer.Exit(ExitCode.WRONG_USAGE)
        if not ask(f"Delete {what}?"):
            say("Nothing was deleted.")
            raise typer.Exit
    say("Deleted." if collect(store, work=work_dir) else "There is nothing to delete.")


def _store(address: str, name: str | None) -> "Store":
    from mlx_integrations.migration.stores.opening import open_store

    return open_store(address, name)


def _executor(
    context: typer.Context, model: str | None, dimensions: int | None, long_texts: Any, offline: bool
) -> "LocalExecutor":
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.types import EmbeddingOptions

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    backend = invocation.embedding_backend(model or invocation.model or invocation.settings.embedding.default)
    if dimensions == backend.capabilities.dimensions:
        dimensions = None
    return LocalExecutor(backend, EmbeddingOptions(dimensions=dimensions), long_texts=long_texts or "truncate")


def _planned(made: "Plan") -> list[tuple[str, str]]:
    info = made.info
    known = f" of `{info.fingerprint.model}`" if info.fingerprint else ""
    old = ", ".join(map(str, info.dimensions)) or "no"
    changed = "" if made.index == info.index else f" instead of {info.index}"
    told = [
        ("store", f"{info.location} ({info.location.kind})"),
        ("rows", _amount(info.count)),
        ("vectors", f"{old} dimensions{known}"),
        ("becomes", f"{made.target.dimensions} dimensions of `{made.target.model}`, index {made.index}{changed}"),
        ("too long", f"{made.long_rows} of {made.counted_rows} texts have more than {made.target.max_tokens} tokens"),
        ("disk", f"{disk(made.disk_bytes)} beside the store, of {disk(made.free_bytes)} that are free"),
    ]
    if made.seconds is not None:
        told.append(("time", f"about {duration(made.seconds)}"))
    for finding in info.findings:
        examples = f", such as {', '.join(finding.examples)}" if finding.examples else ""
        severity = "blocks" if finding.is_blocking else "note"
        told.append((severity, f"{finding.message} ({finding.count}{examples})"))
    return told


def _print_status(known: "MigrationStatus", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(known))
        return
    told = [
        ("phase", known.phase),
        ("in use", f"the {known.in_use} vectors" if known.in_use in ("old", "new") else known.in_use),
        ("model", f"`{known.target.model}`, {known.target.dimensions} dimensions"),
        ("embedded", f"{_amount(known.embedded)} of {_amount(known.total)} rows"),
    ]
    if known.truncated:
        told.append(("cut", f"{_amount(known.truncated)} texts are longer than the model reads"))
    if known.unembedded:
        told.append(("not embedded", _amount(known.unembedded)))
        told += [("", f"{row_id}: {reason}") for row_id, reason in known.examples]
    told += [("" if number else "checks", f"{check.name}: {check.detail}") for number, check in enumerate(known.checks)]
    _print_facts(told)


def _print_facts(facts: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        output().print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)


def _amount(count: float) -> str:
    return f"{count:,.0f}"


for _verb in (plan, run, status, verify, publish, rollback, gc):
    add(app, _verb)
