"""A report as one page of HTML: it holds its style and its plots, needs no script, and fetches nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from mlx_integrations.migration.report.markup import Content, Markup, tag
from mlx_integrations.migration.report.quality_sections import changed, known_items, overlap, scores
from mlx_integrations.migration.report.records import CutRow, MigrationReport, Note, Side
from mlx_integrations.migration.report.style import STYLE
from mlx_integrations.migration.report.words import (
    amount,
    bytes_of,
    coded,
    duration,
    listed,
    moment,
    percent,
    plural,
    section,
    table,
)

__all__ = ["DEFAULT_ROWS", "page_of"]

DEFAULT_ROWS: Final = 50
"""Rows of a list that the page shows; JSON has all of them."""

_VERDICTS: Final = {
    "passed": "Every check holds.",
    "look": "Something should be looked at.",
    "failed": "A check failed: what was built is not what the store holds.",
}
_CHECKS: Final = {
    "count": "Rows",
    "contents": "Ids, texts and metadata",
    "dimensions": "Dimensions",
    "finite": "Vectors that can be used",
    "vectors": "Each vector beside its own text",
    "alignment": "Vectors that were made a second time",
}
_IN_USE: Final = {
    "old": "The old vectors are in use.",
    "new": "The new vectors are in use.",
    "between": "Putting the new vectors in use was cut off.",
    "nothing": "The new store is not in use yet.",
}
_LONG: Final = {
    "truncate": "Their beginning is embedded.",
    "mean": "Their parts are embedded and averaged.",
    "error": "They stop the migration.",
}


def page_of(report: MigrationReport, *, rows: int = DEFAULT_ROWS) -> str:
    """The page.

    Args:
        report: What it shows.
        rows: How many rows of a list it shows; how many more there are is said.
    """
    body = tag(
        "main",
        _heading(report),
        tag("p", _verdict(report), class_=f"verdict {report.verdict}"),
        _notes(report.notes),
        _tiles(report),
        overlap(report.overlap),
        changed(report.changed),
        known_items(report.known_items),
        scores(report.scores),
        _cut(report, rows),
        _accepted(report, rows),
        _unembedded(report, rows),
        tag("div", _checks(report), _sides(report), class_="split"),
        tag("div", _counts(report), _events(report), class_="split"),
        _footer(report),
    )
    # Even if a text got past the escaping, a browser would neither run nor fetch anything.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"Migration of {report.store}"),
        tag("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _heading(report: MigrationReport) -> Markup:
    model = report.new.model or "another model"
    return tag(
        "header",
        tag("h1", f"New vectors of {model}"),
        tag(
            "p",
            tag("code", str(report.store)),
            f" ({report.store.kind}). {_IN_USE[report.in_use]}",
            class_="soft",
        ),
    )


def _verdict(report: MigrationReport) -> str:
    warnings = sum(note.is_warning for note in report.notes)
    if report.verdict == "passed":
        return _VERDICTS["passed"]
    if report.verdict == "look" and report.checks:
        return f"Every check holds, and {plural(warnings, 'thing')} should be looked at."
    return _VERDICTS[report.verdict]


def _notes(notes: Sequence[Note]) -> Markup | None:
    if not notes:
        return None
    return tag(
        "ul",
        [
            tag(
                "li",
                tag("b", "Look at this." if note.is_warning else "Note."),
                coded(note.message),
                class_="warning" if note.is_warning else None,
            )
            for note in notes
        ],
        class_="notes",
    )


def _tiles(report: MigrationReport) -> Markup:
    counts = report.counts
    before = "?" if report.old is None else " and ".join(map(str, report.old.dimensions)) or "0"
    after = " and ".join(map(str, report.new.dimensions)) or "0"
    tiles = [
        (amount(counts.embedded), f"of {amount(counts.embedded + counts.unembedded)} rows have a new vector"),
        (f"{before} → {after}", "dimensions"),
    ]
    if report.overlap is not None:
        last = report.overlap.at[-1]
        tiles.append((percent(last.mean), f"of the {last.k} nearest texts are the same"))
    if report.known_items is not None:
        first = min(report.known_items.hits)
        tiles.append((percent(report.known_items.hits[first]), "of sentences find their document first"))
    tiles.append((amount(counts.truncated), "rows were cut"))
    return tag(
        "div", [tag("div", tag("b", big), tag("span", small), class_="tile") for big, small in tiles], class_="tiles"
    )


def _checks(report: MigrationReport) -> Markup:
    if not report.checks:
        return section("Checks", tag("p", "It is not verified yet."))
    lines = [
        (
            tag("span", "holds" if check.is_passed else "failed", class_="good" if check.is_passed else "bad"),
            _CHECKS.get(check.name, check.name),
            tag("span", check.detail, class_="soft"),
        )
        for check in report.checks
    ]
    return section("Checks", table((), lines), lead="Nothing is put in use before all of them hold.")


def _sides(report: MigrationReport) -> Markup:
    sides = [report.old, report.new]
    lines: list[tuple[Content, ...]] = [
        ("Model", *(_model(side) for side in sides)),
        ("Rows", *(amount(side.count) if side else "" for side in sides)),
        ("Dimensions", *(" and ".join(map(str, side.dimensions)) if side else "" for side in sides)),
        ("Compared by", *(side.metric if side else "" for side in sides)),
        ("Index", *(_index(side) for side in sides)),
        ("On the disk", *(bytes_of(side.bytes) if side and side.bytes is not None else "" for side in sides)),
    ]
    return section("Before and after", tag("div", table(("", "Old", "New"), lines), class_="whole"))


def _model(side: Side | None) -> str:
    if side is None or not (side.model or side.likely_model):
        return "not known"
    return side.model or f"a model {side.likely_model}"


def _index(side: Side | None) -> str:
    if side is None:
        return ""
    return f"{side.index}{'' if side.is_exact else ', compresses'}" if side.index else "none"


def _counts(report: MigrationReport) -> Markup:
    counts = report.counts
    lines: list[tuple[Content, ...]] = [
        ("When the migration was begun", amount(counts.total)),
        ("With a new vector", amount(counts.embedded)),
        ("Different texts that were embedded", amount(counts.texts)),
        ("Rows that share the vector of an equal text", amount(counts.shared)),
        ("Rows that were cut", amount(counts.truncated)),
        ("Rows without a new vector", amount(counts.unembedded)),
        ("Times that the store was read", amount(counts.passes)),
        ("Batches that were embedded again", amount(counts.repeated)),
    ]
    return section("Rows", table((), lines, numbers=(1,)))


def _events(report: MigrationReport) -> Markup:
    speed = report.counts.texts / report.embedding_seconds if report.embedding_seconds else 0
    took = f"Embedding took {duration(report.embedding_seconds)}, {amount(speed)} texts a second."
    lines = [(moment(event.at), f"{event.what} {event.detail}".strip()) for event in report.events]
    return section("What happened", listed(("When", "What"), lines, len(lines)), lead=took if speed else None)


def _cut(report: MigrationReport, rows: int) -> Markup | None:
    if not report.truncated:
        return None
    lines = [
        (
            row.id,
            amount(row.characters),
            "" if row.tokens is None else amount(row.tokens),
            "" if row.tokens is None else percent(_read_share(row)),
        )
        for row in sorted(report.truncated, key=_read_share)
    ]
    return section(
        "Texts that are longer than the model reads",
        listed(("Row", "Characters", "Tokens", "Read"), lines, rows, numbers=(1, 2, 3)),
        lead=f"{_LONG[report.long_texts]} Those of which least was read come first.",
    )


def _read_share(row: CutRow) -> float:
    return min(row.read_tokens / row.tokens, 1.0) if row.tokens and row.read_tokens else 1.0


def _accepted(report: MigrationReport, rows: int) -> Markup | None:
    if not report.accepted:
        return None
    lines = [(coded(each.message), ", ".join(each.examples), amount(each.count)) for each in report.accepted]
    return section(
        "What was accepted",
        listed(("What", "Such as", "Rows"), lines, rows, numbers=(2,)),
        lead="The run stopped at these until they were accepted.",
    )


def _unembedded(report: MigrationReport, rows: int) -> Markup | None:
    if not report.unembedded:
        return None
    lines = [(row.id, row.reason) for row in report.unembedded]
    return section("Rows without a new vector", listed(("Row", "Because"), lines, rows))


def _footer(report: MigrationReport) -> Markup:
    asked = report.overlap.documents if report.overlap else 0
    made = datetime.fromtimestamp(report.made_at, UTC)
    told = f"Made {made:%Y-%m-%d %H:%M} UTC by mlx-integrations {report.version}, for the run {report.run_id}."
    sampled = f" Figures about neighbours and scores are of {amount(asked)} documents, chosen by their texts' digests."
    return tag("footer", tag("p", told + (sampled if asked else "")))
