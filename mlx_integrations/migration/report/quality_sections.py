"""The parts of the page that compare old and new vectors."""

from collections.abc import Sequence

from mlx_integrations.migration.report.markup import Markup, tag
from mlx_integrations.migration.report.records import Changed, Found, KnownItems, Miss, Overlap, ScaleMap, ScoreMap
from mlx_integrations.migration.report.svg import Meter, Point, columns, line, meters, short_number
from mlx_integrations.migration.report.words import amount, percent, section, table

__all__ = ["changed", "known_items", "overlap", "scores"]

_LABELLED = (1, 10, 100)


def overlap(found: Overlap | None) -> Markup | None:
    """Whether documents have the neighbours that they had."""
    if found is None:
        return None
    rows = [
        Meter(
            label=f"{'nearest text' if at.k == 1 else f'{at.k} nearest texts'}",
            value=at.mean,
            mark=at.chance,
            shown=percent(at.mean),
        )
        for at in found.at
    ]
    k = found.at[-1].k
    shares = [100 * count / max(found.documents, 1) for count in found.distribution]
    bars = columns(
        shares,
        [str(kept) for kept in range(len(shares))],
        title=f"How many documents have kept how many of their {k} nearest texts",
        across=f"of the {k} nearest texts are the same",
        upwards="% of documents",
    )
    lead = (
        f"Each of {amount(found.documents)} documents looked for its nearest among {amount(found.texts)} texts, with "
        "its old vector among the old ones and with its new vector among the new ones. Another model has other "
        "neighbours, and they need not be worse; what may be wrong is agreement that is near chance."
    )
    legend = tag(
        "figcaption", "Found by both. ", tag("span", class_="key"), f" by chance: {percent(found.at[-1].chance)}"
    )
    lines = [
        (f"{at.k}", percent(at.mean), percent(at.chance), percent(at.median), percent(at.fifth), percent(at.none))
        for at in found.at
    ]
    heads = ("Nearest", "Mean", "Chance", "Median", "Worst 5 % below", "None kept")
    return section(
        "Neighbours, old and new",
        tag(
            "div",
            tag("figure", meters(rows, title="Share of nearest texts that both sides find"), legend),
            tag("figure", bars),
            class_="split",
        ),
        tag("details", tag("summary", "As numbers"), table(heads, lines, numbers=range(len(heads)))),
        lead=lead,
    )


def changed(documents: Sequence[Changed]) -> Markup | None:
    """Documents whose neighbours are others now."""
    if not documents:
        return None
    lead = (
        "Look at a few: are the new neighbours as good as the old ones? Those that both sides find among their first "
        "ten have a line at their left."
    )
    return section(
        "Documents whose neighbours have changed most",
        [_changed(document, is_open=not place) for place, document in enumerate(documents)],
        lead=lead,
    )


def _changed(document: Changed, *, is_open: bool) -> Markup:
    return tag(
        "details",
        tag(
            "summary",
            tag("code", document.id),
            " ",
            tag("span", f"{percent(document.overlap)} kept", class_="pill"),
            tag("div", document.text, dir="auto"),
        ),
        tag(
            "div",
            tag("div", tag("b", "Old"), _neighbours(document.old), class_="soft"),
            tag("div", tag("b", "New"), _neighbours(document.new), class_="soft"),
            class_="split",
        ),
        open=is_open,
    )


def _neighbours(found: Sequence[Found]) -> Markup:
    return tag("ol", [_row(each) for each in found], class_="found")


def _row(found: Found) -> Markup:
    score = tag("span", short_number(found.score), class_="pill")
    text = tag("div", found.text, dir="auto")
    return tag("li", tag("code", found.id), " ", score, text, class_="common" if found.is_common else None)


def known_items(found: KnownItems | None) -> Markup | None:
    """Whether sentences find their documents."""
    if found is None or not found.questions:
        return None
    rows = [
        Meter(label="first" if k == 1 else f"among the first {k}", value=share, shown=percent(share))
        for k, share in sorted(found.hits.items())
    ]
    easy = f" For {amount(found.whole)} that is the whole document, which is easy." if found.whole else ""
    lead = (
        f"A sentence or heading of each of {amount(found.questions)} documents was asked as a question: does it find "
        f"the document that it is from?{easy}"
    )
    caption = tag("figcaption", f"Mean reciprocal rank among the first ten: {found.reciprocal_rank:.3f}")
    misses = tag("details", tag("summary", "Some that did not come first"), [_miss(each) for each in found.misses])
    return section(
        "Sentences that look for their document",
        tag("figure", meters(rows, title="Share of sentences that find their document"), caption),
        misses if found.misses else None,
        lead=lead,
    )


def _miss(miss: Miss) -> Markup:
    place = f"place {miss.place}" if miss.place else "not among the first ten"
    return tag(
        "div",
        tag(
            "p",
            tag("q", miss.question),
            " of ",
            tag("code", miss.id),
            " ",
            tag("span", place, class_="pill"),
            dir="auto",
        ),
        tag("ol", _row(miss.found), class_="found soft") if miss.found else None,
    )


def scores(found: ScoreMap | None) -> Markup | None:
    """Where thresholds move to."""
    if found is None:
        return None
    lead = (
        "A threshold for scores means something else with another model. Each point lets as many texts through as "
        "before, on average; the scores are of documents among each other, so try the new one with a few questions."
    )
    first, *rest = found.scales
    others = [
        tag("details", tag("summary", f"Thresholds as {scale.name}"), _scale(scale, found.per_question))
        for scale in rest
    ]
    return section("Score thresholds", _scale(first, found.per_question), others, lead=lead)


def _scale(scale: ScaleMap, per_question: Sequence[float]) -> Markup:
    points = [
        Point(
            x=old,
            y=new,
            label=short_number(count) if count in _LABELLED else "",
            title=f"{short_number(old)} becomes {short_number(new)}: {_near(count)} texts are as near",
        )
        for count, old, new in zip(per_question, scale.old, scale.new, strict=True)
    ]
    kind = "smaller is nearer" if scale.is_distance else "greater is nearer"
    plot = line(points, title=f"Old and new thresholds, {scale.name}", across="old threshold", upwards="new threshold")
    lines = [
        (_near(count), short_number(old), short_number(new))
        for count, old, new in zip(per_question, scale.old, scale.new, strict=True)
    ]
    caption = tag(
        "figcaption", tag("code", scale.name), f": {kind}. The points with a number let so many texts through."
    )
    return tag(
        "div",
        tag("figure", plot, caption),
        table(("Texts as near", "Old", "New"), lines, numbers=(0, 1, 2)),
        class_="split",
    )


def _near(count: float) -> str:
    return amount(count) if count >= 10 else short_number(round(count, 1))
