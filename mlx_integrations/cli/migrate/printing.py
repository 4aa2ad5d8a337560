"""How plans and states of migrations look."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlx_integrations.cli.console import output, print_json
from mlx_integrations.cli.text import disk, duration, printable

if TYPE_CHECKING:
    from mlx_integrations.migration.planning import Plan
    from mlx_integrations.migration.standing import MigrationStatus

__all__ = ["amount", "embedded", "planned", "print_facts", "print_status"]

_LEAST_WRAPPED = 20
"""Columns below which lines are left to the terminal."""


def planned(made: "Plan") -> list[tuple[str, str]]:
    """What a plan says, by name."""
    info = made.info
    known = f" of `{info.fingerprint.model}`" if info.fingerprint else ""
    if info.likely_model:
        known = f", of a model {info.likely_model}"
    old = ", ".join(map(str, info.dimensions)) or "no"
    is_kept = made.index == info.index or info.location.target is not None
    index = f", index {made.index}" + ("" if is_kept else f" instead of {info.index}") if made.index else ""
    facts = [
        ("store", f"{info.location} ({info.location.kind})"),
        ("rows", amount(info.count)),
        ("vectors", f"{old} dimensions{known}"),
        ("becomes", f"{made.target.dimensions} dimensions of `{made.target.model}`{index}"),
        ("too long", f"{made.long_rows} of {made.counted_rows} texts have more than {made.target.max_tokens} tokens"),
        ("disk", f"{disk(made.disk_bytes)} beside the store, of {disk(made.free_bytes)} that are free"),
    ]
    if made.place_bytes:
        free = "" if made.place_free_bytes is None else f", of {disk(made.place_free_bytes)} that are free there"
        facts.append(("new store", f"at most {disk(made.place_bytes)}{free}"))
    if made.seconds is not None:
        facts.append(("time", f"about {duration(made.seconds)}"))
    facts.append(("cost", "nothing: the model runs on this machine"))
    if made.is_short_of_disk:
        facts.append(("blocks", "There is not enough room on the disk."))
    facts += [("blocks" if finding.is_blocking else "note", finding.told) for finding in info.findings]
    return facts


def print_status(known: "MigrationStatus", *, as_json: bool) -> None:
    """Say how far a migration is."""
    if as_json:
        print_json(asdict(known))
        return
    facts = [
        ("phase", known.phase),
        ("in use", f"the {known.in_use} vectors" if known.in_use in ("old", "new") else known.in_use),
        ("model", f"`{known.target.model}`, {known.target.dimensions} dimensions"),
        ("embedded", f"{embedded(known)} rows"),
    ]
    if known.truncated:
        facts.append(("cut", f"{amount(known.truncated)} texts are longer than the model reads"))
    if known.unembedded:
        facts.append(("not embedded", amount(known.unembedded)))
        facts += [("", f"{row_id}: {reason}") for row_id, reason in known.examples]
        if (more := known.unembedded - len(known.examples)) > 0:
            facts.append(("", f"and {amount(more)} more"))
    facts += [("" if number else "accepted", finding.told) for number, finding in enumerate(known.accepted)]
    for number, check in enumerate(known.checks):
        failed = "" if check.is_passed else "does not hold: "
        facts.append(("" if number else "checks", f"{check.name}: {failed}{check.detail}"))
    print_facts(facts)


def embedded(known: "MigrationStatus") -> str:
    """How many rows have a new vector, of how many: those of the beginning, until it is known what was added since."""
    seen = known.embedded + known.unembedded
    return f"{amount(known.embedded)} of {amount(max(known.total, seen) if known.phase == 'embedding' else seen)}"


def print_facts(facts: list[tuple[str, str]]) -> None:
    """Print names and what they stand for, in two columns; on a terminal broken between words."""
    console = output()
    width = max(len(name) for name, _ in facts)
    room = console.width - width - 2 if console.is_terminal else 0
    for name, value in facts:
        lines = _broken(printable(value), room) if room >= _LEAST_WRAPPED else [printable(value)]
        for number, line in enumerate(lines):
            console.print(f"{'' if number else name:<{width}}  {line}", markup=False, soft_wrap=True)


def _broken(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def amount(count: float) -> str:
    """A number of rows, for people."""
    return f"{count:,.0f}"
