"""`mlxi migrate report`: what a migration has changed, as a page, as JSON, or in a few lines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_integrations.cli.console import print_json, say
from mlx_integrations.cli.migrate.options import Address, AsText, Name, To, ToKind, ToName, WorkDir
from mlx_integrations.cli.migrate.parts import executor_for, open_at
from mlx_integrations.cli.migrate.printing import amount, print_facts
from mlx_integrations.cli.options import AsJson, Offline
from mlx_integrations.errors import MLXIntegrationsError

if TYPE_CHECKING:
    from mlx_integrations.migration.report.records import MigrationReport
    from mlx_integrations.protocols import EmbeddingBackend

__all__ = ["report", "write_page"]

_ROWS = 50
_LISTED = 10


def report(
    context: typer.Context,
    address: Address,
    name: Name = None,
    to: To = None,
    to_kind: ToKind = None,
    to_name: ToName = None,
    as_text: AsText = None,
    work_dir: WorkDir = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a page of HTML: it needs nothing else.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of a list on the page; JSON has all.")] = _ROWS,
    documents: Annotated[int, typer.Option(min=1, help="Documents to ask about, chosen at random.")] = 500,
    against: Annotated[int | None, typer.Option(min=1, help="Texts to search, about; left out: all of them.")] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Say what a migration has changed: neighbours, scores, what questions find, and texts that were cut."""
    from mlx_integrations.migration.api import status
    from mlx_integrations.migration.engine.workspace import no_run
    from mlx_integrations.migration.report.measure import measure_migration

    store = open_at(address, name, to=to, to_kind=to_kind, to_name=to_name, as_json=as_text)
    known = status(store, work=work_dir)
    if known is None:
        raise no_run(str(store.location))
    backend = _asked(context, known.target.model, offline)
    made = measure_migration(store, backend, work=work_dir, documents=documents, against=against)
    if output is not None:
        write_page(made, output, rows=rows)
    if as_json:
        print_json(made.to_dict())
    elif output is None:
        print_facts(_told(made))


def write_page(made: "MigrationReport", output: Path, *, rows: int = _ROWS) -> None:
    """Write a report as a page, and say where it is."""
    from mlx_integrations.migration.report.page import page_of

    output.expanduser().write_text(page_of(made, rows=rows), encoding="utf-8")
    say(f"The report is at {output}.")


def _asked(context: typer.Context, model: str, offline: bool) -> "EmbeddingBackend | None":
    """The new model; a report can be made without it, and then says what is missing."""
    try:
        return executor_for(context, model, None, None, offline).backend
    except MLXIntegrationsError as error:
        say(f"The model `{model}` is not asked: {error}")
        return None


def _told(made: "MigrationReport") -> list[tuple[str, str]]:
    """The report in a few lines."""
    from mlx_integrations.migration.report.words import percent

    in_use = f"the {made.in_use} vectors" if made.in_use in ("old", "new") else made.in_use
    told = [("in use", in_use), ("rows", f"{amount(made.counts.embedded)} have a new vector")]
    failed = sum(not check.is_passed for check in made.checks)
    told.append(("checks", f"{len(made.checks) - failed} of {len(made.checks)} hold" if made.checks else "none yet"))
    if made.overlap is not None:
        shares = ", ".join(f"{percent(at.mean)} of {at.k}" for at in made.overlap.at)
        chance = percent(made.overlap.at[-1].chance)
        told.append(("neighbours", f"{shares} nearest texts are the same; by chance {chance} would be"))
    if made.known_items is not None:
        shares = ", ".join(
            f"{percent(share)} among the first {k}" for k, share in sorted(made.known_items.hits.items())
        )
        told.append(("questions", f"their documents are found: {shares}"))
    if made.scores is not None:
        told.append(("thresholds", _thresholds(made)))
    told += [("look at" if note.is_warning else "note", note.message) for note in made.notes]
    told += [("accepted", finding.told) for finding in made.accepted]
    told += [("no vector", f"{row.id}: {row.reason}") for row in made.unembedded[:_LISTED]]
    if (more := len(made.unembedded) - _LISTED) > 0:
        told.append(("", f"and {amount(more)} more, in the JSON of this report"))
    return told


def _thresholds(made: "MigrationReport") -> str:
    assert made.scores is not None
    scale = made.scores.scales[0]
    places = [place for place, count in enumerate(made.scores.per_question) if count in (1, 10)]
    moved = "; ".join(f"{scale.old[place]:.4g} becomes {scale.new[place]:.4g}" for place in places)
    return f"{moved} ({scale.name})"
