"""`--bulk`: the verbs of `mlxi migrate` for every store of a folder, or for those that a manifest lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.console import ask, is_interactive, print_json, print_table, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.migrate.bars import Bars, became
from mlx_integrations.cli.migrate.printing import amount, embedded
from mlx_integrations.cli.migrate.remembering import remember_all, tell_forgotten
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import Column, disk, duration

if TYPE_CHECKING:
    from mlx_integrations.migration.finding.scan import Found
    from mlx_integrations.migration.many.bulk import Executors, Outcome
    from mlx_integrations.migration.many.jobs import Job
    from mlx_integrations.migration.standing import MigrationStatus

__all__ = [
    "Stores",
    "gc_stores",
    "plan_stores",
    "publish_stores",
    "rollback_stores",
    "run_stores",
    "status_stores",
    "verify_stores",
]

_SHOWN_LABEL = 40
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores that a person means.

    Attributes:
        source: The folder, or the manifest.
        jobs: Each of them.
        unseen: Folders that could not be looked into.
        executors: Make their vectors.
    """

    source: Path
    jobs: "list[Job]"
    unseen: "list[Found]"
    executors: "Executors"

    @classmethod
    def of(
        cls,
        context: typer.Context,
        source: str,
        *,
        model: str | None = None,
        name: str | None = None,
        to: str | None = None,
        dimensions: int | None = None,
        long_texts: Any = None,
        index: str | None = None,
        work_dir: Path | None = None,
        offline: bool = False,
    ) -> "Stores":
        """Those under a folder, or those that a manifest lists; only those of one name, if one is given."""
        from mlx_integrations.migration.many.bulk import Executors
        from mlx_integrations.migration.many.jobs import Wanted, jobs_of

        if to is not None:
            raise typer.BadParameter("A move makes one store of one: leave --bulk out.", param_hint="--to")
        invocation: Invocation = context.obj
        if offline:
            invocation.overrides["offline"] = True
        known = invocation.settings.embedding
        named = model or invocation.model
        given = {"model": named, "dimensions": dimensions, "long_texts": long_texts, "index": index, "work": work_dir}
        given = {key: value for key, value in given.items() if value is not None}
        usual = {"model": known.default, "dimensions": None if named else known.dimensions}
        wanted = Wanted(**{**usual, **given})
        jobs, unseen = jobs_of(source, wanted, given)
        jobs = _called(name, jobs, source)
        for folder in unseen:
            say(f"mlxi: {folder.location.address}: {folder.fault}", style="yellow")
        if not jobs:
            say(f"No vector store was found in {source}.")
        path = Path(source).expanduser()
        return cls(source=path, jobs=jobs, unseen=unseen, executors=Executors(invocation.embedding_backend))

    @property
    def folder(self) -> Path:
        """The folder that all of it is about."""
        return self.source if self.source.is_dir() else self.source.absolute().parent


def _called(name: str | None, jobs: "list[Job]", source: str) -> "list[Job]":
    """Those of a name.

    Raises:
        StoreError: There are some, and none of that name.
    """
    from mlx_integrations.errors import StoreError

    found = [job for job in jobs if name in (None, job.name)]
    if jobs and not found:
        names = sorted({job.name for job in jobs if job.name is not None})
        hint = (
            f"There are {', '.join(f'`{each}`' for each in names)}."
            if names
            else "None of them has a name: leave out `--name`."
        )
        raise StoreError(f"No store in `{source}` is called `{name}`.", store=source, hint=hint)
    return found


def plan_stores(stores: Stores, *, as_json: bool) -> None:
    """Say what `run` would do with each."""
    from mlx_integrations.migration.many.bulk import plan_all

    outcomes = plan_all(stores.jobs, stores.executors)
    if not as_json and outcomes:
        print_table(_PLAN, [_planned(outcome) for outcome in outcomes])
        _tell_findings(outcomes)
        open_ones = [outcome.result for outcome in outcomes if outcome.state == "done"]
        seconds = [made.seconds for made in open_ones if made.seconds is not None]
        say(
            f"{len(open_ones)} of {len(outcomes)} stores are to be migrated: "
            f"{amount(sum(made.info.count for made in open_ones))} rows, "
            f"{disk(sum(made.disk_bytes for made in open_ones))} on the disk, "
            f"about {duration(sum(seconds))}."
        )
    _end(stores, outcomes, as_json=as_json)


def run_stores(
    stores: Stores, *, accept: bool, restart: bool, publishes: bool, remember: bool | None, as_json: bool
) -> None:
    """Migrate each."""
    from mlx_integrations.migration.many.bulk import migrate_all

    with Bars({job: job.about_rows for job in stores.jobs}) as bars:
        try:
            outcomes = migrate_all(
                stores.jobs, stores.executors, accept=accept, restart=restart, publishes=publishes, watcher=bars
            )
        except KeyboardInterrupt:
            bars.close()
            say("Stopped. The same command goes on from here; no store is half changed.")
            raise
    projects = remember_all(outcomes, stores.folder, replaces=remember is True) if remember is not False else []
    if not as_json and outcomes:
        print_table(_RUN, [_ran(outcome) for outcome in outcomes])
        _tell_left_out(outcomes)
    _end(stores, outcomes, as_json=as_json, projects=projects)


def status_stores(stores: Stores, *, as_json: bool) -> None:
    """Say how far each is."""
    from mlx_integrations.migration.many.bulk import status_all

    outcomes = status_all(stores.jobs)
    if not as_json and outcomes:
        print_table(_STATUS, [_status(outcome) for outcome in outcomes])
        _tell_left_out(outcomes)
    _end(stores, outcomes, as_json=as_json)


def verify_stores(stores: Stores, *, as_json: bool) -> None:
    """Compare what was built for each with what it holds."""
    from mlx_integrations.migration.many.bulk import verify_all

    _do(stores, verify_all(stores.jobs, stores.executors), as_json=as_json)


def publish_stores(stores: Stores, *, as_json: bool) -> None:
    """Put the new vectors of each in use."""
    from mlx_integrations.migration.many.bulk import publish_all

    _do(stores, publish_all(stores.jobs), as_json=as_json)


def rollback_stores(stores: Stores, *, as_json: bool) -> None:
    """Put the old vectors of each back in use, and take back what projects were told."""
    from mlx_integrations.migration.many.bulk import rollback_all

    outcomes = rollback_all(stores.jobs)
    for outcome in outcomes:
        if outcome.location is not None and outcome.state in ("done", "was done"):
            tell_forgotten(outcome.location, outcome.job.wanted.work)
    _do(stores, outcomes, as_json=as_json)


def gc_stores(stores: Stores, *, yes: bool) -> None:
    """Delete what the migrations of all of them keep."""
    from mlx_integrations.migration.many.bulk import gc_all, status_all

    known = [outcome for outcome in status_all(stores.jobs) if outcome.result is not None]
    published = sum(outcome.result.in_use == "new" for outcome in known)
    if known and not yes:
        others = len(known) - published
        what = " and ".join(
            text
            for count, text in (
                (published, f"the old vectors of {published} stores"),
                (others, f"what was made for {others} stores that have their old vectors"),
            )
            if count
        )
        if not is_interactive():
            say(f"mlxi: Nothing was deleted, because nobody could be asked about {what}.")
            say("hint: Add --yes.")
            raise typer.Exit(ExitCode.WRONG_USAGE)
        if not ask(f"Delete {what}?"):
            say("Nothing was deleted.")
            raise typer.Exit
    _do(stores, gc_all(stores.jobs), as_json=False)


_STORE = Column(title="store")
_RESULT = Column(title="result")
_ROWS = Column(title="rows", is_number=True, rank=1)
_VECTORS = Column(title="vectors", rank=2)
_PLAN = (
    _STORE,
    _ROWS,
    _VECTORS,
    Column(title="too long", is_number=True, rank=4),
    Column(title="disk", is_number=True, rank=5),
    Column(title="time", is_number=True, rank=3),
    _RESULT,
)
_RUN = (_STORE, _ROWS, _VECTORS, Column(title="time", is_number=True, rank=3), _RESULT)
_STATUS = (
    _STORE,
    Column(title="embedded", is_number=True, rank=1),
    Column(title="model", rank=3),
    Column(title="in use", rank=2),
    Column(title="phase"),
)


def _label(outcome: "Outcome") -> str:
    """A store's name; of a long one the end, which tells it from its neighbours."""
    from mlx_integrations.cli.text import fitted

    label = outcome.job.label
    return label if len(label) <= _SHOWN_LABEL else fitted(label, _SHOWN_LABEL, keeps_end=True)


def _change(before: Sequence[int], after: int | None) -> str:
    known = [", ".join(map(str, before))] if before else []
    if after is not None and tuple(before) != (after,):
        known.append(str(after))
    return " → ".join(known)


def _planned(outcome: "Outcome") -> list[str]:
    made = outcome.result
    if made is None:
        return [_label(outcome), "", "", "", "", "", became(outcome)]
    is_open = outcome.state == "done"
    return [
        _label(outcome),
        amount(outcome.rows),
        _change(outcome.before, made.target.dimensions),
        f"{made.long_rows} of {made.counted_rows}",
        disk(made.disk_bytes) if is_open else "",
        duration(made.seconds) if is_open and made.seconds is not None else "",
        became(outcome) if not is_open else "blocked" if made.is_blocked else "to be migrated",
    ]


def _ran(outcome: "Outcome") -> list[str]:
    after = outcome.result.target.dimensions if outcome.result is not None else None
    return [
        _label(outcome),
        amount(outcome.rows) if outcome.rows else "",
        "" if outcome.is_failure else _change(outcome.before, after),
        duration(outcome.seconds) if outcome.state in ("done", "built") else "",
        became(outcome),
    ]


def _status(outcome: "Outcome") -> list[str]:
    known = outcome.result
    if known is None:
        return [_label(outcome), "", "", "", "no migration" if not outcome.is_failure else "failed"]
    return [
        _label(outcome),
        embedded(known),
        known.target.model,
        known.in_use,
        known.phase,
    ]


def _tell_findings(outcomes: "Sequence[Outcome]") -> None:
    for outcome in outcomes:
        for finding in outcome.result.info.findings if outcome.result is not None else ():
            severity = "blocks" if finding.is_blocking else "note"
            say(f"{outcome.job.label}: {severity}: {finding.told}")


def _tell_left_out(outcomes: "Sequence[Outcome]") -> None:
    """Say what the new vectors of each store do not have, and what of it was accepted."""
    for outcome in outcomes:
        known: MigrationStatus | None = outcome.result
        if known is None:
            continue
        if known.truncated:
            say(f"{outcome.job.label}: cut: {amount(known.truncated)} texts are longer than the model reads")
        if known.unembedded:
            examples = ", ".join(f"{row_id}: {reason}" for row_id, reason in known.examples[:_EXAMPLES])
            say(f"{outcome.job.label}: not embedded: {amount(known.unembedded)}, such as {examples}")
        for finding in known.accepted:
            say(f"{outcome.job.label}: accepted: {finding.told}")


def _do(stores: Stores, outcomes: "Sequence[Outcome]", *, as_json: bool) -> None:
    if not as_json and outcomes:
        rows = [[_label(one), amount(one.rows) if one.rows else "", became(one)] for one in outcomes]
        print_table((_STORE, _ROWS, _RESULT), rows)
    _end(stores, outcomes, as_json=as_json)


def _end(
    stores: Stores, outcomes: "Sequence[Outcome]", *, as_json: bool, projects: "Sequence[dict[str, Any]] | None" = None
) -> None:
    """Print JSON or what failed, and end with the code that says so."""
    failed = [outcome for outcome in outcomes if outcome.is_failure]
    if as_json:
        found = {"stores": [each.to_dict() for each in outcomes], "unseen": [each.to_dict() for each in stores.unseen]}
        print_json(found if projects is None else {**found, "projects": list(projects)})
    for outcome in failed:
        say(f"mlxi: {outcome.job.label}: {outcome.error}")
        if outcome.hint:
            say(f"hint: {outcome.hint}")
        say(f"      {outcome.job.command()}")
    if failed:
        raise typer.Exit(ExitCode.FAILED)
