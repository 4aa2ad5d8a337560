"""How plans and states of migrations look."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlx_integrations.cli.console import output, print_json
from mlx_integrations.cli.text import disk, duration, printable

if TYPE_CHECKING:
    from mlx_integrations.migration.api import MigrationStatus
    from mlx_integrations.migration.planning import Plan

__all__ = ["amount", "planned", "print_facts", "print_status"]


def planned(made: "Plan") -> list[tuple[str, str]]:
    """What a plan says, by name."""
    info = made.info
    known = f" of `{info.fingerprint.model}`" if info.fingerprint else ""
    if info.likely_model:
        known = f", of a model {info.likely_model}"
    old = ", ".join(map(str, info.dimensions)) or "no"
    is_kept = made.index == info.index or info.location.target is not None
    index = f", index {made.index}" + ("" if is_kept else f" instead of {info.index}") if made.index else ""
    told = [
        ("store", f"{info.location} ({info.location.kind})"),
        ("rows", amount(info.count)),
        ("vectors", f"{old} dimensions{known}"),
        ("becomes", f"{made.target.dimensions} dimensions of `{made.target.model}`{index}"),
        ("too long", f"{made.long_rows} of {made.counted_rows} texts have more than {made.target.max_tokens} tokens"),
        ("disk", f"{disk(made.disk_bytes)} beside the store, of {disk(made.free_bytes)} that are free"),
    ]
    if made.place_bytes:
        free = "" if made.place_free_bytes is None else f", of {disk(made.place_free_bytes)} that are free there"
        told.append(("new store", f"at most {disk(made.place_bytes)}{free}"))
    if made.seconds is not None:
        told.append(("time", f"about {duration(made.seconds)}"))
    told.append(("cost", "nothing: the model runs on this machine"))
    for finding in info.findings:
        examples = f", such as {', '.join(finding.examples)}" if finding.examples else ""
        severity = "blocks" if finding.is_blocking else "note"
        told.append((severity, f"{finding.message} ({finding.count}{examples})"))
    return told


def print_status(known: "MigrationStatus", *, as_json: bool) -> None:
    """Say how far a migration is."""
    if as_json:
        print_json(asdict(known))
        return
    told = [
        ("phase", known.phase),
        ("in use", f"the {known.in_use} vectors" if known.in_use in ("old", "new") else known.in_use),
        ("model", f"`{known.target.model}`, {known.target.dimensions} dimensions"),
        ("embedded", f"{amount(known.embedded)} of {amount(known.total)} rows"),
    ]
    if known.truncated:
        told.append(("cut", f"{amount(known.truncated)} texts are longer than the model reads"))
    if known.unembedded:
        told.append(("not embedded", amount(known.unembedded)))
        told += [("", f"{row_id}: {reason}") for row_id, reason in known.examples]
    for number, finding in enumerate(known.accepted):
        told.append(("" if number else "accepted", f"{finding.message} ({amount(finding.count)})"))
    told += [("" if number else "checks", f"{check.name}: {check.detail}") for number, check in enumerate(known.checks)]
    print_facts(told)


def print_facts(facts: list[tuple[str, str]]) -> None:
    """Print names and what they stand for, in two columns."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        output().print(printable(f"{name:<{width}}  {value}"), markup=False, soft_wrap=True)


def amount(count: float) -> str:
    """A number of rows, for people."""
    return f"{count:,.0f}"
