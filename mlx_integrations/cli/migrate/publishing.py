"""`mlxi migrate status`, `verify`, `publish`, `rollback` and `gc`: what becomes of vectors that are built."""

from typing import TYPE_CHECKING

import typer

from mlx_integrations.cli.console import ask, is_interactive, print_json, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.migrate.options import Address, AsText, Name, To, ToKind, ToName, WorkDir
from mlx_integrations.cli.migrate.parts import executor_for, open_at
from mlx_integrations.cli.migrate.printing import print_facts, print_status
from mlx_integrations.cli.options import AsJson, Offline, Yes

if TYPE_CHECKING:
    from mlx_integrations.migration.api import MigrationStatus

__all__ = ["gc", "publish", "rollback", "status", "verify"]


def status(
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a migration is. Another process may be at it."""
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
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compare what was built, or is in use, with what the store holds. Ends with 1 if anything differs."""
    from mlx_integrations.migration.api import status as status_of
    from mlx_integrations.migration.api import verify as verify_store
    from mlx_integrations.migration.workspace import no_run

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name)
    known = status_of(store, work=work_dir)
    if known is None:
        raise no_run(address)
    executor = executor_for(context, known.target.model, known.target.dimensions, known.long_texts, offline)
    checks = verify_store(store, executor, work=work_dir)
    if as_json:
        print_json([check.to_dict() for check in checks])
    else:
        print_facts([(check.name, check.detail) for check in checks])


def publish(
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    as_text: AsText = None,
    work_dir: WorkDir = None,
    as_json: AsJson = False,
) -> None:
    """Put new vectors that are verified in use. The old ones are kept."""
    from mlx_integrations.migration.api import publish as publish_store

    print_status(
        publish_store(open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text), work=work_dir),
        as_json=as_json,
    )


def rollback(
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    as_json: AsJson = False,
) -> None:
    """Put the old vectors back in use. The new ones are kept, and `run` puts them in use again."""
    from mlx_integrations.migration.api import rollback as roll_back

    print_status(
        roll_back(open_at(address, name, to=to, to_kind=to_kind, to_name=to_name), work=work_dir), as_json=as_json
    )


def gc(
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    work_dir: WorkDir = None,
    yes: Yes = False,
) -> None:
    """Delete what a migration keeps: the old vectors if the new ones are in use, otherwise all that it made."""
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
    say("Deleted." if collect(store, work=work_dir) else "There is nothing to delete.")


def _deleted(known: "MigrationStatus", *, is_move: bool) -> str:
    if known.in_use != "new":
        return f"what was made of {known.embedded} rows"
    return "the journal of the move, so that it cannot be taken back" if is_move else "the old vectors"
