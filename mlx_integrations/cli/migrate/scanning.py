"""`mlxi migrate scan`: every vector store under a folder, what it is and how it is doing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_integrations.cli.config import short_path
from mlx_integrations.cli.console import output, print_json, say
from mlx_integrations.cli.migrate.options import WorkDir
from mlx_integrations.cli.migrate.printing import amount
from mlx_integrations.cli.options import AsJson
from mlx_integrations.cli.text import Column, disk, fitted, table

if TYPE_CHECKING:
    from mlx_integrations.migration.finding.scan import Found

__all__ = ["scan"]

_COLUMNS = (
    Column(title="store"),
    Column(title="rows", is_number=True),
    Column(title="dims", is_number=True, rank=1),
    Column(title="compared", rank=3),
    Column(title="index", rank=4),
    Column(title="size", is_number=True, rank=2),
    Column(title="health"),
)
_MOST_LABEL = 32
_LABEL_SHARE = 0.4
_ALL_COLUMNS = 72
_INDENT = "  "
_NO_TERMINAL = 100
"""Columns that a line is broken at where there is no terminal to say."""


def scan(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to look, with all folders below it.")] = ".",
    depth: Annotated[int, typer.Option(min=0, help="How many folders deep.")] = 12,
    whole: Annotated[
        bool, typer.Option("--whole", help="Read large stores to their end, too, for rows and faults.")
    ] = False,
    work_dir: WorkDir = None,
    as_json: AsJson = False,
) -> None:
    """Find every vector store under a folder: what it is, which model probably made it, and how it is doing.

    Writes nothing. Of stores with more than 64 MB to read, only what their headers say is shown; what was not counted
    is named. Damaged stores and folders that cannot be looked into are listed with the reason.
    """
    from mlx_integrations.migration.finding.scan import scan as find

    found = find(folder, depth=depth, whole=whole, work=work_dir)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    if not found:
        say(f"No vector store was found in {folder}.")
        return
    _print(found, Path(folder).expanduser())


def _print(found: "list[Found]", root: Path) -> None:
    console = output()
    width = console.width if console.is_terminal else None
    broken_at = width or _NO_TERMINAL
    most = min(_MOST_LABEL, round(broken_at * _LABEL_SHARE))
    heading, *lines = table(_COLUMNS, [_row(one, root, most) for one in found], width=width)
    console.print(heading, style="bold", markup=False, soft_wrap=True)
    for one, line in zip(found, lines, strict=True):
        console.print(line, markup=False, soft_wrap=True)
        for text in _below(one, broken_at):
            console.print(text, style="dim", markup=False, soft_wrap=True)
    stores = [one for one in found if one.is_store]
    say(f"{len(stores)} stores, {amount(sum(one.count or one.about for one in stores))} rows.")


def _row(one: "Found", root: Path, most: int) -> list[str]:
    label = label_of(one, root)
    rows = "" if not one.is_store else f"~{amount(one.about)}" if one.count is None else amount(one.count)
    first, *others = one.health or ("ok",)
    return [
        label if len(label) <= most else fitted(label, most, keeps_end=True),
        rows,
        ", ".join(map(str, one.dimensions)),
        one.metric if one.is_store else "",
        one.index,
        disk(one.bytes) if one.bytes is not None else "",
        f"{first} +{len(others)}" if others else first,
    ]


def label_of(one: "Found", root: Path) -> str:
    """A store's address below the folder that was searched, with its name."""
    address = Path(one.location.address)
    try:
        shown = str(address.relative_to(root.resolve()))
    except ValueError:
        shown = short_path(address)
    shown = address.name if shown == "." else shown
    return shown if one.location.name is None else f"{shown}: {one.location.name}"


def _below(one: "Found", width: int) -> list[str]:
    """What does not fit a line of the table: kind and model, what is wrong, what was not counted."""
    if one.fault:
        hint = f" {one.hint}" if one.hint else ""
        return _wrapped(f"{one.location.kind}: {one.fault}{hint}", width)
    model = f"made by {one.fingerprint.model}" if one.fingerprint else ""
    if one.likely_model:
        model = f"made by a model {one.likely_model}"
    told = [", ".join(part for part in (one.location.kind, *_facts(one, width), model) if part)]
    told += [f"{finding.message} ({amount(finding.count)}{_examples(finding.examples)})" for finding in one.findings]
    if one.uncounted:
        told.append(f"Large: not counted are {', '.join(one.uncounted)}. Read it with --whole.")
    if len(one.health) > 1 and one.phase is not None:
        told.append(one.health[-1])
    return [line for text in told for line in _wrapped(text, width)]


def _facts(one: "Found", width: int) -> list[str]:
    """What has no column of its own where the terminal is narrow."""
    if width >= _ALL_COLUMNS:
        return []
    sizes = f"{', '.join(map(str, one.dimensions))} dimensions" if one.dimensions else ""
    return [sizes, one.metric, one.index, disk(one.bytes) if one.bytes is not None else ""]


def _examples(ids: tuple[str, ...]) -> str:
    return f", such as {', '.join(ids)}" if ids else ""


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
