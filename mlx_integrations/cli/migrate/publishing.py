"""`mlxi migrate status`, `verify`, `publish`, `rollback` and `gc`: what becomes of vectors that are built."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_integrations.cli.console import ask, is_interactive, print_json, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.migrate.bulk import (
    Stores,
    gc_stores,
    publish_stores,
    rollback_stores,
    status_stores,
    verify_stores,
)
from mlx_integrations.cli.migrate.options import Address, AsText, Bulk, Name, To, ToKind, ToName, WorkDir
from mlx_integrations.cli.migrate.parts import executor_for, open_at
from mlx_integrations.cli.migrate.printing import print_facts, print_status
from mlx_integrations.cli.migrate.remembering import tell_forgotten
from mlx_integrations.cli.migrate.reporting import write_page
from mlx_integrations.cli.options import AsJson, Offline, Yes
from mlx_integrations.errors import VerificationError

if TYPE_CHECKING:
    from mlx_integrations.migration.executors.local import LocalExecutor
    from mlx_integrations.migration.protocol import Store
    from mlx_integrations.migration.standing import MigrationStatus

__all__ = ["gc", "publish", "rollback", "status", "verify"]


def status(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    bulk: Bulk = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a migration is. Another process may be at it."""
    if bulk:
        status_stores(Stores.of(context, address, name=name, to=to, work_dir=work_dir), as_json=as_json)
        return
    from mlx_integrations.migration.api import status as status_of

    known = status_of(open_at(address, name, to=to, to_kind=to_kind, to_name=to_name), work=work_dir)
    if known is not None:
        print_status(known, as_json=as_json)
    elif as_json:
        print_json(None)
    else:
        say("No migration of it was begun.")


def verify(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a page of what has changed, too.")
    ] = None,
    bulk: Bulk = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compare what was built, or is in use, with what the store holds. Ends with 1 if anything differs."""
    if bulk:
        verify_stores(
            Stores.of(context, address, name=name, to=to, work_dir=work_dir, offline=offline), as_json=as_json
        )
        return
    from mlx_integrations.migration.api import status as status_of
    from mlx_integrations.migration.api import verify as verify_store
    from mlx_integrations.migration.engine.workspace import no_run

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name)
    known = status_of(store, work=work_dir)
    if known is None:
        raise no_run(str(store.location))  # an address may have a password
    executor = executor_for(context, known.target.model, known.target.dimensions, known.long_texts, offline)
    try:
        checks = verify_store(store, executor, work=work_dir)
    except VerificationError:
        _write_report(store, executor, work_dir, page)  # it says what differs
        raise
    _write_report(store, executor, work_dir, page)
    if as_json:
        print_json([check.to_dict() for check in checks])
    else:
        print_facts([(check.name, check.detail) for check in checks])


def _write_report(store: "Store", executor: "LocalExecutor", work_dir: Path | None, page: Path | None) -> None:
    from mlx_integrations.migration.report.measure import measure_migration

    if page is not None:
        write_page(measure_migration(store, executor.backend, work=work_dir), page)


def publish(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    as_text: AsText = None,
    work_dir: WorkDir = None,
    bulk: Bulk = False,
    as_json: AsJson = False,
) -> None:
    """Put new vectors that are verified in use. The old ones are kept."""
    if bulk:
        publish_stores(Stores.of(context, address, name=name, to=to, work_dir=work_dir), as_json=as_json)
        return
    from mlx_integrations.migration.api import publish as publish_store

    print_status(
        publish_store(open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text), work=work_dir),
        as_json=as_json,
    )


def rollback(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    bulk: Bulk = False,
    as_json: AsJson = False,
) -> None:
    """Put the old vectors back in use. The new ones are kept, and `run` puts them in use again."""
    if bulk:
        rollback_stores(Stores.of(context, address, name=name, to=to, work_dir=work_dir), as_json=as_json)
        return
    from mlx_integrations.migration.api import rollback as roll_back

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name)
    print_status(roll_back(store, work=work_dir), as_json=as_json)
    tell_forgotten(store.location, work_dir)


def gc(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Also if programs that had the store open have written to the old vectors, which is lost."
        ),
    ] = False,
    bulk: Bulk = False,
    yes: Yes = False,
) -> None:
    """Delete what a migration keeps: the old vectors if the new ones are in use, otherwise all that it made."""
    if bulk:
        gc_stores(Stores.of(context, address, name=name, to=to, work_dir=work_dir), yes=yes)
        return
    from mlx_integrations.migration.api import gc as collect
    from mlx_integrations.migration.api import status as status_of

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name)
    known = status_of(store, work=work_dir)
    if known is not None and not yes:
        what = _deleted(known, is_move=to is not None)
        if not is_interactive():
            say(f"mlxi: Nothing was deleted, because nobody could be asked about {what}.")
            say("hint: Add --yes.")
            raise typer.Exit(ExitCode.WRONG_USAGE)
        if not ask(f"Delete {what}?"):
            say("Nothing was deleted.")
            raise typer.Exit
    say("Deleted." if collect(store, work=work_dir, accept=accept) else "There is nothing to delete.")


def _deleted(known: "MigrationStatus", *, is_move: bool) -> str:
    if known.in_use != "new":
        return f"what was made of {known.embedded} rows"
    return "the journal of the move, so that it cannot be taken back" if is_move else "the old vectors"
